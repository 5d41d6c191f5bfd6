//! Is an episode that was refused for its commit admitted by now?
//!
//! | the receiver says to `GET /v1/admission` with that commit | the episode |
//! |---|---|
//! | 2xx | comes back |
//! | a problem about the commit | stays: it would be refused again |
//! | the same, where an archive is held under its id | comes back |
//! | 404, 405, 501; the whole address is configured | stays: this receiver cannot be asked |
//! | anything else, or nothing | stays: it is not known |

use std::collections::HashMap;

use http::{HeaderMap, StatusCode};

use super::{Candidate, RequeueOptions, word};
use crate::{
    disk::meta,
    http::client::Answered,
    model::{
        episode::Commit,
        progress::Progress,
        records::QuarantineReason,
        text::printable,
        wire::{self, ProblemType},
    },
    operate::receiver::ReceiverClient,
};

/// Of an answer, at most.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest that a receiver's own words are shown, characters.
const MAX_SHOWN: usize = 300;

/// The answers so far: one question a commit.
#[derive(Debug, Default)]
pub(super) struct AdmissionAnswers(HashMap<Option<Commit>, Option<String>>);

impl AdmissionAnswers {
    /// Why an episode that was refused for its commit stays; `None` where it was refused for
    /// something else, or is admitted by now.
    pub(super) async fn refusal(
        &mut self,
        options: &RequeueOptions,
        receiver: Option<&ReceiverClient>,
        candidate: &Candidate,
        reason: &QuarantineReason,
        progress: &Progress,
    ) -> Option<String> {
        if !is_about_the_commit(reason) {
            return None;
        }
        let commit = match meta::look(&candidate.folder) {
            Ok(meta) => meta.ok().flatten(),
            Err(error) => {
                return Some(format!(
                    "its commit cannot be read: {:#}",
                    anyhow::Error::new(error)
                ));
            }
        };
        let Some(receiver) = receiver else {
            return Some(unasked(
                options,
                "no receiver is configured (--receiver)",
                candidate,
            ));
        };
        let refused = match self.0.get(&commit) {
            Some(answered) => answered.clone(),
            None => {
                self.ask(options, receiver, candidate, commit, progress)
                    .await
            }
        };
        // What is held is acknowledged whatever has become of its commit, and needs no admission.
        match refused {
            Some(why) if !is_held(receiver, candidate, progress).await => Some(why),
            Some(_) | None => None,
        }
    }

    async fn ask(
        &mut self,
        options: &RequeueOptions,
        receiver: &ReceiverClient,
        candidate: &Candidate,
        commit: Option<Commit>,
        progress: &Progress,
    ) -> Option<String> {
        let answer = receiver
            .admission(&candidate.id, commit.as_ref(), progress)
            .await;
        let refusal = match answer {
            Ok(None) => Some(unasked(
                options,
                "this receiver has no path to ask at",
                candidate,
            )),
            Ok(Some(answer)) => read(options, answer, candidate).await,
            Err(error) => Some(unasked(
                options,
                &format!(
                    "the receiver does not answer ({})",
                    printable(&error.to_string())
                ),
                candidate,
            )),
        };
        self.0.insert(commit, refusal.clone());
        refusal
    }
}

/// Whether the receiver holds an archive under this id, by its digest.
async fn is_held(receiver: &ReceiverClient, candidate: &Candidate, progress: &Progress) -> bool {
    let answer = receiver
        .head(&candidate.id, HeaderMap::new(), progress)
        .await;
    answer.is_ok_and(|answer| {
        answer.status.is_success() && answer.headers.contains_key(wire::REPR_DIGEST)
    })
}

/// 412, and the 400 that says that there is no commit.
pub(in crate::operate) fn is_about_the_commit(reason: &QuarantineReason) -> bool {
    let kind = reason
        .body
        .get("type")
        .and_then(|kind| ProblemType::from_urn(kind.as_str()?));
    reason.status_code == Some(412)
        || matches!(
            kind,
            Some(ProblemType::CommitMissing | ProblemType::CommitOutOfWindow)
        )
}

async fn read(options: &RequeueOptions, answer: Answered, candidate: &Candidate) -> Option<String> {
    let status = answer.status;
    if status.is_success() {
        return None;
    }
    let body = answer.short_body(MAX_ANSWER_BYTES).await;
    let said: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap_or_default();
    let kind = said
        .get("type")
        .and_then(|kind| ProblemType::from_urn(kind.as_str()?));
    let words = ["detail", "remediation"]
        .iter()
        .filter_map(|member| said.get(member)?.as_str());
    let words: Vec<_> = words
        .map(|text| text.trim().trim_end_matches('.'))
        .filter(|text| !text.is_empty())
        .map(|text| printable(&text.chars().take(MAX_SHOWN).collect::<String>()))
        .collect();
    let words = if words.is_empty() {
        String::new()
    } else {
        format!(" It says: {}.", words.join("; "))
    };
    Some(match (status, kind) {
        (_, Some(ProblemType::CommitMissing | ProblemType::CommitOutOfWindow)) => {
            format!(
                "the receiver still does not take its commit ({status}); it would be refused again.{words}"
            )
        }
        (
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED,
            _,
        ) => unasked(
            options,
            &format!("this receiver has no path to ask at ({status})"),
            candidate,
        ),
        _ => unasked(
            options,
            &format!("the receiver answers {status} when it is asked.{words}"),
            candidate,
        ),
    })
}

fn unasked(options: &RequeueOptions, why: &str, candidate: &Candidate) -> String {
    format!(
        "whether its commit is admitted by now is not known: {why}. To send it all the same, name it: {}   or add --unasked to \
         send all",
        options.command(&format!("requeue {}", word(&candidate.id)))
    )
}
