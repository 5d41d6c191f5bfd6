//! Sealift as its neighbours see it: real sockets, real files, real processes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic with its line is the report")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

mod pack;
mod ship;
mod transport;
