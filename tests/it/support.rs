//! The sandbox: a data folder, the real program in processes of its own, our receiver or a scripted
//! one on a real socket.
//!
//! ```ignore
//! let sandbox = Sandbox::with_receiver();
//! sandbox.seal("run-1", &[("data.bin", b"...")]);
//! assert_eq!(sandbox.ship_once()["shipped"], 1);
//! ```
//!
//! Nothing here sleeps: `eventually` waits for a condition, and fails at a deadline with what it
//! waited for.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sealift::{
    disk::open_files::{OpenFileProbe, Writers},
    model::{
        episode::{Digest, EpisodeId},
        layout::Layout,
    },
};
use serde_json::Value;

/// Long enough for a busy machine; a test that waits this long has failed. Shorter than the minute
/// after which a daemon looks around by itself: what it is to be woken for is seen within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(50);

/// Waits until a condition holds; panics with `what` at the deadline.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(DEADLINE, what, holds);
}

/// The same for what takes longer.
#[track_caller]
pub(crate) fn eventually_within(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + span;
    while !holds() {
        assert!(now() < deadline, "not within {} s: {what}", span.as_secs());
        thread::park_timeout(Duration::from_millis(2));
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline needs a clock")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until a file that was written and closed is open for writing nowhere. A child that another
/// test has started meanwhile has it open until its execve(2), and one pass leaves such an episode
/// for another time.
fn closed(path: &Path) {
    let probe = OpenFileProbe::below(path.parent().unwrap());
    let file = File::open(path).unwrap();
    eventually("no child has it open", || {
        probe.writers(&file) != Writers::Open
    });
}

/// Puts a program at a path, executable by all: a copy of another, or a script. A process of its
/// own writes it. Where this one did, a child that another test starts meanwhile would hold the
/// file open for writing until its execve(2), and starting the program would be ETXTBSY.
pub(crate) fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let install = Command::new("install")
        .args(["-m", "755", "-T"])
        .arg(from.as_ref())
        .arg(to)
        .status();
    assert!(install.unwrap().success(), "{}", to.display());
}

/// As [`copy_program`].
#[expect(clippy::disallowed_methods, reason = "a test removes what it made")]
pub(crate) fn write_script(to: &Path, text: &str) {
    let draft = to.with_extension("draft");
    fs::write(&draft, text).unwrap();
    copy_program(&draft, to);
    std::fs::remove_file(draft).unwrap();
}

/// Waits until the children that other tests are starting run their programs: until its execve(2)
/// each has open what the test has written just now, and one pass leaves such an episode for
/// another time. On a busy machine that takes a while.
fn children_have_begun() {
    let us = fs::read_link("/proc/self/exe").unwrap();
    let parent = format!("\nPPid:\t{}\n", std::process::id());
    let is_forked = |process: &PathBuf| {
        fs::read_link(process.join("exe")).is_ok_and(|program| program == us)
            && fs::read_to_string(process.join("status")).is_ok_and(|it| it.contains(&parent))
    };
    let processes = fs::read_dir("/proc").unwrap();
    let mut forked: Vec<_> = processes.flatten().map(|process| process.path()).collect();
    eventually("each child runs its program", || {
        forked.retain(is_forked);
        forked.is_empty()
    });
}

/// The program under test: Cargo's, or the one that `SEALIFT_UNDER_TEST` names, such as a release
/// build.
pub(crate) fn program() -> OsString {
    std::env::var_os("SEALIFT_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_sealift").into())
}

