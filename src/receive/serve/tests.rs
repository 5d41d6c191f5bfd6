use std::{collections::BTreeSet, ops::Range, path::Path};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::{
    clock,
    config::ReceiveLimits,
    model::episode::{Digest, EpisodeId, HostName},
    receive::{
        client_stream::Waits,
        store::{
            Part, PartKey, PartResumed, Publication, StoreError, StoreSpace, Upload, Usage,
            reader::FolderReading,
        },
        stored_episode::{Key, Offer, StoredEpisode},
    },
};

fn config(store: &Path, listen: &str) -> ReceiveConfig {
    ReceiveConfig::at(listen.parse().unwrap(), store)
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = Server::bind(config(&store, listen)).await.unwrap_err();
        assert!(matches!(error, BindError::Exposed(_)), "{error}");
    }
    assert!(!store.exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = (folder.path().join("store"), folder.path().join("file"));
    std::fs::write(&file, "x").unwrap();
    let plain = config(&store, "127.0.0.1:0");
    for path in [file, folder.path().join("missing")] {
        for broken in [
            ReceiveConfig {
                tls: Some((path.clone(), path.clone())),
                ..plain.clone()
            },
            ReceiveConfig {
                client_ca_file: Some(path.clone()),
                ..plain.clone()
            },
            ReceiveConfig {
                tokens_file: Some(path.clone()),
                ..plain.clone()
            },
            ReceiveConfig {
                commits_file: Some(path.clone()),
                ..plain.clone()
            },
        ] {
            let error = Server::bind(broken.clone()).await.unwrap_err();
            assert!(matches!(error, BindError::File(_)), "{error}");
            assert!(
                error.to_string().contains(&path.display().to_string()),
                "{error}"
            );
        }
    }
    assert!(!store.exists());
}

#[tokio::test]
async fn a_store_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Server::bind(config(&file.join("store"), "127.0.0.1:0"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&file.display().to_string()),
        "{error}"
    );
}

#[test]
fn what_fails_ten_times_a_second_is_told_once_a_minute() {
    let mut refusals = AcceptRefusals::default();
    let first = Instant::now();
    let told: Vec<_> = (0..1300)
        .filter(|n| refusals.told(first + ACCEPT_PAUSE * *n))
        .collect();
    assert_eq!(told, [0, 600, 1200]);
}

#[tokio::test]
async fn the_listener_is_closed_when_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(config(&folder.path().join("store"), "127.0.0.1:0"))
        .await
        .unwrap();
    let address = server.local_addr();
    let idle = TcpStream::connect(address).await.unwrap();
    server.run(async {}).await;
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

/// Who asks this store for it meets a fault in the program.
const FAULT: &str = "fault";

/// A store on a disk that is full, or broken.
struct Failing(io::ErrorKind);

struct FailingUpload(io::ErrorKind);

impl Failing {
    fn fail<T>(&self) -> Result<T, StoreError> {
        Err(io::Error::from(self.0).into())
    }
}

impl Store for Failing {
    type Upload = FailingUpload;
    type Reading = FolderReading;

    fn namespace(&self) -> Namespace {
        Namespace::None
    }

    async fn find(&self, key: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        assert_ne!(key.id.as_str(), FAULT, "a fault in the store");
        Ok(None)
    }

    async fn verify(&self, _: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        Ok(None)
    }

    async fn reread(&self, _: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        self.fail()
    }

    async fn claim(&self, _: &Key, _: &HostName) -> Result<Option<StoredEpisode>, StoreError> {
        self.fail()
    }

    async fn read(
        &self,
        _: &Key,
        _: Range<u64>,
    ) -> Result<Option<(StoredEpisode, Self::Reading)>, StoreError> {
        self.fail()
    }

    fn begin(&self, _: &PartKey, _: &Offer) -> FailingUpload {
        FailingUpload(self.0)
    }

    async fn part(&self, _: &PartKey) -> Result<Option<Part>, StoreError> {
        Ok(None)
    }

    async fn settle(&self, _: &PartKey) -> Result<Option<Part>, StoreError> {
        Ok(None)
    }

    async fn resume(
        &self,
        _: &PartKey,
        _: &Offer,
        _: u64,
    ) -> Result<PartResumed<FailingUpload>, StoreError> {
        self.fail()
    }

    async fn discard(&self, _: &PartKey) -> Result<bool, StoreError> {
        self.fail()
    }

    async fn sweep(&self, _: SystemTime, _: SystemTime) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn usage(&self, _: impl Fn(&Key) -> bool + Send + 'static) -> Result<Usage, StoreError> {
        self.fail()
    }

    async fn space(&self) -> Result<StoreSpace, StoreError> {
        Ok(StoreSpace {
            free_bytes: u64::MAX,
            total_bytes: u64::MAX,
            free_files: None,
        })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.fail()
    }
}

impl Upload for FailingUpload {
    /// One that fails in no way that has a name takes the bytes, and fails at the end.
    async fn write(&mut self, _: &[u8]) -> Result<(), StoreError> {
        if self.0 == io::ErrorKind::Other {
            Ok(())
        } else {
            Err(io::Error::from(self.0).into())
        }
    }

    fn now_offers(&mut self, _: &Offer) {}

    fn forgo(&self) {}

    async fn keep(self) -> Result<u64, StoreError> {
        Err(io::Error::from(self.0).into())
    }

    async fn publish(self) -> Result<Publication, StoreError> {
        Err(io::Error::from(self.0).into())
    }
}

/// The client's end of a connection to a receiver whose disk fails so.
fn connect(disk: io::ErrorKind) -> (DuplexStream, watch::Sender<()>) {
    connect_with(disk, 0)
}

