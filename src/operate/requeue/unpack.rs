//! An archive alone, in `quarantine/`, becomes the episode again that it is of.
//!
//! ```text
//!  quarantine/<id>[~n]/<id>.tar.zst ──unpack──▶ episodes/.sealift-copy-…
//!      removed, once that is durable              ──rename──▶ episodes/<name>
//! ```
//!
//! It is unpacked in `episodes/`, out of sight: `quarantine/` may be on another file system. Its
//! name is the episode's own only while nothing has it and nothing that left had it
//! (`disk/by_hand.rs`). Nothing is overwritten, and wherever it stops the archive is where it was.
//! Killed between the rename and the removal, it finds what it has brought back, byte by byte, and
//! only removes the archive.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Origin, RequeueEnd, RequeueOptions, RequeueRow, find::WENT_AWAY};
use crate::{
    disk::{
        by_hand, durable, lookup, ownership, record_files,
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
    let archive = LoneArchive::in_folder(&options.layout, &place);
    let ended = archive.and_then(|archive| {
        row.episode_id = archive.id.clone();
        archive.bring_back(options, to, progress)
    });
    row.end = ended.unwrap_or_else(RequeueEnd::Left);
    row
}

struct LoneArchive<'a> {
    layout: &'a Layout,
    place: &'a Path,
    id: EpisodeId,
    may_be_its_own: bool,
}