/// It, to be run with a clean environment.
pub(crate) fn sealift() -> Command {
    children_have_begun();
    let mut command = Command::new(program());
    command
        .env_remove("SEALIFT_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// One data folder, and where its episodes go.
pub(crate) struct Sandbox {
    root: tempfile::TempDir,
    pub(crate) layout: Layout,
    url: String,
    receiver: Option<Process>,
}

impl Sandbox {
    /// Ships to this address.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(&root.path().join("data"));
        for folder in [
            &layout.episodes,
            &layout.outbox,
            &layout.shipped,
            &layout.quarantine,
            &layout.private,
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        Self {
            root,
            layout,
            url: url.into(),
            receiver: None,
        }
    }

    /// Ships to our own receiver, which runs in a process of its own and stores into `store()`.
    pub(crate) fn with_receiver() -> Self {
        let mut sandbox = Self::new("");
        sandbox.start_receiver("127.0.0.1:0");
        sandbox
    }

    /// Starts (or, after `stop_receiver`, restarts) the receiver on an address.
    pub(crate) fn start_receiver(&mut self, listen: &str) {
        let mut command = sealift();
        command
            .args(["receive", "--listen", listen, "--store"])
            .arg(self.store());
        let address = self.await_receiver(command);
        self.url = format!("http://{address}");
    }

    /// Starts the receiver with a configuration file, and without TLS.
    pub(crate) fn start_receiver_with(&mut self, listen: &str, config: &str) {
        let mut command = sealift();
        command
            .args(["receive", "--listen", listen, "--config", config, "--store"])
            .arg(self.store());
        let address = self.await_receiver(command);
        self.url = format!("http://{address}");
    }

    /// Starts the receiver over TLS, with this `[receive]` table; `localhost` must be what its
    /// certificate is for.
    pub(crate) fn start_receiver_over_tls(&mut self, receive: &str) {
        let path = self.path("receiver.toml");
        fs::write(&path, format!("[receive]\n{receive}")).unwrap();
        let mut command = sealift();
        command
            .args(["receive", "--listen", "127.0.0.1:0", "--store"])
            .arg(self.store());
        command.arg("--config").arg(path);
        let address = self.await_receiver(command);
        self.url = format!("https://localhost:{}", address.rsplit(':').next().unwrap());
    }

    /// The running receiver.
    pub(crate) fn receiver(&self) -> &Process {
        self.receiver.as_ref().unwrap()
    }

    /// Where it listens.
    fn await_receiver(&mut self, command: Command) -> String {
        let receiver = Process::start(command, &self.path("receiver.log"));
        let mut address = None;
        eventually("the receiver listens", || {
            let log = receiver.log();
            address = log
                .split_once("local_addr=")
                .and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
            address.is_some()
        });
        self.receiver = Some(receiver);
        address.unwrap()
    }

    /// Kills the receiver with SIGKILL. Returns the address it listened on.
    pub(crate) fn kill_receiver(&mut self) -> String {
        self.receiver.take().unwrap().kill();
        self.url.trim_start_matches("http://").to_owned()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A path beside the data folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Creates `episodes/<id>` with files (parents are made), not sealed. Returns its path.
    pub(crate) fn record(&self, id: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let episode = self.layout.episodes.join(id);
        fs::create_dir_all(&episode).unwrap();
        for (name, content) in files {
            let path = episode.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            closed(&path);
        }
        episode
    }

    /// Records an episode and drops an empty `done.marker` in it.
    pub(crate) fn seal(&self, id: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let episode = self.record(id, files);
        fs::write(episode.join("done.marker"), b"").unwrap();
        episode
    }

    /// Takes the marker away and makes another, as a recorder does that had sealed too early.
    #[expect(clippy::disallowed_methods, reason = "a recorder removes as it likes")]
    pub(crate) fn reseal(&self, id: &str) {
        let marker = self.layout.episodes.join(id).join("done.marker");
        fs::remove_file(&marker).unwrap();
        fs::write(&marker, b"").unwrap();
    }

    /// `sealift COMMAND --data ... --receiver ...`
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut sealift = sealift();
        sealift
            .arg(command)
            .arg("--data")
            .arg(self.data())
            .args(["--receiver", &self.url]);
        sealift
    }

    /// A PATH by which a time server keeps this machine's clock, or does not, whatever is so here.
    pub(crate) fn clock_is_kept(&self, is_kept: bool) -> String {
        let programs = self.path("clock");
        fs::create_dir_all(&programs).unwrap();
        let answer = if is_kept { "yes" } else { "no" };
        write_script(
            &programs.join("timedatectl"),
            &format!("#!/bin/sh\necho {answer}\n"),
        );
        format!("{}:{}", programs.display(), std::env::var("PATH").unwrap())
    }

    /// A command that reads this configuration instead; `data_dir` and `url` are added to the
    /// tables.
    pub(crate) fn command_with_config(&self, command: &str, toml: &str) -> Command {
        let path = self.path("sealift.toml");
        fs::write(&path, toml).unwrap();
        let mut sealift = self.command(command);
        sealift.arg("--config").arg(path);
        sealift
    }

    /// One pass; the exit code and the JSON line.
    pub(crate) fn ship_once(&self) -> (i32, Value) {
        json_of(
            self.command("ship")
                .args(["--once", "--json"])
                .output()
                .unwrap(),
        )
    }

    /// Starts the daemon.
    pub(crate) fn daemon(&self) -> Process {
        self.start(self.command("ship"))
    }

    /// Starts a daemon that was prepared with `command` or `command_with_config`.
    pub(crate) fn start(&self, command: Command) -> Process {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let log = format!("ship-{}.log", COUNT.fetch_add(1, Ordering::Relaxed));
        Process::start(command, &self.path(&log))
    }

    pub(crate) fn shipped(&self, id: &str) -> PathBuf {
        self.layout.shipped.join(id)
    }

    pub(crate) fn quarantined(&self, id: &str) -> PathBuf {
        self.layout.quarantine.join(id)
    }

    /// What our receiver holds of an episode.
    pub(crate) fn stored(&self, id: &str) -> PathBuf {
        self.store().join("episodes").join(format!("{id}.tar.zst"))
    }

    #[track_caller]
    pub(crate) fn wait_shipped(&self, id: &str) {
        eventually(&format!("{id} is shipped"), || {
            self.shipped(id).join("shipping_receipt.json").exists()
        });
    }

    #[track_caller]
    pub(crate) fn wait_quarantined(&self, id: &str) {
        eventually(&format!("{id} is quarantined"), || {
            self.quarantined(id).exists()
        });
    }

    /// The outbox's names, sorted.
    pub(crate) fn outbox(&self) -> Vec<String> {
        names(&self.layout.outbox)
    }
}

/// Runs a check for each case, all at once; the first that panics fails the test with its own
/// words.
pub(crate) fn each<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        // What is locked while something is copied, and stays.
        .filter(|name| name != ".sealift-at-work")
        .collect();
    names.sort();
    names
}

/// A JSON file.
pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The exit code, and the last line of stdout as JSON.
#[track_caller]
pub(crate) fn json_of(output: Output) -> (i32, Value) {
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last = stdout.lines().last().unwrap_or_default();
    let json = serde_json::from_str(last).unwrap_or_else(|error| {
        panic!(
            "{error} in {stdout:?}; stderr: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (output.status.code().unwrap(), json)
}

/// A running `sealift`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let child = command
            .env("NO_COLOR", "1")
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had at a time, KiB (proc_pid_status(5), `VmHWM`).
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || {
            self.log().contains(text)
        });
    }

    /// Sends a signal by name, such as "STOP".
    pub(crate) fn signal(&self, name: &str) {
        let signalled = Command::new("/bin/sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .unwrap();
        assert!(signalled.success());
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!(
                "the end of its log, the newest line first:\n{}",
                lines.join("\n")
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file system in memory, mounted until this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Over a folder that is there, of this size ("64k"); `None` on a laptop where nobody may
    /// mount.
    pub(crate) fn over(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0755");
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder)
            .output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        assert!(std::env::var_os("CI").is_none(), "CI can mount");
        println!("skipped: mounting needs root");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the program under test may be looking into it just now.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What a scripted receiver answers.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    media_type: &'static str,
    body: String,
    headers: String,
    before_body: bool,
    silent: bool,
    head_alone: bool,
}

impl Reply {
    /// With an empty body.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            media_type: "",
            body: String::new(),
            headers: String::new(),
            before_body: false,
            silent: false,
            head_alone: false,
        }
    }

    /// A receiver's words.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            media_type: "application/problem+json",
            body: body.to_string(),
            ..Self::empty(status)
        }
    }

    /// A proxy's.
    pub(crate) fn html(status: u16) -> Self {
        Self {
            media_type: "text/html",
            body: "<html><body>no</body></html>".into(),
            ..Self::empty(status)
        }
    }

    /// With a body of any type.
    pub(crate) fn text(status: u16, media_type: &'static str, body: &str) -> Self {
        Self {
            media_type,
            body: body.into(),
            ..Self::empty(status)
        }
    }

    /// What our receiver says when it has stored what it saw.
    pub(crate) fn stored(seen: &Seen) -> Self {
        Self {
            media_type: "application/json",
            ..Self::json(201, &seen.receipt())
        }
    }

    /// The connection is closed without an answer, once the body has come.
    pub(crate) fn hang_up() -> Self {
        Self {
            silent: true,
            ..Self::empty(0)
        }
    }

    /// With one more header line.
    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    /// As to HEAD: its length, and not itself.
    pub(crate) fn without_body(self) -> Self {
        Self {
            head_alone: true,
            ..self
        }
    }

    /// Sent as soon as the head is read; the body is not asked for.
    pub(crate) fn early(self) -> Self {
        Self {
            before_body: true,
            ..self
        }
    }
}

