//! What a person asks beside the two ends of the wire: what is wrong, bring an episode back, and is it still there?
//!
//! ```text
//!  sealift doctor        folders, unit, daemon, journal, receiver ──facts──▶ judge (pure) ──▶ rows, each with what to type
//!  sealift fetch ID      receiver ──GET──▶ fetch ──▶ scratch ──▶ unpack ──▶ <folder>/<id>/
//!  sealift verify        shipped ──receipt──▶ verify ──HEAD──▶ receiver ──▶ judge (pure) ──▶ held, or what is wrong
//! ```
//!
//! Nothing here needs a running shipper, and nothing here changes what a shipper or a receiver holds.

pub mod doctor;
pub mod journal;
pub mod fetch;
pub mod unpack;
pub mod verify;
pub mod shipped;
pub mod receiver;
pub mod ask;
