//! The socket of a running daemon: who is answered, what with, and what whoever is slow or many
//! costs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use sealift::model::snapshot::{EpisodeState, NoticedBy, Snapshot};

use crate::support::{Process, Reply, Sandbox, Scripted, eventually};

/// What is answered to one line of HTTP, without its head.
fn ask(mut stream: impl std::io::Read + std::io::Write, what: &str) -> (String, String) {
    write!(stream, "GET {what} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn connect(sandbox: &Sandbox) -> UnixStream {
    let stream = UnixStream::connect(sandbox.layout.control_socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

pub(crate) fn snapshot(sandbox: &Sandbox) -> Snapshot {
    let (head, body) = ask(connect(sandbox), "/snapshot");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    serde_json::from_str(&body).unwrap()
}

/// A daemon that can be asked.
pub(crate) fn asked(sandbox: &Sandbox, command: Command) -> Process {
    let daemon = sandbox.start(command);
    eventually("the daemon answers", || {
        UnixStream::connect(sandbox.layout.control_socket()).is_ok()
    });
    daemon
}

#[test]
fn whoever_asks_is_told_how_it_stands() {
    let sandbox = Sandbox::with_receiver();
    sandbox.record("open", &[]);
    fs::create_dir(sandbox.layout.episodes.join("-no-id")).unwrap();
    fs::create_dir_all(sandbox.layout.quarantine.join("rejected")).unwrap();
    let mut ship = sandbox.command("ship");
    ship.env("PATH", sandbox.clock_is_kept(true));
    let mut daemon = asked(&sandbox, ship);
    sandbox.seal("a", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("a");
    let mut told = snapshot(&sandbox);
    eventually("it has looked everywhere", || {
        told = snapshot(&sandbox);
        // A name that has just been left is looked at once more, as one that may be in use again.
        told.totals.shipped == 1
            && told.watch.last_look_ago_s.is_some()
            && told.counts.open == 1
            // Its first look at what is to be deleted comes when there is time for it.
            && told.totals.quarantine_deletions_ahead.is_some()
    });
    assert_eq!(told.filed.quarantined, Some(1));
    assert_eq!((told.sealift_snapshot, told.pid), (1, daemon.pid()));
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(told.watch.mode, NoticedBy::Inotify);
    assert!(
        told.heart.beats
            && told.heart.last_beat_ago_s.is_some()
            && told.heart.watchdog_ms.is_none()
    );
    assert_eq!(
        (told.counts.open, told.episodes[0].state),
        (1, EpisodeState::Open)
    );
    assert_eq!(
        (told.strangers.count, told.strangers.some[0].name.as_str()),
        (1, "-no-id")
    );
    assert_eq!(told.destination.url, sandbox.url());
    assert!(told.destination.last_delivery_ago_s.is_some());
    assert!(
        told.destination.clock_ahead_s.unwrap().abs() < 60,
        "{:?}",
        told.destination
    );
    let totals = &told.totals;
    assert_eq!((totals.sealed, totals.attempts.delivered), (1, 1));
    assert_eq!(totals.sent_bytes, totals.packed_archive_bytes);
    assert!(totals.packed_content_bytes > totals.packed_archive_bytes);
    assert_eq!(totals.marker_to_delivered.count, 1);
    assert_eq!(totals.quarantine_deletions_ahead, Some(0));
    let folders: usize = told.room.iter().map(|room| room.folders.len()).sum();
    assert_eq!(folders, 4);

    let (head, metrics) = ask(connect(&sandbox), "/metrics");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        metrics.contains("\nsealift_episodes_shipped_total 1\n")
            && metrics.contains("\nsealift_quarantine_episodes 1\n"),
        "{metrics}"
    );
    check(&metrics);
    for (what, status) in [("/", "404"), ("/snapshot/../etc/passwd", "404")] {
        assert!(ask(connect(&sandbox), what).0.contains(status), "{what}");
    }
    assert!(daemon.terminate().success());
    assert!(
        !sandbox.layout.control_socket().exists(),
        "an orderly end leaves no socket"
    );
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_never() {
    let sandbox = Sandbox::with_receiver();
    let socket = sandbox.layout.control_socket();
    asked(&sandbox, sandbox.command("ship")).kill();
    assert!(
        fs::symlink_metadata(&socket)
            .unwrap()
            .file_type()
            .is_socket(),
        "a killed one leaves it"
    );
    let mut daemon = asked(&sandbox, sandbox.command("ship"));
    assert_eq!(snapshot(&sandbox).pid, daemon.pid());
    // For the owner and the group, whatever the umask.
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o660
    );
    assert!(daemon.terminate().success());

    let living = UnixListener::bind(&socket).unwrap();
    let mut second = sandbox.daemon();
    second.wait_log("another process answers there");
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    assert!(second.terminate().success());
    assert!(socket.exists(), "it is another's");
    drop(living);
}

#[test]
fn what_is_no_socket_is_left_alone_and_told_and_nothing_else_changes() {
    let sandbox = Sandbox::with_receiver();
    fs::write(sandbox.layout.control_socket(), "notes").unwrap();
    let mut daemon = sandbox.daemon();
    daemon.wait_log("something that is no socket is there");
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    assert!(daemon.terminate().success());
    assert_eq!(
        fs::read_to_string(sandbox.layout.control_socket()).unwrap(),
        "notes"
    );
}

#[test]
fn a_folder_with_a_long_path_has_a_socket_as_well() {
    let sandbox = Sandbox::with_receiver();
    let deep = sandbox.path(&"d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let mut command = crate::support::sealift();
    command
        .arg("ship")
        .arg("--data")
        .arg(&deep)
        .args(["--receiver", sandbox.url()]);
    let _daemon = sandbox.start(command);
    let socket = deep.join(".sealift/control.sock");
    assert!(socket.as_os_str().len() > 108);
    eventually("it answers", || {
        fs::File::open(deep.join(".sealift")).is_ok_and(|folder| {
            use std::os::fd::AsRawFd as _;
            let short = format!("/proc/self/fd/{}/control.sock", folder.as_raw_fd());
            UnixStream::connect(short)
                .is_ok_and(|stream| ask(stream, "/snapshot").0.contains("200 OK"))
        })
    });
}

#[test]
fn the_slow_the_silent_and_the_many_hold_up_nothing() {
    let sandbox = Sandbox::with_receiver();
    let daemon = asked(&sandbox, sandbox.command("ship"));
    snapshot(&sandbox);
    let before_kib = daemon.peak_kib();
    // More than have a place, each with a piece of a request; and one that never ends its head.
    let mut silent: Vec<_> = (0..60).map(|_| connect(&sandbox)).collect();
    for stream in &mut silent {
        let _ = stream.write_all(b"GET /snapshot HTTP/1.1\r\nX: ");
    }
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[("data.bin", b"recorded")]);
        sandbox.wait_shipped(id);
    }
    // They are cut off by themselves, and whoever comes after is answered.
    eventually("the last is counted, too", || {
        snapshot(&sandbox).totals.shipped == 3
    });
    let mut rest = Vec::new();
    for stream in &mut silent {
        // Closed or reset: either way it is over.
        let ended = stream.read_to_end(&mut rest);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    assert!(
        daemon.peak_kib() < before_kib + 16 * 1024,
        "{} KiB",
        daemon.peak_kib()
    );
}

#[test]
fn a_stopped_daemon_is_waited_for_and_no_client_is_left_hanging_when_it_goes_on() {
    let sandbox = Sandbox::with_receiver();
    let daemon = asked(&sandbox, sandbox.command("ship"));
    daemon.signal("STOP");
    let mut stream = connect(&sandbox);
    write!(stream, "GET /snapshot HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    daemon.signal("CONT");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn many_episodes_are_counted_and_the_first_of_them_listed() {
    let server = Scripted::new(|_, _| Reply::empty(503));
    let sandbox = Sandbox::new(server.url());
    for n in 0..500 {
        sandbox.record(&format!("open-{n:03}"), &[]);
    }
    sandbox.seal("sealed", &[]);
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    let mut told = snapshot(&sandbox);
    eventually("all are seen, and one is in trouble", || {
        told = snapshot(&sandbox);
        told.counts.open == 500
            && told.totals.attempts.transient > 1
            && told.destination.held.is_some()
    });
    assert_eq!((told.episodes.len(), told.episodes_left_out), (200, 301));
    assert_eq!(
        told.episodes[0].id, "sealed",
        "what is under way or in trouble comes first"
    );
    let held = told.destination.held.unwrap();
    assert_eq!(held.status_code, Some(503));
    assert!(told.oldest_waiting_s.is_some());
}

fn with_metrics(sandbox: &Sandbox, toml: &str) -> Process {
    sandbox.start(sandbox.command_with_config("ship", &format!("[shipper]\n{toml}")))
}

#[test]
fn metrics_are_given_out_at_a_port_of_this_machine_and_nothing_else_is() {
    let sandbox = Sandbox::with_receiver();
    let daemon = with_metrics(&sandbox, "metrics_listen = '127.0.0.1:0'");
    daemon.wait_log("metrics are given out at http://");
    let log = daemon.log();
    let address = log
        .split("given out at http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let get = |what: &str| ask(TcpStream::connect(address).unwrap(), what);
    assert!(get("/metrics").1.contains("\nsealift_start_time_seconds "));
    assert!(get("/snapshot").0.contains("404"));
    // A port that is taken is told, and ships all the same.
    let other = Sandbox::with_receiver();
    let taken = with_metrics(&other, &format!("metrics_listen = '{address}'"));
    taken.wait_log("No metrics are given out at");
    other.seal("a", &[]);
    other.wait_shipped("a");
}

/// By the program that Prometheus' own people check with.
pub(crate) fn check(metrics: &str) {
    let checking = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut checking = match checking {
        Ok(checking) => checking,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "promtool is not here, and this is CI: {error}"
            );
            println!("skipped: promtool is not here; on Debian, apt-get install prometheus");
            return;
        }
    };
    checking
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // What it would have otherwise it says, and ends with 3.
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{metrics}"
    );
}

#[test]
fn an_address_that_others_can_reach_is_refused_and_says_why() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let output = sandbox
        .command_with_config("ship", "[shipper]\nmetrics_listen = '0.0.0.0:9491'")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("shipper.metrics_listen: 0.0.0.0:9491 can be reached from other machines"),
        "{said}"
    );
}

#[test]
fn metrics_are_written_to_a_file_and_a_folder_that_is_not_there_is_told_once() {
    let sandbox = Sandbox::with_receiver();
    let path = sandbox.path("sealift.prom");
    let _daemon = with_metrics(
        &sandbox,
        &format!("metrics_textfile = '{}'", path.display()),
    );
    eventually("the file is there", || path.exists());
    assert!(whole(&path), "{}", fs::read_to_string(&path).unwrap());

    let other = Sandbox::with_receiver();
    let daemon = with_metrics(&other, "metrics_textfile = '/nowhere/sealift.prom'");
    daemon.wait_log("Metrics cannot be written to /nowhere/sealift.prom");
    other.seal("a", &[]);
    other.wait_shipped("a");
}

fn whole(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap();
    text.starts_with("# HELP sealift_build_info ") && text.ends_with('\n')
}
