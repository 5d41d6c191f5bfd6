//! The shipper, in the order of an episode's way.

pub mod watch;
pub mod machine;
pub mod pack;
pub mod archive;
pub mod outbox;
pub mod transport;
pub mod outcome;
pub mod proven;
pub mod retire;
pub mod room;
pub mod quarantine;
pub mod orphan;
pub mod sweep;
pub mod lock;
pub mod systemd;
pub mod tell;
pub mod ledger;
pub mod metrics;
pub mod textfile;
pub mod control;
pub mod daemon;
