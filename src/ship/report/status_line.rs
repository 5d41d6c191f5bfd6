//! How the daemon stands: as data, for those who ask, and in a person's words, for the service
//! manager.

use std::fmt;

use crate::{
    disk::move_check::MoveCheck,
    model::snapshot::ReloadStatus,
    ship::machine::{liveness::Stalled, overview::Census},
};

/// Everything that a person may want to know of a running daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusLine {
    /// How many episodes of each kind, and whether the receiver is held.
    pub census: Census,
    /// What the receiver has of the archives that are being sent, bytes.
    pub sent_bytes: u64,
    /// How long they are, bytes.
    pub to_send_bytes: u64,
    /// What the last reload came to.
    pub reloads: ReloadStatus,
    /// Whether episodes can be moved.
    pub trial: MoveCheck,
    /// How many archives in the outbox have no episode beside them, and are left alone.
    pub stranded: u64,
    /// The tasks that have shown nothing for too long. While there is one, the heart does not beat.
    pub stalled: Vec<Stalled>,
}

impl StatusLine {
    /// How much of what is being sent has left, percent.
    fn percent(&self) -> u64 {
        let (sent, all) = (u128::from(self.sent_bytes), u128::from(self.to_send_bytes));
        u64::try_from((sent * 100).checked_div(all).unwrap_or(0))
            .unwrap_or(0)
            .min(100)
    }
}

impl fmt::Display for StatusLine {
    /// "3 waiting, 1 uploading 42 %; receiver held: ..."
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census {
            counts,
            held,
            outside_window_until,
            blind,
        } = &self.census;
        let counts = [
            (counts.sealed + counts.ready, "waiting"),
            (counts.packing, "packing"),
            (counts.uploading, "uploading"),
            (counts.moving, "moving"),
            (counts.waiting, "to be tried again"),
            (counts.refused, "refused"),
            (counts.conflict, "in conflict"),
            (counts.open, "recording"),
        ];
        let mut comma = "";
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{comma}{count} {what}")?;
            if what == "uploading" {
                write!(f, " {} %", self.percent())?;
            }
            comma = ", ";
        }
        if self.stranded > 0 {
            write!(f, "{comma}{} in outbox/ without an episode", self.stranded)?;
        } else if comma.is_empty() {
            f.write_str("nothing to ship")?;
        }
        for stalled in &self.stalled {
            write!(f, "; HUNG: {stalled}")?;
        }
        if let Some(why) = held {
            write!(f, "; receiver held: {why}")?;
        }
        if let Some(until) = outside_window_until {
            write!(f, "; outside upload window until {until}")?;
        }
        if *blind {
            f.write_str("; no watches, looking every few seconds")?;
        }
        for finding in &self.trial.findings {
            write!(f, "; {}", finding.in_short())?;
        }
        if let Some(why) = &self.reloads.failed {
            write!(f, "; reload failed, the old configuration is kept: {why}")?;
        }
        if !self.reloads.restart_for.is_empty() {
            write!(
                f,
                "; restart to apply: {}",
                self.reloads.restart_for.join(", ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        disk::move_check::Finding,
        model::snapshot::Counts,
        ship::machine::{
            destination::upload_window::LocalTime,
            liveness::{Task, Work},
        },
    };

    #[test]
    fn it_is_said_in_a_persons_words() {
        let mut standing = StatusLine::default();
        assert_eq!(standing.to_string(), "nothing to ship");
        standing.stranded = 2;
        assert_eq!(standing.to_string(), "2 in outbox/ without an episode");
        standing.stranded = 0;
        standing.census = Census {
            counts: Counts {
                sealed: 2,
                ready: 1,
                uploading: 1,
                ..Counts::default()
            },
            ..Census::default()
        };
        (standing.sent_bytes, standing.to_send_bytes) = (42_999, 100_000);
        assert_eq!(standing.to_string(), "3 waiting, 1 uploading 42 %");
        standing.census.outside_window_until = Some(LocalTime::from_seconds(22 * 3600));
        let outside = "3 waiting, 1 uploading 42 %; outside upload window until 22:00";
        assert_eq!(standing.to_string(), outside);
        standing.census.outside_window_until = None;
        standing.census.held = Some("certificate expired".to_owned());
        assert_eq!(
            standing.to_string(),
            "3 waiting, 1 uploading 42 %; receiver held: certificate expired"
        );
    }

    #[test]
    fn what_is_wrong_is_named_each_with_what_to_do() {
        let standing = StatusLine {
            census: Census {
                counts: Counts {
                    open: 2,
                    conflict: 1,
                    ..Counts::default()
                },
                blind: true,
                ..Census::default()
            },
            stalled: vec![Stalled {
                part: Task::of(Work::Scan),
                since: Duration::from_secs(130),
            }],
            reloads: ReloadStatus {
                failed: Some("line 3".to_owned()),
                restart_for: vec!["shipper.data_dir".to_owned(), "shipper.watch".to_owned()],
            },
            trial: MoveCheck {
                findings: vec![Finding::Copies {
                    to: "/s".into(),
                    same_device: true,
                }],
            },
            ..StatusLine::default()
        };
        assert_eq!(
            standing.to_string(),
            "1 in conflict, 2 recording; HUNG: the look through episodes/ and outbox/ has not moved for 130 s; no \
             watches, looking every few seconds; moves to /s are copies; reload failed, the old configuration is \
             kept: line 3; restart to apply: shipper.data_dir, shipper.watch"
        );
    }

    #[test]
    fn a_percentage_is_one_whatever_was_counted() {
        for (sent_bytes, to_send_bytes, percent) in [
            (0, 0, 0),
            (5, 0, 0),
            (10, 10, 100),
            (11, 10, 100),
            (u64::MAX, u64::MAX, 100),
        ] {
            let standing = StatusLine {
                sent_bytes,
                to_send_bytes,
                ..StatusLine::default()
            };
            assert_eq!(
                standing.percent(),
                percent,
                "{sent_bytes} of {to_send_bytes}"
            );
        }
    }
}
