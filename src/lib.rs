//! Sealift ships a recorded episode the moment it is sealed.
//!
//! ```text
//!  recorder        ship/                                                receive/
//!  ────────        ──────────────────────────────────────────           ─────────────────────────
//!  episodes/<id>/  watch ─hint─▶ scan ─▶ machine (pure: decides)        serve ──▶ admit (pure)
//!   done.marker                            │  effects                      │
//!                                          ├─▶ pack    outbox/<id>.tar.zst ▼
//!                                          ├─▶ transport ────── PUT ──▶ store: temporary, digest,
//!                                          │            ◀── receipt ──  fsync, publish, fsync, 201
//!                                          ├─▶ retire  shipped/<id>/
//!                                          └─▶ quarantine/<id>/
//! ```
//!
//! Two ends of a wire (`ship`, `receive`) and the commands beside it (`operate`) stand on `model`,
//! `disk`, `http` and `config`, and import nothing of each other. `tests/it/tidy.rs` lists which
//! room may import which; docs/architecture.md is the tour.
//!
//! The program is all that is for use. `pub` beside [`cli::run`] is what the integration tests and
//! the benches take; the rest is `pub(crate)`, so that the compiler finds what nothing uses.

pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod http;
pub mod model;
pub mod operate;
pub mod receive;
pub mod ship;
#[cfg(test)]
mod testing;
