//! Whether an upload is wanted: decided from its head and what is held, before any byte of the body
//! is asked for.
//!
//! Pure: no I/O, no clock. The same function decides a second time when another upload of the same
//! id was published first, so the loser of a race is told just what a latecomer would have been
//! told.

use http::{HeaderMap, header};

use super::{
    store::Part,
    stored_episode::{Content, Offer, StoredEpisode},
    window::{CommitWindow, SaidCommit},
};
use crate::model::{
    episode::{Digest, EpisodeId},
    wire::{CONTENT_DIGEST, EPISODES_PATH, Problem, ProblemType, REPR_DIGEST, Receipt},
};

/// What is to be done with an offer that could be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// Nothing is held under this id: take the body.
    Store,
    /// The same archive is held, or another archive of the same, verified content.
    AlreadyHeld(Receipt),
    /// Another archive is held, and whether its content is the same is not known: decompress it,
    /// then ask again.
    Unproven,
    /// Other content is held under this id.
    Conflict(Problem),
    /// Nothing is held, and this receiver does not take it.
    Refused(Problem),
}

/// What is to be done with the wish to go on with an upload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GoingOn {
    /// Take the body: it begins where what is kept ends.
    Resume,
    /// What is kept ends elsewhere.
    Elsewhere {
        /// At this byte.
        offset: u64,
    },
    /// Nothing is kept: the whole is to be sent.
    Nothing,
    /// It does not make the whole, or makes more than that.
    Refused(Problem),
}

/// Compares a request to go on, `coming` bytes from byte `at`, with what is kept. Where
/// `is_complete`, they are the last.
pub(crate) fn go_on(kept: Option<&Part>, at: u64, coming: u64, is_complete: bool) -> GoingOn {
    let Some(kept) = kept else {
        return GoingOn::Nothing;
    };
    if at != kept.offset {
        return GoingOn::Elsewhere {
            offset: kept.offset,
        };
    }
    let (end, size_bytes) = (at.saturating_add(coming), kept.offer.size_bytes);
    if end > size_bytes || (is_complete && end < size_bytes) {
        let detail = format!("Byte {at} and {coming} more do not make {size_bytes} bytes.");
        return GoingOn::Refused(Problem::new(ProblemType::UploadInvalid, detail));
    }
    GoingOn::Resume
}

/// What this receiver asks of an upload that is new to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Of which commits' recordings are taken; `None`: of all.
    pub window: Option<&'a CommitWindow>,
    /// What a host out of the window is told to do.
    pub remediation: &'a str,
    /// The largest archive, bytes; `None`: no limit.
    pub max_episode_bytes: Option<u64>,
}

