//! Whose archive lies under a name? Asked before anything is written or cleared there: what is
//! another episode's may be the last copy of it.
//!
//! ```text
//!  outbox/<id>.tar.zst of the episode at hand?
//!    no such file, or one that does not begin like an archive ───────▶ yes: there is nothing to lose
//!    its sidecar has the fingerprint or the content of this episode ─▶ yes
//!    ... or names this very folder, by inode and time of birth ──────▶ yes: edited since
//!    every member is in the episode's folder, byte for byte ─────────▶ yes: the sidecar was lost, or the folder was copied
//!    otherwise ──────────────────────────────────────────────────────▶ no
//! ```
//!
//! An inode alone proves nothing either way: some file systems give the same one to each folder of
//! a name (mergerfs), others give a folder another one when the kernel has forgotten it.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use tar::EntryType;

use crate::{
    episode::{Digest, EpisodeId, Fingerprint, FolderId},
    filed,
    layout::Layout,
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
    // It is taken away before another archive gets its name: so it is this one's, damaged or not.
    if let Some(sidecar) = filed::sidecar(layout, at_hand.id)? {
        let same_folder = sidecar.folder.zip(at_hand.folder).is_some_and(|(then, now)| then.is_the_same(now));
        if at_hand.fingerprint == Some(sidecar.fingerprint)
            || at_hand.content_sha256 == Some(sidecar.facts.content_sha256)
            || same_folder
        {
            return Ok(true);
        }
    }
    Ok(holds_nothing_else(archive, at_hand.directory, progress).unwrap_or(false))
}

/// Whether each member of an archive stands in this folder. What cannot be read says no: it may
/// hold anything.
fn holds_nothing_else(archive: File, directory: &Path, progress: &Progress) -> io::Result<bool> {
    let Ok(top) = fs::canonicalize(directory) else { return Ok(false) };
    let mut archive = tar::Archive::new(zstd::Decoder::new(BufReader::new(archive))?);
    for member in archive.entries()? {
        progress.check().map_err(io::Error::other)?;
        progress.step();
        let mut member = member?;
        let Some(path) = inside(&top, &member.path_bytes()) else { return Ok(false) };
        let is_there = match member.header().entry_type() {
            // Of a folder, and of the marker, there is nothing that could be lost.
            EntryType::Directory => true,
            EntryType::Symlink => {
                let target = member.link_name_bytes();
                target.is_some_and(|target| {
                    fs::read_link(&path).is_ok_and(|now| now.as_os_str().as_bytes() == &*target)
                })
            }
            EntryType::Regular | EntryType::Continuous => is_same(&mut member, &top, &path, progress)?,
            _ => false,
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
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

fn is_same(member: &mut impl Read, top: &Path, path: &Path, progress: &Progress) -> io::Result<bool> {
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
