//! The machine on a bench: one event at a time, and what it wants done.

mod circuit_breaker;
mod conflicts;
mod fairness;
mod growing;
mod observe;
mod overview;
mod queue;
mod rejections;
mod relief;
mod reload;
mod room;
mod silence;
mod sweeps;
mod transitions;
mod weather;
mod window;
mod writers;

use std::time::Duration;

use serde_json::json;

use super::{
    Effect, Event, LookedBack, Machine, Notice, Order, Scanned, Settings, Shipped,
    destination::upload_window::Uploads,
    step_result::{Check, FolderLook, Moved, OrphanEnd, PackFailure, Packed},
};
use crate::{
    model::{
        episode::{Digest, EpisodeId, Fingerprint, Stamp},
        records::{ArchiveFacts, ManifestCheck},
        wire::{Problem, ProblemType},
    },
    ship::outcome::{Answer, AnswerBody, Attempt, Fault, Outcome, Voucher},
};

pub(super) struct Bench {
    machine: Machine,
    now: Duration,
    wanted: Vec<Effect>,
    told: Vec<Notice>,
}

/// What most tests run under, and what this one wants otherwise.
pub(super) fn settings(set: impl Fn(&mut Settings)) -> Settings {
    let mut settings = Settings {
        pack_workers: 4,
        concurrency: 2,
        order: Order::OldestFirst,
        uploads: Uploads::default(),
        reconcile_interval: Duration::from_secs(3600),
        sweep_interval: Duration::from_secs(1_000_000),
        require_receipt: false,
        open_files_wait: Duration::from_secs(600),
        believe_bare_200: false,
        once: false,
        relieve: false,
        seed: 1,
    };
    set(&mut settings);
    settings
}

