//! What the doctor says: a row a check, each with an id that programs go by.

use serde::Serialize;
use serde_json::{Map, Value};

use super::words::Fix;
use crate::model::text::printable;

/// A row's colour. The worst of all rows is the doctor's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowStatus {
    /// As it should be.
    Green,
    /// Works, and the operator should know.
    Yellow,
    /// Something is not shipped, or soon will not be.
    Red,
}

impl RowStatus {
    /// In a word, as it stands in the JSON.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

macro_rules! ids {
    ($($name:ident = $text:literal, $what:literal;)*) => {
        /// Every check, in the order of the rows: what comes first may be the cause of what comes
        /// after it. The words are a contract (docs/doctor.md): programs go by them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $(#[doc = $what] $name,)*
        }

        impl Id {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in the JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

ids! {
    Configuration = "configuration", "The file can be read and says what can be.";
    Credentials = "credentials", "Certificates, key and token can be read, and by no other user.";
    Folders = "folders", "The four folders are there, apart, and answer.";
    FolderAccess = "folder-access", "Who ships may read and write them.";
    Space = "space", "There is room, and for how long.";
    Moves = "moves", "What is shipped can be moved out of episodes/.";
    WatchMode = "watch-mode", "The way of watching suits the file system.";
    Inotify = "inotify", "The kernel has watches enough.";
    Unit = "unit", "The service is started, now and at boot.";
    Watchdog = "watchdog", "A silent stall is noticed.";
    Restarts = "restarts", "It was not started again by the service manager.";
    Daemon = "daemon", "A daemon runs, and answers.";
    DaemonVersion = "daemon-version", "It is this program.";
    DaemonStalled = "daemon-stalled", "Every part of it moves.";
    DaemonWatching = "daemon-watching", "It has its watches.";
    Reload = "reload", "The last reload was taken, and all of it.";
    Metrics = "metrics", "Metrics are given out where that is set.";
    ClientCertificate = "client-certificate", "Our certificate is good for a while.";
    ReceiverName = "receiver-name", "The receiver's name is known.";
    ReceiverReachable = "receiver-reachable", "A server takes the connection.";
    ReceiverCertificate = "receiver-certificate", "The receiver's certificate is good for a while.";
    ReceiverTls = "receiver-tls", "It is the receiver that was meant, and it takes us.";
    ReceiverAnswer = "receiver-answer", "It answers as a receiver does, and can store.";
    ReceiverCredential = "receiver-credential", "It knows who we are.";
    ReceiverCommit = "receiver-commit", "It takes recordings of this host's commit.";
    Clock = "clock", "Our clock agrees with the receiver's.";
    Hold = "hold", "The daemon sends.";
    Journal = "journal", "What the journal says of the last minutes.";
    Refused = "refused", "Nothing is refused by something that is no receiver.";
    Conflicts = "conflicts", "The receiver holds nothing else under an id of ours.";
    Quarantine = "quarantine", "Nothing waits for a person in quarantine/.";
    CleanUp = "clean-up", "Nothing undelivered is about to be deleted.";
    Markers = "markers", "Each marker can be read.";
    OpenFiles = "open-files", "No sealed episode waits for a file that is open for writing.";
    ShippedChanged = "shipped-changed", "Nothing was written to after it was shipped.";
    ReusedNames = "reused-names", "No folder has the name of an episode that was shipped within the day.";
    OpenLong = "open-long", "No recording was forgotten.";
    Names = "names", "Each name is an id.";
    Waiting = "waiting", "Nothing has waited for long.";
}

/// One check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DoctorRow {
    /// Which.
    pub id: Id,
    /// How it is.
    pub status: RowStatus,
    /// The same in one sentence. Printable.
    pub summary: String,
    /// The command that mends it, for a shell. Printable, on one line.
    pub fix: Option<String>,
    /// The same for a program.
    pub details: Map<String, Value>,
}

impl DoctorRow {
    fn new(id: Id, status: RowStatus, summary: &str, fix: Option<Fix>) -> Self {
        #[cfg(test)]
        fix.iter()
            .filter(|fix| !fix.is_theirs)
            .for_each(|fix| super::pasted::assert_is_one_command(fix));
        let then = fix.as_ref().and_then(|fix| fix.then.as_deref());
        let then = then.map(|then| format!(" {then}")).unwrap_or_default();
        Self {
            id,
            status,
            summary: printable(&format!("{summary}{then}")),
            fix: fix.map(|fix| fix.command),
            details: Map::new(),
        }
    }

    /// Of any colour but green.
    pub(super) fn of(id: Id, status: RowStatus, summary: &str, fix: impl Into<Fix>) -> Self {
        Self::new(id, status, summary, Some(fix.into()))
    }

    pub(super) fn green(id: Id, summary: impl AsRef<str>) -> Self {
        Self::new(id, RowStatus::Green, summary.as_ref(), None)
    }

    pub(super) fn yellow(id: Id, summary: impl AsRef<str>, fix: impl Into<Fix>) -> Self {
        Self::new(id, RowStatus::Yellow, summary.as_ref(), Some(fix.into()))
    }

    pub(super) fn red(id: Id, summary: impl AsRef<str>, fix: impl Into<Fix>) -> Self {
        Self::new(id, RowStatus::Red, summary.as_ref(), Some(fix.into()))
    }

    /// With one more member of its details.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DoctorReport {
    /// In the order of [`Id`].
    pub rows: Vec<DoctorRow>,
}

impl DoctorReport {
    /// The rows in their order, each check once.
    pub(super) fn of(mut rows: Vec<DoctorRow>) -> Self {
        rows.sort_by_key(|row| row.id);
        Self { rows }
    }

    /// The worst of all.
    #[must_use]
    pub(crate) fn status(&self) -> RowStatus {
        self.rows
            .iter()
            .map(|row| row.status)
            .max()
            .unwrap_or(RowStatus::Green)
    }

    /// The document that docs/doctor.schema.json describes.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let checks = self.rows.iter().map(|row| {
            serde_json::json!({
                "id": row.id.as_str(),
                "status": row.status,
                "summary": row.summary,
                "fix": row.fix,
                "details": row.details,
            })
        });
        serde_json::json!({"status": self.status(), "checks": checks.collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_is_the_whole_and_rows_stand_in_the_order_of_causes() {
        let red = DoctorRow::red(Id::Waiting, "a", "b");
        let yellow = DoctorRow::yellow(Id::Configuration, "a", "b");
        let report = DoctorReport::of(vec![red, yellow]);
        assert_eq!(report.status(), RowStatus::Red);
        let json = report.to_json();
        assert_eq!(json["status"], "red");
        assert_eq!(json["checks"][0]["id"], "configuration");
        assert_eq!(DoctorReport::of(Vec::new()).status(), RowStatus::Green);
    }

    #[test]
    fn what_a_row_says_cannot_command_a_terminal() {
        assert_eq!(
            DoctorRow::green(Id::Names, "a \u{1b}[2Jb").summary,
            "a \\u{1b}[2Jb"
        );
    }
}
