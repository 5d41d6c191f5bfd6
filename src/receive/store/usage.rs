//! The disk side of questions about the whole store. Everything here blocks, and walks.

use std::{ffi::OsStr, fs::FileType, io, ops::ControlFlow, path::Path};

use super::{
    StoreSpace, Usage,
    index::{Places, episode_of},
};
use crate::{
    disk::{filesystem, lookup::if_there},
    model::{
        episode::{EpisodeId, HostName},
        progress::Progress,
    },
    receive::stored_episode::{Key, Namespace},
};

impl Places {
    pub(super) fn usage(
        &self,
        is_counted: &dyn Fn(&Key) -> bool,
        work: &Progress,
    ) -> io::Result<Usage> {
        let mut usage = Usage {
            parts: self.parts()?,
            ..Usage::default()
        };
        let mut add = |host| self.add(&mut usage, host, is_counted, work);
        match self.namespace {
            Namespace::None => add(None)?,
            Namespace::Host => hosts(&self.episodes)?
                .iter()
                .try_for_each(|host| add(Some(host)))?,
        }
        Ok(usage)
    }

    fn add(
        &self,
        usage: &mut Usage,
        host: Option<&HostName>,
        is_counted: &dyn Fn(&Key) -> bool,
        work: &Progress,
    ) -> io::Result<()> {
        let _ = each_archive(&self.folder_of(host)?, |id| {
            work.check().map_err(io::Error::other)?;
            let key = Key {
                host: host.cloned(),
                id,
            };
            let Ok(metadata) = self.archive(&key)?.symlink_metadata() else {
                return Ok(ControlFlow::Continue(()));
            };
            if is_counted(&key) {
                return Ok(ControlFlow::Continue(()));
            }
            // Where the place says whose it is, nothing needs to be read.
            let owner = match host {
                Some(host) => Some(host.clone()),
                None => self
                    .fitting(&key, &metadata)?
                    .and_then(|record| record.owner(None)),
            };
            usage.add_archive(owner, metadata.len());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    pub(super) fn space(&self) -> io::Result<StoreSpace> {
        // What root has in reserve is not for us.
        let filesystem::Space {
            free_bytes,
            total_bytes,
            free_files,
        } = filesystem::space(&self.root)?;
        Ok(StoreSpace {
            free_bytes,
            total_bytes,
            free_files,
        })
    }
}

/// Whether a store holds episodes that are filed the other way, and none that are filed ours: how a
/// store is judged that has no note of it (see `namespace_file.rs`).
pub(super) fn is_filed_otherwise(episodes: &Path, ours: Namespace) -> io::Result<bool> {
    // Ours first: in a large store the first name tells.
    Ok(!holds(episodes, ours)? && holds(episodes, ours.other())?)
}

fn holds(episodes: &Path, namespace: Namespace) -> io::Result<bool> {
    match namespace {
        Namespace::None => holds_archives(episodes),
        Namespace::Host => hosts(episodes)?.iter().try_fold(false, |held, host| {
            Ok(held || holds_archives(&episodes.join(host.percent_encoded()))?)
        }),
    }
}

fn holds_archives(folder: &Path) -> io::Result<bool> {
    each_archive(folder, |_| Ok(ControlFlow::Break(()))).map(|walk| walk.is_break())
}

/// Calls `visit` for each archive in a folder until it breaks; a folder that is not there has none.
/// What is named like none, or is no file, is not ours.
fn each_archive(
    folder: &Path,
    mut visit: impl FnMut(EpisodeId) -> io::Result<ControlFlow<()>>,
) -> io::Result<ControlFlow<()>> {
    for entry in if_there(std::fs::read_dir(folder))?.into_iter().flatten() {
        let entry = entry?;
        if let Some(id) = episode_of(&entry.file_name())
            && is(entry.file_type(), FileType::is_file)?
            && visit(id)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether what a folder lists is of this kind. Where the file system does not say so with the name
/// (readdir(3), `d_type`) it is looked at, and may be gone since.
fn is(found: io::Result<FileType>, kind: impl Fn(&FileType) -> bool) -> io::Result<bool> {
    Ok(if_there(found)?.as_ref().is_some_and(kind))
}

/// The hosts that have stored something. A folder that was left empty is no host's.
pub(super) fn hosts_with_archives(episodes: &Path) -> io::Result<Vec<HostName>> {
    let mut found = Vec::new();
    for host in hosts(episodes)? {
        if holds_archives(&episodes.join(host.percent_encoded()))? {
            found.push(host);
        }
    }
    Ok(found)
}

/// The hosts that have folders.
pub(super) fn hosts(episodes: &Path) -> io::Result<Vec<HostName>> {
    let mut hosts = Vec::new();
    for entry in if_there(std::fs::read_dir(episodes))?.into_iter().flatten() {
        let entry = entry?;
        if let Some(host) = host_of(&entry.file_name())
            && is(entry.file_type(), FileType::is_dir)?
        {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn host_of(name: &OsStr) -> Option<HostName> {
    let encoded = name.to_str()?;
    let id = EpisodeId::from_percent_encoded(encoded).ok()?;
    let host = HostName::parse(id.as_str()).ok()?;
    (host.percent_encoded() == encoded).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_since_it_was_listed_ends_no_walk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tar.zst");
        std::fs::write(&file, b"archive").unwrap();
        let kind = |path: &Path| path.symlink_metadata().map(|found| found.file_type());
        assert!(is(kind(&file), FileType::is_file).unwrap());
        assert!(!is(kind(folder.path()), FileType::is_file).unwrap());
        assert!(!is(kind(&folder.path().join("gone")), FileType::is_file).unwrap());
        let unreadable = Err(io::ErrorKind::PermissionDenied.into());
        assert!(is(unreadable, FileType::is_file).is_err());
    }
}