impl Bench {
    /// A machine that has looked everywhere and found nothing.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl Fn(&mut Settings)) -> Self {
        let mut bench = Self::fresh(set);
        bench.hear(Event::Deadline);
        bench.hear(Event::Scanned(Some(Scanned::default())));
        bench.hear(Event::Swept(true));
        bench.wanted.clear();
        bench
    }

    /// A machine that was told nothing yet.
    fn fresh(set: impl Fn(&mut Settings)) -> Self {
        let settings = settings(set);
        let now = Duration::from_secs(1);
        Self {
            machine: Machine::new(settings, now),
            now,
            wanted: Vec::new(),
            told: Vec::new(),
        }
    }

    fn hear(&mut self, event: Event) {
        self.machine.handle(event, self.now);
        self.machine.assert_books();
        while let Some(effect) = self.machine.next_effect() {
            match effect {
                Effect::Log(notice) => self.told.push(notice),
                Effect::LookBack(Shipped::BeforeTheStart) => {
                    self.machine
                        .handle(Event::LookedBack(LookedBack::default()), self.now);
                }
                effect => self.wanted.push(effect),
            }
        }
    }

    /// Time passes, with every deadline on the way.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.hear(Event::Deadline);
        }
        self.now = until;
    }

    fn wait_s(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    /// Time passes up to the next deadline. Returns how long that was.
    fn wait_for_deadline(&mut self) -> Duration {
        let at = self.machine.next_deadline().unwrap();
        let span = at - self.now;
        self.wait(span);
        span
    }

    /// Time passes until something is sent.
    fn wait_for_send(&mut self) -> Vec<String> {
        for _ in 0..99 {
            let sent = self.take("send");
            if !sent.is_empty() {
                return sent;
            }
            self.wait_for_deadline();
        }
        panic!("nothing is sent");
    }

    /// What is wanted of this kind, taken off the list: the episodes' names.
    fn take(&mut self, kind: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.wanted)
            .into_iter()
            .partition(|effect| name(effect).0 == kind);
        self.wanted = left;
        taken.iter().map(|effect: &Effect| name(effect).1).collect()
    }

    /// What is wanted now, in order, as `kind name`; nothing of it is done yet.
    fn wanted(&self) -> Vec<String> {
        self.wanted
            .iter()
            .map(|effect| format!("{} {}", name(effect).0, name(effect).1))
            .collect()
    }

    fn told(&self, notice: impl Fn(&Notice) -> bool) -> bool {
        self.told.iter().any(notice)
    }

    /// Whether the attempts that are wanted now are to ask first what the receiver has kept.
    fn asks_first(&self) -> Vec<bool> {
        let asks = |effect: &Effect| match effect {
            Effect::Send { resume, .. } => Some(*resume),
            _ => None,
        };
        self.wanted.iter().filter_map(asks).collect()
    }

    fn look(&mut self, id: &str, look: FolderLook) {
        self.hear(Event::Hinted(of(id)));
        self.hear(Event::Looked(of(id), look));
        self.take("look");
        self.take("look");
        self.take("unwatch");
    }

    /// Sealed, in the order of `at`.
    fn seal(&mut self, id: &str, at: i64) {
        self.look(id, FolderLook::Sealed(stamp(at)));
    }

    fn pack(&mut self, id: &str) {
        assert!(
            self.take("pack").contains(&id.to_owned()),
            "{id} is not to be packed"
        );
        self.hear(Event::Packed(of(id), Ok(packed(id))));
    }

    fn fail_pack(&mut self, id: &str, failure: PackFailure) {
        assert!(
            self.take("pack").contains(&id.to_owned()),
            "{id} is not to be packed"
        );
        self.hear(Event::Packed(of(id), Err(failure)));
    }

    /// Sealed, packed, and on its way or waiting for its turn.
    fn seal_and_pack(&mut self, id: &str, at: i64) {
        self.seal(id, at);
        self.pack(id);
    }

    fn answer(&mut self, id: &str, status: u16, body: AnswerBody) {
        self.answer_after(id, status, body, None);
    }

    fn answer_after(
        &mut self,
        id: &str,
        status: u16,
        body: AnswerBody,
        retry_after_s: Option<u64>,
    ) {
        let answer = Answer {
            head_says: String::new(),
            status,
            body,
            retry_after_s,
            server_date: None,
            of_this_host: false,
            voucher: Voucher::Status,
        };
        self.hear(Event::Attempted(of(id), Outcome::Answered(answer).into()));
    }

    fn fail(&mut self, id: &str, fault: Fault) {
        self.hear(Event::Attempted(of(id), Outcome::Failed(fault).into()));
    }

    /// Broken off again, after the receiver had said from where on it wants the rest.
    fn break_off(&mut self, id: &str, resumed_at_bytes: u64) {
        let attempt = Attempt {
            resumed_at_bytes,
            ..Outcome::Failed(lost()).into()
        };
        self.hear(Event::Attempted(of(id), attempt));
    }

    /// Delivered and moved to `shipped/`.
    fn deliver(&mut self, id: &str) {
        self.answer(id, 201, AnswerBody::Empty);
        assert_eq!(self.take("retire"), [id]);
        self.hear(Event::Retired(of(id), Moved::To(id.into())));
    }

    fn keep(&mut self, id: &str) {
        assert_eq!(self.take("keep"), [id]);
        self.hear(Event::Persisted(of(id), Ok(())));
    }

    fn has_failed(&self, id: &str) -> bool {
        self.machine
            .episodes
            .get(&of(id))
            .is_some_and(|episode| episode.history().failed_at().is_some())
    }

    fn held(&self) -> bool {
        self.machine.destination().hold().is_some()
    }
}

