//! What the daemon says about itself: the log, the service manager's status line, the control
//! socket, and the metrics.

pub(crate) mod control;
pub(crate) mod event_log;
pub(crate) mod ledger;
pub(crate) mod metrics;
pub(crate) mod status_line;
pub mod systemd;
pub(crate) mod textfile;