impl Terms<'_> {
    /// Whether a recording of this commit would be taken.
    ///
    /// # Errors
    /// Those of [`CommitWindow::admit`](super::window::CommitWindow::admit).
    pub(crate) fn take_commit(&self, commit: &SaidCommit) -> Result<(), Problem> {
        self.window
            .map_or(Ok(()), |window| window.admit(commit, self.remediation))
    }

    /// Whether an archive of this size would be taken.
    ///
    /// # Errors
    /// `too-large`, with `max_episode_bytes`.
    pub(crate) fn take_size(&self, size_bytes: u64) -> Result<(), Problem> {
        match self.max_episode_bytes {
            Some(max) if size_bytes > max => {
                let detail =
                    format!("{size_bytes} bytes; archives of up to {max} bytes are taken.");
                Err(Problem::new(ProblemType::TooLarge, detail).with("max_episode_bytes", max))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Compares an offer with what is held under its id and, where that is nothing, with the receiver's
/// terms.
///
/// What is held comes first. The terms guard what comes in; a host whose acknowledgement was lost,
/// and whose commit has left the window since, is to learn that its episode is held, and not to
/// quarantine it.
///
/// A content digest counts only once this receiver has verified it. Were a claim enough, a host
/// that stored an archive under a false content digest would have the true one's sender retire an
/// episode that no receiver holds.
pub(crate) fn admit(
    offer: &Offer,
    commit: &SaidCommit,
    held: Option<&StoredEpisode>,
    terms: &Terms<'_>,
) -> Decision {
    let Some(held) = held else {
        let taken = terms
            .take_commit(commit)
            .and_then(|()| terms.take_size(offer.size_bytes));
        return taken.map_or_else(Decision::Refused, |()| Decision::Store);
    };
    if offer.sha256 == held.sha256 {
        return Decision::AlreadyHeld(held.receipt());
    }
    match (offer.content_sha256, held.content) {
        (Some(offered), Content::Verified(known)) if offered == known => {
            Decision::AlreadyHeld(held.receipt())
        }
        (Some(offered), Content::Claimed(claimed)) if offered == claimed => Decision::Unproven,
        (Some(_), Content::Unknown) => Decision::Unproven,
        (
            None | Some(_),
            Content::Verified(_) | Content::Claimed(_) | Content::Unknown | Content::Unreadable,
        ) => Decision::Conflict(conflict(held)),
    }
}

/// The problem of an id under which something else is held.
pub(crate) fn conflict(held: &StoredEpisode) -> Problem {
    let problem = Problem::new(
        ProblemType::Conflict,
        format!(
            "Another archive of {} bytes is held under this id since {}.",
            held.size_bytes, held.stored_at
        ),
    )
    .with("held_sha256", held.sha256.to_string());
    match held.content.verified() {
        Some(content) => problem.with("held_content_sha256", content.to_string()),
        None => problem,
    }
}

/// The episode that a request's path names, where it is below [`EPISODES_PATH`]; `None` for any
/// other path.
///
/// # Errors
/// `id-invalid` where what follows is not one percent-encoded episode id.
pub(crate) fn episode_of(path: &str) -> Option<Result<EpisodeId, Problem>> {
    let segment = path.strip_prefix(EPISODES_PATH)?;
    Some(EpisodeId::from_percent_encoded(segment).map_err(|error| {
        Problem::new(
            ProblemType::IdInvalid,
            format!("The id in the path is not valid: {error}."),
        )
    }))
}

/// Reads an offer out of a request's headers.
///
/// # Errors
/// - `length-required` without `Content-Length` (RFC 9110, section 15.5.12), or where a transfer
///   coding makes it moot (RFC 9112, section 6.3).
/// - `digest-invalid` without a SHA-256 in `Repr-Digest` (RFC 9530, section 3), or where the
///   content digest is there and malformed.
pub(crate) fn read_offer(headers: &HeaderMap) -> Result<Offer, Problem> {
    Ok(Offer {
        size_bytes: content_length(headers)?,
        sha256: digest(headers, REPR_DIGEST)?.ok_or_else(|| {
            Problem::new(
                ProblemType::DigestInvalid,
                "Repr-Digest is required: sha-256=:BASE64: of the archive.",
            )
        })?,
        content_sha256: digest(headers, CONTENT_DIGEST)?,
    })
}

pub(super) fn content_length(headers: &HeaderMap) -> Result<u64, Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if !headers.contains_key(header::TRANSFER_ENCODING) => Ok(length),
        _ => Err(Problem::new(
            ProblemType::LengthRequired,
            "An upload says its length in Content-Length.",
        )),
    }
}

/// A digest header may be spread over several lines, which count as one list (RFC 9110, section
/// 5.3).
fn digest(headers: &HeaderMap, name: &'static str) -> Result<Option<Digest>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let lines: Option<Vec<&str>> = headers
        .get_all(name)
        .iter()
        .map(|line| line.to_str().ok())
        .collect();
    match lines.map(|lines| Digest::from_header(&lines.join(", "))) {
        Some(Ok(digest)) => Ok(Some(digest)),
        _ => Err(Problem::new(
            ProblemType::DigestInvalid,
            format!("{name} holds no well-formed SHA-256 (RFC 9530): sha-256=:BASE64:."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::model::records::WallTime;

    fn digest_of(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn offer(archive: &str, content: Option<&str>) -> Offer {
        Offer {
            sha256: digest_of(archive),
            content_sha256: content.map(digest_of),
            size_bytes: 7,
        }
    }

    fn held(archive: &str, content: Content) -> StoredEpisode {
        StoredEpisode {
            episode_id: EpisodeId::parse("a").unwrap(),
            sha256: digest_of(archive),
            owner: None,
            size_bytes: 7,
            stored_at: WallTime::from_unix_seconds(0),
            content,
        }
    }

    fn name(decision: &Decision) -> &'static str {
        match decision {
            Decision::Store => "store",
            Decision::AlreadyHeld(_) => "held",
            Decision::Unproven => "unproven",
            Decision::Conflict(_) => "conflict",
            Decision::Refused(problem) => match problem.kind {
                ProblemType::CommitMissing => "missing",
                ProblemType::CommitOutOfWindow => "outside",
                ProblemType::TooLarge => "large",
                other => panic!("{other:?}"),
            },
        }
    }

    /// Takes whatever comes.
    const OPEN: Terms<'static> = Terms {
        window: None,
        remediation: "",
        max_episode_bytes: None,
    };

    fn commit(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    #[test]
    fn nothing_held_is_stored() {
        let decision = admit(
            &offer("archive", Some("content")),
            &SaidCommit::Nothing,
            None,
            &OPEN,
        );
        assert_eq!(decision, Decision::Store);
    }

    #[test]
    fn the_terms_guard_what_comes_in_and_not_what_is_held() {
        let window = CommitWindow::parse(&commit('a')).unwrap();
        let offer = offer("archive", None);
        let (same, other) = (
            held("archive", Content::Unknown),
            held("other", Content::Unknown),
        );
        let said = |digit| {
            SaidCommit::Commit(crate::model::episode::Commit::parse(&commit(digit)).unwrap())
        };
        let commits = [
            SaidCommit::Nothing,
            SaidCommit::Malformed,
            said('c'),
            said('a'),
        ];
        // An offer of 7 bytes: the largest that is taken, and one byte too many.
        for (window, max, expected) in [
            (None, None, ["store"; 4]),
            (None, Some(7), ["store"; 4]),
            (None, Some(6), ["large"; 4]),
            (
                Some(&window),
                None,
                ["missing", "missing", "outside", "store"],
            ),
            (
                Some(&window),
                Some(7),
                ["missing", "missing", "outside", "store"],
            ),
            (
                Some(&window),
                Some(6),
                ["missing", "missing", "outside", "large"],
            ),
        ] {
            let terms = Terms {
                window,
                remediation: "update",
                max_episode_bytes: max,
            };
            for (commit, expected) in commits.iter().zip(expected) {
                let told = |held| name(&admit(&offer, commit, held, &terms));
                assert_eq!(told(None), expected, "{commit:?} {terms:?}");
                assert_eq!(told(Some(&same)), "held", "{commit:?} {terms:?}");
                assert_eq!(told(Some(&other)), "conflict", "{commit:?} {terms:?}");
            }
        }
        let refusal = Terms {
            max_episode_bytes: Some(6),
            ..OPEN
        }
        .take_size(7)
        .unwrap_err()
        .to_json();
        assert_eq!(
            (&refusal["status"], &refusal["max_episode_bytes"]),
            (&413.into(), &6.into())
        );
    }

    #[test]
    fn every_offer_meets_every_state_of_what_is_held() {
        let same = digest_of("content");
        let other = digest_of("other content");
        let states = [
            Content::Unknown,
            Content::Claimed(same),
            Content::Claimed(other),
            Content::Verified(same),
            Content::Verified(other),
            Content::Unreadable,
        ];
        let table = [
            (offer("archive", Some("content")), ["held"; 6]),
            (offer("archive", None), ["held"; 6]),
            (
                offer("repacked", Some("content")),
                [
                    "unproven", "unproven", "conflict", "held", "conflict", "conflict",
                ],
            ),
            (offer("repacked", None), ["conflict"; 6]),
        ];
        for (offer, expected) in table {
            for (content, expected) in states.into_iter().zip(expected) {
                let decision = admit(
                    &offer,
                    &SaidCommit::Nothing,
                    Some(&held("archive", content)),
                    &OPEN,
                );
                assert_eq!(name(&decision), expected, "{offer:?} against {content:?}");
            }
        }
    }

    #[test]
    fn an_upload_goes_on_where_it_ends_and_makes_the_whole() {
        let kept = Part {
            offer: Offer {
                size_bytes: 100,
                ..offer("archive", None)
            },
            offset: 40,
        };
        for (at, coming, is_complete, expected) in [
            (40, 60, true, "resume"),
            (40, 60, false, "resume"),
            (40, 10, false, "resume"),
            (40, 0, false, "resume"),
            (40, 59, true, "refused"),
            (40, 61, true, "refused"),
            (40, 61, false, "refused"),
            (40, u64::MAX, false, "refused"),
            (0, 100, true, "elsewhere"),
            (39, 61, true, "elsewhere"),
            (41, 59, true, "elsewhere"),
            (u64::MAX, u64::MAX, true, "elsewhere"),
        ] {
            let found = match go_on(Some(&kept), at, coming, is_complete) {
                GoingOn::Resume => "resume",
                GoingOn::Elsewhere { offset } => {
                    assert_eq!(offset, 40);
                    "elsewhere"
                }
                GoingOn::Nothing => "nothing",
                GoingOn::Refused(_) => "refused",
            };
            assert_eq!(found, expected, "{at} {coming} {is_complete}");
        }
        assert_eq!(go_on(None, 0, 100, true), GoingOn::Nothing);
    }

    #[test]
    fn a_receipt_names_what_is_held_and_no_content_that_was_not_verified() {
        let repacked = offer("repacked", Some("content"));
        let verified = held("archive", Content::Verified(digest_of("content")));
        let decision = admit(&repacked, &SaidCommit::Nothing, Some(&verified), &OPEN);
        let Decision::AlreadyHeld(receipt) = decision else {
            panic!()
        };
        assert_eq!(receipt.sha256, digest_of("archive"));
        assert_eq!(receipt.content_sha256, Some(digest_of("content")));
        for content in [
            Content::Unknown,
            Content::Claimed(digest_of("content")),
            Content::Unreadable,
        ] {
            assert_eq!(held("archive", content).receipt().content_sha256, None);
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn an_offer_is_read_in_full() {
        let archive = digest_of("archive").to_header();
        let content = digest_of("content").to_header();
        let length = ("content-length", "7");
        let full = headers(&[length, (REPR_DIGEST, &archive), (CONTENT_DIGEST, &content)]);
        assert_eq!(read_offer(&full), Ok(offer("archive", Some("content"))));
        let spread = headers(&[
            length,
            (REPR_DIGEST, "sha-512=:AAAA:"),
            (REPR_DIGEST, &archive),
        ]);
        assert_eq!(read_offer(&spread), Ok(offer("archive", None)));
    }

    #[test]
    fn an_offer_that_lacks_something_says_what() {
        let good = digest_of("archive").to_header();
        let digest = (REPR_DIGEST, good.as_str());
        let length = ("content-length", "7");
        let table: &[(&[(&'static str, &str)], ProblemType)] = &[
            (&[digest], ProblemType::LengthRequired),
            (
                &[digest, ("content-length", "-7")],
                ProblemType::LengthRequired,
            ),
            (
                &[digest, length, ("transfer-encoding", "chunked")],
                ProblemType::LengthRequired,
            ),
            (&[length], ProblemType::DigestInvalid),
            (
                &[length, (REPR_DIGEST, "sha-512=:AAAA:")],
                ProblemType::DigestInvalid,
            ),
            (
                &[length, (REPR_DIGEST, "sha-256=:!!!!:")],
                ProblemType::DigestInvalid,
            ),
            (&[length, (REPR_DIGEST, "grün")], ProblemType::DigestInvalid),
            (
                &[length, digest, (CONTENT_DIGEST, "sha-256=abc")],
                ProblemType::DigestInvalid,
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(
                read_offer(&headers(lines)).unwrap_err().kind,
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn only_one_whole_segment_names_an_episode() {
        assert_eq!(episode_of("/healthz"), None);
        assert_eq!(
            episode_of("/v1/episodes/run%207")
                .unwrap()
                .unwrap()
                .as_str(),
            "run 7"
        );
        for bad in [
            "",
            "..",
            "%2e%2e",
            "..%2f..%2fevil",
            "a/b",
            "a%2Fb",
            "%FF",
            "a%0d%0ab",
        ] {
            let problem = episode_of(&format!("{EPISODES_PATH}{bad}"))
                .unwrap()
                .unwrap_err();
            assert_eq!(problem.kind, ProblemType::IdInvalid, "{bad}");
        }
    }
}
