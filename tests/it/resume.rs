//! A large episode over a line that drops: what was sent once is not sent again, whoever is killed
//! meanwhile.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::support::{Process, Sandbox, eventually, eventually_within, json_file, names, sealift};

pub(crate) const MIB: u64 = 1 << 20;
/// So much through a debug build, on a machine that does other things too.
const MINUTES: Duration = Duration::from_secs(240);

/// A line between shipper and receiver that can be cut after so many bytes, or closed for good.
pub(crate) struct Line {
    address: SocketAddr,
    /// Bytes that went towards the receiver, over all connections.
    sent: Arc<AtomicU64>,
    /// Each connection is cut after so many of them.
    pub(crate) cut_after: Arc<AtomicU64>,
    /// And all of them at once when `sent` comes to this.
    pub(crate) stop_at: Arc<AtomicU64>,
}

impl Line {
    pub(crate) fn to(receiver: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counter = |value| Arc::new(AtomicU64::new(value));
        let line = Self {
            address,
            sent: counter(0),
            cut_after: counter(u64::MAX),
            stop_at: counter(u64::MAX),
        };
        let (receiver, sent) = (receiver.to_owned(), Arc::clone(&line.sent));
        let (cut_after, stop_at) = (Arc::clone(&line.cut_after), Arc::clone(&line.stop_at));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(&receiver) else {
                    continue;
                };
                let (sent, cut_after, stop_at) = (sent.clone(), cut_after.clone(), stop_at.clone());
                let (mut back, mut answers) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut answers, &mut back));
                thread::spawn(move || forward(client, server, &sent, &cut_after, &stop_at));
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    sent: &AtomicU64,
    cut_after: &AtomicU64,
    stop_at: &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = cut_after.load(Ordering::SeqCst);
    while left > 0 && sent.load(Ordering::SeqCst) < stop_at.load(Ordering::SeqCst) {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        match client.read(&mut buffer[..most]) {
            Ok(read @ 1..) if server.write_all(&buffer[..read]).is_ok() => {
                sent.fetch_add(read as u64, Ordering::SeqCst);
                left -= read as u64;
            }
            Ok(_) | Err(_) => break,
        }
    }
    // The last bytes arrive; then it is over, both ways.
    for end in [&client, &server] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Content that does not compress.
pub(crate) fn noise(size: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

/// A sandbox whose daemon ships over a line.
fn over_a_line() -> (Sandbox, Line) {
    let sandbox = Sandbox::with_receiver();
    let line = Line::to(sandbox.url().trim_start_matches("http://"));
    (sandbox, line)
}

fn daemon(sandbox: &Sandbox, line: &Line) -> Process {
    let mut command = sealift();
    command
        .arg("ship")
        .arg("--data")
        .arg(sandbox.data())
        .args(["--receiver", &line.url()]);
    sandbox.start(command)
}

pub(crate) fn archive_bytes(sandbox: &Sandbox, id: &str) -> u64 {
    let receipt = json_file(&sandbox.shipped(id).join("shipping_receipt.json"));
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    receipt["size_bytes"].as_u64().unwrap()
}

#[test]
fn a_line_that_drops_at_every_megabyte_delivers_once_and_sends_hardly_anything_twice() {
    let (sandbox, line) = over_a_line();
    line.cut_after.store(MIB, Ordering::SeqCst);
    sandbox.seal("run-1", &[("data.bin", &noise(64 * MIB))]);
    let daemon = daemon(&sandbox, &line);
    // 65 connections, each with a pause before it.
    eventually_within(MINUTES, "run-1 is shipped", || {
        sandbox.shipped("run-1").exists()
    });
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(archive > 64 * MIB);
    assert!(
        line.sent() * 10 <= archive * 11,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
    assert_eq!(
        fs::metadata(sandbox.stored("run-1")).unwrap().len(),
        archive
    );
    assert_eq!(names(&sandbox.store().join("episodes")), ["run-1.tar.zst"]);
    eventually("nothing temporary stays", || {
        names(&sandbox.store().join("incoming")).is_empty()
    });
    assert!(
        !daemon.log().contains("cannot be used"),
        "a line that moves holds nothing: {}",
        daemon.log()
    );
}

#[test]
fn a_shipper_that_was_killed_goes_on_where_it_was() {
    let (sandbox, line) = over_a_line();
    line.stop_at.store(20 * MIB, Ordering::SeqCst);
    sandbox.seal("run-1", &[("data.bin", &noise(32 * MIB))]);
    let first = daemon(&sandbox, &line);
    eventually("two thirds are through", || line.sent() >= 20 * MIB);
    eventually("the archive is kept", || {
        sandbox.outbox().contains(&"run-1.json".to_owned())
    });
    first.kill();
    line.stop_at.store(u64::MAX, Ordering::SeqCst);
    let _second = daemon(&sandbox, &line);
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() < archive + 2 * MIB,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
}

#[test]
fn a_receiver_that_was_killed_has_what_was_durable() {
    let (mut sandbox, line) = over_a_line();
    let receiver = sandbox.url().trim_start_matches("http://").to_owned();
    sandbox.seal("run-1", &[("data.bin", &noise(96 * MIB))]);
    let notes = sandbox.store().join("incoming");
    let _daemon = daemon(&sandbox, &line);
    // From time to time what has arrived is made durable, and noted.
    eventually("a part is noted", || {
        names(&notes).iter().any(|name| name.ends_with(".json"))
    });
    sandbox.kill_receiver();
    let before = line.sent();
    sandbox.start_receiver(&receiver);
    eventually_within(MINUTES, "run-1 is shipped", || {
        sandbox.shipped("run-1").exists()
    });
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    let again = line.sent().saturating_sub(archive);
    assert!(
        again + 32 * MIB <= before + 2 * MIB,
        "of {before} bytes {again} were sent again"
    );
}

#[test]
fn what_was_changed_meanwhile_is_sent_from_its_first_byte() {
    let (sandbox, line) = over_a_line();
    line.stop_at.store(20 * MIB, Ordering::SeqCst);
    let content = noise(32 * MIB);
    sandbox.seal("run-1", &[("data.bin", &content)]);
    let first = daemon(&sandbox, &line);
    eventually("two thirds are through", || line.sent() >= 20 * MIB);
    eventually("the archive is kept", || {
        sandbox.outbox().contains(&"run-1.json".to_owned())
    });
    first.kill();
    let mut other = content.clone();
    other[30_000_000] ^= 1;
    fs::write(sandbox.layout.episodes.join("run-1/data.bin"), &other).unwrap();
    line.stop_at.store(u64::MAX, Ordering::SeqCst);
    let _second = daemon(&sandbox, &line);
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() >= 20 * MIB + archive,
        "bytes of two archives were joined"
    );
    let tar = zstd::decode_all(fs::File::open(sandbox.stored("run-1")).unwrap()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut data = entries
        .find(|entry| entry.path().unwrap().ends_with("data.bin"))
        .unwrap();
    let mut found = Vec::new();
    data.read_to_end(&mut found).unwrap();
    assert!(found == other);
}
