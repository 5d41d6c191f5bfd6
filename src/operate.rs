//! What a person asks beside the two ends of the wire: how does it stand, what is wrong, bring an
//! episode back, is it still there?
//!
//! ```text
//!  sealift doctor        folders, unit, daemon, journal, receiver ──facts──▶ judge (pure)
//!                          ──▶ rows, each with what to type
//!  sealift fetch ID      receiver ──GET──▶ fetch ──▶ scratch ──▶ unpack ──▶ <folder>/<id>/
//!  sealift verify        shipped ──receipt──▶ verify ──HEAD──▶ receiver ──▶ judge (pure)
//!                          ──▶ held, or what is wrong
//!  sealift status        daemon ──snapshot──▶ ask ──▶ status ◀── scan ◀── the folders
//!  sealift trace ID      the four folders, the journal, the daemon ──▶ one episode's timeline
//!  sealift requeue       quarantine, a conflict, or what verify found lost ──▶ back into episodes/
//!  sealift setup         what the doctor finds wrong with folders, permissions and unit is mended
//!  sealift rename        one folder of episodes/ or quarantine/ gets another name
//! ```
//!
//! Nothing here needs a running shipper. Only `requeue` and `rename` change what a
//! shipper holds, `setup` what the host gives it, and nothing what a receiver does.

pub(crate) mod ask;
pub mod doctor;
pub(crate) mod fetch;
mod holder;
pub(crate) mod journal;
mod open_recordings;
pub(crate) mod receiver;
pub(crate) mod rename;
pub(crate) mod requeue;
pub(crate) mod shipped_receipts;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod unpack;
pub(crate) mod verify;
pub(super) mod words;