impl<'a> LoneArchive<'a> {
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
        let known = self.may_be_it(to);
        if !self.is_free(&name) && (known.is_empty() || options.dry_run) {
            return Err(format!(
                "{} is there already, or was: nothing is overwritten, and no name of one that left is used again",
                shown(&self.layout.episode(&name))
            ));
        }
        let file = self.layout.archive(&self.id);
        let file = self.place.join(file.file_name().unwrap_or_default());
        let archive =
            lookup::regular(&file).map_err(|error| format!("{}: {error}", shown(&file)))?;
        if options.dry_run {
            return Ok(RequeueEnd::Would(self.layout.episode(&name)));
        }
        let built = self.build(archive, &name, &known, progress)?;
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
        !by_hand::is_used(self.layout, name, self.place)
            && (*name == self.id || !by_hand::is_taken(self.layout, name.as_str()))
    }

    /// The folders that an attempt which was killed may have brought back: under the name that was
    /// asked for, or under one that it had chosen itself; and wherever they have gone from there.
    fn may_be_it(&self, to: Option<&EpisodeId>) -> Vec<PathBuf> {
        let own = self.id.as_str();
        let numbered = (1..).map(|n| by_hand::second_name(own, n));
        let numbered = numbered.take_while(|name| by_hand::is_taken(self.layout, name));
        let names: Vec<_> = match to {
            Some(name) => vec![name.as_str().to_owned()],
            None => [own.to_owned()].into_iter().chain(numbered).collect(),
        };
        let layout = self.layout;
        let folders = [&layout.episodes, &layout.shipped, &layout.quarantine];
        let paths = names
            .iter()
            .flat_map(|name| folders.map(|folder| folder.join(name)));
        let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
        paths
            .filter(|path| path != self.place && is_folder(path))
            .collect()
    }

    fn build(
        &self,
        archive: File,
        name: &EpisodeId,
        known: &[PathBuf],
        progress: &Progress,
    ) -> Result<PathBuf, String> {
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
        let (mut failed, mut done_before) = (None, None);
        let fill = |into: &Path| {
            let unpacked = unpack::unpack(archive, &self.id, into, limits, progress, &|_| ());
            if let Err(error) = unpacked {
                failed = Some(error);
                return Err(io::ErrorKind::Other.into());
            }
            for known in known {
                // By what is in it alone: the times of folders and of the marker are when it was
                // unpacked. What cannot be read is another.
                if matches!(durable::holds_the_same(into, known, progress), Ok(true)) {
                    done_before = Some(known.clone());
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
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
        if let Some(path) = done_before {
            return Ok(path);
        }
        match (built, failed) {
            (Ok(path), _) => Ok(path),
            (Err(_), Some(UnpackError::Cancelled(_))) => Err("it was told to stop".to_owned()),
            (Err(_), Some(error)) => Err(printable(&format!("{:#}", anyhow::Error::new(error)))),
            (Err(error), None) if error.kind() == io::ErrorKind::AlreadyExists => Err(format!(
                "{} is there already, or was by now: nothing is overwritten, and no name of one that left is used again",
                shown(&self.layout.episode(name))
            )),
            (Err(error), None) => Err(disk(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn id(name: &str) -> EpisodeId {
        EpisodeId::parse(name).unwrap()
    }

    /// An archive alone of the episode `a`, in the folder `folder` of `quarantine/`.
    fn alone(folder: &str, why: &str) -> (tempfile::TempDir, RequeueOptions) {
        alone_of(folder, why, 0)
    }

    /// The same of an episode with so many more files.
    fn alone_of(folder: &str, why: &str, more: usize) -> (tempfile::TempDir, RequeueOptions) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        let place = layout.quarantine.join(folder);
        for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &place] {
            fs::create_dir_all(folder).unwrap();
        }
        let mut tar = tar::Builder::new(Vec::new());
        let more = (0..more).map(|n| format!("a/z{n:04}")).collect::<Vec<_>>();
        let files = [
            ("a/", None),
            ("a/data", Some("x")),
            ("a/done.marker", Some("")),
        ];
        for (path, content) in files
            .into_iter()
            .chain(more.iter().map(|path| (path.as_str(), Some("z"))))
        {
            let mut header = tar::Header::new_ustar();
            let content = content.map_or(&b""[..], str::as_bytes);
            header.set_entry_type(match path.ends_with('/') {
                true => tar::EntryType::Directory,
                false => tar::EntryType::Regular,
            });
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        }
        let archive = zstd::encode_all(&*tar.into_inner().unwrap(), 1).unwrap();
        fs::write(place.join("a.tar.zst"), archive).unwrap();
        let reason = serde_json::json!({"episode_id": "a", "error": why, "body": null, "verdict": ORPHAN,
            "quarantined_at_wall": "2026-01-01T00:00:00Z"});
        fs::write(place.join("quarantine_reason.json"), reason.to_string()).unwrap();
        let options = RequeueOptions {
            layout,
            ids: vec![id(folder)],
            by_folder: false,
            status: None,
            from: None,
            unasked: false,
            unpack: Some(None),
            dry_run: false,
            concurrency: 1,
            typed: String::new(),
        };
        (root, options)
    }

    fn unpacked(options: &RequeueOptions, to: Option<&str>) -> RequeueEnd {
        let to = to.map(id);
        let progress = Progress::default();
        let row = unpack_archive(options, &options.ids[0], to.as_ref(), &progress);
        row.end
    }

    #[track_caller]
    fn is_back(options: &RequeueOptions, end: RequeueEnd, name: &str) {
        let episode = options.layout.episode(&id(name));
        assert_eq!(end, RequeueEnd::Back(episode.clone()));
        assert_eq!(fs::read_to_string(episode.join("data")).unwrap(), "x");
        assert!(episode.join("done.marker").is_file());
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(left(&options.layout.quarantine), 0, "the archive goes");
    }

    #[track_caller]
    fn is_left(options: &RequeueOptions, end: &RequeueEnd, says: &str) {
        let RequeueEnd::Left(why) = end else {
            panic!("{end:?}")
        };
        assert!(why.contains(says), "{why}");
        let place = options.layout.quarantine.join(options.ids[0].as_str());
        assert!(place.join("a.tar.zst").exists(), "the archive stays");
        let hidden = fs::read_dir(&options.layout.episodes).unwrap();
        let hidden = hidden.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with('.')
        });
        assert_eq!(hidden.count(), 0, "nothing is left of it");
    }

    #[test]
    fn the_last_copy_gets_its_own_name_back_and_what_was_changed_another() {
        let (_root, options) = alone("a", LAST_COPY);
        is_back(&options, unpacked(&options, None), "a");
        let (_root, options) = alone("a~1", "it was changed");
        fs::create_dir(options.layout.episode(&id("a"))).unwrap();
        is_back(&options, unpacked(&options, None), "a-1");
        let (_root, options) = alone("a", LAST_COPY);
        is_back(&options, unpacked(&options, Some("another")), "another");
    }

    fn run(program: &str, from: &Path, to: &Path) {
        let mut command = std::process::Command::new(program);
        if program == "cp" {
            command.arg("-a");
        }
        assert!(command.args([from, to]).status().unwrap().success());
    }

    /// As if it was killed right after its rename: what it has unpacked has its name, and the
    /// archive is still there.
    fn killed_after_its_rename(options: &RequeueOptions, to: Option<&str>) -> PathBuf {
        let place = options.layout.quarantine.join(options.ids[0].as_str());
        let kept = options.layout.quarantine.join("kept");
        run("cp", &place, &kept);
        let RequeueEnd::Back(path) = unpacked(options, to) else {
            panic!()
        };
        run("mv", &kept, &place);
        // That was a while ago.
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for entry in [&path, &path.join("done.marker")] {
            let entry = File::open(entry).unwrap();
            entry.set_modified(then).unwrap();
        }
        path
    }

    #[test]
    fn one_that_was_killed_between_its_rename_and_its_removal_finds_what_it_did() {
        for to in [None, Some("another")] {
            for why in [LAST_COPY, "it was changed"] {
                let (_root, options) = alone("a", why);
                let first = killed_after_its_rename(&options, to);
                let name = first.file_name().unwrap().to_str().unwrap().to_owned();
                is_back(&options, unpacked(&options, to), &name);
                let there = fs::read_dir(&options.layout.episodes).unwrap().count();
                assert_eq!(there, 1, "{why}: it came back twice");
            }
        }
        // It was shipped meanwhile, and has its receipt in it.
        let (_root, options) = alone("a", LAST_COPY);
        let first = killed_after_its_rename(&options, None);
        let shipped = options.layout.shipped.join("a");
        run("mv", &first, &shipped);
        let receipt = crate::model::records::ShippingReceipt::example("a");
        record_files::write_receipt(&shipped, &receipt, &[]).unwrap();
        assert_eq!(unpacked(&options, None), RequeueEnd::Back(shipped));
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(left(&options.layout.quarantine), 0);
        assert_eq!(left(&options.layout.episodes), 0);
    }

    #[test]
    fn what_was_written_to_since_it_came_back_is_another_and_nothing_of_the_archive_is_lost() {
        let (_root, options) = alone("a", LAST_COPY);
        let first = killed_after_its_rename(&options, None);
        fs::write(first.join("data"), "y").unwrap();
        is_back(&options, unpacked(&options, None), "a-1");
        assert_eq!(fs::read_to_string(first.join("data")).unwrap(), "y");
    }

    #[test]
    fn nothing_is_overwritten_and_no_name_of_one_that_left_is_used_again() {
        for taken in ["episodes", "shipped"] {
            let (root, options) = alone("a", LAST_COPY);
            fs::create_dir(root.path().join(taken).join("b")).unwrap();
            let end = unpacked(&options, Some("b"));
            is_left(&options, &end, "no name of one that left is used again");
        }
        let (_root, options) = alone("a", LAST_COPY);
        fs::create_dir(options.layout.shipped.join("a")).unwrap();
        is_left(&options, &unpacked(&options, Some("a")), "is there already");
    }

    #[test]
    fn what_is_broken_or_no_archive_stays_where_it_is() {
        let (_root, options) = alone("a", LAST_COPY);
        let file = options.layout.quarantine.join("a/a.tar.zst");
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        is_left(&options, &unpacked(&options, None), "archive");
        durable::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        let end = unpacked(&options, None);
        assert!(
            matches!(&end, RequeueEnd::Left(why) if why.contains("a.tar.zst")),
            "{end:?}"
        );
        // An episode is put back without.
        let reason = options.layout.quarantine.join("a/quarantine_reason.json");
        let said = fs::read_to_string(&reason).unwrap();
        fs::write(&reason, said.replace(ORPHAN, "fatal")).unwrap();
        let end = unpacked(&options, None);
        assert!(
            matches!(&end, RequeueEnd::Left(why) if why.contains("leave --unpack out")),
            "{end:?}"
        );
    }

    #[test]
    fn under_its_name_it_is_never_seen_before_it_is_whole() {
        let (_root, options) = alone_of("a", LAST_COPY, 400);
        let (episodes, episode) = (&options.layout.episodes, options.layout.episode(&id("a")));
        let done = AtomicBool::new(false);
        let seen_in_parts = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut looks_at_hidden = 0;
                while !done.load(Ordering::SeqCst) && !episode.exists() {
                    looks_at_hidden += fs::read_dir(episodes).unwrap().count();
                }
                (looks_at_hidden, fs::read_dir(&episode).unwrap().count())
            });
            let end = unpacked(&options, None);
            assert_eq!(end, RequeueEnd::Back(episode.clone()));
            done.store(true, Ordering::SeqCst);
            watching.join().unwrap()
        });
        let (looks_at_hidden, first_seen) = seen_in_parts;
        assert!(
            looks_at_hidden > 0,
            "it was looked at while it was unpacked"
        );
        assert_eq!(first_seen, 402, "all of it, and its marker");
    }

    #[test]
    fn a_trial_says_the_name_and_changes_nothing() {
        let (_root, mut options) = alone("a", LAST_COPY);
        options.dry_run = true;
        let episode = options.layout.episode(&id("a"));
        assert_eq!(unpacked(&options, None), RequeueEnd::Would(episode.clone()));
        assert!(!episode.exists());
    }
}
