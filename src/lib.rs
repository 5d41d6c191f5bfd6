//! Sealift ships a recorded episode the moment it is sealed.
//!
//! ```text
//!  recorder        ship/                                                      receive/
//!  ────────        ─────────────────────────────────────────────────          ─────────────────────────
//!  episodes/<id>/  watch ──hint──▶ scan ──▶ machine (pure: decides)           serve ──▶ admit (pure)
//!   done.marker                               │  effects                        │
//!                                             ├─▶ pack      outbox/<id>.tar.zst ▼
//!                                             ├─▶ transport ─────── PUT ────▶ store: temporary, digest,
//!                                             │             ◀── receipt ────  fsync, publish, fsync, 201
//!                                             ├─▶ retire    shipped/<id>/
//!                                             └─▶ quarantine/<id>/
//! ```
//!
//! Two ends of a wire (`ship`, `receive`) and the people beside it (`operate`) over one ground
//! floor. A wing never imports another; what two need stands on the ground floor. The modules below
//! stand in reading order; docs/architecture.md is the tour.

// The two ends of the wire.
pub mod receive;
pub mod ship;

// The people beside it.
pub mod operate;

// The ground floor.
pub mod address;
pub mod by_hand;
pub mod client;
pub mod clock;
pub mod config;
pub mod credential;
pub mod durable;
pub mod endpoint;
pub mod episode;
pub mod filed;
pub mod filesystem;
pub mod layout;
pub mod manifest;
pub mod meta;
pub mod open_files;
pub mod progress;
pub mod records;
pub mod retention;
pub mod scan;
pub mod snapshot;
pub mod socket;
pub mod tree;
pub mod trial;
pub mod wire;
