//! The receiver over real sockets: each test is a sentence of docs/transport.md.

mod caches;
mod inodes;
mod leaned;
mod limits;
mod memory;
mod planned;
mod program;
mod reading;
mod resume;
mod tls;
mod window;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealift::{
    config::ReceiveConfig,
    model::{
        episode::Digest,
        wire::{CONTENT_DIGEST, REPR_DIGEST, Receipt},
    },
    receive::{access::Access, serve::Server, tally::ReceiveCounts},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufStream,
    },
    net::TcpStream,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// No answer for this long: the test has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A store with one receiver or more before it.
struct Rig {
    folder: TempDir,
    config: ReceiveConfig,
    receivers: Vec<SocketAddr>,
    /// The newest receiver's.
    behind: Option<(Arc<Access>, Arc<ReceiveCounts>)>,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// A receiver that is configured so; files are written before it reads them.
    async fn with(configure: impl FnOnce(&mut ReceiveConfig, &Self)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = ReceiveConfig::at(([127, 0, 0, 1], 0).into(), &folder.path().join("store"));
        let mut rig = Self {
            folder,
            config: config.clone(),
            receivers: Vec::new(),
            behind: None,
        };
        let mut changed = config;
        configure(&mut changed, &rig);
        rig.config = changed;
        rig.and_receiver().await
    }

    /// A file beside the store.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Has the receiver read its files again.
    async fn reload(&self) {
        self.behind.as_ref().unwrap().0.reload().await;
    }

    /// One more receiver on the same store. It ends with the test's runtime.
    async fn and_receiver(mut self) -> Self {
        let server = self.server().await;
        self.receivers.push(server.local_addr());
        self.behind = Some((server.access(), server.tally()));
        tokio::spawn(server.run(std::future::pending()));
        self
    }

    async fn server(&self) -> Server {
        Server::bind(self.config.clone()).await.unwrap()
    }

    async fn connect(&self) -> Client {
        Client::to(self.receivers[0]).await
    }

    /// One request on a connection of its own.
    async fn request(&self, head: &str, body: &[u8]) -> Answer {
        self.connect().await.request(head, body).await
    }

    async fn put(&self, id: &str, archive: &[u8]) -> Answer {
        self.request(&put_head(id, archive), archive).await
    }

    fn archive(&self, id: &str) -> PathBuf {
        self.folder
            .path()
            .join(format!("store/episodes/{id}.tar.zst"))
    }

    fn files_in(&self, folder: &str) -> usize {
        std::fs::read_dir(self.folder.path().join("store").join(folder))
            .unwrap()
            .count()
    }

