//! Gives one episode another name, in the folder that it is in.
//!
//! ```text
//!  episodes/<old>    ──rename──▶ episodes/<new>      a new episode to the daemon
//!  quarantine/<old>  ──rename──▶ quarantine/<new>    its reason names no episode first
//! ```
//!
//! With the daemon and without it: nothing here holds its lock. The move is one rename that takes
//! no name that is in use; where a folder cannot be renamed (an overlay), it is the copy of every
//! other move (`durable`). A name that an episode had which left is not free: the receiver may
//! hold that under it. What is not sealed and may still be written to by its path keeps its name.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, ffi::OsStringExt as _},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use crate::{
    clock::wall_now,
    disk::{
        by_hand, durable,
        open_files::{OpenFileProbe, find_open},
        record_files,
        tree::{self, TreeError, shown, what_it_is},
    },
    model::{
        episode::{EpisodeId, IdError},
        layout::{Layout, MARKER},
        progress::Progress,
        records::ORPHAN,
        text::{printable, word},
    },
};

/// What is not sealed keeps its name until it was left alone for so long, minutes.
pub(crate) const LEFT_ALONE_MIN: i64 = 10;

/// What a typed name has encoded wherever one of its characters is: the sign of the encoding, and
/// what is not ASCII of a name that is not UTF-8.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'/');

/// Which of the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenamedIn {
    /// `episodes/`.
    Episodes,
    /// `quarantine/`.
    Quarantine,
}

/// Why nothing was renamed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenameError {
    /// The new name is no id.
    #[error("{:?} is no episode's id: {why}", printable(.name))]
    NotAnId {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        why: IdError,
    },
    /// No folder has the old name, as it stands and decoded.
    #[error("{0:?} is neither in episodes/ nor in quarantine/ that were looked in")]
    NotThere(String),
    /// Both folders hold one of that name.
    #[error("{0:?} is in episodes/ and in quarantine/: say which with --from")]
    InBoth(String),
    /// It is a file, or a symlink.
    #[error("{0} is {1}, and no folder")]
    NoFolder(String, &'static str),
    /// The daemon copies it away or removes it.
    #[error("{0} is being removed, or was when that was broken off: it is no whole episode")]
    BeingRemoved(String),
    /// It may still be recorded.
    #[error(
        "{0} is not sealed, and was written to less than {LEFT_ALONE_MIN} minutes ago: a recorder that goes on by its path would lose it"
    )]
    WrittenTo(String),
    /// An archive without its episode: what it is of stands in its reason.
    #[error(
        "{0} is an archive without its episode, and is found by its name. To bring it back under another, type: \
         sealift requeue --unpack {1} --as NEW"
    )]
    LoneArchive(String, String),
    /// A process has a file of it open for writing.
    #[error("{0} is not sealed, and {1} in it is open for writing: its recorder is at work")]
    OpenForWriting(String, String),
    /// Something has the new name, or had it and left.
    #[error(
        "{0} is there already: nothing is overwritten, and no name of one that left is used again"
    )]
    NameTaken(String),
    /// The disk says why.
    #[error("Failed to rename {0}: {1}")]
    Disk(String, io::Error),
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// Where it stood.
    pub from: PathBuf,
    /// And stands.
    pub to: PathBuf,
    /// Which folder that is.
    pub folder: RenamedIn,
    /// It has a marker.
    pub sealed: bool,
}

/// A folder's name as `sealift rename` takes it, in ASCII where a terminal or a shell could not
/// show it as it is. What holds a `%` is encoded as well, and so is a dash that would pass for an
/// option.
pub(crate) fn typed_name(name: &OsStr) -> Cow<'_, str> {
    let plain = name
        .to_str()
        .filter(|name| printable(name) == *name && !name.contains('%') && !name.starts_with('-'));
    plain.map_or_else(
        || {
            let encoded = percent_encode(name.as_bytes(), ENCODED).to_string();
            Cow::Owned(match encoded.strip_prefix('-') {
                Some(rest) => format!("%2D{rest}"),
                None => encoded,
            })
        },
        Cow::Borrowed,
    )
}

