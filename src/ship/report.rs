//! What the daemon says about itself: the log, the service manager's status line, the control
//! socket, and the metrics.

pub mod control;
pub mod event_log;
pub mod ledger;
pub mod metrics;
pub mod status_line;
pub mod systemd;
pub mod textfile;
