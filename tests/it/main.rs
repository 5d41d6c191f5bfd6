//! Sealift as its neighbours see it: real sockets, real files, real processes.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, a panic with its line is the report"
)]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that is skipped says so"
)]

mod alerts;
mod authority;
mod support;

mod acknowledged;
mod contract;
mod control;
mod crash;
mod crash_sweep;
mod demo;
mod destination;
mod disks;
mod doctor;
mod fairness;
mod fetch;
mod fetch_real;
mod golden;
mod growing;
mod kept;
mod last_copy;
mod look_again;
mod matrix;
mod pack;
mod papers;
mod poor_mounts;
mod receive;
mod rename;
mod requeue;
mod responses;
mod resume;
mod secrets;
mod service;
mod setup;
mod ship;
mod stamps;
mod status;
mod takeover;
mod tidy;
mod trace;
mod transport;
mod uploads;
mod verify;
mod watching;
mod writers;
