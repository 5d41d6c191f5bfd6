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

pub mod clock;
pub mod config;
pub mod disk;
pub mod http;
pub mod model;
pub mod operate;
pub mod receive;
pub mod ship;
