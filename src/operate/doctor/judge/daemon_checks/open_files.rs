//! `open-files` and `shipped-changed`: recorders that go on writing, as the daemon has seen them.

use std::time::Duration;

use super::DaemonChecks;
use crate::{
    model::snapshot::OpenFile,
    operate::doctor::{
        row::{DoctorRow, Id},
        words::{count, path, span, word},
    },
};

/// A file that was not closed for so long was forgotten, or its recorder was.
const LONG_S: u64 = 60;
/// No buffer takes so long to be written.
const VERY_LONG_S: u64 = 600;

impl DaemonChecks<'_> {
    /// Sealed episodes that wait for a file that is open for writing.
    pub(in crate::operate::doctor::judge) fn open_files(self) -> DoctorRow {
        let (id, open) = (Id::OpenFiles, &self.snapshot.open_files);
        let long: Vec<_> = open
            .some
            .iter()
            .filter(|file| file.for_s >= LONG_S)
            .collect();
        let Some(first) = long.first() else {
            let cannot_tell = match open.untold {
                0 => String::new(),
                n => format!(
                    " Of {} that the daemon has packed since its start it cannot tell: their files belong to another user, and no manifest \
                 vouches for them. `sealift seal`, typed by the recorder, tells; so does the daemon with this drop-in: [Service] \
                 PrivateUsers=no CapabilityBoundingSet=CAP_LEASE AmbientCapabilities=CAP_LEASE, each on a line of its own.",
                    count(usize::try_from(n).unwrap_or(usize::MAX), "episode")
                ),
            };
            let summary = format!(
                "No sealed episode has waited for a minute for a file that is open for writing.{cannot_tell}"
            );
            return DoctorRow::green(id, summary).with("untold", open.untold);
        };
        let waits = if open.count == 1 {
            "1 sealed episode waits".to_owned()
        } else {
            format!("{} sealed episodes wait", open.count)
        };
        let then = match first.before_move {
            false => "after pack.open_files_wait_s it is shipped as it is",
            true => {
                "it is delivered, or rejected, and moved to another file system when that is closed: until then nothing that is written to \
             it is lost"
            }
        };
        let summary = format!(
            "{waits} for a file that is still open for writing: {} of {}, {}, for {}. Close it (and unmap it); {then}.",
            first.file,
            first.episode_id,
            holder(first),
            span(Duration::from_secs(first.for_s))
        );
        let fix = self.who_has_it(first);
        let row = if first.for_s >= VERY_LONG_S {
            DoctorRow::red(id, summary, fix)
        } else {
            DoctorRow::yellow(id, summary, fix)
        };
        let episodes: Vec<_> = long.iter().map(|file| file.episode_id.as_str()).collect();
        row.with("count", open.count)
            .with("episodes", episodes)
            .with("pid", first.pid)
            .with("untold", open.untold)
    }

    /// Only shows it: which process is to be ended, and how, its owner knows.
    fn who_has_it(self, file: &OpenFile) -> String {
        if let Some(pid) = file.pid {
            return format!("ps -o pid,user,etime,args -p {pid}");
        }
        let file = self.layout.episodes.join(&file.episode_id).join(&file.file);
        self.hands.as_root(&format!(
            "find /proc -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname {}",
            path(&file)
        ))
    }

    /// What was written to after it was shipped.
    pub(in crate::operate::doctor::judge) fn changed(self) -> DoctorRow {
        let (id, changed) = (Id::ShippedChanged, &self.snapshot.shipped_changed);
        let Some(first) = changed.first() else {
            return DoctorRow::green(
                id,
                "Nothing was seen to be written to after it was shipped.",
            );
        };
        let summary = format!(
            "{} written to after it was shipped, and what was written is in shipped/ only: {}. Its recorder kept a file open beyond \
         done.marker. Once that is closed, send it again; where the receiver then says that it holds something else, give it another name.",
            if changed.len() == 1 {
                "1 episode was".to_owned()
            } else {
                format!("{} episodes were, each", changed.len())
            },
            first.episode_id
        );
        let fixes: Vec<_> = changed
            .iter()
            .map(|it| self.hands.sealift(&requeue(&it.episode_id, &it.folder)))
            .collect();
        let episodes: Vec<_> = changed.iter().map(|it| it.episode_id.as_str()).collect();
        DoctorRow::yellow(id, summary, fixes[0].clone())
            .with("episodes", episodes)
            .with("fixes", fixes)
    }
}

fn holder(file: &OpenFile) -> String {
    match (file.pid, &file.process) {
        (Some(pid), Some(process)) => format!("by process {pid} ({process})"),
        (Some(pid), None) => format!("by process {pid}"),
        (None, _) => "by a process that the daemon may not see".to_owned(),
    }
}

/// By its name; one that was numbered is asked for by its folder's.
fn requeue(id: &str, folder: &str) -> String {
    if id == folder {
        format!("requeue {} --from shipped", word(id))
    } else {
        format!("requeue --folder {} --from shipped", word(folder))
    }
}
