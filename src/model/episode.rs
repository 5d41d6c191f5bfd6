//! The names and digests of an episode: parsed once at the edge, safe to build a path from after
//! that.
//!
//! Pure: no I/O. Everything that came from outside (a directory's name, a request's path, a
//! header, a sidecar) passes through one of these `parse` functions before any code trusts it.

mod fingerprint;

use std::{ffi::OsStr, fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::fingerprint::Fingerprint;
pub(crate) use self::fingerprint::FolderId;

use super::{
    structured_field,
    text::{folded, printable},
};

/// The longest id, in bytes of its percent-encoded form. With `.tar.zst.partial` behind it, it
/// still fits the 255 bytes that Linux file systems give a name.
pub const MAX_ID_BYTES: usize = 200;

/// Everything outside RFC 3986's unreserved characters is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-');

/// An episode's identity: the name of its directory. Holding one means that it is a single, visible
/// path component that cannot climb, hide or pass for an option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpisodeId(Arc<str>);

/// Why a name is not an episode id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The name has no characters.
    #[error("the name is empty")]
    Empty,
    /// The name is not valid UTF-8.
    #[error("the name is not valid UTF-8")]
    NotUtf8,
    /// The name is longer than [`MAX_ID_BYTES`] once percent-encoded.
    #[error("the name is longer than {MAX_ID_BYTES} bytes once percent-encoded")]
    TooLong,
    /// The name starts with a dot (hidden: a recorder may be building there) or a dash (an option
    /// to most programs).
    #[error("the name starts with '.' or '-'")]
    BadStart,
    /// The name holds `/`, `\` or a control character.
    #[error("the name holds '/', '\\' or a control character")]
    BadCharacter,
}

impl EpisodeId {
    /// Parses a plain name.
    ///
    /// # Errors
    /// [`IdError`] says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::Empty);
        }
        if name.starts_with(['.', '-']) {
            return Err(IdError::BadStart);
        }
        if name
            .chars()
            .any(|c| c == '/' || c == '\\' || c.is_control())
        {
            return Err(IdError::BadCharacter);
        }
        let id = Self(name.into());
        if id.percent_encoded().len() > MAX_ID_BYTES {
            return Err(IdError::TooLong);
        }
        Ok(id)
    }

    /// Parses a directory entry's name.
    ///
    /// # Errors
    /// As [`EpisodeId::parse`], and [`IdError::NotUtf8`].
    pub fn from_os(name: &OsStr) -> Result<Self, IdError> {
        Self::parse(name.to_str().ok_or(IdError::NotUtf8)?)
    }

    /// Parses one percent-encoded path segment of a URL. Encoded slashes are decoded first and then
    /// refused.
    ///
    /// # Errors
    /// As [`EpisodeId::parse`], and [`IdError::NotUtf8`].
    pub fn from_percent_encoded(segment: &str) -> Result<Self, IdError> {
        let name = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| IdError::NotUtf8)?;
        Self::parse(&name)
    }

    /// The id as one segment of a URL, and as the name that a store files it under (RFC 3986,
    /// section 2.1).
    pub fn percent_encoded(&self) -> String {
        utf8_percent_encode(&self.0, ENCODED).to_string()
    }

    /// The plain name: one path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for EpisodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EpisodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// An authenticated name: whose certificate or token it was. Held to the rules of an [`EpisodeId`],
/// since a store may keep each host's episodes in a folder of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(EpisodeId);

