//! Facts to rows. Pure: a file for each group of checks, and each check in one function.
//!
//! A check that could not be made, since something before it is wrong, has no row: what it would
//! say is not known.

mod daemon;
pub(super) mod daemon_checks;
mod folders;
#[cfg(test)]
pub(super) mod healthy_host;
mod journal;
mod partial_scan;
pub(super) mod permission_fixes;
pub(super) mod permissions;
mod quarantine;
mod queue;
mod receiver;
pub(super) mod service;
mod settings;
pub(in crate::operate) mod space;
pub(super) mod unit_paths;
pub(super) mod watch;
mod writers;

use super::{
    facts::Facts,
    row::{DoctorRow, Id, RowStatus},
};

/// All rows, in any order.
pub(super) fn judge(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = [
        settings::rows(facts),
        folders::rows(facts),
        space::rows(facts),
        watch::rows(facts),
        service::rows(facts),
        daemon::rows(facts),
        receiver::rows(facts),
        journal::rows(facts),
        queue::rows(facts),
        writers::rows(facts),
        quarantine::rows(facts),
    ]
    .concat();
    step_back_for_what_can_be_mended(&mut rows);
    rows
}

/// The first red row is the one to act on. So what passes by itself, and has lasted, is red only
/// where nothing else is; and a disk, which fills while nothing can be sent, only where the
/// receiver is not.
fn step_back_for_what_can_be_mended(rows: &mut [DoctorRow]) {
    let is_space = |row: &DoctorRow| row.id == Id::Space;
    step_back(rows, is_transient, |row| {
        !is_transient(row) && !is_space(row)
    });
    step_back(rows, is_space, keeps_from_sending);
}

/// Where a red row is one of those that go before, those that step back are yellow.
fn step_back(
    rows: &mut [DoctorRow],
    steps_back: impl Fn(&DoctorRow) -> bool,
    goes_before: impl Fn(&DoctorRow) -> bool,
) {
    let is_red = |row: &DoctorRow| row.status == RowStatus::Red;
    if rows.iter().any(|row| is_red(row) && goes_before(row)) {
        for row in rows.iter_mut().filter(|row| is_red(row) && steps_back(row)) {
            row.status = RowStatus::Yellow;
        }
    }
}

/// It is about the receiver, or the way to it.
fn keeps_from_sending(row: &DoctorRow) -> bool {
    use Id as I;
    matches!(
        row.id,
        I::ReceiverName
            | I::ReceiverReachable
            | I::ReceiverCertificate
            | I::ReceiverTls
            | I::ReceiverAnswer
            | I::ReceiverCredential
            | I::Hold
    )
}

/// It passes by itself.
fn is_transient(row: &DoctorRow) -> bool {
    matches!(row.id, Id::Hold | Id::ReceiverAnswer)
        && row.details.get("weather") == Some(&true.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_never_stands_before_the_row_to_act_on() {
        let weather = DoctorRow::red(Id::Hold, "Nothing is sent.", "x").with("weather", true);
        let refused = DoctorRow::red(Id::Refused, "Episodes are refused.", "y");
        let mut rows = [weather.clone(), refused];
        step_back_for_what_can_be_mended(&mut rows);
        assert_eq!(
            rows.map(|row| row.status),
            [RowStatus::Yellow, RowStatus::Red]
        );
        let mut alone = [weather];
        step_back_for_what_can_be_mended(&mut alone);
        assert_eq!(alone[0].status, RowStatus::Red);
    }

    #[test]
    fn a_disk_that_fills_since_nothing_can_be_sent_stands_behind_the_receiver() {
        let full = || DoctorRow::red(Id::Space, "0 bytes are free.", "x");
        let held = DoctorRow::red(Id::Hold, "Nothing is sent.", "y");
        for receiver in [
            held.clone().with("weather", true),
            held,
            DoctorRow::red(Id::ReceiverReachable, "It takes no connection.", "z"),
        ] {
            let mut rows = [full(), receiver];
            step_back_for_what_can_be_mended(&mut rows);
            assert_eq!(
                rows.map(|row| row.status),
                [RowStatus::Yellow, RowStatus::Red]
            );
        }
        let mut alone = [full(), DoctorRow::green(Id::Hold, "It is sent to.")];
        step_back_for_what_can_be_mended(&mut alone);
        assert_eq!(alone[0].status, RowStatus::Red);
    }
}
