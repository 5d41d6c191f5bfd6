//! Where things are: the four folders, and the names in them.
//!
//! ```text
//! <data_dir>/
//!   episodes/<id>/...            the recorder's; sealed by done.marker directly inside
//!   outbox/<id>.tar.zst          complete and durable, waiting for its receipt
//!   outbox/<id>.json             its sidecar: what it was packed from, and the last verdict
//!   outbox/<id>.tar.zst.partial  scratch
//!   outbox/<id>.tar.zst.plan     what it is packed by while it is sent, and nothing of the outcome
//!   shipped/<id>/...             retired, with shipping_receipt.json
//!   quarantine/<id>/...          rejected, with quarantine_reason.json
//!   .sealift/                    the lock, control.sock, spare files; nothing that a restart needs
//!   episodes/, outbox/.sealift-spare-0 ...  the same, where that is another file system
//!   .../.sealift-at-work         in each that was copied to or from: what is locked for it
//! ```

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::model::{episode::EpisodeId, text::folded};

/// The file whose presence, directly inside an episode, says that the recording is complete.
pub const MARKER: &str = "done.marker";
/// Where a recorder says, at the top of an episode, what recorded it.
pub(crate) const META: &str = "meta.json";
/// What we add to an episode when it is retired to `shipped/`.
pub const RECEIPT: &str = "shipping_receipt.json";
/// What we add to an episode when it is moved to `quarantine/`.
pub const REASON: &str = "quarantine_reason.json";
/// A directory or file that is being removed. Found at start-up, its removal is finished.
pub(crate) const TRASH_PREFIX: &str = ".sealift-trash-";
/// A directory that is being copied across file systems. Found at start-up, it is removed and begun
/// again.
pub(crate) const COPY_PREFIX: &str = ".sealift-copy-";
/// A directory that was copied across file systems and is out of its writers' sight, to be compared
/// with the copy once more. Found at start-up, it is given its name back.
pub(crate) const ASIDE_PREFIX: &str = ".sealift-aside-";
/// A note inside a directory that is removed where it stands, because it cannot be renamed.
/// Whatever is left beside it is not an episode any more. Found at start-up, the removal is
/// finished.
pub(crate) const REMOVING: &str = ".sealift-removing";
/// A file that is made and removed again in `episodes/`, for a running daemon to look at the
/// episode whose name stands behind.
pub(crate) const LOOK_PREFIX: &str = ".sealift-look-";

/// A file that is locked, in a folder of ours, while a move copies to it or from it. It is empty,
/// and stays.
pub(crate) const AT_WORK: &str = ".sealift-at-work";

/// A small file that is kept for a full disk, in a folder that is on another one than `.sealift/`.
pub(crate) const SPARE_PREFIX: &str = ".sealift-spare-";

const ARCHIVE_SUFFIX: &str = ".tar.zst";
const PARTIAL_SUFFIX: &str = ".tar.zst.partial";
const SIDECAR_SUFFIX: &str = ".json";
const PLAN_SUFFIX: &str = ".tar.zst.plan";

/// The folders of one shipper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where recorders write.
    pub episodes: PathBuf,
    /// Archives on their way.
    pub outbox: PathBuf,
    /// Episodes that a receiver holds.
    pub shipped: PathBuf,
    /// Episodes that could not be shipped as they are.
    pub quarantine: PathBuf,
    /// The lock and other things that a restart does not need.
    pub private: PathBuf,
}

/// What a name in `outbox/` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutboxName {
    /// `<id>.tar.zst`
    Archive(EpisodeId),
    /// `<id>.tar.zst.partial`
    Partial(EpisodeId),
    /// `<id>.json`
    Sidecar(EpisodeId),
    /// `<id>.tar.zst.plan`
    Plan(EpisodeId),
    /// A leftover of ours: a removal, a copy or a file that was being written when we were killed.
    Scratch,
    /// Not ours; left alone.
    Stranger,
}

