//! An archive alone, in `quarantine/`, becomes the episode again that it is of.
//!
//! ```text
//!  quarantine/<id>[~n]/<id>.tar.zst ──unpack──▶ episodes/.sealift-copy-…  ──rename──▶ episodes/<name>
//!                 └──────────────── removed, once that is durable ────────────────┘
//! ```
//!
//! It is unpacked in `episodes/`, out of sight: `quarantine/` may be on another file system. The
//! name is the episode's own only while nothing has it and nothing that left had it; else a receiver
//! holds another recording under it by then, or is about to. Nothing is overwritten, and wherever it
//! stops the archive is where it was.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::{Origin, RequeueEnd, RequeueOptions, RequeueRow, find::WENT_AWAY};
use crate::{
    disk::{
        by_hand, durable, ownership, record_files,
        tree::{TreeError, shown},
    },
    model::{
        episode::EpisodeId,
        layout::Layout,
        progress::Progress,
        records::{LAST_COPY, ORPHAN},
        text::printable,
    },
    operate::unpack::{self, Limits, UnpackError},
};

/// Of the disk, so much stays free.
const RESERVE_BYTES: u64 = 64 << 20;

/// Brings back what is in the archive of the folder `name` in `quarantine/`: as `to`, or under the
/// first name that is free.
pub(super) fn unpack_archive(
    options: &RequeueOptions,
    name: &EpisodeId,
    to: Option<&EpisodeId>,
    progress: &Progress,
) -> RequeueRow {
    let place = options.layout.quarantine.join(name.as_str());
    let mut row = RequeueRow {
        episode_id: name.clone(),
        from: Some(Origin::Quarantine),
        status: None,
        folder: Some(place.clone()),
        end: RequeueEnd::Left(String::new()),
    };
    let archive = Archive::in_folder(&options.layout, &place);
    let ended = archive.and_then(|archive| {
        row.episode_id = archive.id.clone();
        archive.bring_back(options, to, progress)
    });
    row.end = ended.unwrap_or_else(RequeueEnd::Left);
    row
}

struct Archive<'a> {
    layout: &'a Layout,
    place: &'a Path,
    id: EpisodeId,
    may_be_its_own: bool,
}

impl<'a> Archive<'a> {
    fn in_folder(layout: &'a Layout, place: &'a Path) -> Result<Self, String> {
        if fs::symlink_metadata(place).is_err() {
            return Err("quarantine/ has no folder of that name".to_owned());
        }
        let reason = match record_files::reason(place) {
            Ok(reason) => reason,
            Err(TreeError::Gone) => return Err(WENT_AWAY.to_owned()),
            Err(error) => {
                let error = anyhow::Error::new(error);
                return Err(format!("its reason cannot be read: {error:#}"));
            }
        };
        let reason = reason.filter(|reason| reason.verdict.as_deref() == Some(ORPHAN));
        let id = reason
            .as_ref()
            .and_then(|reason| EpisodeId::parse(reason.episode_id.as_deref()?).ok());
        let (Some(reason), Some(id)) = (reason, id) else {
            let why = "it is no archive without its episode: leave --unpack out";
            return Err(why.to_owned());
        };
        let said = reason.error.unwrap_or_default();
        Ok(Self {
            layout,
            place,
            id,
            may_be_its_own: said.contains(LAST_COPY),
        })
    }

    fn bring_back(
        &self,
        options: &RequeueOptions,
        to: Option<&EpisodeId>,
        progress: &Progress,
    ) -> Result<RequeueEnd, String> {
        let name = match to {
            Some(name) => name.clone(),
            None => by_hand::name_for(self.layout, &self.id, self.place, self.may_be_its_own)
                .ok_or("too many names are in use: give one that is free with --as NEW")?,
        };
        if !self.is_free(&name) {
            return Err(format!(
                "{} is there already, or was: nothing is overwritten, and no name of one that left is used again",
                shown(&self.layout.episode(&name))
            ));
        }
        let file = self.layout.archive(&self.id);
        let file = self.place.join(file.file_name().unwrap_or_default());
        let archive = open(&file).map_err(|error| format!("{}: {error}", shown(&file)))?;
        if options.dry_run {
            return Ok(RequeueEnd::Would(self.layout.episode(&name)));
        }
        let built = self.build(archive, &name, progress)?;
        // It is back, whatever becomes of the archive now.
        if let Err(error) = durable::remove_tree(self.place, &progress.to_its_end()) {
            tracing::warn!(
                "{} is back in the queue; its archive in {} cannot be removed: {error}",
                shown(&built),
                shown(self.place)
            );
        }
        Ok(RequeueEnd::Back(built))
    }

    fn is_free(&self, name: &EpisodeId) -> bool {
        if *name == self.id {
            !by_hand::is_used(self.layout, name, self.place)
        } else {
            !by_hand::is_taken(self.layout, name.as_str())
        }
    }

    fn build(
        &self,
        archive: File,
        name: &EpisodeId,
        progress: &Progress,
    ) -> Result<std::path::PathBuf, String> {
        let episodes = &self.layout.episodes;
        let disk = |error: io::Error| format!("it cannot be unpacked: {error}");
        let metadata = archive.metadata().map_err(disk)?;
        let (owner, group) = (metadata.uid(), metadata.gid());
        let us = rustix::process::geteuid().as_raw();
        if us != 0 && owner != us {
            return Err(format!(
                "its archive belongs to user {owner}, and what is unpacked would belong to you: type it as that user, or as root"
            ));
        }
        let space = rustix::fs::statvfs(episodes).map_err(|error| disk(error.into()))?;
        let room = space.f_bavail.saturating_mul(space.f_frsize);
        let limits = Limits {
            max_bytes: room.saturating_sub(RESERVE_BYTES),
            is_room: true,
        };
        let mut failed = None;
        let fill = |into: &Path| {
            let unpacked = unpack::unpack(archive, &self.id, into, limits, progress, &|_| ());
            if let Err(error) = unpacked {
                failed = Some(error);
                return Err(io::ErrorKind::Other.into());
            }
            if us == 0 {
                ownership::give_made(into, owner, group)?;
            }
            // It may have taken a while.
            if self.is_free(name) {
                Ok(())
            } else {
                Err(io::ErrorKind::AlreadyExists.into())
            }
        };
        let built = durable::build_as(episodes, name.as_str(), fill, progress);
        match (built, failed) {
            (Ok(path), _) => Ok(path),
            (Err(_), Some(UnpackError::Cancelled(_))) => Err("it was told to stop".to_owned()),
            (Err(_), Some(error)) => Err(printable(&format!("{:#}", anyhow::Error::new(error)))),
            (Err(error), None) if error.kind() == io::ErrorKind::AlreadyExists => Err(format!(
                "{} is there by now, and nothing is overwritten: type it again",
                shown(&self.layout.episode(name))
            )),
            (Err(error), None) => Err(disk(error)),
        }
    }
}

/// A regular file under this very name.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}