/// A request as a scripted receiver saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Decoded last segment of the path.
    pub(crate) id: String,
    /// The whole head.
    pub(crate) head: String,
    /// The body, empty where it was not asked for.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The receipt that matches it.
    pub(crate) fn receipt(&self) -> Value {
        let digest = |name| Digest::from_header(self.header(name).unwrap()).unwrap();
        serde_json::json!({
            "episode_id": EpisodeId::from_percent_encoded(&self.id).unwrap(),
            "sha256": digest("repr-digest"),
            "content_sha256": digest("sealift-content-digest"),
            "size_bytes": self.header("content-length").unwrap().parse::<u64>().unwrap(),
            "stored_at": "2026-01-02T03:04:05Z",
        })
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server on a real socket that answers by a script and remembers what it saw.
pub(crate) struct Scripted {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    /// `script` gets each request's head (the body still empty) and how many came before it.
    pub(crate) fn new(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", script)
    }

    /// The same on an address of its own.
    pub(crate) fn listen(
        address: &str,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&seen));
        let count = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let connected = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                connected.fetch_add(1, Ordering::SeqCst);
                let (script, log, count) =
                    (Arc::clone(&script), Arc::clone(&log), Arc::clone(&count));
                // A client that hangs up ends its thread with an error: nobody's concern.
                thread::spawn(move || serve(stream.unwrap(), &*script, &log, &count));
            }
        });
        Self {
            address,
            seen,
            connections,
        }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The ids of the requests, in the order of their ends.
    pub(crate) fn order(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.id).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order of their ends.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests came for an id.
    pub(crate) fn count(&self, id: &str) -> usize {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.id == id)
            .count()
    }
}