impl Layout {
    /// The default layout below one folder.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        Self {
            episodes: data_dir.join("episodes"),
            outbox: data_dir.join("outbox"),
            shipped: data_dir.join("shipped"),
            quarantine: data_dir.join("quarantine"),
            private: data_dir.join(".sealift"),
        }
    }

    /// The four folders with their names, in the order of an episode's way.
    pub(crate) fn named(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("episodes", self.episodes.clone()),
            ("outbox", self.outbox.clone()),
            ("shipped", self.shipped.clone()),
            ("quarantine", self.quarantine.clone()),
        ]
    }

    /// The same without their names.
    pub(crate) fn folders(&self) -> [&PathBuf; 4] {
        [
            &self.episodes,
            &self.outbox,
            &self.shipped,
            &self.quarantine,
        ]
    }

    /// Two of the four folders of which one is, or lies in, the other once symlinks are followed.
    ///
    /// # Errors
    /// Those of realpath(3): the folders must be there.
    pub fn overlap(&self) -> std::io::Result<Option<[PathBuf; 2]>> {
        let mut seen: Vec<(PathBuf, &PathBuf)> = Vec::new();
        for folder in self.folders() {
            let real = folder.canonicalize()?;
            if let Some((_, other)) = seen
                .iter()
                .find(|(other, _)| real.starts_with(other) || other.starts_with(&real))
            {
                return Ok(Some([(*other).clone(), folder.clone()]));
            }
            seen.push((real, folder));
        }
        Ok(None)
    }

    /// `.sealift/control.sock`: there a running daemon answers.
    pub fn control_socket(&self) -> PathBuf {
        self.private.join("control.sock")
    }

    /// How the paths of spare files begin that records in a folder may be written over when its
    /// disk is full: ours in `.sealift/`, and, where that is another file system, those beside the
    /// records.
    pub fn spares(&self, folder: &Path) -> [PathBuf; 2] {
        [self.private.join("spare-"), folder.join(SPARE_PREFIX)]
    }

    /// `episodes/<id>`
    pub fn episode(&self, id: &EpisodeId) -> PathBuf {
        self.episodes.join(id.as_str())
    }

    /// `episodes/.sealift-look-<id>`
    pub fn hint(&self, id: &EpisodeId) -> PathBuf {
        self.episodes.join(format!("{LOOK_PREFIX}{}", id.as_str()))
    }

    /// `outbox/<id>.tar.zst`
    pub fn archive(&self, id: &EpisodeId) -> PathBuf {
        self.outbox.join(format!("{}{ARCHIVE_SUFFIX}", id.as_str()))
    }

    /// `outbox/<id>.tar.zst.partial`
    pub fn partial(&self, id: &EpisodeId) -> PathBuf {
        self.outbox.join(format!("{}{PARTIAL_SUFFIX}", id.as_str()))
    }

    /// `outbox/<id>.json`
    pub fn sidecar(&self, id: &EpisodeId) -> PathBuf {
        self.outbox.join(format!("{}{SIDECAR_SUFFIX}", id.as_str()))
    }

    /// `outbox/<id>.tar.zst.plan`
    pub fn plan(&self, id: &EpisodeId) -> PathBuf {
        self.outbox.join(format!("{}{PLAN_SUFFIX}", id.as_str()))
    }
}

/// What a name found in the outbox is. Names that are no ids are strangers, whatever their ending.
pub(crate) fn outbox_name(name: &OsStr) -> OutboxName {
    let Some(name) = name.to_str() else {
        return OutboxName::Stranger;
    };
    if is_scratch(name) {
        return OutboxName::Scratch;
    }
    let id_before = |suffix| EpisodeId::parse(name.strip_suffix(suffix)?).ok();
    if let Some(id) = id_before(PARTIAL_SUFFIX) {
        OutboxName::Partial(id)
    } else if let Some(id) = id_before(ARCHIVE_SUFFIX) {
        OutboxName::Archive(id)
    } else if let Some(id) = id_before(SIDECAR_SUFFIX) {
        OutboxName::Sidecar(id)
    } else if let Some(id) = id_before(PLAN_SUFFIX) {
        OutboxName::Plan(id)
    } else {
        OutboxName::Stranger
    }
}

/// Whether a name is one of ours that a killed process may have left behind anywhere, and that may
/// be removed.
pub(crate) fn is_scratch(name: &str) -> bool {
    [TRASH_PREFIX, COPY_PREFIX, LOOK_PREFIX]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The `n`th name under which a directory is kept out of sight, behind one of our prefixes.
pub(crate) fn hidden(prefix: &str, n: u32, name: &OsStr) -> OsString {
    let mut hidden = OsString::from(format!("{prefix}{n}-"));
    hidden.push(name);
    hidden
}

/// The name that a directory had before [`hidden`] gave it another; `None` where that was not done
/// under this prefix.
pub(crate) fn name_behind<'a>(prefix: &str, hidden: &'a OsStr) -> Option<&'a OsStr> {
    let rest = hidden.as_bytes().strip_prefix(prefix.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let name = rest[digits..].strip_prefix(b"-")?;
    (digits > 0 && !name.is_empty()).then(|| OsStr::from_bytes(name))
}

/// Which episode a running daemon is asked to look at by a file of this name in `episodes/`.
pub(crate) fn hinted(name: &OsStr) -> Option<EpisodeId> {
    EpisodeId::parse(name.to_str()?.strip_prefix(LOOK_PREFIX)?).ok()
}

