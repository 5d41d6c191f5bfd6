//! The way to a file or a folder, gone name by name, each looked up in the open folder before it.
//!
//! A symlink on it is followed only where no other user can have put it there. What root changes
//! behind one that another user made would be that user's choice.

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat},
    io::Errno,
    process::geteuid,
};

use super::HELD;
use crate::disk::tree::shown;

/// path_resolution(7)
const MAX_LINKS: usize = 40;
/// Writing by the group or by others; also what the mask of an access control list grants.
const OTHERS_WRITE: u32 = 0o022;

/// A symlink on a way that does not lead on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// Another user than root and the calling one made it, or may put another there.
    Foreign(PathBuf),
    /// What it leads to is not there.
    Dangling(PathBuf, PathBuf),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(link) => write!(
                f,
                "{} is a symlink that another user than root made or may replace, and is not followed: \
                 set the folder that it leads to in the configuration instead",
                shown(link)
            ),
            Self::Dangling(link, to) => write!(
                f,
                "{} leads to {}, which is not there: is a disk not mounted?",
                shown(link),
                shown(to)
            ),
        }
    }
}

/// How far the way led.
#[derive(Debug)]
pub(crate) struct TrustedWay {
    /// The last name that is there, and what stands there.
    pub(super) at: OwnedFd,
    /// The folder that it is in, and its name there; `None` for the root folder.
    pub(super) parent: Option<(OwnedFd, OsString)>,
    /// Its path without a symlink.
    pub(crate) real: PathBuf,
    /// The folders before it, each without a symlink.
    pub(crate) passed: Vec<PathBuf>,
    /// Names of the path that are not there.
    pub(super) missing: Vec<OsString>,
    /// The symlink where it ended.
    pub(crate) link: Option<Link>,
}

impl TrustedWay {
    /// Goes as far as it can.
    ///
    /// # Errors
    /// Those of openat(2), but for what is not there.
    pub(crate) fn to(path: &Path) -> io::Result<Self> {
        let mut way = Self {
            at: openat(CWD, c"/", HELD | OFlags::DIRECTORY, Mode::empty())?,
            parent: None,
            real: PathBuf::from("/"),
            passed: Vec::new(),
            missing: Vec::new(),
            link: None,
        };
        let mut names = names(&std::path::absolute(path)?);
        names.reverse();
        // For each symlink: how many names stood behind it, where it is, and where it leads.
        let mut links: Vec<(usize, PathBuf, PathBuf)> = Vec::new();
        while let Some(name) = names.pop() {
            let held = match openat(&way.at, &*name, HELD, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let behind = links.iter().find(|(rest, ..)| names.len() >= *rest);
                    way.link = behind.map(|(_, link, to)| Link::Dangling(link.clone(), to.clone()));
                    names.push(name);
                    names.reverse();
                    way.missing = names;
                    return Ok(way);
                }
                held => held?,
            };
            let found = fstat(&held)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                let place = way.real.join(&name);
                if !is_trusted(&fstat(&way.at)?, &found) {
                    way.link = Some(Link::Foreign(place));
                    return Ok(way);
                }
                if links.len() == MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = readlinkat(&held, c"", Vec::new())?.into_bytes();
                let target = PathBuf::from(OsString::from_vec(target));
                links.push((names.len(), place, target.clone()));
                if target.is_absolute() {
                    way.go_to_the_top()?;
                }
                names.extend(self::names(&target).into_iter().rev());
                continue;
            }
            if !way.passed.contains(&way.real) {
                way.passed.push(way.real.clone());
            }
            if name == ".." {
                way.real.pop();
            } else {
                way.real.push(&name);
            }
            way.parent = Some((std::mem::replace(&mut way.at, held), name));
        }
        Ok(way)
    }

    fn go_to_the_top(&mut self) -> io::Result<()> {
        self.at = openat(CWD, c"/", HELD | OFlags::DIRECTORY, Mode::empty())?;
        (self.parent, self.real) = (None, PathBuf::from("/"));
        Ok(())
    }

    /// Whether it led to the end.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.link.is_none()
    }

    /// The same, where it led to the end.
    ///
    /// # Errors
    /// The symlink that is in the way, or that there is nothing.
    pub(super) fn whole(self) -> io::Result<Self> {
        match self.link {
            Some(link) => Err(io::Error::other(link.to_string())),
            None if self.missing.is_empty() => Ok(self),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// What stands at its end, opened. A file that was put there meanwhile is told from it.
    ///
    /// # Errors
    /// Those of openat(2).
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let opened = match &self.parent {
            Some((parent, name)) if name != ".." => {
                openat(parent, name.as_os_str(), flags, Mode::empty())?
            }
            // A folder.
            _ => openat(&self.at, c".", flags, Mode::empty())?,
        };
        let (held, found) = (fstat(&self.at)?, fstat(&opened)?);
        if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino) {
            Ok(opened)
        } else {
            Err(replaced())
        }
    }
}

