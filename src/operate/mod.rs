//! What a person asks beside the two ends of the wire: bring an episode back, is it still there, how does it stand?
//!
//! ```text
//!  sealift fetch ID      receiver ──GET──▶ fetch ──▶ scratch ──▶ unpack ──▶ <folder>/<id>/
//!  sealift verify        shipped ──receipt──▶ verify ──HEAD──▶ receiver ──▶ judge (pure) ──▶ held, or what is wrong
//!  sealift status        daemon ──snapshot──▶ ask ──▶ status ◀── scan ◀── the folders
//! ```
//!
//! Nothing here needs a running shipper, and nothing here changes what a shipper or a receiver holds.

pub mod fetch;
pub mod unpack;
pub mod verify;
pub mod shipped;
pub mod receiver;
pub mod ask;
pub mod status;
