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
mod watch;
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

/// Weather that has lasted is for a person only where nothing else is: the first red row is the one
/// to act on.
fn step_back_for_what_can_be_mended(rows: &mut [DoctorRow]) {
    if rows
        .iter()
        .any(|row| row.status == RowStatus::Red && !is_transient(row))
    {
        for row in rows
            .iter_mut()
            .filter(|row| row.status == RowStatus::Red && is_transient(row))
        {
            row.status = RowStatus::Yellow;
        }
    }
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
}