    async fn nothing_temporary_stays(&self) {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        let empty = async {
            while self.files_in("incoming") > 0 {
                look.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, empty)
            .await
            .expect("a temporary file stays");
    }
}

struct Client<S = TcpStream>(BufStream<S>);

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Client {
    async fn to(receiver: SocketAddr) -> Self {
        Self(BufStream::new(TcpStream::connect(receiver).await.unwrap()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn request(&mut self, head: &str, body: &[u8]) -> Answer {
        self.send(head.as_bytes()).await;
        self.send(body).await;
        self.answer(head.starts_with("HEAD")).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn answer(&mut self, to_head: bool) -> Answer {
        tokio::time::timeout(DEADLINE, self.read_answer(to_head))
            .await
            .expect("no answer")
    }

    async fn read_answer(&mut self, to_head: bool) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines.first().expect("closed without an answer")[9..12]
            .parse()
            .unwrap();
        let headers: BTreeMap<String, String> = lines[1..]
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .filter(|_| !to_head && status >= 200);
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            status,
            headers,
            body,
        }
    }
}

impl Answer {
    fn receipt(&self) -> Receipt {
        assert!(
            matches!(self.status, 200 | 201),
            "{}: {}",
            self.status,
            self.body.escape_ascii()
        );
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem's type without `urn:sealift:`, and the whole of it.
    fn problem(&self) -> (String, Value) {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{}",
            self.status
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        (
            problem["type"]
                .as_str()
                .unwrap()
                .replace("urn:sealift:", ""),
            problem,
        )
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{method} {path} HTTP/1.1\r\nHost: receiver\r\n{lines}\r\n")
}

fn put_with(id: &str, archive: &[u8], more: &[(&str, &str)]) -> String {
    let (length, digest) = (archive.len().to_string(), Digest::of(archive).to_header());
    let mut headers = vec![("Content-Length", &*length), (REPR_DIGEST, &*digest)];
    headers.extend_from_slice(more);
    head("PUT", &format!("/v1/episodes/{id}"), &headers)
}

fn put_head(id: &str, archive: &[u8]) -> String {
    put_with(id, archive, &[])
}

fn noise(size: usize) -> Vec<u8> {
    (0..size as u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

#[tokio::test]
async fn an_episode_is_stored_once_and_acknowledged_each_time() {
    let rig = Rig::new().await;
    let mut client = rig.connect().await;
    let archive = noise(3_000_000);
    let first = client
        .request(&put_head("run%207", &archive), &archive)
        .await;
    assert_eq!(first.status, 201);
    assert_eq!(std::fs::read(rig.archive("run%207")).unwrap(), archive);
    let again = client
        .request(&put_head("run%207", &archive), &archive)
        .await;
    assert!(matches!(again.status, 200), "{}", again.status);
    let receipt = first.receipt();
    assert_eq!(again.receipt(), receipt);
    assert_eq!(receipt.episode_id.as_str(), "run 7");
    assert_eq!(
        (receipt.sha256, receipt.size_bytes),
        (Digest::of(&archive), 3_000_000)
    );
    assert_eq!(receipt.content_sha256, None);
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn other_content_under_a_held_id_is_a_conflict_and_changes_nothing() {
    let rig = Rig::new().await;
    rig.put("a", b"first").await.receipt();
    let (kind, problem) = rig.put("a", b"other").await.problem();
    assert_eq!(kind, "conflict");
    assert_eq!(problem["held_sha256"], Digest::of(b"first").to_string());
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), b"first");
}

#[tokio::test]
async fn bytes_that_differ_from_their_digest_leave_nothing() {
    let rig = Rig::new().await;
    let (meant, came) = (noise(200_000), vec![0; 200_000]);
    let answer = rig.request(&put_head("a", &meant), &came).await;
    assert_eq!(answer.problem().0, "digest-mismatch");
    assert_eq!(answer.status, 400);
    assert_eq!(rig.files_in("episodes") + rig.files_in("receipts"), 0);
    rig.nothing_temporary_stays().await;
}

/// The answers to as many PUTs of one id at once, over two receivers on one store.
async fn put_at_once(rig: &Rig, archives: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Answer)> {
    let mut uploads = JoinSet::new();
    for (n, archive) in archives.into_iter().enumerate() {
        let receiver = rig.receivers[n % rig.receivers.len()];
        uploads.spawn(async move {
            let answer = Client::to(receiver)
                .await
                .request(&put_head("a", &archive), &archive)
                .await;
            (archive, answer)
        });
    }
    uploads.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_that_put_the_same_one_stores_and_the_rest_are_told_it_is_held() {
    let rig = Rig::new().await.and_receiver().await;
    let answers = put_at_once(&rig, vec![noise(150_000); 200]).await;
    let stored = answers
        .iter()
        .filter(|(_, answer)| answer.status == 201)
        .count();
    let held = answers
        .iter()
        .filter(|(_, answer)| answer.status == 200)
        .count();
    assert_eq!((stored, held), (1, 199));
    let receipt = answers[0].1.receipt();
    assert!(
        answers
            .iter()
            .all(|(_, answer)| answer.receipt() == receipt)
    );
    rig.nothing_temporary_stays().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_that_put_different_content_one_stores_and_the_rest_conflict() {
    let rig = Rig::new().await.and_receiver().await;
    let answers = put_at_once(&rig, (0..200).map(|n| vec![n; 150_000]).collect()).await;
    let (stored, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(_, answer)| answer.status == 201);
    assert_eq!(stored.len(), 1);
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), stored[0].0);
    assert!(
        refused
            .iter()
            .all(|(_, answer)| answer.problem().0 == "conflict")
    );
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let rig = Rig::new().await;
    let archive = noise(1_000_000);
    for sent in [0, 10, 500_000, 999_999] {
        let mut client = rig.connect().await;
        client.send(put_head("a", &archive).as_bytes()).await;
        client.send(&archive[..sent]).await;
        if sent >= 500_000 {
            let mut look = tokio::time::interval(Duration::from_millis(2));
            while rig.files_in("incoming") == 0 {
                look.tick().await;
            }
        }
        drop(client);
        rig.nothing_temporary_stays().await;
    }
    assert_eq!(rig.files_in("episodes"), 0);
    assert_eq!(rig.put("a", &archive).await.status, 201);
}

#[tokio::test]
async fn the_verdict_comes_before_the_body_where_the_client_waits_for_it() {
    let rig = Rig::new().await;
    let expect = [("Expect", "100-continue")];
    let mut wanted = rig.connect().await;
    wanted
        .send(put_with("a", b"first", &expect).as_bytes())
        .await;
    assert_eq!(wanted.answer(false).await.status, 100);
    assert_eq!(rig.files_in("episodes"), 0);
    wanted.send(b"first").await;
    assert_eq!(wanted.answer(false).await.status, 201);

    for (head, status) in [
        (put_with("a", b"first", &expect), 200),
        (put_with("a", b"other", &expect), 409),
        (put_with("..", b"first", &expect), 400),
        (
            head(
                "PUT",
                "/v1/episodes/b",
                &[("Content-Length", "9"), expect[0]],
            ),
            400,
        ),
    ] {
        let mut client = rig.connect().await;
        client.send(head.as_bytes()).await;
        let answer = client.answer(false).await;
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(answer.headers["connection"], "close", "{head}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_told_why() {
    let rig = Rig::new().await;
    let digest = Digest::of(b"x").to_header();
    let (length, digest) = (("Content-Length", "1"), (REPR_DIGEST, digest.as_str()));
    let put = |path: &str, headers: &[(&str, &str)]| head("PUT", path, headers);
    let chunked = [digest, ("Transfer-Encoding", "chunked")];
    for (head, body, status, kind) in [
        (put("/v1/episodes/a", &[length]), "x", 400, "digest-invalid"),
        (
            put("/v1/episodes/a", &[length, digest, (CONTENT_DIGEST, "?")]),
            "x",
            400,
            "digest-invalid",
        ),
        (
            put("/v1/episodes/a", &chunked),
            "1\r\nx\r\n0\r\n\r\n",
            411,
            "length-required",
        ),
        (
            put("/v1/episodes/..%2f..%2fevil", &[length, digest]),
            "x",
            400,
            "id-invalid",
        ),
        (
            put("/v1/episodes/", &[length, digest]),
            "x",
            400,
            "id-invalid",
        ),
        (put("/v1/other", &[length, digest]), "x", 404, "not-found"),
        (
            head("DELETE", "/v1/episodes/a", &[]),
            "",
            405,
            "method-not-allowed",
        ),
        (
            head("PUT", "/healthz", &[length, digest]),
            "x",
            405,
            "method-not-allowed",
        ),
    ] {
        let answer = rig.request(&head, body.as_bytes()).await;
        assert_eq!(
            (answer.status, &*answer.problem().0),
            (status, kind),
            "{head}"
        );
        assert_eq!(
            answer.headers.contains_key("allow"),
            status == 405,
            "{head}"
        );
    }
    assert_eq!(rig.files_in("episodes"), 0);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let rig = Rig::new().await;
    rig.put("a", b"held").await.receipt();
    let small = noise(700_000);
    let mut client = rig.connect().await;
    assert_eq!(
        client.request(&put_head("a", &small), &small).await.status,
        409
    );
    assert_eq!(
        client.request(&put_head("b", &small), &small).await.status,
        201,
        "not on the same connection"
    );

    let large = noise(16 << 20);
    let mut stream = rig.connect().await.0.into_inner();
    let (reading, mut writing) = stream.split();
    let send = async {
        writing
            .write_all(put_head("a", &large).as_bytes())
            .await
            .unwrap();
        writing.write_all(&large).await
    };
    let read = async {
        let mut answer = String::new();
        let _ = reading.take(12).read_to_string(&mut answer).await;
        answer
    };
    let (_, answer) = tokio::join!(send, read);
    assert_eq!(answer, "HTTP/1.1 409");
}

#[tokio::test]
async fn a_client_that_reads_when_it_has_sent_all_hears_why_a_large_body_is_refused() {
    let rig = Rig::new().await;
    rig.put("a", b"held").await.receipt();
    let large = noise(24 << 20);
    for _ in 0..10 {
        // It fails where what it sends is not taken.
        assert_eq!(rig.put("a", &large).await.problem().0, "conflict");
    }
}

#[tokio::test]
async fn what_is_held_can_be_asked_for() {
    let rig = Rig::new().await;
    let ask = head("HEAD", "/v1/episodes/a", &[]);
    let mut client = rig.connect().await;
    assert_eq!(client.request(&ask, b"").await.status, 404);
    rig.put("a", b"archive").await.receipt();
    let answer = client.request(&ask, b"").await;
    assert_eq!(
        (answer.status, &*answer.headers["content-length"]),
        (200, "7")
    );
    assert_eq!(
        answer.headers[REPR_DIGEST],
        Digest::of(b"archive").to_header()
    );
    assert!(!answer.headers.contains_key(CONTENT_DIGEST));
    assert_eq!(
        client
            .request(&head("GET", "/healthz", &[]), b"")
            .await
            .status,
        200
    );
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn the_same_content_packed_otherwise_is_held_once_that_was_verified() {
    let rig = Rig::new().await;
    let tar = noise(100_000);
    let (fast, small) = (
        zstd::encode_all(&*tar, 1).unwrap(),
        zstd::encode_all(&*tar, 9).unwrap(),
    );
    assert_ne!(fast, small);
    let digest = Digest::of(&tar).to_header();
    let content = [(CONTENT_DIGEST, digest.as_str())];
    let first = rig.request(&put_with("a", &fast, &content), &fast).await;
    assert_eq!(first.receipt().content_sha256, None);
    let repacked = rig.request(&put_with("a", &small, &content), &small).await;
    assert_eq!(repacked.status, 200);
    let receipt = repacked.receipt();
    assert_eq!(
        (receipt.sha256, receipt.content_sha256),
        (Digest::of(&fast), Some(Digest::of(&tar)))
    );
    let described = rig.request(&head("HEAD", "/v1/episodes/a", &[]), b"").await;
    assert_eq!(described.headers[CONTENT_DIGEST], digest);
}

#[tokio::test]
async fn a_false_content_digest_makes_nobody_retire_what_is_not_held() {
    let rig = Rig::new().await;
    let (theirs, mine) = (
        zstd::encode_all(&b"theirs"[..], 3).unwrap(),
        zstd::encode_all(&b"mine"[..], 3).unwrap(),
    );
    let digest = Digest::of(b"mine").to_header();
    let content = [(CONTENT_DIGEST, digest.as_str())];
    rig.request(&put_with("a", &theirs, &content), &theirs)
        .await
        .receipt();
    let answer = rig.request(&put_with("a", &mine, &content), &mine).await;
    assert_eq!(answer.problem().0, "conflict");
}

#[tokio::test]
async fn what_is_in_flight_when_told_to_stop_is_answered() {
    let rig = Rig::new().await;
    let server = rig.server().await;
    let mut client = Client::to(server.local_addr()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running: JoinHandle<()> = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    client
        .send(put_with("a", b"archive", &[("Expect", "100-continue")]).as_bytes())
        .await;
    assert_eq!(client.answer(false).await.status, 100);
    stop.send(()).unwrap();
    client.send(b"archive").await;
    assert_eq!(client.answer(false).await.status, 201);
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_receiver_that_starts_again_holds_what_it_held() {
    let rig = Rig::new().await;
    let receipt = rig.put("a", b"archive").await.receipt();
    std::fs::write(rig.folder.path().join("store/receipts/a.json"), b"").unwrap();
    let server = rig.server().await;
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    let answer = Client::to(address)
        .await
        .request(&put_head("a", b"archive"), b"archive")
        .await;
    assert_eq!((answer.status, answer.receipt()), (200, receipt));
}
