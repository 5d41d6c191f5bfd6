//! The members of a tar stream, one after another: read by ourselves, since each thing that is held
//! in memory wants a bound.
//!
//! ```text
//!  block ─ x  PAX records ─┐  bounded; path, linkpath, size, mtime
//!        ─ L K  GNU names ─┤                                         ─▶ Member: path, permissions,
//!        ─ 0 5 2  ─────────┘  file, folder, symlink                             mtime, kind
//!        ─ anything else      refused
//!  two blocks of zeros, and zeros to the end ──▶ None
//! ```
//!
//! The `tar` crate's own reading is not used, only its header: it takes in extension headers of any
//! length, and cuts PAX records at every newline, which a file's name may hold.

use tar::{EntryType, Header};

use super::{UnpackError, stream::TarReader};

const BLOCK_BYTES: usize = 512;

/// The longest extension header, bytes. A path has at most 4096 (`PATH_MAX`); the rest is room for
/// attributes of other programs, which are passed over.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// One member, before it is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnpackMember {
    pub(super) path: Vec<u8>,
    /// The 12 permission bits.
    pub(super) permissions: u32,
    /// Seconds after 1970 and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) kind: UnpackKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum UnpackKind {
    Folder,
    File { size_bytes: u64 },
    Symlink { target: Vec<u8> },
}

/// What extension headers say of the member behind them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    mtime: Option<(i64, u32)>,
}

/// The next member; what belongs to the one before it has been read. `None` at the end, which is
/// then the end of the stream.
pub(super) fn next(stream: &mut TarReader<'_>) -> Result<Option<UnpackMember>, UnpackError> {
    let mut extension = Extension::default();
    loop {
        let mut block = [0; BLOCK_BYTES];
        stream.read_exact(&mut block)?;
        if is_zero(&block) {
            if extension != Extension::default() {
                return Err(UnpackError::malformed("an extension header has no member"));
            }
            return end(stream).map(|()| None);
        }
        let header = checked(&block)?;
        let size_bytes = header
            .entry_size()
            .map_err(|error| UnpackError::malformed(error.to_string()))?;
        match header.entry_type() {
            EntryType::XHeader => pax(&extension_of(stream, size_bytes)?, &mut extension)?,
            EntryType::GNULongName => extension.path = Some(gnu_name(stream, size_bytes)?),
            EntryType::GNULongLink => extension.target = Some(gnu_name(stream, size_bytes)?),
            _ => return member(header, size_bytes, extension).map(Some),
        }
    }
}

/// Zeros behind a file, up to the next block.
pub(super) fn skip_padding(stream: &mut TarReader<'_>, size_bytes: u64) -> Result<(), UnpackError> {
    let over = (size_bytes % BLOCK_BYTES as u64) as usize;
    let mut padding = [0; BLOCK_BYTES];
    if over == 0 {
        Ok(())
    } else {
        stream.read_exact(&mut padding[over..])
    }
}

fn member(
    header: &Header,
    size_bytes: u64,
    extension: Extension,
) -> Result<UnpackMember, UnpackError> {
    let path = extension
        .path
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let unsafe_because = |why: &str| UnpackError::refused(&path, why);
    let size_bytes = extension.size_bytes.unwrap_or(size_bytes);
    let kind = match header.entry_type() {
        EntryType::Regular => UnpackKind::File { size_bytes },
        EntryType::Directory => UnpackKind::Folder,
        EntryType::Symlink => {
            let target = extension
                .target
                .or_else(|| header.link_name_bytes().map(Into::into));
            UnpackKind::Symlink {
                target: target.unwrap_or_default(),
            }
        }
        EntryType::Link => {
            return Err(unsafe_because(
                "a hard link; the archive of an episode has none",
            ));
        }
        EntryType::Char | EntryType::Block => return Err(unsafe_because("a device")),
        EntryType::Fifo => return Err(unsafe_because("a FIFO")),
        EntryType::GNUSparse => return Err(unsafe_because("a sparse file in GNU tar's own form")),
        other => {
            let what = format!(
                "a member of type {:?}, which is not known here",
                char::from(other.as_byte())
            );
            return Err(unsafe_because(&what));
        }
    };
    if !matches!(kind, UnpackKind::File { .. }) && size_bytes != 0 {
        return Err(unsafe_because("a folder or symlink with content"));
    }
    let number = |error: std::io::Error| UnpackError::malformed(error.to_string());
    let mtime = match extension.mtime {
        Some(mtime) => mtime,
        None => (
            i64::try_from(header.mtime().map_err(number)?).unwrap_or(i64::MAX),
            0,
        ),
    };
    Ok(UnpackMember {
        permissions: header.mode().map_err(number)? & 0o7777,
        path,
        mtime,
        kind,
    })
}

