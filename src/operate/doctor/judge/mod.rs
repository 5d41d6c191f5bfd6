//! Facts to rows. Pure: a file for each group of checks, and each check in one function.
//!
//! A check that could not be made, since something before it is wrong, has no row: what it would say is not known.

mod aside;
mod cut_off;
mod daemon;
mod folders;
mod giving;
mod journal;
mod people;
mod receiver;
mod service;
mod settings;
mod space;
mod unit_paths;
mod waiting;
mod watching;
mod writers;

use super::{facts::Facts, row::Row};

/// All rows, in any order.
pub(super) fn judge(facts: &Facts) -> Vec<Row> {
    [
        settings::rows(facts),
        folders::rows(facts),
        space::rows(facts),
        watching::rows(facts),
        service::rows(facts),
        daemon::rows(facts),
        receiver::rows(facts),
        journal::rows(facts),
        waiting::rows(facts),
        writers::rows(facts),
        aside::rows(facts),
    ]
    .concat()
}

#[cfg(test)]
mod sound;
