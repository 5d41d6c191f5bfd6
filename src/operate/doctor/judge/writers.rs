//! `open-files`, `shipped-changed`, `reused-names`: recorders that go on writing.

use std::path::Path;

use super::daemon_checks::DaemonChecks;
use crate::{
    disk::{filesystem, tree::shown},
    model::episode::EpisodeId,
    operate::doctor::{
        facts::{EpisodesFacts, Facts, FolderState},
        row::{DoctorRow, Id, RowStatus},
        words::path,
    },
};

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    if let Some(daemon) = DaemonChecks::among(facts) {
        rows.extend([open_files(facts, daemon), daemon.changed()]);
    }
    rows.extend(facts.episodes.as_ref().map(|found| reused(facts, found)));
    rows
}

/// Where none is seen, those on other mounts and hosts may be open all the same.
fn open_files(facts: &Facts, daemon: DaemonChecks<'_>) -> DoctorRow {
    let mut row = daemon.open_files();
    if row.status == RowStatus::Green {
        let file_system = unseen_on(facts);
        row.summary += &told_of_elsewhere(file_system);
        row = row.with("file_system", file_system);
    }
    row
}

/// The file system of `episodes/`, where writers may come from other mounts and hosts.
fn unseen_on(facts: &Facts) -> Option<&'static str> {
    let episodes = facts
        .folders
        .iter()
        .find(|folder| folder.name == "episodes")?;
    match episodes.state {
        FolderState::There { shared, .. } => shared,
        FolderState::Missing
        | FolderState::NoFolder
        | FolderState::Failed(_)
        | FolderState::Hangs(_) => None,
    }
}

fn told_of_elsewhere(file_system: Option<&str>) -> String {
    file_system.map(filesystem::unseen_writers).map_or_else(String::new, |why| {
        format!(" episodes/ {why}. A recorder there closes its files before it seals (docs/recorders.md).")
    })
}

fn reused(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let (id, reused) = (Id::ReusedNames, &found.reused);
    if let Some((first, copy)) = found.left.first() {
        return left(facts, found, first, copy);
    }
    let Some(first) = reused.first() else {
        return DoctorRow::green(
            id,
            "No name in episodes/ is that of an episode that was shipped within the day.",
        );
    };
    let summary = format!(
        "{} in episodes/ of an episode that was shipped within the day: {first}. A recorder that writes on by path makes such a \
         folder, and what is in it is missing from what was delivered. Stop the recorder; give what it wrote a name of its own. Sealed under this name, it is a conflict at a receiver of \
         ours, and replaces what a plain web server holds.",
        if reused.len() == 1 {
            "1 folder has the name".to_owned()
        } else {
            format!("{} folders have the name, each", reused.len())
        }
    );
    let episodes: Vec<_> = reused.iter().map(EpisodeId::as_str).collect();
    let fix = facts.hands.as_root(&format!(
        "ls -laR {}",
        path(&found.folder.join(first.as_str()))
    ));
    DoctorRow::yellow(id, summary, fix).with("episodes", episodes)
}

