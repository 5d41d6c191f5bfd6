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
//! Two ends of a wire (`ship`, `receive`) and the people beside it (`operate`) over one ground
//! floor. A wing never imports another; what two need stands on the ground floor. The modules below
//! stand in reading order; docs/architecture.md is the tour.

// The two ends of the wire.
pub mod by_hand;
pub mod client;
pub mod clock;
pub mod config;
pub mod durable;
pub mod endpoint;
pub mod episode;
pub mod filesystem;
pub mod key_files;
pub mod layout;
pub mod manifest;
pub mod meta;
pub mod move_check;
pub mod open_files;
pub mod operate;
pub mod progress;
pub mod receive;
pub mod record_files;
pub mod records;
pub mod retention;
pub mod scan;
pub mod ship;
pub mod snapshot;
pub mod socket;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod url_template;
pub mod wire;

// The people beside it.

// The ground floor.
