//! The shipper, in the order of an episode's way.

pub mod archive;
pub mod control;
pub mod daemon;
pub mod event_log;
pub mod ledger;
pub mod lock;
pub mod machine;
pub mod metrics;
pub mod orphan;
pub mod outbox;
pub mod outcome;
pub mod pack;
pub mod quarantine;
pub mod retire;
pub mod room;
pub mod shipped_lookup;
pub mod sweep;
pub mod systemd;
pub mod textfile;
pub mod throttle;
pub mod transport;
pub mod watch;
