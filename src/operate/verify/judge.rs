//! What a receiver's answer to HEAD says of an episode that was shipped. Pure.
//!
//! | answer | verdict |
//! |---|---|
//! | 200, `Repr-Digest` is that of the archive that was sent | held |
//! | 200, another or none; `Sealift-Content-Digest` is the episode's | held, packed otherwise |
//! | 200, digests, and none of them ours | differs |
//! | 200, no digest, another length than that of the archive that was sent | differs |
//! | 200, no digest; a page; a redirect; 405, 5xx and everything else | cannot tell |
//! | 401, 407 | cannot tell: credential |
//! | 403 | cannot tell: not ours to read, or not known to be |
//! | 404, 410 | missing |
//! | no answer | unreachable |
//!
//! Where the bytes were to be read again and the answer does not say that they were, "held" is more
//! than it says.

use crate::{
    http::client::ClientError,
    model::{episode::Digest, records::ShippingReceipt},
};

/// What is known of an episode that was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VerifyVerdict {
    /// The receiver holds the archive that was delivered.
    Held,
    /// It holds another archive of the same content.
    HeldRepacked,
    /// It holds no such episode.
    Missing,
    /// It holds something else.
    Differs(String),
    /// Its answer does not say.
    CannotTell(String),
    /// There was no answer.
    Unreachable(String),
}

/// An answer, as far as it matters here.
#[derive(Debug)]
pub(super) enum VerifyAnswer {
    Head(Head),
    Failed(ClientError),
}

/// The head of an answer to HEAD.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    pub(super) status_code: u16,
    /// `Repr-Digest`.
    pub(super) sha256: Option<Digest>,
    /// `Sealift-Content-Digest`.
    pub(super) content_sha256: Option<Digest>,
    pub(super) size_bytes: Option<u64>,
    /// It has an `ETag` or `Last-Modified`, as what is stored has.
    pub(super) is_of_a_file: bool,
    /// `text/html`.
    pub(super) is_a_page: bool,
    /// `Sealift-Reread: ?1`.
    pub(super) reread: bool,
}

/// `deep`: the bytes were to be read again.
pub(super) fn judge(receipt: &ShippingReceipt, answer: &VerifyAnswer, deep: bool) -> VerifyVerdict {
    let head = match answer {
        VerifyAnswer::Head(head) => head,
        VerifyAnswer::Failed(error) => return VerifyVerdict::Unreachable(error.to_string()),
    };
    let verdict = match head.status_code {
        200 if head.is_a_page => VerifyVerdict::CannotTell(
            "it answers with a page: is this the receiver's address?".to_owned(),
        ),
        200 => held(receipt, head),
        404 | 410 => VerifyVerdict::Missing,
        403 => VerifyVerdict::CannotTell(
            "credential, or the archive itself: it answers 403. Where it lets us read others, it does not know any more that this \
             one is ours, as of an archive that has rotted or was replaced: its log says so. Else look at receiver.token_file and \
             receiver.client_cert_file"
                .to_owned(),
        ),
        code @ (401 | 407) => VerifyVerdict::CannotTell(format!(
            "credential: it answers {code}; look at receiver.token_file, receiver.client_cert_file and receiver.headers"
        )),
        code @ (405 | 501) => {
            VerifyVerdict::CannotTell(format!("it does not answer HEAD ({code})"))
        }
        code @ 300..=399 => VerifyVerdict::CannotTell(format!(
            "it answers {code} and points elsewhere; no redirect is followed"
        )),
        code @ (408 | 425 | 429 | 500..=599) => {
            VerifyVerdict::CannotTell(format!("it answers {code}; try again later"))
        }
        code => VerifyVerdict::CannotTell(format!("it answers {code}")),
    };
    match verdict {
        VerifyVerdict::Held | VerifyVerdict::HeldRepacked if deep && !head.reread => VerifyVerdict::CannotTell(
            "not re-read: the receiver does not know the question; its records say that it is stored"
                .to_owned(),
        ),
        verdict => verdict,
    }
}

