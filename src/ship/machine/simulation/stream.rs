//! What the machine asks for in a world, as a digest: a change of the code that changes no rule
//! gives the same digest for every world.
//!
//! Each effect is written as a line of its own words, which stay when a type gets another name.
//! What is said to a person is in it by its kind and its numbers, and not by its sentences.

use std::time::Duration;

use super::WORLDS;
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        Effect, Notice, Shipped,
        destination::{upload_window::Pace, verdict::Refusal},
        step_result::{OpenFilePolicy, Packed, Reason},
    },
};

/// Digests as they were recorded: a line for each world by its seed, and the last for the fleet.
const RECORDED: &str = include_str!("streams.txt");

/// Set, the digests are written down anew, and the commit says which rule has changed.
const RECORD: &str = "SEALIFT_SIM_RECORD";

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
pub(super) struct Stream(u64);

impl Default for Stream {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Stream {
    /// The next effect, at this virtual time, of this host.
    pub(super) fn add(&mut self, now: Duration, host: usize, effect: &Effect) {
        let line = format!("{} {host} {}\n", now.as_nanos(), effect_words(effect));
        for byte in line.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn digest(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Compares the digests of the worlds that were lived through with those on record.
pub(super) fn compare_worlds(lived: &[(u64, String)]) {
    let mut recorded: Vec<_> = RECORDED.lines().map(str::to_owned).collect();
    if std::env::var_os(RECORD).is_some() {
        recorded.resize(fleet_line() + 1, String::new());
        for (seed, digest) in lived.iter().filter(|(seed, _)| *seed < WORLDS) {
            recorded[usize::try_from(*seed).unwrap()].clone_from(digest);
        }
        return write(&recorded);
    }
    let known = lived.iter().filter(|(seed, _)| *seed < WORLDS);
    let is_recorded =
        |seed: &u64, digest: &String| recorded.get(usize::try_from(*seed).unwrap()) == Some(digest);
    let others: Vec<_> = known
        .filter(|(seed, digest)| !is_recorded(seed, digest))
        .map(|(seed, _)| *seed)
        .collect();
    assert!(
        others.is_empty(),
        "the effects of {} worlds are others than were recorded, the first {:?}. Where a rule was changed on purpose, name \
         it in the commit, and type: {RECORD}=1 cargo test --lib simulation -- --test-threads=1",
        others.len(),
        &others[..others.len().min(10)]
    );
}

/// The same for the fleet.
pub(super) fn compare_fleet(digest: &str) {
    let mut recorded: Vec<_> = RECORDED.lines().map(str::to_owned).collect();
    if std::env::var_os(RECORD).is_some() {
        // The worlds may have been written down in the meantime.
        recorded = std::fs::read_to_string(path())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        recorded.resize(fleet_line() + 1, String::new());
        digest.clone_into(&mut recorded[fleet_line()]);
        return write(&recorded);
    }
    assert_eq!(
        recorded.get(fleet_line()).map(String::as_str),
        Some(digest),
        "the effects of the fleet are others"
    );
}

fn fleet_line() -> usize {
    usize::try_from(WORLDS).unwrap()
}

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ship/machine/simulation/streams.txt")
}

fn write(lines: &[String]) {
    std::fs::write(path(), lines.join("\n") + "\n").unwrap();
}

fn effect_words(effect: &Effect) -> String {
    match effect {
        Effect::Look(id) => format!("look {id}"),
        Effect::Unwatch(id) => format!("unwatch {id}"),
        Effect::Scan => "scan".to_owned(),
        Effect::Check { id, rehash } => format!("check {id} {rehash}"),
        Effect::Pack {
            id,
            most_bytes,
            open_files,
        } => {
            format!("pack {id} {} {}", number(*most_bytes), open(*open_files))
        }
        Effect::ComputeDigest {
            id,
            most_bytes,
            open_files,
        } => {
            format!("measure {id} {} {}", number(*most_bytes), open(*open_files))
        }
        Effect::Persist {
            id,
            packed,
            conflict,
            tried,
        } => {
            format!(
                "keep {id} {} {} {tried}",
                archive(packed),
                conflict.as_ref().map_or("-".into(), refusal)
            )
        }
        Effect::Send {
            id,
            packed,
            resume,
            look,
        } => format!("send {id} {} {resume} {look}", archive(packed)),
        Effect::SendGrowing(id) => format!("grow {id}"),
        Effect::Cancel(id) => format!("cancel {id}"),
        Effect::Discard(id) => format!("discard {id}"),
        Effect::Retire { id, packed, proof } => {
            format!("retire {id} {} {}", archive(packed), proof.status())
        }
        Effect::Quarantine { id, reason } => format!("quarantine {id} {}", why(reason)),
        Effect::Finish(id) => format!("finish {id}"),
        Effect::Orphan { id, displaced } => format!("orphan {id} {displaced}"),
        Effect::Sweep => "sweep".to_owned(),
        Effect::LookBack(Shipped::BeforeTheStart) => "look-back before the start".to_owned(),
        Effect::LookBack(Shipped::These(these)) => {
            let paths = these
                .iter()
                .map(|(id, path)| format!(" {id} {}", path.display()));
            format!("look-back{}", paths.collect::<String>())
        }
        Effect::ReadClock => "read-clock".to_owned(),
        Effect::Pace(at) => format!("pace {}", pace(*at)),
        Effect::FreeSpace { need_bytes } => format!("relieve {need_bytes}"),
        Effect::Log(notice) => format!("say {}", notice_words(notice)),
    }
}

fn notice_words(notice: &Notice) -> String {
    let in_ns =
        |id: &EpisodeId, kind: &str, pause: &Duration| format!("{kind} {id} {}", pause.as_nanos());
    match notice {
        Notice::Sealed(id, stamp) => format!("sealed {id} {}", stamp.sealed_ns),
        Notice::OddMarker(id, _) => format!("odd-marker {id}"),
        Notice::Packed(id, facts) => format!("packed {id} {}", facts.size_bytes),
        Notice::Delivered(id, _, status) => format!("delivered {id} {status}"),
        Notice::Retired(id, _, status, path) => format!("retired {id} {status} {}", path.display()),
        Notice::Quarantined(id, reason, path) => {
            format!("quarantined {id} {} {}", why(reason), path.display())
        }
        Notice::Retrying(id, told, pause) => {
            format!("{} {}", in_ns(id, "retrying", pause), refusal(told))
        }
        Notice::RefusedAlone(id, told, pause) => {
            format!("{} {}", in_ns(id, "refused-alone", pause), refusal(told))
        }
        Notice::Conflict(id, told) => format!("conflict {id} {}", refusal(told)),
        Notice::Held(told) => format!("held {}", refusal(told)),
        Notice::StillHeld(told, pause) => {
            format!("still-held {} {}", refusal(told), pause.as_nanos())
        }
        Notice::Cleared(after) => format!("cleared {}", after.as_nanos()),
        Notice::StillChanging(id, _, pause) => in_ns(id, "still-changing", pause),
        Notice::OpenFile(id, _, pause) => in_ns(id, "open-file", pause),
        Notice::OpenFileAccepted(id, _, after) => in_ns(id, "open-file-accepted", after),
        Notice::OpenFileBeforeMove {
            id,
            is_delivered,
            pause,
            ..
        } => {
            format!(
                "{} {is_delivered}",
                in_ns(id, "open-file-before-move", pause)
            )
        }
        Notice::LeftBehind { id, pause, .. } => in_ns(id, "left-behind", pause),
        Notice::Stuck(id, _, pause) => in_ns(id, "stuck", pause),
        Notice::PackingPaused(_, pause) => format!("packing-paused {}", pause.as_nanos()),
        Notice::OutboxFull(_, pause) => format!("outbox-full {}", pause.as_nanos()),
        Notice::NoRoom(id, _) => format!("no-room {id}"),
        Notice::PackedAgain(id, _) => format!("packed-again {id}"),
        Notice::DeliveredAndGone(id) => format!("delivered-and-gone {id}"),
        Notice::StampsMove(id) => format!("stamps-move {id}"),
        Notice::Vanished(id) => format!("vanished {id}"),
        Notice::Pace(at) => format!("pace {}", pace(*at)),
        Notice::ClockDoubted(span) => format!("clock-doubted {}", span.as_nanos()),
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn open(open_files: OpenFilePolicy) -> &'static str {
    match open_files {
        OpenFilePolicy::WaitedFor => "waited-for",
        OpenFilePolicy::Accepted => "accepted",
    }
}

fn archive(packed: &Packed) -> String {
    let Packed {
        facts,
        fingerprint,
        open_files,
        ..
    } = packed;
    format!(
        "{} {} {} {}",
        facts.sha256,
        facts.size_bytes,
        fingerprint.0,
        open_files.len()
    )
}

fn refusal(told: &Refusal) -> String {
    number(told.status.map(u64::from))
}

fn why(reason: &Reason) -> String {
    let content = reason
        .content_sha256
        .map_or_else(|| "-".to_owned(), |content| content.to_string());
    format!(
        "{} {} {content}",
        number(reason.status.map(u64::from)),
        reason.verdict
    )
}

fn pace(pace: Pace) -> String {
    match pace {
        Pace::Free => "free".to_owned(),
        Pace::AtMost(bytes) => format!("at-most {bytes}"),
        Pace::Closed(until) => format!("closed {until}"),
    }
}
