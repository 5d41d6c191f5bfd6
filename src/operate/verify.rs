//! Does the receiver still hold what was shipped from here? One HEAD an episode, compared with our
//! receipt in `shipped/`.
//!
//! ```text
//!  shipped/<id>/shipping_receipt.json ─▶ HEAD ─▶ judge.rs (pure) ─▶ held, or a row of the report
//!                      a few at once       └─ no answer ─▶ the run ends:
//!                                                          ten thousand would say the same
//! ```

mod judge;

use std::{io, path::PathBuf};

use http::{HeaderMap, HeaderValue, header};
use tokio::task::JoinSet;

pub(crate) use self::judge::VerifyVerdict;
use self::judge::{Head, VerifyAnswer, judge};
use super::{
    receiver::ReceiverClient,
    shipped_receipts::{self, ShippedFolder},
};
use crate::{
    http::{
        client::{Answered, ClientError},
        url_template::origin,
    },
    model::{
        episode::{Digest, EpisodeId},
        progress::Progress,
        structured_field,
        text::{printable, without_query},
        wire,
    },
};

/// How to ask.
#[derive(Debug, Clone)]
pub(crate) struct VerifyOptions {
    /// Where the shipped episodes are.
    pub shipped: PathBuf,
    /// Whether the receiver is asked to read the bytes again.
    pub deep: bool,
    /// Questions at once.
    pub concurrency: usize,
}

/// An episode that is not held, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifyRow {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Its folder in `shipped/`; `None` where it has none.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub verdict: VerifyVerdict,
    /// Where it was delivered to, where that is another receiver than the one that was asked.
    pub delivered_to: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VerifyReport {
    /// Episodes that there is a verdict on.
    pub checked: u64,
    /// Held, whether as delivered or packed otherwise.
    pub held: u64,
    /// Held, and packed otherwise.
    pub held_repacked: u64,
    /// The others, by name.
    pub rows: Vec<VerifyRow>,
    /// Why the run ended early: no receiver answers.
    pub unreachable: Option<String>,
    /// It ended early because it was told to.
    pub stopped: bool,
    /// Episodes that were not asked about, because it ended early.
    pub not_checked: u64,
}

impl VerifyReport {
    /// Whether everything that was asked for is held.
    pub(crate) fn all_held(&self) -> bool {
        self.rows.is_empty() && self.unreachable.is_none() && !self.stopped
    }
}

/// Asks about these episodes; about all in `shipped/` where none is named. `progress` stops it, and
/// advances by one an episode.
///
/// # Errors
/// Those of listing `shipped/`.
pub(crate) async fn verify(
    receiver: &ReceiverClient,
    ids: &[EpisodeId],
    options: &VerifyOptions,
    progress: &Progress,
    begun: impl FnOnce(usize),
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let mut waiting = if ids.is_empty() {
        shipped_receipts::all(&options.shipped)?
    } else {
        Vec::new()
    };
    for id in ids {
        let found = shipped_receipts::of(&options.shipped, id)?;
        if found.is_empty() {
            report.checked += 1;
            report.rows.push(VerifyRow {
                episode_id: id.clone(),
                path: None,
                verdict: VerifyVerdict::CannotTell(
                    "it is not in shipped/: there is no receipt to compare with".to_owned(),
                ),
                delivered_to: None,
            });
        }
        waiting.extend(found);
    }
    begun(waiting.len());
    let mut waiting = waiting.into_iter();
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < options.concurrency && report.unreachable.is_none() {
            let Some(shipped) = waiting.next() else { break };
            asking.spawn(check(
                receiver.clone(),
                shipped,
                options.deep,
                progress.clone(),
            ));
        }
        let Some(checked) = asking.join_next().await else {
            break;
        };
        let row = checked.map_err(io::Error::other)?;
        match &row.verdict {
            VerifyVerdict::Held => report.held += 1,
            VerifyVerdict::HeldRepacked => {
                report.held += 1;
                report.held_repacked += 1;
            }
            VerifyVerdict::Missing | VerifyVerdict::Differs(_) | VerifyVerdict::CannotTell(_) => {
                report.rows.push(row);
            }
            VerifyVerdict::Unreachable(why) => {
                // Those that are under way have the same to say; what they were about is not
                // checked.
                report.unreachable.get_or_insert_with(|| why.clone());
                report.not_checked += 1;
                continue;
            }
        }
        report.checked += 1;
        progress.advance(1);
    }
    report.not_checked += waiting.count() as u64;
    if progress.check().is_err() {
        (report.stopped, report.unreachable) = (true, None);
    }
    report
        .rows
        .sort_by(|a, b| (a.episode_id.as_str(), &a.path).cmp(&(b.episode_id.as_str(), &b.path)));
    Ok(report)
}

