//! `sealift ship`

use std::num::NonZeroU32;

use anyhow::Context as _;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    ConfigSource,
    destination::{self, DestinationClient},
    exit::{Exit, Failure},
    logging, once,
    output::outln,
};
use crate::{
    clock,
    config::{
        QueueOrder, ReceiverConfig, ShipConfig, WatchMode,
        key_files::{self, CertificateTerms},
    },
    disk::tree::shown,
    http::url_template,
    model::{snapshot::Log, text::printable},
    ship::{
        daemon::{
            self, DaemonOptions, FreeBytes, KeepDays, Metrics, Stop,
            reload::{Reload, Reloaded},
        },
        machine::{
            Order, Settings, Tally,
            destination::upload_window::{LocalTime, RateLimit, Uploads, Window},
            liveness::Allowances,
        },
        pack,
        report::{
            control::Desk,
            systemd::{self, Notifier},
        },
        transport::Transport,
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
An upload over a mebibyte that breaks off goes on where it was, after a restart as well, where the
receiver is `sealift receive`. Certificates and token stand in [receiver] of the configuration.

Signals:  SIGHUP has configuration, certificates and token read again; SIGTERM and SIGINT
          give what is in flight a few seconds, a second one ends at once.
Systemd:  Type=notify, with or without WatchdogSec=.")]
pub(crate) struct ShipArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// One pass: try everything that is sealed once, then end; 1 where anything was left undone
    #[arg(long)]
    once: bool,
    /// End with one line of JSON: what became of the episodes
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: ShipArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Runtime::new().context("Failed to start the async runtime")?;
    // Before anything is read, which may take its time: a reload that is asked for meanwhile is no
    // reason to end.
    let hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?
    };
    let config = destination::configuration(&args.source, &args.destination)?.ship()?;
    // Before certificates and tokens are read: what is wrong with them, and no reason not to ship,
    // is logged.
    let _log = if args.once {
        logging::start("info");
        None
    } else {
        logging::start_service("info")
    };
    let transport = transport(&config.receiver, &config.host_id)?;
    let mut options = options(&config, args.once);
    if !args.once {
        options.notifier = Notifier::from_environment();
        options.watchdog = systemd::watchdog();
        options.log = logging::standing;
        options.reload = Some(reload(args.source, args.destination, config.clone()));
    }
    options.hangup = Some(hangup);
    let tally = runtime.block_on(async {
        let stop = stop_calls()?;
        tracing::info!(
            "sealift {} ships {} to {}",
            env!("CARGO_PKG_VERSION"),
            config.layout.episodes.display(),
            url_template::shown(&config.receiver.url)
        );
        let shown = args.once.then(|| {
            let (desk, asks) = Desk::new();
            options.desk = Some((desk.clone(), asks));
            tokio::spawn(once::show(desk))
        });
        let tally = daemon::run(options, transport, stop).await;
        if let Some(shown) = shown {
            shown.abort();
            let _ = shown.await;
            logging::clear_bar();
        }
        tally
    });
    // A worker that hangs in a system call (a dead NFS server) must not keep a process that was
    // told to stop.
    runtime.shutdown_background();
    let tally = tally?;
    let left = tally.transient_failures + tally.conflicts + tally.fatal + tally.held;
    if args.json {
        outln!(
            "{}",
            serde_json::to_string(&tally).map_err(anyhow::Error::new)?
        );
    } else if args.once {
        for line in counted(&tally) {
            outln!("{line}");
        }
        if tally.last_copies > 0 {
            outln!(
                "{} of the quarantined: archives without an episode, each perhaps the last copy; see the reason beside it in {}",
                tally.last_copies,
                config.layout.quarantine.display()
            );
        }
    }
    // A daemon that was told to stop leaves what waits for the next start.
    Ok(if left == 0 || !args.once {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

/// What became of the episodes of one pass, and of what is none or could not be looked at.
fn counted(tally: &Tally) -> Vec<String> {
    let mut lines = vec![format!(
        "{} sealed, {} shipped, {} to be tried again, {} in conflict, {} quarantined, {} waiting for the receiver",
        tally.scanned,
        tally.shipped,
        tally.transient_failures.saturating_sub(tally.unseen),
        tally.conflicts,
        tally.fatal,
        tally.held
    )];
    let unseen = match tally.unseen {
        0 => return lines,
        1 => "1 more was sealed and not tried: it has".to_owned(),
        n => format!("{n} more were sealed and not tried: they have"),
    };
    lines.push(format!(
        "{unseen} no episode's name, or cannot be looked at; `sealift doctor` shows what to type"
    ));
    lines
}

/// Why receivers refuse our own certificate, where it says so itself: their end says so too, in
/// other words.
pub(super) fn unfit_certificate(receiver: &ReceiverConfig) -> Option<String> {
    const CERT: &str = "receiver.client_cert_file";
    let (path, _) = receiver.client_cert.as_ref()?;
    let terms = CertificateTerms::of(&key_files::read_chain(CERT, path).ok()?)?;
    let now = clock::wall_now();
    let why = match terms.ended(now) {
        Some(end) => format!("the certificate expired on {end}"),
        None => terms.fault(now)?,
    };
    Some(format!(
        "{CERT} {}: {why}. Put a new one with its key in place, then reload",
        shown(path)
    ))
}

/// The way to the receiver. Reads certificates, token and, where that counts, the time zone; opens
/// no connection.
pub(super) fn transport(receiver: &ReceiverConfig, host_id: &str) -> Result<Transport, Failure> {
    if let Some(unfit) = unfit_certificate(receiver) {
        tracing::error!("{unfit}");
    }
    if !receiver.upload_window.is_empty()
        && let Err(why) = clock::read_time_zone()
    {
        tracing::warn!(
            "receiver.upload_window goes by UTC, since the local time zone cannot be had: {}. Set /etc/localtime \
             (timedatectl set-timezone) and reload, or TZ to a zone that is there and restart",
            printable(&why)
        );
    }
    let transport = Transport::new(destination::endpoint(receiver, host_id)?)
        .sending_while_packing(receiver.send_while_packing);
    let asks = !(receiver.require_receipt || receiver.believe_bare_200);
    Ok(if asks {
        transport
    } else {
        transport.not_asking_of_bare_200()
    })
}

/// The daemon's narrow options, out of the configuration. Nothing is notified, and nothing is read
/// again.
pub(super) fn options(config: &ShipConfig, once: bool) -> DaemonOptions {
    DaemonOptions {
        layout: config.layout.clone(),
        pack: packing(config),
        free_bytes: free_bytes(config),
        settings: settings(config, once),
        inotify: match config.watch {
            WatchMode::Auto => None,
            WatchMode::Inotify => Some(true),
            WatchMode::ReconcileOnly => Some(false),
        },
        reconcile_only_interval: config.reconcile_interval(true),
        keep_days: keep_days(config),
        allowances: allowances(config),
        notifier: Notifier::default(),
        watchdog: None,
        reload: None,
        hangup: None,
        host_id: config.host_id.clone(),
        desk: None,
        log: Log::default,
        metrics: Metrics {
            listen: config.metrics_listen,
            textfile: config.metrics_textfile.clone(),
        },
        observer: None,
    }
}

/// Everything again, with the arguments laid over it as at the start. `running` is what cannot
/// change until a restart.
fn reload(source: ConfigSource, destination: DestinationClient, running: ShipConfig) -> Reload {
    Reload::new(move || {
        let read = || -> Result<Reloaded, Failure> {
            let config = destination::configuration(&source, &destination)?.ship()?;
            Ok(Reloaded {
                pack: packing(&config),
                free_bytes: free_bytes(&config),
                settings: settings(&config, false),
                reconcile_only_interval: config.reconcile_interval(true),
                keep_days: keep_days(&config),
                allowances: allowances(&config),
                transport: transport(&config.receiver, &config.host_id)?,
                restart_for: running.restart_for(&config),
            })
        };
        read().map_err(Failure::into_error)
    })
}

fn packing(config: &ShipConfig) -> pack::PackOptions {
    let workers = NonZeroU32::try_from(config.pack_workers).unwrap_or(NonZeroU32::MIN);
    pack::PackOptions {
        level: config.level,
        workers,
        open_files: pack::OpenFilePolicy::default(),
    }
}

fn settings(config: &ShipConfig, once: bool) -> Settings {
    Settings {
        pack_workers: config.pack_workers.get(),
        concurrency: config.receiver.concurrency.get(),
        order: match config.order {
            QueueOrder::OldestFirst => Order::OldestFirst,
            QueueOrder::NewestFirst => Order::NewestFirst,
        },
        reconcile_interval: config.reconcile_interval(false),
        sweep_interval: config.cleanup_interval,
        uploads: uploads(&config.receiver),
        require_receipt: config.receiver.require_receipt,
        open_files_wait: config.open_files_wait,
        believe_bare_200: config.receiver.believe_bare_200,
        once,
        relieve: config.shipped_free_bytes.is_some(),
        seed: seed(),
    }
}

fn uploads(receiver: &ReceiverConfig) -> Uploads {
    let windows = receiver.upload_window.iter().map(|window| Window {
        from: LocalTime::from_seconds(window.from_s),
        to: LocalTime::from_seconds(window.to_s),
        limit: window
            .limit
            .map(|limit| limit.map_or(RateLimit::None, RateLimit::BytesPerS)),
    });
    Uploads {
        limit: receiver.bandwidth_limit,
        windows: windows.collect(),
    }
}

fn free_bytes(config: &ShipConfig) -> FreeBytes {
    FreeBytes {
        outbox: config.min_free_bytes,
        shipped: config.shipped_free_bytes,
    }
}

fn keep_days(config: &ShipConfig) -> KeepDays {
    KeepDays {
        quarantine: config.quarantine_keep_days,
        shipped: config.shipped_keep_days,
    }
}

fn allowances(config: &ShipConfig) -> Allowances {
    Allowances::new(config.disk_timeout, config.receiver.longest_wait())
}

/// A call for each SIGTERM or SIGINT. The handlers stand when this returns.
fn stop_calls() -> anyhow::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate()).context("Failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Failed to listen for SIGINT")?;
    let (call, calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if call.send(()).is_err() {
                return;
            }
        }
    });
    Ok(Stop::new(calls))
}

/// Ends at SIGTERM or SIGINT. The handlers stand when this returns.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("Failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Failed to listen for SIGINT")?;
    // Until the loop listens for it, a reload that is asked for too early is no reason to end.
    let hangup = signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?;
    Ok(async move {
        let _hangup = hangup;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Hosts that restart together must not draw the same waits. The hasher's keys are random by
/// process.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_tried_is_not_counted_as_to_be_tried_again() {
        let tally = Tally {
            scanned: 3,
            shipped: 1,
            transient_failures: 3,
            unseen: 2,
            held: 1,
            ..Tally::default()
        };
        let lines = counted(&tally);
        assert!(
            lines[0].starts_with("3 sealed, 1 shipped, 1 to be tried again,")
                && lines[0].ends_with(", 1 waiting for the receiver"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("2 more were sealed and not tried"));
        assert_eq!(counted(&Tally::default()).len(), 1);
    }
}
