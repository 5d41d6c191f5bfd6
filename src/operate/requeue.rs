//! Back into the queue: out of quarantine, out of a conflict, or out of `shipped/` where the
//! receiver has lost it.
//!
//! ```text
//!  quarantine/<id>[~n]  reason: whose, why ─┐                       ┌─▶ episodes/<id>, then
//!                                           │                       │     the reason goes
//!  outbox/<id>.json     in conflict ────────┼─▶ choose ──▶ (asked) ─┼─▶ outbox/<id>.json goes,
//!                                           │   (pure)              │     and a hint to the daemon
//!  shipped/<id>[~n]     HEAD: missing ──────┘                       └─▶ episodes/<id>, then
//!                                                                         the receipt goes
//! ```
//!
//! What was named and was written to since it was delivered comes back out of `shipped/` as well,
//! with its receipt: no answer of the receiver is about what was written. So does, unasked, what
//! was named. An archive alone in `quarantine/` is unpacked (`unpack.rs`).
//!
//! With the daemon and without it, as its user or as one of the shared group: nothing here holds
//! its lock. A folder is moved by one rename that takes no name that is in use; where that is
//! another file system, as every other move (`durable`). Our record goes after the move, since it
//! says nothing in `episodes/`: killed in between, the episode is in the queue, and what is left of
//! the record goes when it is shipped. A run that is killed before the move leaves everything as it
//! was.
//!
//! A conflict is remembered in the sidecar of the archive, and nowhere else. Without one the
//! archive is not trusted: the episode is packed again, to the same bytes, and sent. Taking the
//! file away cannot be torn, and meets no daemon half-way, as writing it anew would.

mod admission;
mod choose;
mod find;
mod unpack;

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use self::admission::AdmissionAnswers;
pub(in crate::operate) use self::admission::is_about_the_commit;
use super::receiver::ReceiverClient;
use crate::{
    disk::{durable, record_files, tree::shown},
    model::{
        episode::EpisodeId,
        layout::Layout,
        progress::Progress,
        records::{QuarantineReason, ShippingReceipt},
        text::shell_word,
    },
};

/// What is to come back.
#[derive(Debug, Clone)]
pub(crate) struct RequeueOptions {
    /// The folders.
    pub layout: Layout,
    /// Which; everything where there is none.
    pub ids: Vec<EpisodeId>,
    /// The ids are the names of folders, which a second of one episode has another (`<id>~1`).
    pub by_folder: bool,
    /// Only those that were answered with this status.
    pub status: Option<u16>,
    /// From where; quarantine and conflicts where it is not said.
    pub from: Option<Origin>,
    /// Take what was refused for its commit without asking whether that is admitted by now; of
    /// `shipped/`, what is named without asking whether the receiver has lost it.
    pub unasked: bool,
    /// The ids are the names of folders in `quarantine/` that hold an archive alone: it is
    /// unpacked, under this name or the first that is free.
    pub unpack: Option<Option<EpisodeId>>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Questions to the receiver at once.
    pub concurrency: usize,
    /// The arguments that every command that is to be typed has behind it: which configuration,
    /// with a blank before it.
    pub typed: String,
}

impl RequeueOptions {
    /// A command to be typed.
    fn command(&self, rest: &str) -> String {
        format!("sealift {rest}{}", self.typed)
    }
}

/// Where an episode comes back from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was rejected.
    Quarantine,
    /// The receiver holds other content under its name.
    Conflict,
    /// It was delivered.
    Shipped,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quarantine => "quarantine",
            Self::Conflict => "conflict",
            Self::Shipped => "shipped",
        })
    }
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequeueRow {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Where it was found; `None` where it was not.
    pub from: Option<Origin>,
    /// What it was answered, where there was an answer.
    pub status: Option<u16>,
    /// Its folder as it was found.
    pub folder: Option<PathBuf>,
    /// And now.
    pub end: RequeueEnd,
}

/// How it ended for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequeueEnd {
    /// It is in the queue, and stands here.
    Back(PathBuf),
    /// It would have been put back here.
    Would(PathBuf),
    /// It was left where it is; why, and what to type.
    Left(String),
}

/// One that may come back.
#[derive(Debug, Clone)]
struct Candidate {
    id: EpisodeId,
    /// `episodes/<id>` for one in conflict.
    folder: PathBuf,
    status: Option<u16>,
    record: FiledRecord,
}

/// What was found beside it.
#[derive(Debug, Clone)]
enum FiledRecord {
    /// `None` where there is no reason of ours.
    Rejected(Option<QuarantineReason>),
    Conflict,
    /// It is lost, and with it what this says.
    Delivered(ShippingReceipt),
    /// Written to since it was delivered. Its receipt goes with it: it says what the receiver may
    /// hold under this name, where only a length tells the two apart (`daemon/lengths.rs`).
    WrittenTo,
}

impl Candidate {
    fn from(&self) -> Origin {
        match self.record {
            FiledRecord::Rejected(_) => Origin::Quarantine,
            FiledRecord::Conflict => Origin::Conflict,
            FiledRecord::Delivered(_) | FiledRecord::WrittenTo => Origin::Shipped,
        }
    }

    fn ends(&self, end: RequeueEnd) -> RequeueRow {
        RequeueRow {
            episode_id: self.id.clone(),
            from: Some(self.from()),
            status: self.status,
            folder: Some(self.folder.clone()),
            end,
        }
    }

    fn left(&self, why: impl Into<String>) -> RequeueRow {
        self.ends(RequeueEnd::Left(why.into()))
    }
}

