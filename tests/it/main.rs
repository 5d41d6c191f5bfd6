//! Sealift as its neighbours see it: real sockets, real files, real processes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic with its line is the report")]

mod support;

mod crash;
mod ship;
mod transport;
