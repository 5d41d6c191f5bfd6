//! Every status from 200 to 599, as the answer to one attempt, to all, and to all of one episode:
//! in the words of a receiver of ours, in a gateway's JSON, in a page and in none, where the last
//! is followed by a HEAD that shows nothing, or the archive's length: 6,000 cells.
//!
//! The machine and the transport are the real ones, over a real socket; packing and moving are done
//! at once, and the clock is the test's own. It goes on only where nothing is under way, to the
//! machine's deadline: so a cell that lives through hours takes milliseconds, and whoever is
//! delivered before the clock has moved was kept waiting by nobody.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sealift::{
    config::ReceiverConfig,
    http::{client::Client, endpoint::Endpoint},
    model::{
        episode::{Digest, EpisodeId, Fingerprint, FolderLook, Stamp},
        progress::Progress,
        records::{ArchiveFacts, ManifestCheck},
    },
    ship::{
        archive::Archive,
        machine::{
            Effect, Event, Machine, Order, Scanned, Settings,
            destination::upload_window::Uploads,
            step_result::{Moved, OrphanEnd, Packed},
        },
        transport::{Delivery, Transport, growth::GrowingEnd},
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::Seen;

const EPISODES: usize = 5;
/// Of which one is answered otherwise than the rest: the one that comes first.
const BAD: &str = "e0";
/// After so many answers a receiver that answered everybody so is itself again.
const MENDED_AFTER: usize = 8;
/// The longest wait is an hour, and the probes of a hold come on top.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum When {
    Once,
    Always,
    ForOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Body {
    /// A problem of the closed set.
    Ours,
    /// JSON of something that is no receiver of ours.
    Gateway,
    Html,
    /// Nothing, and a HEAD shows nothing either.
    Empty,
    /// Nothing, and a HEAD shows the archive's length.
    Shown,
}

/// What an answer means, by the design's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Delivered,
    Conflict,
    Fatal,
    /// Nothing of the episode: it stays.
    Stays,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cell {
    status: u16,
    when: When,
    body: Body,
}

impl Cell {
    fn meaning(self) -> Meaning {
        match self.status {
            201 | 204 => Meaning::Delivered,
            200 if self.body == Body::Shown => Meaning::Delivered,
            409 if self.body == Body::Ours => Meaning::Conflict,
            401 | 403 | 404 | 405 | 407 | 408 | 411 | 421 | 425 | 426 | 429 => Meaning::Stays,
            402 | 414 | 416 | 417 | 423 | 431 | 451 => Meaning::Stays,
            400..=499 if self.body == Body::Ours => Meaning::Fatal,
            // What is delivered here gets a receipt of ours, and those words are not ours.
            _ => Meaning::Stays,
        }
    }

    /// Whether so many that are rejected alike, and none delivered between, are a fault of the
    /// destination.
    fn is_a_setting(self) -> bool {
        self.status != 412
    }

    fn name(self) -> String {
        format!("{}-{:?}-{:?}", self.status, self.when, self.body)
    }

    /// Whether the attempt of this number in the cell is answered as the cell says.
    fn speaks(self, id: &str, number: usize) -> bool {
        match self.when {
            When::Once => number == 0,
            When::Always => number < MENDED_AFTER,
            When::ForOne => id == BAD,
        }
    }
}

/// What came in one cell.
#[derive(Debug, Clone)]
struct Asked {
    cell: Cell,
    count: usize,
    /// Who was answered as the cell says.
    answered: Vec<String>,
}

type Archives = Arc<BTreeMap<EpisodeId, (Archive, ArchiveFacts)>>;

#[derive(Default)]
struct Cells {
    asked: Mutex<HashMap<String, Asked>>,
    ended: AtomicBool,
}

async fn serve(stream: TcpStream, cells: Arc<Cells>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split_whitespace().nth(1).unwrap().to_owned();
        let (cell, id) = path.trim_start_matches('/').split_once('/').unwrap();
        if head.starts_with("HEAD") {
            let shows = cells.asked.lock().unwrap()[cell].cell.body == Body::Shown;
            let length = if shows {
                format!("the archive of {}", &id[1..]).len()
            } else {
                0
            };
            let answer = format!("HTTP/1.1 200 So it is\r\nContent-Length: {length}\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).await?;
            continue;
        }
        let seen = Seen {
            id: id.to_owned(),
            head,
            body: Vec::new(),
        };
        let length = seen.header("content-length").unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await?;
        let otherwise = {
            let mut asked = cells.asked.lock().unwrap();
            let asked = asked.get_mut(cell).unwrap();
            let otherwise = asked.cell.speaks(id, asked.count).then_some(asked.cell);
            asked.count += 1;
            if otherwise.is_some() {
                asked.answered.push(id.to_owned());
            }
            otherwise
        };
        let (status, media_type, body) = match otherwise {
            None => (201, "application/json", seen.receipt().to_string()),
            Some(Cell {
                status,
                body: Body::Ours,
                ..
            }) => {
                let kind = if status == 412 {
                    "commit-out-of-window"
                } else {
                    "too-large"
                };
                let body = format!("{{\"type\":\"urn:sealift:{kind}\",\"title\":\"so it is\"}}");
                (status, "application/problem+json", body)
            }
            Some(Cell {
                status,
                body: Body::Gateway,
                ..
            }) => (
                status,
                "application/json",
                "{\"message\":\"so it is\"}".to_owned(),
            ),
            Some(Cell {
                status,
                body: Body::Html,
                ..
            }) => (
                status,
                "text/html",
                "<html><body>so it is</body></html>".to_owned(),
            ),
            Some(Cell {
                status,
                body: Body::Empty | Body::Shown,
                ..
            }) => (status, "", String::new()),
        };
        // These two have no body, whatever is said of it (RFC 9110, section 6.4.1).
        let (length, body) = match status {
            204 | 304 => (String::new(), String::new()),
            _ => (format!("Content-Length: {}\r\n", body.len()), body),
        };
        let answer = format!(
            "HTTP/1.1 {status} So it is\r\nContent-Type: {media_type}\r\n{length}\r\n{body}"
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

/// One host in one cell.
struct Host {
    machine: Machine,
    now: Duration,
    transport: Transport,
    archives: Archives,
    happened: VecDeque<Event>,
    attempts: JoinSet<Event>,
    /// When each was moved.
    shipped: BTreeMap<String, Duration>,
    quarantined: BTreeMap<String, Duration>,
}

impl Host {
    fn new(cell: Cell, url: &str, client: Client, archives: &Archives) -> Self {
        let day = Duration::from_secs(86_400);
        let settings = Settings {
            pack_workers: 2,
            concurrency: 2,
            order: Order::OldestFirst,
            uploads: Uploads::default(),
            reconcile_interval: day,
            sweep_interval: day,
            require_receipt: false,
            open_files_wait: Duration::from_secs(600),
            believe_bare_200: false,
            once: false,
            relieve: false,
            seed: u64::from(cell.status),
        };
        let receiver = ReceiverConfig::at(&format!("{url}/{}/{{id}}", cell.name())).unwrap();
        Self {
            machine: Machine::new(settings, Duration::ZERO),
            now: Duration::ZERO,
            transport: Transport::new(Endpoint::new(&receiver, "matrix", client).unwrap()),
            archives: Arc::clone(archives),
            happened: VecDeque::from([Event::Deadline]),
            attempts: JoinSet::new(),
            shipped: BTreeMap::new(),
            quarantined: BTreeMap::new(),
        }
    }

    /// Lets everything happen that waits for no clock; then the clock goes on. Until `over`, or for
    /// as long as anybody can wait.
    async fn live(&mut self, mut over: impl FnMut(&Self) -> bool) {
        while self.now < PATIENCE {
            while let Some(effect) = self.machine.next_effect() {
                self.perform(effect);
            }
            if let Some(event) = self.happened.pop_front() {
                self.machine.handle(event, self.now);
            } else if let Some(ended) = self.attempts.join_next().await {
                self.machine.handle(ended.unwrap(), self.now);
            } else if over(self) {
                return;
            } else {
                let Some(at) = self.machine.next_deadline() else {
                    return;
                };
                self.now = self.now.max(at);
                self.machine.handle(Event::Deadline, self.now);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        let event = match effect {
            Effect::Scan => {
                let sealed = |ns| {
                    FolderLook::Sealed(Stamp {
                        sealed_ns: ns,
                        inodes: (1, 2),
                        made_ns: ns,
                        written_ns: 0,
                    })
                };
                let episodes = (1..)
                    .zip(self.archives.keys())
                    .map(|(ns, id)| (id.clone(), sealed(ns)))
                    .collect();
                Event::Scanned(Some(Scanned {
                    episodes,
                    ..Scanned::default()
                }))
            }
            Effect::Pack { id, .. } => {
                let facts = self.archives[&id].1;
                let (fingerprint, manifest) = (Fingerprint(facts.sha256), ManifestCheck::None);
                Event::Packed(
                    id,
                    Ok(Packed {
                        facts,
                        fingerprint,
                        folder: None,
                        manifest,
                        commit: None,
                        open_files: Vec::new(),
                    }),
                )
            }
            Effect::Persist { id, .. } => Event::Persisted(id, Ok(())),
            Effect::Send {
                id,
                packed,
                resume,
                look: _,
            } => {
                let (transport, archive) = (self.transport.clone(), self.archives[&id].0.clone());
                let progress = Progress::default();
                let facts = packed.facts;
                let delivery = Delivery {
                    id: id.clone(),
                    archive,
                    facts,
                    commit: None,
                    resume,
                    sent_growing: GrowingEnd::Nothing,
                    progress,
                };
                self.attempts
                    .spawn(async move { Event::Attempted(id, transport.deliver(delivery).await) });
                return;
            }
            Effect::Retire { id, .. } => {
                self.shipped.insert(id.to_string(), self.now);
                Event::Retired(id.clone(), Moved::To(id.as_str().into()))
            }
            Effect::Quarantine { id, .. } => {
                self.quarantined.insert(id.to_string(), self.now);
                Event::Quarantined(id.clone(), Moved::To(id.as_str().into()))
            }
            Effect::Finish(id) => Event::Finished(id, Moved::Gone),
            Effect::Orphan { id, .. } => Event::OrphanSettled(id, OrphanEnd::Settled),
            Effect::Sweep => Event::Swept(true),
            // The check of what is in conflict never ends here: a person would have to come first.
            Effect::Look(_)
            | Effect::Unwatch(_)
            | Effect::Check { .. }
            | Effect::ComputeDigest { .. }
            | Effect::FreeSpace { .. }
            | Effect::LookBack(_)
            | Effect::Cancel(_)
            | Effect::SendGrowing(_)
            | Effect::Discard(_)
            | Effect::ReadClock
            | Effect::Pace(_)
            | Effect::Log(_) => return,
        };
        self.happened.push_back(event);
    }

    fn moved(&self) -> usize {
        self.shipped.len() + self.quarantined.len()
    }
}

async fn live(cell: Cell, url: &str, client: Client, archives: &Archives, cells: &Cells) {
    cells.asked.lock().unwrap().insert(
        cell.name(),
        Asked {
            cell,
            count: 0,
            answered: Vec::new(),
        },
    );
    let mut host = Host::new(cell, url, client, archives);
    let asked = || cells.asked.lock().unwrap()[&cell.name()].clone();
    let meaning = cell.meaning();
    match cell.when {
        When::Once => {
            host.live(|host| host.moved() == EPISODES).await;
            let answered = asked().answered;
            assert_eq!(answered.len(), 1, "{cell:?}");
            match meaning {
                Meaning::Delivered | Meaning::Stays => {
                    assert_eq!(host.shipped.len(), EPISODES, "{cell:?}");
                }
                Meaning::Conflict | Meaning::Fatal => {
                    assert_eq!(host.shipped.len(), EPISODES - 1, "{cell:?}");
                    assert!(!host.shipped.contains_key(&answered[0]), "{cell:?}");
                }
            }
        }
        When::Always => {
            // As long as whatever it is answers for everybody.
            let (mut shipped, mut quarantined) = (0, 0);
            host.live(|host| {
                if asked().count <= MENDED_AFTER {
                    (shipped, quarantined) = (host.shipped.len(), host.quarantined.len());
                }
                host.moved() == EPISODES
            })
            .await;
            match meaning {
                Meaning::Delivered => assert_eq!(host.shipped.len(), EPISODES, "{cell:?}"),
                Meaning::Fatal if cell.is_a_setting() => {
                    assert_eq!(
                        (shipped, quarantined),
                        (0, 2),
                        "{cell:?}: the third alike holds it"
                    );
                    assert_eq!(
                        host.shipped.len(),
                        EPISODES - 2,
                        "{cell:?}: mended, and not all are delivered"
                    );
                }
                Meaning::Fatal => assert_eq!(host.quarantined.len(), EPISODES, "{cell:?}"),
                Meaning::Conflict => assert_eq!(host.moved(), 0, "{cell:?}"),
                Meaning::Stays => {
                    assert_eq!(
                        (shipped, quarantined),
                        (0, 0),
                        "{cell:?}: it was moved while nobody could take it"
                    );
                    assert_eq!(
                        host.shipped.len(),
                        EPISODES,
                        "{cell:?}: mended, and not all are delivered"
                    );
                }
            }
        }
        When::ForOne => {
            host.live(|host| host.moved() == EPISODES || asked().answered.len() >= 3)
                .await;
            let good = (0..EPISODES)
                .map(|n| format!("e{n}"))
                .filter(|id| id != BAD);
            for id in good {
                let shipped = host.shipped.get(&id);
                assert_eq!(
                    shipped,
                    Some(&Duration::ZERO),
                    "{cell:?}: {id} waited for the bad one"
                );
            }
            assert_eq!(
                host.shipped.contains_key(BAD),
                meaning == Meaning::Delivered,
                "{cell:?}"
            );
        }
    }
    let is_fatal = meaning == Meaning::Fatal;
    let answered = asked().answered;
    for id in host.quarantined.keys() {
        assert!(
            is_fatal && answered.contains(id),
            "{cell:?}: {id} is in quarantine for no fault of its own"
        );
    }
    if is_fatal && !(cell.when == When::Always && cell.is_a_setting()) {
        assert!(
            answered.iter().all(|id| host.quarantined.contains_key(id)),
            "{cell:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_status_quarantines_a_healthy_episode_and_no_bad_episode_delays_the_good_ones() {
    const LANES: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let archives: BTreeMap<_, _> = (0..EPISODES)
        .map(|n| {
            let (path, bytes) = (
                folder.path().join(n.to_string()),
                format!("the archive of {n}"),
            );
            std::fs::write(&path, &bytes).unwrap();
            let digest = Digest::of(bytes.as_bytes());
            let facts = ArchiveFacts {
                sha256: digest,
                content_sha256: digest,
                size_bytes: bytes.len() as u64,
            };
            let id = EpisodeId::parse(&format!("e{n}")).unwrap();
            (id, (Archive::open(&path, facts).unwrap(), facts))
        })
        .collect();
    let archives = Arc::new(archives);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cells = Arc::new(Cells::default());
    let served = Arc::clone(&cells);
    tokio::spawn(async move {
        while !served.ended.load(Ordering::SeqCst) {
            let (stream, _) = listener.accept().await.unwrap();
            let served = Arc::clone(&served);
            tokio::spawn(async move { serve(stream, served).await });
        }
    });
    let all: Vec<_> = (200..600)
        .flat_map(|status| [When::Once, When::Always, When::ForOne].map(|when| (status, when)))
        .flat_map(|(status, when)| {
            [
                Body::Ours,
                Body::Gateway,
                Body::Html,
                Body::Empty,
                Body::Shown,
            ]
            .map(|body| Cell { status, when, body })
        })
        .collect();
    assert_eq!(all.len(), 6_000);
    let (all, next) = (Arc::new(all), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let (all, next, cells) = (Arc::clone(&all), Arc::clone(&next), Arc::clone(&cells));
        let (url, archives) = (url.clone(), Arc::clone(&archives));
        // Few warm connections, and not one for each request.
        let client = Client::new(&ReceiverConfig::at(&url).unwrap()).unwrap();
        lanes.spawn(async move {
            while let Some(cell) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                live(*cell, &url, client.clone(), &archives, &cells).await;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        if let Err(failed) = lane {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
    cells.ended.store(true, Ordering::SeqCst);
}