impl HostName {
    /// Parses a name as it stands in a certificate or a token file.
    ///
    /// # Errors
    /// [`IdError`] says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        EpisodeId::parse(name).map(Self)
    }

    /// The name as one path component, percent-encoded.
    pub fn percent_encoded(&self) -> String {
        self.0.percent_encoded()
    }

    /// The plain name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// What all spellings of a host's name have in common: letter case and a dot at the end tell no
    /// host from another (RFC 4343; RFC 1034, section 3.1).
    pub(crate) fn folded(&self) -> String {
        folded(self.as_str().trim_end_matches('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for HostName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        EpisodeId::deserialize(deserializer).map(Self)
    }
}

/// A SHA-256 digest (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is not a SHA-256 digest in the form asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest")]
pub struct DigestError;

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The value of a `Repr-Digest` header (RFC 9530, section 3): `sha-256=:BASE64:`.
    pub fn to_header(self) -> String {
        format!("sha-256=:{}:", BASE64.encode(self.0))
    }

    /// Reads the SHA-256 member out of a `Repr-Digest` value. Other algorithms beside it are
    /// skipped, as RFC 9530 asks.
    ///
    /// # Errors
    /// [`DigestError`] where there is no well-formed `sha-256` member.
    pub fn from_header(value: &str) -> Result<Self, DigestError> {
        let bytes = structured_field::bytes_in_dictionary(value, "sha-256").ok_or(DigestError)?;
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl From<Sha256> for Digest {
    fn from(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(hex: &str) -> Result<Self, DigestError> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return Err(DigestError);
        }
        let nibble = |c: u8| (c as char).to_digit(16).ok_or(DigestError);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte =
                u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What [`FolderLook::OddMarker`] says of a rest that was sealed under the name of the episode that
/// it is a rest of: it would take the place of the whole at a receiver that overwrites.
pub(crate) const MARKED_REST: &str =
    "in what is left of the episode of this name, which was delivered";

/// What one look at an episode's folder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderLook {
    /// No such folder, or it is no folder.
    Gone,
    /// It is copied away, and what is left of it is being removed where it stands: no episode any
    /// more.
    BeingRemoved,
    /// No marker yet.
    Open,
    /// Under the marker's name stands something else than a regular file: `"a directory"`, `"a
    /// symlink"`; or it is [`MARKED_REST`]. It seals nothing.
    OddMarker(&'static str),
    /// The marker is there.
    Sealed(Stamp),
    /// The folder or the marker could not be looked at.
    Unreadable(String),
}

/// The marker and the folder as one look saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The marker's mtime, nanoseconds after the epoch: the order of sealing.
    pub sealed_ns: i64,
    /// The folder's and the marker's inodes.
    pub inodes: (u64, u64),
    /// When the marker was made, nanoseconds after the epoch; its ctime, where the file system does
    /// not remember that.
    pub made_ns: i64,
    /// Its ctime, nanoseconds after the epoch, where it holds anything; 0 where it is empty, and
    /// no process can have written to it.
    pub written_ns: i64,
}

impl Stamp {
    /// Whether this is the seal that was seen before. An inode number may be given to the next
    /// marker, hence the rest; and touch(1) sets the times of the marker that it has just made,
    /// which is why the times of an empty one do not count.
    pub fn is_still(self, before: Self) -> bool {
        let seal = |stamp: Self| (stamp.inodes, stamp.made_ns, stamp.written_ns);
        seal(self) == seal(before)
    }
}

/// A git commit: 40 hexadecimal digits, lower-cased.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Commit(String);

impl Commit {
    /// Parses 40 hexadecimal digits of either case; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| Self(text.to_ascii_lowercase()))
    }

    /// The 40 lower-case digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_climb_hide_or_escape_are_no_ids() {
        for (name, why) in [
            ("", IdError::Empty),
            ("..", IdError::BadStart),
            ("../../evil", IdError::BadStart),
            (".hidden", IdError::BadStart),
            ("-rf", IdError::BadStart),
            ("a/b", IdError::BadCharacter),
            ("a\\b", IdError::BadCharacter),
            ("a\nb", IdError::BadCharacter),
            ("a\u{1b}[31m", IdError::BadCharacter),
            ("a\0", IdError::BadCharacter),
            ("a\u{85}", IdError::BadCharacter),
        ] {
            assert_eq!(EpisodeId::parse(name), Err(why), "{name:?}");
        }
        for segment in ["%2e%2e", "a%2Fb", "a%5Cb", "%00", "%FF", "a%0a"] {
            assert!(
                EpisodeId::from_percent_encoded(segment).is_err(),
                "{segment}"
            );
        }
    }

    #[test]
    fn the_length_is_counted_percent_encoded() {
        assert!(EpisodeId::parse(&"a".repeat(200)).is_ok());
        assert_eq!(EpisodeId::parse(&"a".repeat(201)), Err(IdError::TooLong));
        assert!(EpisodeId::parse(&"é".repeat(33)).is_ok());
        assert_eq!(EpisodeId::parse(&"é".repeat(34)), Err(IdError::TooLong));
    }

    #[test]
    fn an_id_survives_the_way_through_a_url() {
        for name in ["run-1", "Lauf 7 (grün)", "a%2Fb", "ep~1", "%", "a+b&c=d?#"] {
            let id = EpisodeId::parse(name).unwrap();
            assert_eq!(
                EpisodeId::from_percent_encoded(&id.percent_encoded()),
                Ok(id)
            );
        }
    }

    #[test]
    fn a_digest_reads_back_in_both_forms() {
        let digest = Digest::of(b"episode");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_header(&digest.to_header()), Ok(digest));
        let among_others = format!("sha-512=:AAAA:, {};x=1 , md5=:AA==:", digest.to_header());
        assert_eq!(Digest::from_header(&among_others), Ok(digest));
        for bad in [
            "",
            "sha-256=",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-512=:AAAA:",
            "sha-256=abc",
        ] {
            assert_eq!(Digest::from_header(bad), Err(DigestError), "{bad}");
        }
    }

    #[test]
    fn a_commit_is_forty_hex_digits() {
        let upper = "ABCDEF0123456789ABCDEF0123456789ABCDEF01";
        assert_eq!(Commit::parse(upper).unwrap().as_str(), upper.to_lowercase());
        for bad in ["", "abc", &"g".repeat(40), &"a".repeat(41)] {
            assert_eq!(Commit::parse(bad), None);
        }
    }
}
