//! The shipper, in the order of an episode's way.

pub mod archive;
pub mod daemon;
pub mod lock;
pub mod machine;
pub mod orphan;
pub mod outbox;
pub mod outcome;
pub mod pack;
pub mod quarantine;
pub mod report;
pub mod retire;
pub mod room;
pub mod shipped_lookup;
pub mod sweep;
pub mod transport;
pub mod watch;
