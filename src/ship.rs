//! The shipper, in the order of an episode's way.

pub mod archive;
pub mod daemon;
pub(crate) mod lock;
pub mod machine;
pub(crate) mod orphan;
pub(crate) mod outbox;
pub mod outcome;
pub mod pack;
pub(crate) mod quarantine;
pub mod report;
pub(crate) mod retire;
pub(crate) mod room;
pub(crate) mod shipped_lookup;
pub(crate) mod sweep;
pub mod transport;
pub(crate) mod watch;