fn connect_with(
    disk: io::ErrorKind,
    min_body_rate_bytes_per_s: u64,
) -> (DuplexStream, watch::Sender<()>) {
    connect_to(Failing(disk), min_body_rate_bytes_per_s)
}

fn connect_to<S: Store>(
    store: S,
    min_body_rate_bytes_per_s: u64,
) -> (DuplexStream, watch::Sender<()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (stop, stopping) = watch::channel(());
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let config = config(Path::new("store"), "127.0.0.1:0");
    let receiver = RequestContext {
        store,
        access: Arc::new(Access::read(&config).unwrap()),
        hosts: KnownHosts::default(),
        readers: BTreeSet::new(),
        remediation: String::new(),
        limits: ReceiveLimits {
            min_body_rate_bytes_per_s,
            ..config.limits
        },
        room: StoreRoom::new(&config.limits),
        underway: Underway::default(),
        started_at: clock::wall_now(),
        tally: Arc::default(),
        turns: Turns::default(),
        verifications: Arc::default(),
        _in_use: mpsc::channel(1).0,
    };
    tokio::spawn(async move {
        let place = Connections::new(8).take(address.ip()).await;
        converse(
            theirs,
            Peer {
                address,
                certificate: None,
                is_spare: false,
                waits: Waits {
                    socket: None,
                    stopping: stopping.clone(),
                },
            },
            place,
            Arc::new(receiver),
            stopping,
        )
        .await;
    });
    (ours, stop)
}

fn put_head(size: usize) -> String {
    let digest = Digest::of(b"").to_header();
    format!(
        "PUT /v1/episodes/a HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {size}\r\nRepr-Digest: {digest}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_disk_that_fails_is_answered_by_kind_without_the_disks_own_words() {
    for (disk, status, problem) in [
        (io::ErrorKind::StorageFull, " 507 ", "urn:sealift:no-space"),
        (
            io::ErrorKind::QuotaExceeded,
            " 507 ",
            "\"used_up\":\"quota\"",
        ),
        (
            io::ErrorKind::PermissionDenied,
            " 500 ",
            "urn:sealift:store-failed",
        ),
    ] {
        let get = |path| format!("GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
        for request in [put_head(4) + "body", get("/healthz"), get("/v1/admission")] {
            let (mut client, _stop) = connect(disk);
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.lines().next().unwrap().contains(status), "{answer}");
            assert!(answer.contains(problem), "{answer}");
            assert!(
                !answer.contains(&io::Error::from(disk).to_string()),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_fault_of_ours_ends_its_request_alone_is_answered_and_counted() {
    let (mut client, _stop) = connect(io::ErrorKind::Other);
    let (mut asked, mut answer) = (String::new(), String::new());
    for method in ["PUT", "GET", "HEAD", "DELETE"] {
        let path = match method {
            "DELETE" => format!("/v1/uploads/{FAULT}/{}", Digest::of(b"")),
            _ => format!("/v1/episodes/{FAULT}"),
        };
        let digest = Digest::of(b"").to_header();
        asked += &format!(
            "{method} {path} HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\nRepr-Digest: {digest}\r\n\r\n"
        );
    }
    asked += "GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n";
    client.write_all(asked.as_bytes()).await.unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    // What throws an upload away fails by its disk: that is no fault.
    assert_eq!(answer.matches("HTTP/1.1 500 ").count(), 4, "{answer}");
    for line in [
        "sealift_receiver_requests_total{method=\"PUT\",status=\"500\"} 1\n",
        "sealift_receiver_requests_total{method=\"GET\",status=\"500\"} 1\n",
        "sealift_receiver_requests_total{method=\"HEAD\",status=\"500\"} 1\n",
        "sealift_receiver_panics_total 3\n",
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_ends_the_connection_after_a_minute() {
    let (mut client, _stop) = connect(io::ErrorKind::Other);
    let started = tokio::time::Instant::now();
    client.write_all(put_head(4).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up_after_half_a_minute_with_a_word() {
    let (mut client, _stop) = connect_with(io::ErrorKind::Other, 1024);
    let started = tokio::time::Instant::now();
    client.write_all(put_head(4000).as_bytes()).await.unwrap();
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            read = client.read_buf(&mut answer) => if read.unwrap() == 0 { break },
            _ = second.tick() => { let _ = client.write_all(b"x").await; }
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("urn:sealift:too-slow"),
        "{answer}"
    );
    assert!((30..32).contains(&started.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path(), Namespace::None).unwrap();
    let archive = vec![0; 1 << 20];
    let offer = Offer {
        sha256: Digest::of(&archive),
        content_sha256: None,
        size_bytes: archive.len() as u64,
    };
    let key = Key {
        host: None,
        id: EpisodeId::parse("a").unwrap(),
    };
    let mut upload = store.begin(&PartKey::new(key, None, &offer), &offer);
    upload.write(&archive).await.unwrap();
    upload.publish().await.unwrap();
    let (mut client, _stop) = connect_to(store, 1024);
    let get = b"GET /v1/episodes/a HTTP/1.1\r\nHost: r\r\n\r\n";
    client.write_all(get).await.unwrap();
    let started = tokio::time::Instant::now();
    // Of the body's first piece more is left than the pipe holds.
    let mut begun = [0; 1024];
    client.read_exact(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    // Longer than its credit lasts (see `client_stream.rs`).
    while started.elapsed() < Duration::from_secs(200) {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < archive.len(), "all of it came");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_does_not_keep_its_connection() {
    let (mut client, _stop) = connect(io::ErrorKind::Other);
    let started = tokio::time::Instant::now();
    client
        .write_all(b"PUT /v1/episodes/a HTTP/1.1\r\nHo")
        .await
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 30, "{}", answer.escape_ascii());
}