fn held(receipt: &ShippingReceipt, head: &Head) -> VerifyVerdict {
    match (head.sha256, head.content_sha256) {
        (Some(sha256), _) if sha256 == receipt.sha256 => VerifyVerdict::Held,
        (_, Some(content)) if content == receipt.content_sha256 => VerifyVerdict::HeldRepacked,
        (_, Some(content)) => VerifyVerdict::Differs(format!(
            "its content is {content}, shipped was {}",
            receipt.content_sha256
        )),
        (Some(sha256), None) => VerifyVerdict::Differs(format!(
            "its archive is {sha256}, shipped was {}",
            receipt.sha256
        )),
        (None, None) => match head.size_bytes {
            // An empty answer is also what a proxy without a route gives.
            Some(bytes) if bytes != receipt.size_bytes && (bytes > 0 || head.is_of_a_file) => {
                VerifyVerdict::Differs(format!(
                    "it has {bytes} bytes, and no digest; shipped were {} bytes",
                    receipt.size_bytes
                ))
            }
            Some(_) => VerifyVerdict::CannotTell(
                "the receiver gives no digest; its length is right".to_owned(),
            ),
            None => VerifyVerdict::CannotTell("the receiver gives no digest".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client::Wait;

    const ARCHIVE: Digest = Digest([1; 32]);
    const CONTENT: Digest = Digest([2; 32]);
    const OTHER: Digest = Digest([3; 32]);

    fn receipt() -> ShippingReceipt {
        ShippingReceipt {
            sha256: ARCHIVE,
            content_sha256: CONTENT,
            ..ShippingReceipt::example("a")
        }
    }

    fn of(head: Head, deep: bool) -> &'static str {
        name(&judge(&receipt(), &VerifyAnswer::Head(head), deep))
    }

    fn name(verdict: &VerifyVerdict) -> &'static str {
        match verdict {
            VerifyVerdict::Held => "held",
            VerifyVerdict::HeldRepacked => "repacked",
            VerifyVerdict::Missing => "missing",
            VerifyVerdict::Differs(_) => "differs",
            VerifyVerdict::CannotTell(_) => "cannot tell",
            VerifyVerdict::Unreachable(_) => "unreachable",
        }
    }

    #[test]
    fn every_pair_of_digests_has_its_verdict_and_only_a_reread_one_is_held_when_that_was_asked() {
        let ours_other_none = |ours| [Some(ours), Some(OTHER), None];
        let expected = [
            ["held", "held", "held"],
            ["repacked", "differs", "differs"],
            ["repacked", "differs", "cannot tell"],
        ];
        for (sha256, row) in ours_other_none(ARCHIVE).into_iter().zip(expected) {
            for (content_sha256, expected) in ours_other_none(CONTENT).into_iter().zip(row) {
                let head = Head {
                    status_code: 200,
                    sha256,
                    content_sha256,
                    ..Head::default()
                };
                assert_eq!(of(head, false), expected, "{head:?}");
                assert_eq!(
                    of(
                        Head {
                            reread: true,
                            ..head
                        },
                        true
                    ),
                    expected,
                    "{head:?}"
                );
                let is_held = matches!(expected, "held" | "repacked");
                assert_eq!(
                    of(head, true),
                    if is_held { "cannot tell" } else { expected },
                    "{head:?}"
                );
                assert_eq!(
                    of(
                        Head {
                            is_a_page: true,
                            ..head
                        },
                        false
                    ),
                    "cannot tell",
                    "{head:?}"
                );
            }
        }
    }

    #[test]
    fn without_a_digest_another_length_differs_and_the_same_tells_nothing() {
        for (size_bytes, is_of_a_file, expected) in [
            (Some(0), true, "differs"),
            (Some(0), false, "cannot tell"),
            (Some(9), false, "differs"),
            (Some(10), true, "cannot tell"),
            (None, false, "cannot tell"),
        ] {
            let head = Head {
                status_code: 200,
                size_bytes,
                is_of_a_file,
                ..Head::default()
            };
            assert_eq!(of(head, false), expected, "{size_bytes:?}");
        }
    }

    #[test]
    fn only_404_and_410_say_that_it_is_missing_and_no_other_status_that_it_is_held() {
        for status_code in 100..600 {
            let head = Head {
                status_code,
                sha256: Some(ARCHIVE),
                content_sha256: Some(CONTENT),
                ..Head::default()
            };
            let expected = match status_code {
                200 => "held",
                404 | 410 => "missing",
                _ => "cannot tell",
            };
            assert_eq!(of(head, false), expected, "{status_code}");
        }
        for code in [401, 403, 407] {
            let VerifyVerdict::CannotTell(why) = judge(
                &receipt(),
                &VerifyAnswer::Head(Head {
                    status_code: code,
                    ..Head::default()
                }),
                false,
            ) else {
                panic!("{code}")
            };
            assert!(why.starts_with("credential"), "{why}");
        }
    }

    #[test]
    fn no_answer_is_no_verdict_on_the_episode() {
        for error in [
            ClientError::Unreachable("x".into()),
            ClientError::Tls("x".into()),
            ClientError::TimedOut(Wait::Answer),
            ClientError::Lost("x".into()),
        ] {
            assert_eq!(
                name(&judge(&receipt(), &VerifyAnswer::Failed(error), true)),
                "unreachable"
            );
        }
    }
}