pub(super) fn replaced() -> io::Error {
    io::Error::other("another user has put something else there meanwhile")
}

fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .map(OsStr::to_owned)
        .collect()
}

/// Whether a symlink is root's, or the calling user's, in a folder that only these may write to.
/// The sticky bit keeps others from replacing it, and not from making it.
fn is_trusted(folder: &Stat, link: &Stat) -> bool {
    let ours = [0, geteuid().as_raw()];
    ours.contains(&link.st_uid)
        && ours.contains(&folder.st_uid)
        && folder.st_mode & OTHERS_WRITE == 0
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_symlink_is_followed_only_where_no_other_user_can_have_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let (real, links) = (top.join("real/in"), top.join("links"));
        fs::create_dir_all(&real).unwrap();
        fs::create_dir(&links).unwrap();
        symlink("../real", links.join("a")).unwrap();
        symlink(top.join("links/a"), links.join("b")).unwrap();
        fs::set_permissions(&links, Permissions::from_mode(0o755)).unwrap();
        let way = TrustedWay::to(&links.join("b/in/../in")).unwrap();
        assert_eq!((&way.link, &way.real), (&None, &real));
        assert!(way.passed.contains(&top.join("real")), "{way:?}");
        // Sticky or not: another user may have made it.
        for mode in [0o775, 0o1777] {
            fs::set_permissions(&links, Permissions::from_mode(mode)).unwrap();
            let way = TrustedWay::to(&links.join("b/in")).unwrap();
            assert_eq!(way.link, Some(Link::Foreign(links.join("b"))));
            assert!(way.whole().is_err());
        }
        fs::set_permissions(&links, Permissions::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::lchown(links.join("a"), Some(1235), None).unwrap();
            let way = TrustedWay::to(&links.join("b/in")).unwrap();
            assert_eq!(way.link, Some(Link::Foreign(links.join("a"))));
            std::os::unix::fs::lchown(links.join("a"), Some(0), None).unwrap();
            std::os::unix::fs::chown(&links, Some(1235), None).unwrap();
            let way = TrustedWay::to(&links.join("b/in")).unwrap();
            assert_eq!(way.link, Some(Link::Foreign(links.join("b"))));
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_from_what_is_only_not_made_yet() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let gone = top.join("mnt/nas");
        symlink(&gone, top.join("link")).unwrap();
        for path in ["link", "link/episodes"] {
            let way = TrustedWay::to(&top.join(path)).unwrap();
            let dangling = Link::Dangling(top.join("link"), gone.clone());
            assert_eq!(way.link, Some(dangling), "{path}");
        }
        fs::create_dir_all(&gone).unwrap();
        let way = TrustedWay::to(&top.join("link/a/b")).unwrap();
        assert_eq!(
            (way.link, way.real, way.missing),
            (None, gone, vec!["a".into(), "b".into()])
        );
        symlink("loop", top.join("loop")).unwrap();
        assert!(TrustedWay::to(&top.join("loop")).is_err());
    }
}