/// To be compared first: what the folder is worth, its recorder knows.
fn left(facts: &Facts, found: &EpisodesFacts, first: &EpisodeId, copy: &Path) -> DoctorRow {
    let folder = found.folder.join(first.as_str());
    let summary = format!(
        "{} in episodes/ of what was moved by a copy, and was written to while it was removed there: {}. Its copy is {}, and has all but \
         what was written then. Compare the two; then remove the folder, or give it a name of its own (mv -T) and seal it: under its old one \
         it is a conflict at a receiver of ours, and replaces what a plain web server holds.",
        if found.left.len() == 1 {
            "1 folder is a rest".to_owned()
        } else {
            format!("{} folders are rests, each", found.left.len())
        },
        shown(&folder),
        shown(copy)
    );
    let episodes: Vec<_> = found.left.iter().map(|(id, _)| id.as_str()).collect();
    let fix = facts
        .hands
        .as_root(&format!("diff -r {} {}", path(&folder), path(copy)));
    DoctorRow::red(Id::ReusedNames, summary, fix).with("episodes", episodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::snapshot::{OpenFile, ShippedChange, Snapshot},
        operate::doctor::{facts::DaemonState, judge::healthy_host::sound},
    };

    fn with(change: impl FnOnce(&mut Snapshot)) -> Vec<DoctorRow> {
        let mut facts = sound();
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!("it answers")
        };
        change(snapshot);
        rows(&facts)
    }

    #[test]
    fn a_file_that_is_open_for_long_is_yellow_after_a_minute_and_red_after_ten() {
        for (for_s, pid, status, fix) in [
            (59, Some(7), RowStatus::Green, None),
            (
                60,
                Some(7),
                RowStatus::Yellow,
                Some("ps -o pid,user,etime,args -p 7"),
            ),
            (
                600,
                None,
                RowStatus::Red,
                Some(
                    "find /proc -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname /d/episodes/run-1/data.mcap",
                ),
            ),
        ] {
            let rows = with(|snapshot| {
                let process = pid.map(|_| "python3".to_owned());
                let (episode_id, file) = ("run-1".to_owned(), "data.mcap".to_owned());
                snapshot.open_files.count = 1;
                snapshot.open_files.some = vec![OpenFile {
                    episode_id,
                    file,
                    pid,
                    process,
                    for_s,
                    before_move: false,
                }];
            });
            assert_eq!(
                (rows[0].status, rows[0].fix.as_deref()),
                (status, fix),
                "{rows:?}"
            );
            let says = rows[0]
                .summary
                .contains("data.mcap of run-1, by process 7 (python3), for 60 s");
            assert_eq!(says, status == RowStatus::Yellow, "{rows:?}");
        }
    }

    #[test]
    fn where_it_cannot_be_told_the_row_says_so_and_names_what_would_tell() {
        let rows = with(|snapshot| snapshot.open_files.untold = 2);
        assert_eq!(rows[0].status, RowStatus::Green);
        for word in [
            "Of 2 episodes",
            "cannot tell",
            "CAP_LEASE",
            "PrivateUsers=no",
            "sealift seal",
        ] {
            assert!(rows[0].summary.contains(word), "{word}: {rows:?}");
        }
    }

    #[test]
    fn where_files_may_be_open_through_another_mount_or_on_another_host_the_row_says_that_it_cannot_tell()
     {
        for (shared, says) in [
            (
                Some("FUSE"),
                Some("through another mount or on another host cannot be told"),
            ),
            (
                Some("NFS"),
                Some("which files are open for writing cannot be told"),
            ),
            (None, None),
        ] {
            let mut facts = sound();
            let FolderState::There { shared: on, .. } = &mut facts.folders[0].state else {
                panic!()
            };
            *on = shared;
            let rows = rows(&facts);
            assert_eq!(rows[0].status, RowStatus::Green);
            assert_eq!(
                rows[0].summary.contains("cannot be told"),
                says.is_some(),
                "{rows:?}"
            );
            assert!(
                says.is_none_or(|says| rows[0].summary.contains(says)),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn what_stays_of_a_source_that_was_written_to_while_it_was_removed_is_red_with_both_paths() {
        let mut facts = sound();
        let found = facts.episodes.as_mut().unwrap();
        let id = EpisodeId::parse("a").unwrap();
        found.left = vec![(id, "/d/shipped/a~1".into())];
        let row = rows(&facts).pop().unwrap();
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (
                RowStatus::Red,
                Some("diff -r /d/episodes/a '/d/shipped/a~1'")
            )
        );
        assert!(
            row.summary
                .contains("/d/episodes/a. Its copy is /d/shipped/a~1"),
            "{row:?}"
        );
    }

    #[test]
    fn what_was_written_to_after_it_was_shipped_is_yellow_with_the_command_that_sends_it_again() {
        for (folder, fix) in [
            ("a", "sealift requeue a --from shipped --data /d"),
            (
                "a~1",
                "sealift requeue --folder 'a~1' --from shipped --data /d",
            ),
        ] {
            let rows = with(|snapshot| {
                snapshot.shipped_changed = vec![ShippedChange {
                    episode_id: "a".to_owned(),
                    folder: folder.to_owned(),
                }];
            });
            assert_eq!(
                (rows[1].status, rows[1].fix.as_deref()),
                (RowStatus::Yellow, Some(fix))
            );
        }
    }
}
