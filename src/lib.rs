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
//! Two ends of a wire (`ship`, `receive`) over one ground floor. A wing never imports the other; what
//! both need stands on the ground floor. The modules below stand in reading order; docs/architecture.md is the tour.

// The two ends of the wire.
pub mod receive;
pub mod ship;

// The ground floor.
pub mod client;
pub mod clock;
pub mod config;
pub mod durable;
pub mod episode;
pub mod filesystem;
pub mod filed;
pub mod layout;
pub mod manifest;
pub mod progress;
pub mod records;
pub mod scan;
pub mod tree;
pub mod wire;
