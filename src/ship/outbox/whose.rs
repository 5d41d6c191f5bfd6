//! Whose archive lies under a name? Asked before anything is written or cleared there: what is
//! another episode's may be the last copy of it.
//!
//! ```text
//!  outbox/<id>.tar.zst of the episode at hand?
//!    no such file, or one that does not begin like an archive ───────▶ yes: there is nothing to lose
//!    its sidecar has the fingerprint or the content of this episode ─▶ yes
//!    every member is in the episode's folder, byte for byte ─────────▶ yes: the sidecar was lost, or the folder was copied
//!    its sidecar names this very folder, by inode and time of birth,
//!    and of its files more stand in there still than are lost ───────▶ yes: edited since
//!    otherwise ──────────────────────────────────────────────────────▶ no: among others, the folder was emptied
//! ```
//!
//! An inode alone proves nothing either way: some file systems give the same one to each folder of
//! a name (mergerfs), others give a folder another one when the kernel has forgotten it. Nor is a folder the recording: it may
//! have been emptied and recorded into anew, under the same names. A file stands in there still where it was made before the archive
//! was, whatever was written to it since; lost is what does not, and has not the same bytes either.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use tar::EntryType;

use crate::{
    episode::{Digest, EpisodeId, Fingerprint, FolderId},
    filed,
    layout::{Layout, MARKER},
    progress::Progress,
};

/// Read at once from the archive and from the file that it is compared with.
const COMPARED_BYTES: usize = 64 * 1024;

/// The episode whose archive is about to be written or cleared.
#[derive(Debug, Clone, Copy)]
pub struct AtHand<'a> {
    /// Which.
    pub id: &'a EpisodeId,
    /// The folder that it stands in now.
    pub directory: &'a Path,
    /// As it was packed, where it was.
    pub fingerprint: Option<Fingerprint>,
    /// What it packs to, where that is known.
    pub content_sha256: Option<Digest>,
    /// Which folder it is, where that is known.
    pub folder: Option<FolderId>,
}

/// Whether nothing is lost with what lies under the name of this episode.
///
/// # Errors
/// Those of reading the outbox and the episode: nothing is known then.
pub fn is_of(layout: &Layout, at_hand: &AtHand<'_>, progress: &Progress) -> io::Result<bool> {
    let path = layout.archive(at_hand.id);
    let Some(archive) = super::open_archive(&path)? else { return Ok(true) };
    if !super::begins_like_an_archive(&archive)? {
        return Ok(true);
    }
    let mut same_folder = false;
    // It is taken away before another archive gets its name: so it is this one's, damaged or not.
    if let Some(sidecar) = filed::sidecar(layout, at_hand.id)? {
        if at_hand.fingerprint == Some(sidecar.fingerprint)
            || at_hand.content_sha256 == Some(sidecar.facts.content_sha256)
        {
            return Ok(true);
        }
        same_folder = sidecar.folder.zip(at_hand.folder).is_some_and(|(then, now)| then.is_the_same(now));
    }
    // What cannot be read says no: it may hold anything.
    let left = what_is_left(archive, at_hand.directory, same_folder, progress);
    Ok(left.is_ok_and(|left| left.is_all() || (same_folder && left.is_most())))
}

/// What a folder has of an archive.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Members that are there no more, as they were packed or at all.
    lost: u64,
    lost_bytes: u64,
    /// Files that stood there when it was packed, and do so still, whatever was written to them since.
    kept: u64,
    kept_bytes: u64,
}

impl Left {
    fn is_all(self) -> bool {
        self.lost == 0
    }

    /// By both, since neither tells by itself: of what was emptied a hidden file may be left.
    fn is_most(self) -> bool {
        self.lost <= self.kept && self.lost_bytes <= self.kept_bytes
    }
}

/// Looks for each member of an archive in this folder. In the folder that it was packed from, a file that was made before the
/// archive was is the one that was packed; elsewhere one miss is enough.
fn what_is_left(archive: File, directory: &Path, same_folder: bool, progress: &Progress) -> io::Result<Left> {
    let mut left = Left::default();
    let top = fs::canonicalize(directory)?;
    let packed_at = archive.metadata()?.modified().ok().filter(|_| same_folder);
    let mut archive = tar::Archive::new(zstd::Decoder::new(BufReader::new(archive))?);
    for member in archive.entries()? {
        progress.check().map_err(io::Error::other)?;
        progress.step();
        let mut member = member?;
        let path = inside(&top, &member.path_bytes()).ok_or(io::ErrorKind::InvalidData)?;
        let kind = member.header().entry_type();
        if kind == EntryType::Directory || path == top.join(MARKER) {
            // There is nothing of it that could be lost; and every recording has a marker.
            continue;
        }
        let bytes = member.size();
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
        if is_file && packed_at.is_some_and(|packed_at| was_made_before(&path, packed_at)) {
            left.kept += 1;
            left.kept_bytes += bytes;
            continue;
        }
        let is_there = match kind {
            EntryType::Symlink => {
                let target = member.link_name_bytes();
                target.is_some_and(|target| {
                    fs::read_link(&path).is_ok_and(|now| now.as_os_str().as_bytes() == &*target)
                })
            }
            _ if is_file => is_there(&mut member, &top, &path, progress)?,
            _ => false,
        };
        if !is_there {
            left.lost += 1;
            left.lost_bytes += bytes;
            if !same_folder {
                break;
            }
        }
    }
    Ok(left)
}

/// Where a file system does not remember that, none was.
fn was_made_before(path: &Path, then: SystemTime) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_file() && found.created().is_ok_and(|made| made < then))
}

/// Where a member would stand; `None` where that is no place in the folder. The first of its names
/// is the episode's.
fn inside(top: &Path, member: &[u8]) -> Option<PathBuf> {
    let path = Path::new(std::ffi::OsStr::from_bytes(member));
    let mut names = path.components().filter(|name| *name != Component::CurDir);
    let mut at = top.to_owned();
    matches!(names.next()?, Component::Normal(_)).then_some(())?;
    for name in names {
        let Component::Normal(name) = name else { return None };
        at.push(name);
    }
    Some(at)
}

fn is_there(member: &mut impl Read, top: &Path, path: &Path, progress: &Progress) -> io::Result<bool> {
    // Nothing outside the folder counts, wherever a symlink in it leads.
    let in_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && fs::canonicalize(path).is_ok_and(|path| path.starts_with(top));
    let Some(mut file) = (if in_folder { super::open_archive(path)? } else { None }) else {
        return Ok(false);
    };
    let (mut ours, mut theirs) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    loop {
        progress.check().map_err(io::Error::other)?;
        let read = read_full(member, &mut ours)?;
        let same = read_full(&mut file, &mut theirs)? == read && ours[..read] == theirs[..read];
        if !same || read == 0 {
            return Ok(same);
        }
        progress.advance(read as u64);
    }
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
