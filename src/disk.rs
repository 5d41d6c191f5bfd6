//! The file systems: what is read from the folders, and how anything is written, moved or removed
//! durably.
//!
//! ```text
//!  scan, tree, meta, manifest, record_files ── read ──▶ facts
//!  durable ── write, move, remove ──▶ fsync; no other file does that
//!  lookup ── open what may be anything by now
//!  filesystem, open_files, move_check ── what can be relied on here
//! ```

pub mod by_hand;
pub mod durable;
pub(crate) mod filesystem;
pub(crate) mod flock;
pub(crate) mod lookup;
pub mod manifest;
pub(crate) mod meta;
pub(crate) mod move_check;
pub mod open_files;
pub(crate) mod ownership;
pub(crate) mod record_files;
pub(crate) mod reused_names;
pub(crate) mod scan;
pub(crate) mod shipped_lately;
pub(crate) mod socket;
pub mod tree;