/// A body in chunks (RFC 9112, section 7.1).
fn chunks(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let begin = body.len();
        body.resize(begin + size + 2, 0);
        reader.read_exact(&mut body[begin..])?;
        body.truncate(begin + size);
        if size == 0 {
            return Ok(body);
        }
    }
}

fn serve(
    stream: TcpStream,
    script: &(impl Fn(&Seen, usize) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut seen = Seen {
            id,
            head,
            body: Vec::new(),
        };
        let reply = script(&seen, count.fetch_add(1, Ordering::SeqCst));
        if !reply.before_body {
            if seen.header("expect").is_some() {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let length: usize = seen
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            seen.body = if seen.header("transfer-encoding").is_some() {
                chunks(&mut reader)?
            } else {
                vec![0; length]
            };
            if length > 0 {
                reader.read_exact(&mut seen.body)?;
            }
        }
        log.lock().unwrap().push(seen);
        if reply.silent {
            return Ok(());
        }
        let Reply {
            status,
            media_type,
            body,
            headers,
            ..
        } = &reply;
        let media = if media_type.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {media_type}\r\n")
        };
        let length = if *status == 204 {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let body = if reply.head_alone { "" } else { body };
        write!(
            writer,
            "HTTP/1.1 {status} Scripted\r\n{media}{length}{headers}\r\n{body}"
        )?;
        if reply.before_body {
            // Closed with bytes unread, it would be reset, and the answer lost with it (RFC 9112,
            // section 9.6).
            writer.shutdown(std::net::Shutdown::Write)?;
            std::io::copy(&mut reader, &mut std::io::sink())?;
            return Ok(());
        }
    }
}