fn name(effect: &Effect) -> (&'static str, String) {
    let (kind, id) = match effect {
        Effect::Look(id) => ("look", id),
        Effect::Unwatch(id) => ("unwatch", id),
        Effect::Check { id, rehash: false } => ("check", id),
        Effect::Check { id, rehash: true } => ("rehash", id),
        Effect::Pack { id, .. } => ("pack", id),
        Effect::ComputeDigest { id, .. } => ("measure", id),
        Effect::Persist {
            id, conflict: None, ..
        } => ("keep", id),
        Effect::Persist {
            id,
            conflict: Some(_),
            ..
        } => ("remember", id),
        Effect::Send { id, .. } => ("send", id),
        Effect::SendGrowing(id) => ("grow", id),
        Effect::Cancel(id) => ("cancel", id),
        Effect::Discard(id) => ("discard", id),
        Effect::Retire { id, .. } => ("retire", id),
        Effect::Quarantine { id, .. } => ("quarantine", id),
        Effect::Finish(id) => ("finish", id),
        Effect::Orphan { id, .. } => ("orphan", id),
        Effect::ReadClock => return ("clock", String::new()),
        Effect::Pace(_) => return ("pace", String::new()),
        Effect::Scan => return ("scan", String::new()),
        Effect::Sweep => return ("sweep", String::new()),
        Effect::FreeSpace { .. } => return ("relieve", String::new()),
        Effect::LookBack(_) => return ("look back", String::new()),
        Effect::Log(_) => return ("tell", String::new()),
    };
    (kind, id.as_str().to_owned())
}

pub(super) fn of(id: &str) -> EpisodeId {
    EpisodeId::parse(id).unwrap()
}

pub(super) fn stamp(at: i64) -> Stamp {
    Stamp {
        sealed_ns: at,
        inodes: (1, 2),
        made_ns: at,
        written_ns: 0,
    }
}

pub(super) fn packed(id: &str) -> Packed {
    let digest = Digest::of(id.as_bytes());
    Packed {
        facts: ArchiveFacts {
            sha256: digest,
            content_sha256: digest,
            size_bytes: 10,
        },
        fingerprint: Fingerprint(digest),
        folder: None,
        manifest: ManifestCheck::None,
        commit: None,
        open_files: Vec::new(),
    }
}

fn scanned(episodes: &[(&str, FolderLook)], archives: &[&str]) -> Event {
    Event::Scanned(Some(Scanned {
        episodes: episodes
            .iter()
            .map(|(id, look)| (of(id), look.clone()))
            .collect(),
        archives: archives.iter().map(|id| of(id)).collect(),
        ..Scanned::default()
    }))
}

fn fits(id: &str) -> Event {
    Event::Checked(of(id), Check::Fits(packed(id), None))
}

fn problem(kind: ProblemType) -> AnswerBody {
    AnswerBody::Json(Problem::new(kind, "why").to_json())
}

/// What a receiver of ours says against an episode.
fn by_receiver() -> AnswerBody {
    problem(ProblemType::TooLarge)
}

/// What another receiver says against one, or a gateway against anything.
fn by_another() -> AnswerBody {
    AnswerBody::Json(json!({"message": "Request Too Long"}))
}

/// With no body.
pub(super) fn silent(status: u16, retry_after_s: Option<u64>) -> Answer {
    let (body, voucher) = (AnswerBody::Empty, Voucher::Status);
    Answer {
        head_says: String::new(),
        status,
        body,
        retry_after_s,
        server_date: None,
        of_this_host: false,
        voucher,
    }
}

fn html() -> AnswerBody {
    AnswerBody::Foreign {
        html: true,
        excerpt: "<html>".into(),
    }
}

pub(super) fn lost() -> Fault {
    Fault::Lost("reset".into())
}

/// The context of a machine that was told nothing yet.
pub(super) fn context(set: impl Fn(&mut Settings)) -> super::context::Context {
    super::context::Context::new(settings(set), Duration::from_secs(1))
}

/// All that a context wants done, in order, as `kind name`.
pub(super) fn effects(cx: &mut super::context::Context) -> Vec<String> {
    let effects = std::iter::from_fn(|| cx.next_effect());
    let words = |effect: Effect| format!("{} {}", name(&effect).0, name(&effect).1);
    effects.map(words).collect()
}