/// The name an episode takes where `n` of its name are there already: `<id>`, `<id>~1`, `<id>~2`,
/// ...
pub(crate) fn numbered(name: &str, n: u32) -> String {
    if n == 0 {
        name.to_owned()
    } else {
        format!("{name}~{n}")
    }
}

/// Whether a directory of this name may hold the episode, or the file of this name the record:
/// `<name>` or `<name>~N`.
pub(crate) fn is_numbered(filed: &OsStr, name: &str) -> bool {
    let rest = filed.as_bytes().strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || is_number(rest))
}

/// As [`is_numbered`], in whichever letter case: some file systems list names in another than they
/// were given (NTFS with `ignore_case` in lower case, old FAT names as their mount says). The
/// record inside says which episode it is.
pub(crate) fn is_numbered_in_any_case(filed: &OsStr, name: &str) -> bool {
    filed
        .to_str()
        .is_some_and(|filed| is_numbered(OsStr::new(&folded(filed)), &folded(name)))
}

/// Whether two names are one where letter case is ignored.
pub(crate) fn is_same_in_any_case(filed: &OsStr, name: &str) -> bool {
    filed
        .to_str()
        .is_some_and(|filed| folded(filed) == folded(name))
}

/// The name without what [`numbered`] put behind it.
pub(crate) fn without_number(name: &str) -> &str {
    match name.rfind('~') {
        Some(at) if is_number(&name.as_bytes()[at..]) => &name[..at],
        _ => name,
    }
}

/// `~1`, `~2`, ...
fn is_number(text: &[u8]) -> bool {
    text.strip_prefix(b"~")
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_names_are_told_apart_even_when_an_id_looks_like_one() {
        let layout = Layout::below(Path::new("/d"));
        for name in [
            "a",
            "a.tar.zst",
            "a.tar.zst.partial",
            "a.json",
            "a.tar.zst.plan",
            "Lauf 7",
        ] {
            let id = EpisodeId::parse(name).unwrap();
            let kind = |path: PathBuf| outbox_name(path.file_name().unwrap());
            assert_eq!(kind(layout.archive(&id)), OutboxName::Archive(id.clone()));
            assert_eq!(kind(layout.partial(&id)), OutboxName::Partial(id.clone()));
            assert_eq!(kind(layout.plan(&id)), OutboxName::Plan(id.clone()));
            assert_eq!(kind(layout.sidecar(&id)), OutboxName::Sidecar(id));
        }
        assert_eq!(
            outbox_name(OsStr::new(".sealift-trash-1")),
            OutboxName::Scratch
        );
        for stranger in ["notes.txt", ".tar.zst", "-x.tar.zst", ".a.json"] {
            assert_eq!(
                outbox_name(OsStr::new(stranger)),
                OutboxName::Stranger,
                "{stranger}"
            );
        }
    }

    #[test]
    fn a_hidden_directory_still_says_whose_it_is() {
        for name in ["a", "a~1", "7-b", "-"] {
            let hidden = hidden(ASIDE_PREFIX, 12, OsStr::new(name));
            assert_eq!(name_behind(ASIDE_PREFIX, &hidden), Some(OsStr::new(name)));
            assert_eq!(name_behind(TRASH_PREFIX, &hidden), None);
        }
        for other in [
            "a",
            ".sealift-aside-",
            ".sealift-aside-3",
            ".sealift-aside-3-",
            ".sealift-aside-x-a",
        ] {
            assert_eq!(
                name_behind(ASIDE_PREFIX, OsStr::new(other)),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn numbers_behind_a_name_are_looked_past() {
        assert_eq!(without_number("shipping_receipt.json~12"), RECEIPT);
        assert_eq!(without_number(RECEIPT), RECEIPT);
        assert_eq!(without_number("a~b"), "a~b");
        assert_eq!(without_number("a~"), "a~");
        assert!(is_numbered(OsStr::new("a~1"), "a") && is_numbered(OsStr::new("a~1~2"), "a~1"));
        assert!(!is_numbered(OsStr::new("a~1~2"), "a") && !is_numbered(OsStr::new("ab"), "a"));
    }

    #[test]
    fn a_name_that_is_listed_in_another_letter_case_may_be_the_episodes() {
        for (filed, may_be) in [
            ("lauf-grün", true),
            ("LAUF-GRÜN~12", true),
            ("Lauf-Grün~1", true),
            ("lauf-grun", false),
            ("lauf-grün~", false),
            ("lauf-grün2", false),
        ] {
            assert_eq!(
                is_numbered_in_any_case(OsStr::new(filed), "Lauf-Grün"),
                may_be,
                "{filed}"
            );
            assert!(
                !is_numbered(OsStr::new(filed), "Lauf-Grün") || may_be,
                "{filed}"
            );
        }
    }
}
