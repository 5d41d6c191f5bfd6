//! What a person asks beside the two ends of the wire: bring an episode back, and is it still there?
//!
//! ```text
//!  sealift fetch ID      receiver ──GET──▶ fetch ──▶ scratch ──▶ unpack ──▶ <folder>/<id>/
//!  sealift verify        shipped ──receipt──▶ verify ──HEAD──▶ receiver ──▶ judge (pure) ──▶ held, or what is wrong
//! ```
//!
//! Nothing here needs a running shipper, and nothing here changes what a shipper or a receiver holds.

pub mod fetch;
pub mod unpack;
pub mod verify;
pub mod shipped;
pub mod receiver;
pub mod ask;