/// Puts back what is asked for, one after another; each is told as soon as it is settled. Returns
/// false where it was told to stop before the end. `receiver` is asked where something has to be
/// asked; without one, what would need it is left.
///
/// # Errors
/// Those of listing the folders, and that no receiver answers where `shipped/` is compared with it.
/// Nothing was moved then.
pub(crate) async fn requeue(
    options: &RequeueOptions,
    receiver: Option<&ReceiverClient>,
    progress: &Progress,
    tell: &mut (dyn FnMut(RequeueRow) + Send),
) -> io::Result<bool> {
    if let Some(to) = &options.unpack {
        for name in &options.ids {
            if progress.check().is_err() {
                return Ok(false);
            }
            tell(unpack::unpack_archive(options, name, to.as_ref(), progress));
        }
        return Ok(true);
    }
    let mut found = find::candidates(options, receiver, progress).await?;
    choose::choose(options, &mut found);
    found.left.sort_by(|a, b| {
        (a.episode_id.as_str(), &a.folder).cmp(&(b.episode_id.as_str(), &b.folder))
    });
    found.left.into_iter().for_each(&mut *tell);
    let mut asked = AdmissionAnswers::default();
    for candidate in found.candidates {
        if progress.check().is_err() {
            return Ok(false);
        }
        let refused = match &candidate.record {
            FiledRecord::Rejected(Some(reason)) if options.ids.is_empty() && !options.unasked => {
                asked
                    .refusal(options, receiver, &candidate, reason, progress)
                    .await
            }
            FiledRecord::Rejected(_)
            | FiledRecord::Conflict
            | FiledRecord::Delivered(_)
            | FiledRecord::WrittenTo => None,
        };
        tell(match refused {
            Some(why) => candidate.left(why),
            None => candidate.ends(put_back(options, &candidate, progress)),
        });
    }
    Ok(true)
}

fn put_back(options: &RequeueOptions, candidate: &Candidate, progress: &Progress) -> RequeueEnd {
    let layout = &options.layout;
    if let Some(why) = find::hindrance(layout, candidate) {
        return RequeueEnd::Left(why);
    }
    if options.dry_run {
        return RequeueEnd::Would(layout.episode(&candidate.id));
    }
    let done = match &candidate.record {
        FiledRecord::Conflict => forget_conflict(layout, &candidate.id),
        FiledRecord::Rejected(reason) => move_back(layout, candidate, progress, |episode| {
            reason.as_ref().map_or(Ok(()), |reason| {
                record_files::remove_this_reason(episode, reason)
            })
        }),
        FiledRecord::Delivered(receipt) => move_back(layout, candidate, progress, |episode| {
            record_files::remove_this_receipt(episode, receipt)
        }),
        FiledRecord::WrittenTo => move_back(layout, candidate, progress, |_| Ok(())),
    };
    match done {
        Ok(()) => RequeueEnd::Back(layout.episode(&candidate.id)),
        Err(error) => RequeueEnd::Left(explain(options, candidate, &error)),
    }
}

fn move_back(
    layout: &Layout,
    candidate: &Candidate,
    progress: &Progress,
    remove_record: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let to = durable::move_to_name(
        &candidate.folder,
        &layout.episodes,
        candidate.id.as_str(),
        progress,
    )?;
    // A clean-up that was broken off has left it. It counts for nothing here, and only puzzles its
    // reader.
    let _ = durable::forget_note(&to);
    // The daemon may have taken it already, and takes the record away itself when it does.
    if let Err(error) = remove_record(&to)
        && to.is_dir()
    {
        tracing::warn!(
            "{} is back in the queue; our old record in it cannot be removed, and says nothing there: {error}",
            shown(&to)
        );
    }
    Ok(())
}

/// The daemon sees it by the hint, or by its next look around.
fn forget_conflict(layout: &Layout, id: &EpisodeId) -> io::Result<()> {
    durable::remove_file(&layout.sidecar(id))?;
    durable::sync_folder(&layout.outbox)?;
    // A hint is not owed: where none can be given, the reconcile pass finds it.
    let _ = durable::appear_and_go(&layout.hint(id));
    Ok(())
}

fn explain(options: &RequeueOptions, candidate: &Candidate, error: &io::Error) -> String {
    let layout = &options.layout;
    match (error.kind(), candidate.from()) {
        (io::ErrorKind::AlreadyExists, _) => find::hindrance(layout, candidate)
            .unwrap_or_else(|| find::name_is_taken(layout, candidate)),
        (io::ErrorKind::NotFound, _) => find::WENT_AWAY.to_owned(),
        (io::ErrorKind::PermissionDenied, Origin::Conflict) => format!(
            "the verdict in {} cannot be taken away: {error}. Type it as the user of the service: sudo -u '#{}' {}",
            shown(&layout.sidecar(&candidate.id)),
            std::fs::metadata(&layout.outbox).map_or(0, |outbox| outbox.uid()),
            options.command(&format!("requeue --from conflict {}", word(&candidate.id)))
        ),
        (_, Origin::Conflict) => {
            format!(
                "the verdict in {} cannot be taken away: {error}",
                shown(&layout.sidecar(&candidate.id))
            )
        }
        (io::ErrorKind::PermissionDenied, from) if !record_files::may_write(&layout.episodes) => {
            let from = if from == Origin::Shipped {
                "--from shipped "
            } else {
                ""
            };
            format!(
                "{} may not be written to by you. Type it as root: sudo {}",
                shown(&layout.episodes),
                options.command(&format!("requeue {from}{}", word(&candidate.id)))
            )
        }
        (_, Origin::Quarantine | Origin::Shipped) => format!(
            "it cannot be moved to {}: {error}{}",
            shown(&layout.episodes),
            record_files::advice(error, &candidate.folder, &layout.episodes, layout)
        ),
    }
}

/// An id as it is typed.
fn word(id: &EpisodeId) -> String {
    shell_word(Path::new(id.as_str()))
}
