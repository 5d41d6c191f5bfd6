//! What everything is called and what is written down: ids and digests, the folders and their
//! names, the records on disk, the messages on the wire, the state of a daemon as data.
//!
//! Imports nothing of this crate, and reads no disk, network or clock.

pub mod episode;
pub(crate) mod exposition;
pub mod layout;
pub mod progress;
pub mod records;
pub(crate) mod retention;
pub mod snapshot;
pub(crate) mod structured_field;
pub(crate) mod text;
pub mod wire;