/// Renames the episode `old`, which may be percent-encoded, to `new`. Where both readings of `old`
/// are there, the decoded one is meant, since `%25` is at hand for the other.
///
/// # Errors
/// [`RenameError`]; nothing was renamed then.
pub(crate) fn rename(
    layout: &Layout,
    old: &OsStr,
    new: &str,
    only_in: Option<RenamedIn>,
    progress: &Progress,
) -> Result<Renamed, RenameError> {
    let new = EpisodeId::parse(new).map_err(|why| RenameError::NotAnId {
        name: new.to_owned(),
        why,
    })?;
    let (folder, from) = find(layout, old, only_in)?;
    let named = shown(&from);
    let disk = |error: io::Error| RenameError::Disk(shown(&from), error);
    let metadata = fs::symlink_metadata(&from).map_err(disk)?;
    if let Some(what) = what_it_is(metadata.file_type()).filter(|_| !metadata.is_dir()) {
        return Err(RenameError::NoFolder(named, what));
    }
    if metadata.is_file() {
        return Err(RenameError::NoFolder(named, "a file"));
    }
    if durable::is_being_removed(&from) || durable::is_broken_off(&from) {
        return Err(RenameError::BeingRemoved(named));
    }
    let sealed = fs::symlink_metadata(from.join(MARKER)).is_ok_and(|marker| marker.is_file());
    if folder == RenamedIn::Episodes && !sealed {
        if let Ok(Some(file)) = find_open(&from, OpenFileProbe::below(&from), progress) {
            return Err(RenameError::OpenForWriting(named, shown(&file)));
        }
        if is_fresh(&from, progress).map_err(disk)? {
            return Err(RenameError::WrittenTo(named));
        }
    }
    let parent = folder.of(layout);
    if by_hand::is_taken(layout, new.as_str()) || by_hand::is_used(layout, &new, &from) {
        return Err(RenameError::NameTaken(shown(Path::new(new.as_str()))));
    }
    if folder == RenamedIn::Quarantine {
        let reason = record_files::reason(&from);
        let reason = reason.map_err(|error| disk(io::Error::other(error)))?;
        if reason.is_some_and(|reason| reason.verdict.as_deref() == Some(ORPHAN)) {
            let name = word(&*typed_name(from.file_name().unwrap_or_default()));
            return Err(RenameError::LoneArchive(named, name));
        }
        // Before the move: broken off in between, it is called by its folder's name.
        record_files::forget_name_in_reason(&from).map_err(disk)?;
    }
    match durable::move_to_name(&from, parent, new.as_str(), progress) {
        Ok(to) => Ok(Renamed {
            from,
            to,
            folder,
            sealed,
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(RenameError::NameTaken(shown(&parent.join(new.as_str()))))
        }
        Err(error) => Err(disk(error)),
    }
}

impl RenamedIn {
    fn of(self, layout: &Layout) -> &Path {
        match self {
            Self::Episodes => &layout.episodes,
            Self::Quarantine => &layout.quarantine,
        }
    }
}

fn find(
    layout: &Layout,
    old: &OsStr,
    only_in: Option<RenamedIn>,
) -> Result<(RenamedIn, PathBuf), RenameError> {
    let decoded = OsString::from_vec(percent_decode(old.as_bytes()).collect());
    let both = [RenamedIn::Episodes, RenamedIn::Quarantine];
    let found_as = |name: &OsStr| -> Vec<_> {
        let folders = both
            .into_iter()
            .filter(|folder| only_in.is_none_or(|only| only == *folder));
        let paths = folders.map(|folder| (folder, folder.of(layout).join(name)));
        paths
            .filter(|(_, path)| is_one_name(name) && fs::symlink_metadata(path).is_ok())
            .collect()
    };
    let mut found = found_as(&decoded);
    if found.is_empty() {
        found = found_as(old);
    }
    match (found.pop(), found.pop()) {
        (Some(_), Some(_)) => Err(RenameError::InBoth(old.to_string_lossy().into_owned())),
        (Some(one), None) => Ok(one),
        (None, _) => Err(RenameError::NotThere(old.to_string_lossy().into_owned())),
    }
}

/// A name in a folder, which leads nowhere else, and is none of ours.
fn is_one_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..")
        && !bytes.contains(&b'/')
        && !bytes.contains(&0)
        && !bytes.starts_with(b".sealift")
}

/// Whether anything in it was written to lately. What is said to be from the future is fresh.
fn is_fresh(folder: &Path, progress: &Progress) -> io::Result<bool> {
    let now = wall_now().unix_seconds();
    match tree::newest_write(folder, progress) {
        Ok((_, written)) => Ok(now - written < LEFT_ALONE_MIN * 60),
        Err(TreeError::Changed { .. }) => Ok(true),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_name_is_read_back_as_the_name_whatever_its_bytes() {
        let names: [&[u8]; 7] = [
            b"run 7",
            b"-x",
            b"not \xff text",
            b"100%41",
            b"a\nb\x1b[2J",
            "L\u{e4}ufe \u{202e}x".as_bytes(),
            b"it's",
        ];
        for name in names {
            let typed = typed_name(OsStr::from_bytes(name)).into_owned();
            assert_eq!(printable(&typed), typed);
            assert!(!typed.starts_with('-'), "{typed}");
            let read: Vec<u8> = percent_decode(typed.as_bytes()).collect();
            assert_eq!(read, name, "{typed}");
        }
        assert_eq!(typed_name(OsStr::new("L\u{e4}ufe")), "L\u{e4}ufe");
    }
}