/// A header whose checksum is right (POSIX.1-2017, pax, "ustar Interchange Format": the sum of all
/// bytes, the checksum's own taken for spaces).
fn checked(block: &[u8; BLOCK_BYTES]) -> Result<&Header, UnpackError> {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let header = Header::from_byte_slice(block);
    let of_byte =
        |(at, byte): (usize, &u8)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte });
    let sum: u32 = block.iter().enumerate().map(of_byte).sum();
    match header.cksum() {
        Ok(stated) if stated == sum => Ok(header),
        _ => Err(UnpackError::malformed("a header's checksum is wrong")),
    }
}

fn extension_of(stream: &mut TarReader<'_>, size_bytes: u64) -> Result<Vec<u8>, UnpackError> {
    if size_bytes > MAX_EXTENSION_BYTES {
        return Err(UnpackError::malformed(format!(
            "an extension header has {size_bytes} bytes"
        )));
    }
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or_default()];
    stream.read_exact(&mut bytes)?;
    skip_padding(stream, size_bytes)?;
    Ok(bytes)
}

/// GNU tar's own long names end in a NUL.
fn gnu_name(stream: &mut TarReader<'_>, size_bytes: u64) -> Result<Vec<u8>, UnpackError> {
    let mut name = extension_of(stream, size_bytes)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts itself. Those that are not about what we
/// restore are passed over.
fn pax(mut rest: &[u8], extension: &mut Extension) -> Result<(), UnpackError> {
    while !rest.is_empty() {
        let (key, value, behind) =
            record(rest).ok_or_else(|| UnpackError::malformed("a PAX record is broken"))?;
        rest = behind;
        let bad = || UnpackError::malformed(format!("the PAX record {} is no number", shown(key)));
        match key {
            b"path" => extension.path = Some(value.to_owned()),
            b"linkpath" => extension.target = Some(value.to_owned()),
            b"size" => extension.size_bytes = Some(number(value).ok_or_else(bad)?),
            b"mtime" => extension.mtime = Some(seconds(value).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(UnpackError::malformed(
                    "it holds a sparse file in GNU tar's own form",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let len = usize::try_from(number::<u64>(&bytes[..space])?).ok()?;
    let (record, behind) = bytes.split_at_checked(len)?;
    let (key_value, newline) = record
        .get(space + 1..)?
        .split_at_checked((len - space).checked_sub(2)?)?;
    let equals = key_value.iter().position(|byte| *byte == b'=')?;
    (newline == b"\n").then_some((&key_value[..equals], &key_value[equals + 1..], behind))
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Decimal seconds, with a sign and a fraction where there are some.
fn seconds(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let (whole, nanoseconds): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    // -1.25 is 750 million nanoseconds after -2.
    if text.starts_with('-') && nanoseconds > 0 {
        Some((whole.checked_sub(1)?, 1_000_000_000 - nanoseconds))
    } else {
        Some((whole, nanoseconds))
    }
}

/// The second block of the end mark, and the zeros with which some programs fill up their last
/// record.
fn end(stream: &mut TarReader<'_>) -> Result<(), UnpackError> {
    let mut second = [0; BLOCK_BYTES];
    stream.read_exact(&mut second)?;
    if !is_zero(&second) {
        return Err(UnpackError::malformed("its end mark is broken"));
    }
    loop {
        let chunk = stream.peek()?;
        if chunk.is_empty() {
            return Ok(());
        }
        if !is_zero(chunk) {
            return Err(UnpackError::malformed(
                "something follows the end of its tar stream",
            ));
        }
        let len = chunk.len();
        stream.consume(len);
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn shown(key: &[u8]) -> String {
    crate::model::text::printable(&String::from_utf8_lossy(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_are_read_by_their_length_newlines_included() {
        let mut extension = Extension::default();
        let records =
            b"14 path=a\nb\xffc\n12 size=123\n14 mtime=-1.5\n11 other=x\n16 linkpath=x=y\n";
        pax(records, &mut extension).unwrap();
        let expected = Extension {
            path: Some(b"a\nb\xffc".to_vec()),
            target: Some(b"x=y".to_vec()),
            size_bytes: Some(123),
            mtime: Some((-2, 500_000_000)),
        };
        assert_eq!(extension, expected);
        for broken in [
            &b"9 path=ab"[..],
            b"10 path=ab\n9",
            b"8 path=ab\n",
            b"1 path=a\n",
            b"2 \n",
            b"99999999999999999999 a=b\n",
            b"-5 a=b\n",
            b"18446744073709551615 a=b\n",
            b"7 path\n",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"9 size=1 \n",
            b"22 GNU.sparse.major=1\n",
            b"path=a\n",
        ] {
            let mut extension = Extension::default();
            assert!(pax(broken, &mut extension).is_err(), "{}", shown(broken));
        }
    }

    #[test]
    fn seconds_keep_their_fraction_on_both_sides_of_1970() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-0.25", Some((-1, 750_000_000))),
            ("x", None),
            ("", None),
            ("1.x", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }
}
