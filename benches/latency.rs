//! From the marker to the receiver's answer: small episodes, sealed one after another, on one
//! machine.
//!
//! ```text
//! cargo bench --bench latency                  the figures
//! cargo bench --bench latency -- --check       exit code 1 where the median is not under the goal
//! ```
//!
//! The daemon and the receiver are the real ones, in this process, over loopback, on the disk that
//! `TMPDIR` names. The clock starts before the marker is created and stops when the daemon tells
//! that it was delivered: by then the archive is stored and durable, so the figure is an upper
//! bound of marker to stored. Two fsyncs of the receiver's are in it (the archive and its folder):
//! what they cost is measured beside it, on the same disk.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark: its result is printed, a failure is a panic"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZeroU32,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use sealift::{
    config::{ReceiveConfig, ReceiverConfig},
    http::{client::Client, endpoint::Endpoint},
    model::layout::{Layout, MARKER},
    receive::serve::Server,
    ship::{
        daemon::{self, DaemonOptions, FreeBytes, KeepDays, Metrics, Stop},
        machine::{
            Notice, Order, Settings, destination::upload_window::Uploads, liveness::Allowances,
        },
        pack,
        report::systemd::Notifier,
        transport::Transport,
    },
};
use tokio::sync::{mpsc, oneshot};

const EPISODES: usize = 40;
/// Not counted: the first connection, the first pages.
const WARM_UP: usize = 3;
const GOAL: Duration = Duration::from_millis(15);
const NO_PROGRESS: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let times = runtime.block_on(measure(folder.path()));
    let flushes = (0..EPISODES).map(|n| flush(folder.path(), n)).collect();
    let median = print("marker to delivered", times);
    print("two fsyncs of this disk", flushes);
    if check && median >= GOAL {
        println!("the median is not under {} ms", GOAL.as_millis());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn measure(root: &Path) -> Vec<Duration> {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(ReceiveConfig::at(listen, &root.join("store")))
        .await
        .unwrap();
    let url = format!("http://{}", server.local_addr());
    let (stop_server, server_stops) = oneshot::channel::<()>();
    let server = tokio::spawn(server.run(async {
        let _ = server_stops.await;
    }));
    let layout = Layout::below(&root.join("data"));
    let (observer, mut notices) = mpsc::unbounded_channel();
    let (stop_daemon, daemon_stops) = mpsc::unbounded_channel::<()>();
    let options = options(layout.clone(), observer);
    let daemon = tokio::spawn(daemon::run(
        options,
        transport(&url),
        Stop::new(daemon_stops),
    ));
    fs::create_dir_all(&layout.episodes).unwrap();
    let mut times = Vec::new();
    for n in 0..WARM_UP + EPISODES {
        let episode = layout.episodes.join(format!("run-{n:03}"));
        fs::create_dir(&episode).unwrap();
        fs::write(episode.join("meta.json"), format!("{{\"run\":{n}}}")).unwrap();
        fs::write(episode.join("samples.csv"), "t,x,y\n0,1,2\n".repeat(700)).unwrap();
        let sealed = now();
        File::create(episode.join(MARKER)).unwrap();
        let mut took = None;
        loop {
            let notice = tokio::time::timeout(NO_PROGRESS, notices.recv()).await;
            match notice
                .expect("nothing moves any more")
                .expect("the daemon ended")
            {
                Notice::Delivered(..) => took = Some(sealed.elapsed()),
                Notice::Retired(..) => break,
                Notice::Sealed(..) | Notice::Packed(..) => {}
                other => panic!("{other:?}"),
            }
        }
        times.push(took.unwrap());
    }
    drop(stop_daemon);
    daemon.await.unwrap().unwrap();
    drop(stop_server);
    server.await.unwrap();
    times.split_off(WARM_UP)
}

fn options(layout: Layout, observer: mpsc::UnboundedSender<Notice>) -> DaemonOptions {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    DaemonOptions {
        layout,
        pack: pack::PackOptions {
            level: 3,
            workers: NonZeroU32::new(workers.try_into().unwrap()).unwrap(),
            open_files: pack::OpenFilePolicy::default(),
        },
        free_bytes: FreeBytes::default(),
        settings: Settings {
            pack_workers: workers,
            concurrency: 4,
            order: Order::OldestFirst,
            uploads: Uploads::default(),
            reconcile_interval: Duration::from_secs(60),
            sweep_interval: Duration::from_secs(3600),
            require_receipt: true,
            believe_bare_200: false,
            open_files_wait: Duration::from_secs(600),
            once: false,
            relieve: false,
            seed: 1,
        },
        inotify: None,
        keep_days: KeepDays::default(),
        reconcile_only_interval: Duration::from_secs(5),
        allowances: Allowances::new(Duration::from_secs(120), Duration::from_secs(300)),
        notifier: Notifier::default(),
        watchdog: None,
        reload: None,
        hangup: None,
        host_id: "bench".to_owned(),
        metrics: Metrics::default(),
        desk: None,
        log: sealift::model::snapshot::Log::default,
        observer: Some(observer),
    }
}

fn transport(url: &str) -> Transport {
    let receiver = ReceiverConfig::at(url).unwrap();
    let client = Client::new(&receiver).unwrap();
    Transport::new(Endpoint::new(&receiver, "bench", client).unwrap())
}

/// What the disk asks for making a small file and its name durable.
#[expect(clippy::disallowed_methods, reason = "it measures fsync itself")]
fn flush(root: &Path, n: usize) -> Duration {
    let started = now();
    let mut file = File::create(root.join(format!("flushed-{n}"))).unwrap();
    file.write_all(&[7; 400]).unwrap();
    file.sync_all().unwrap();
    File::open(root).unwrap().sync_all().unwrap();
    started.elapsed()
}

/// One line; returns the median.
fn print(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (middle, millis) = (times.len() / 2, |time: Duration| time.as_secs_f64() * 1e3);
    let median = (times[middle - 1] + times[middle]) / 2;
    let (p90, max) = (times[times.len() * 9 / 10], times[times.len() - 1]);
    println!(
        "{what:<24} median {:6.2} ms   p90 {:6.2} ms   max {:6.2} ms   ({} times)",
        millis(median),
        millis(p90),
        millis(max),
        times.len()
    );
    median
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