async fn check(
    receiver: ReceiverClient,
    shipped: ShippedFolder,
    deep: bool,
    progress: Progress,
) -> VerifyRow {
    let ShippedFolder { episode_id, path } = shipped.clone();
    let row = |episode_id, verdict, delivered_to| VerifyRow {
        episode_id,
        path: Some(path),
        verdict,
        delivered_to,
    };
    let found = match tokio::task::spawn_blocking(move || shipped.receipt()).await {
        Ok(Ok(Some(receipt))) => Ok(receipt),
        Ok(Ok(None)) => Err("there is no receipt of ours in its folder".to_owned()),
        Ok(Err(error)) => Err(format!("its receipt cannot be read: {error}")),
        Err(error) => Err(format!("its receipt cannot be read: {error}")),
    };
    let receipt = match found {
        Ok(receipt) => receipt,
        Err(why) => return row(episode_id, VerifyVerdict::CannotTell(why), None),
    };
    let id = receipt.episode_id.clone();
    let answer = ask(&receiver, &id, deep, &progress).await;
    let elsewhere = place(&receipt.receiver) != place(&receiver.url_of(&id));
    let delivered_to = elsewhere.then(|| printable(without_query(&receipt.receiver)));
    row(id, judge(&receipt, &answer, deep), delivered_to)
}

/// Who answers at an address, and at which path: the same server may have two stores.
fn place(url: &str) -> (Option<String>, Option<String>) {
    let path = without_query(url).parse::<http::Uri>();
    (origin(url), path.ok().map(|uri| uri.path().to_owned()))
}

async fn ask(
    receiver: &ReceiverClient,
    id: &EpisodeId,
    deep: bool,
    progress: &Progress,
) -> VerifyAnswer {
    let mut headers = HeaderMap::new();
    if deep {
        headers.insert(wire::REREAD, HeaderValue::from_static("?1"));
    }
    // A question that was lost with its connection is asked once more: one broken line says nothing
    // of the receiver.
    let answered = match receiver.head(id, headers.clone(), progress).await {
        Err(ClientError::Lost(_)) => receiver.head(id, headers, progress).await,
        answered => answered,
    };
    match answered {
        Ok(answered) => VerifyAnswer::Head(head(&answered)),
        Err(error) => VerifyAnswer::Failed(error),
    }
}

fn head(answered: &Answered) -> Head {
    let text = |name: &str| answered.headers.get(name)?.to_str().ok().map(str::trim);
    let digest = |name| Digest::from_header(text(name)?).ok();
    Head {
        status_code: answered.status.as_u16(),
        sha256: digest(wire::REPR_DIGEST),
        content_sha256: digest(wire::CONTENT_DIGEST),
        size_bytes: text(header::CONTENT_LENGTH.as_str()).and_then(|len| len.parse().ok()),
        is_of_a_file: text(header::LAST_MODIFIED.as_str()).is_some()
            || text(header::ETAG.as_str()).is_some(),
        is_a_page: wire::media_type(&answered.headers) == "text/html",
        reread: structured_field::boolean(&answered.headers, wire::REREAD) == Ok(Some(true)),
    }
}
