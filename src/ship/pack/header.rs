//! The header of one member of the archive: a ustar block, with a PAX extended header before it
//! where ustar has no room (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block").
//!
//! | what does not fit | ustar has room for | PAX record |
//! |---|---|---|
//! | path | 100 bytes (its `prefix` field is not used) | `path` |
//! | symlink target | 100 bytes | `linkpath` |
//! | size | 11 octal digits: 8 GiB less one byte | `size`, and base-256 in the block |
//! | mtime | 0 to 11 octal digits: until the year 2242 | `mtime` |
//!
//! Base-256 is for readers that know only that.
//!
//! Pure: the same member gives the same bytes, always. Names go in byte by byte as the file system
//! has them, in either place. PAX asks for UTF-8 in its records, unless a `hdrcharset=BINARY`
//! stands before them: with it bsdtar restores any name (without it, none that is not UTF-8). GNU
//! tar restores them either way, and with it prints a warning about an unknown keyword; its exit
//! code stays 0.

use tar::{EntryType, Header};

/// The unit of a tar stream.
pub(super) const BLOCK_BYTES: usize = 512;

/// The largest number in a 12 byte field: eleven octal digits and a NUL.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// What ustar's fields for the path and for the target hold.
const NAME_BYTES: usize = 100;

/// Constant, so that it says nothing that the content does not determine. Only readers without PAX
/// ever show it.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// One member, as it will stand in the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct TarMember<'a> {
    /// From the top folder on; a folder's ends in `/`.
    pub(super) path: &'a [u8],
    /// The 12 permission bits.
    pub(super) permissions: u32,
    pub(super) kind: MemberKind<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum MemberKind<'a> {
    Folder,
    File {
        size_bytes: u64,
        /// Whole seconds since 1970, negative before.
        mtime: i64,
    },
    Symlink {
        target: &'a [u8],
    },
}

/// Appends the header blocks of a member to `out`.
pub(super) fn write(member: &TarMember<'_>, out: &mut Vec<u8>) {
    let (entry_type, size_bytes, mtime, target) = match member.kind {
        MemberKind::Folder => (EntryType::Directory, 0, 0, &b""[..]),
        MemberKind::File { size_bytes, mtime } => (EntryType::Regular, size_bytes, mtime, &b""[..]),
        MemberKind::Symlink { target } => (EntryType::Symlink, 0, 0, target),
    };
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_size(size_bytes);
    let mut records = Vec::new();
    if [member.path, target]
        .iter()
        .any(|name| name.len() > NAME_BYTES && std::str::from_utf8(name).is_err())
    {
        record(&mut records, b"hdrcharset", b"BINARY");
    }
    if !put(&mut header.as_old_mut().name, member.path) {
        record(&mut records, b"path", member.path);
    }
    if !put(&mut header.as_old_mut().linkname, target) {
        record(&mut records, b"linkpath", target);
    }
    if size_bytes > MAX_OCTAL {
        record(&mut records, b"size", size_bytes.to_string().as_bytes());
    }
    match u64::try_from(mtime) {
        Ok(seconds) if seconds <= MAX_OCTAL => header.set_mtime(seconds),
        _ => record(&mut records, b"mtime", mtime.to_string().as_bytes()),
    }
    if !records.is_empty() {
        write_pax(&records, out);
    }
    seal(header, member.permissions, out);
}

/// Zeros up to the next block, for so many bytes.
pub(super) fn padding(len_bytes: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let over = (len_bytes % BLOCK_BYTES as u64) as usize;
    if over == 0 { &[] } else { &ZEROS[over..] }
}

fn write_pax(records: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(records.len() as u64);
    put(&mut header.as_old_mut().name, PAX_NAME);
    seal(header, 0o644, out);
    out.extend_from_slice(records);
    out.extend_from_slice(padding(records.len() as u64));
}

/// Owner and group 0 without names, no device; then the checksum, which covers all of it.
fn seal(mut header: Header, permissions: u32, out: &mut Vec<u8>) {
    header.set_mode(permissions);
    header.set_uid(0);
    header.set_gid(0);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// Puts as much of the text into a field as there is room for. Whether all of it fitted.
fn put(field: &mut [u8], text: &[u8]) -> bool {
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text[..len]);
    len == text.len()
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + b" =\n".len();
    let mut len = rest;
    while len != rest + digits(len) {
        len = rest + digits(len);
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself_at_every_step_of_a_digit() {
        for len in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; len]);
            let stated = records.split(|byte| *byte == b' ').next().unwrap();
            assert_eq!(
                std::str::from_utf8(stated).unwrap().parse(),
                Ok(records.len())
            );
        }
    }

    #[test]
    fn what_fits_needs_no_pax_and_what_does_not_has_it() {
        let blocks = |path: &[u8], kind| {
            let mut out = Vec::new();
            write(
                &TarMember {
                    path,
                    permissions: 0o644,
                    kind,
                },
                &mut out,
            );
            assert_eq!(out.len() % BLOCK_BYTES, 0);
            out.len() / BLOCK_BYTES
        };
        let file = |size_bytes, mtime| MemberKind::File { size_bytes, mtime };
        assert_eq!(blocks(&[b'a'; 100], file(MAX_OCTAL, 0)), 1);
        assert_eq!(blocks(&[b'a'; 101], file(0, 0)), 3);
        assert_eq!(blocks(b"a", file(MAX_OCTAL + 1, 0)), 3);
        assert_eq!(blocks(b"a", file(0, -1)), 3);
        assert_eq!(blocks(b"a", file(0, MAX_OCTAL as i64)), 1);
        assert_eq!(blocks(b"a", file(0, MAX_OCTAL as i64 + 1)), 3);
        assert_eq!(
            blocks(
                b"a",
                MemberKind::Symlink {
                    target: &[b't'; 100]
                }
            ),
            1
        );
        assert_eq!(
            blocks(
                b"a",
                MemberKind::Symlink {
                    target: &[b't'; 101]
                }
            ),
            3
        );
    }
}
