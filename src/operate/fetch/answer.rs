//! What an answer to GET means for what has arrived already. Pure.
//!
//! | answer | to a request for the whole | to a request for the rest |
//! |---|---|---|
//! | 200 | take it | take it, from the beginning: another archive, or the server knows no ranges |
//! | 206, the range that was asked for, of the same archive | nonsense | go on |
//! | 206, anything else | nonsense | begin again |
//! | 416 | nonsense | begin again |
//! | 200 or 206 with a page | not a receiver | not a receiver |
//! | 408, 425, 429, 5xx but 501 and 505 | try again | try again |
//! | anything else | end | end |
//!
//! Bytes of two archives are never mixed: the rest is asked for only where the beginning has a name
//! (a digest, or a strong validator), and taken only where the answer does not contradict it.

use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::model::{
    episode::Digest,
    text::{printable, without_query},
    wire,
};

/// What a receiver says of an archive. Kept beside what has arrived of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    /// Its address.
    pub(super) address: String,
    /// Its length; `None` where the receiver does not say it.
    pub(super) size_bytes: Option<u64>,
    /// `Repr-Digest`.
    pub(super) sha256: Option<Digest>,
    /// `Sealift-Content-Digest`.
    pub(super) content_sha256: Option<Digest>,
    /// `ETag`, where it is a strong validator (RFC 9110, section 8.8.1).
    pub(super) etag: Option<String>,
}

/// What to do with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The body is the whole archive.
    Whole(Described),
    /// The body is what was asked for: the rest of it.
    Rest,
    /// Ask for the whole.
    Anew(String),
    /// Ask again later.
    Again {
        why: String,
        /// `Retry-After`, seconds.
        retry_after_s: Option<u64>,
    },
    /// The receiver does not hold it.
    Missing,
    /// The receiver does not give it to us: 401, 403.
    Refused(u16),
    /// Nothing that another try would mend.
    Never(String),
}

impl Described {
    /// Whether a beginning of this archive can be told from a beginning of another.
    pub(super) fn has_a_name(&self) -> bool {
        self.sha256.is_some() || self.etag.is_some()
    }
}

/// Reads the head of an answer. `rest` is what the beginning was described as, and from which byte
/// on the rest was asked for; `None` where the whole was.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    address: &str,
    rest: Option<(&Described, u64)>,
) -> Meaning {
    let code = status.as_u16();
    match (code, rest) {
        (200 | 206, _) if is_a_page(headers) => {
            Meaning::Never("it answers with a page: is this the receiver's address?".to_owned())
        }
        (200, _) => Meaning::Whole(described(headers, address)),
        (206, Some((begun, offset))) => match same_rest(headers, begun, offset) {
            Ok(()) => Meaning::Rest,
            Err(why) => Meaning::Anew(why),
        },
        (416, Some(_)) => Meaning::Anew("the receiver holds a shorter archive now".to_owned()),
        (404 | 410, _) => Meaning::Missing,
        (401 | 403 | 407, _) => Meaning::Refused(code),
        (501 | 505, _) => Meaning::Never(format!("it answers {code}")),
        (408 | 425 | 429 | 500..=599, _) => Meaning::Again {
            why: format!("the receiver answers {status}"),
            retry_after_s: wire::retry_after_s(headers),
        },
        (300..=399, _) => {
            let to = text(headers, header::LOCATION).unwrap_or("elsewhere");
            Meaning::Never(format!(
                "it answers {code} and points to {}; no redirect is followed, so set the address that is right",
                printable(without_query(to))
            ))
        }
        _ => Meaning::Never(format!("it answers {status}")),
    }
}

fn described(headers: &HeaderMap, address: &str) -> Described {
    Described {
        address: address.to_owned(),
        size_bytes: text(headers, header::CONTENT_LENGTH).and_then(|len| len.parse().ok()),
        sha256: digest(headers, wire::REPR_DIGEST),
        content_sha256: digest(headers, wire::CONTENT_DIGEST),
        etag: strong_etag(headers),
    }
}

/// Whether a 206 is the rest of what was begun.
fn same_rest(headers: &HeaderMap, begun: &Described, offset: u64) -> Result<(), String> {
    let range = text(headers, header::CONTENT_RANGE).unwrap_or_default();
    let (first, total) = content_range(range).ok_or_else(|| {
        format!(
            "the receiver answers 206 with the range {:?}",
            printable(range)
        )
    })?;
    let differs = |ours: bool, what: &str| {
        if ours {
            Ok(())
        } else {
            Err(format!("the receiver {what}"))
        }
    };
    differs(
        first == offset,
        "gives another range than the one that was asked for",
    )?;
    let same_size = total.is_none() || begun.size_bytes.is_none() || total == begun.size_bytes;
    differs(same_size, "holds an archive of another length now")?;
    let (now, etag) = (digest(headers, wire::REPR_DIGEST), strong_etag(headers));
    differs(
        now.is_none() || begun.sha256.is_none() || now == begun.sha256,
        "holds another archive now",
    )?;
    differs(
        etag.is_none() || begun.etag.is_none() || etag == begun.etag,
        "holds another archive now",
    )?;
    // One of the two must have said so. Where If-Range was sent, the 206 itself does (RFC 9110,
    // section 13.1.5).
    differs(
        now.is_some() || begun.etag.is_some(),
        "does not say which archive it gives the rest of",
    )
}

/// `bytes FIRST-LAST/TOTAL`; a TOTAL of `*` is not known (RFC 9110, section 14.4).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    // The rest is the rest: a piece out of the middle would be taken for the end.
    (first <= last && total.is_none_or(|total: u64| last.checked_add(1) == Some(total)))
        .then_some((first, total))
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, header::ETAG)?;
    (etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')).then(|| etag.to_owned())
}

fn digest(headers: &HeaderMap, name: &'static str) -> Option<Digest> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .and_then(|value| Digest::from_header(value).ok())
}

fn is_a_page(headers: &HeaderMap) -> bool {
    matches!(
        wire::media_type(headers).as_str(),
        "text/html" | "application/xhtml+xml"
    )
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, String)| {
            (
                header::HeaderName::from_static(name),
                value.parse().unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn begun(sha256: Option<Digest>, etag: Option<&str>) -> Described {
        Described {
            address: "http://r/a".to_owned(),
            size_bytes: Some(100),
            sha256,
            content_sha256: None,
            etag: etag.map(str::to_owned),
        }
    }

    fn rest(begun: &Described, code: u16, pairs: &[(&'static str, String)]) -> Meaning {
        read(
            StatusCode::from_u16(code).unwrap(),
            &headers(pairs),
            "http://r/a",
            Some((begun, 40)),
        )
    }

    fn range(value: &str) -> (&'static str, String) {
        ("content-range", value.to_owned())
    }

    #[test]
    fn bytes_of_two_archives_are_never_mixed() {
        let repr = |digest: Digest| (wire::REPR_DIGEST, digest.to_header());
        let etag = |etag: &str| ("etag", etag.to_owned());
        let right = || range("bytes 40-99/100");
        for (begun, pairs) in [
            (begun(Some(A), None), vec![right(), repr(A)]),
            (begun(Some(A), None), vec![range("bytes 40-99/*"), repr(A)]),
            (
                begun(Some(A), Some("\"x\"")),
                vec![right(), repr(A), etag("\"x\"")],
            ),
            (begun(None, Some("\"x\"")), vec![right(), etag("\"x\"")]),
            (begun(None, Some("\"x\"")), vec![right()]),
            (begun(Some(A), Some("\"x\"")), vec![right()]),
        ] {
            assert_eq!(
                rest(&begun, 206, &pairs),
                Meaning::Rest,
                "{begun:?} {pairs:?}"
            );
        }
        for (begun, pairs) in [
            (begun(Some(A), None), vec![right(), repr(B)]),
            (
                begun(Some(A), Some("\"x\"")),
                vec![right(), repr(B), etag("\"x\"")],
            ),
            (
                begun(Some(A), Some("\"x\"")),
                vec![right(), repr(A), etag("\"y\"")],
            ),
            (begun(None, Some("\"x\"")), vec![right(), etag("\"y\"")]),
            (begun(Some(A), None), vec![right()]),
            (begun(Some(A), None), vec![range("bytes 0-99/100"), repr(A)]),
            (
                begun(Some(A), None),
                vec![range("bytes 41-99/100"), repr(A)],
            ),
            (
                begun(Some(A), None),
                vec![range("bytes 40-98/100"), repr(A)],
            ),
            (
                begun(Some(A), None),
                vec![range("bytes 40-100/101"), repr(A)],
            ),
            (
                begun(Some(A), None),
                vec![range("items 40-99/100"), repr(A)],
            ),
            (
                begun(Some(A), None),
                vec![range("bytes 40-18446744073709551615/100"), repr(A)],
            ),
            (begun(Some(A), None), vec![repr(A)]),
        ] {
            assert!(
                matches!(rest(&begun, 206, &pairs), Meaning::Anew(_)),
                "{begun:?} {pairs:?}"
            );
        }
    }

    #[test]
    fn every_status_has_its_meaning() {
        let begun = begun(Some(A), None);
        for code in 200..600 {
            let status = StatusCode::from_u16(code).unwrap();
            let whole = read(status, &headers(&[]), "http://r/a", None);
            let rest = rest(&begun, code, &[]);
            match code {
                200 => {
                    assert!(matches!(&whole, Meaning::Whole(_)) && whole == rest);
                }
                206 | 416 => {
                    assert!(
                        matches!((whole, rest), (Meaning::Never(_), Meaning::Anew(_))),
                        "{code}"
                    );
                }
                404 | 410 => assert_eq!((whole, rest), (Meaning::Missing, Meaning::Missing)),
                401 | 403 | 407 => {
                    assert_eq!(
                        (whole, rest),
                        (Meaning::Refused(code), Meaning::Refused(code))
                    );
                }
                501 | 505 => assert!(
                    matches!(whole, Meaning::Never(_)) && whole == rest,
                    "{code}"
                ),
                408 | 425 | 429 | 500.. => {
                    assert!(
                        matches!(whole, Meaning::Again { .. }) && whole == rest,
                        "{code}"
                    );
                }
                _ => assert!(
                    matches!(whole, Meaning::Never(_)) && whole == rest,
                    "{code}"
                ),
            }
        }
    }

    #[test]
    fn what_a_receiver_says_of_an_archive_is_read_and_a_page_is_none() {
        let said = headers(&[
            ("content-length", "100".to_owned()),
            (wire::REPR_DIGEST, A.to_header()),
            (wire::CONTENT_DIGEST, "sha-256=:broken:".to_owned()),
            ("etag", "W/\"weak\"".to_owned()),
        ]);
        let meaning = read(StatusCode::OK, &said, "http://r/a", None);
        assert_eq!(meaning, Meaning::Whole(begun(Some(A), None)));
        assert!(begun(Some(A), None).has_a_name() && !begun(None, None).has_a_name());
        let page = headers(&[("content-type", "Text/HTML; charset=utf-8".to_owned())]);
        assert!(matches!(
            read(StatusCode::OK, &page, "http://r/a", None),
            Meaning::Never(_)
        ));
        let there = headers(&[("location", "http://x/\u{7f}".replace('\u{7f}', "y"))]);
        let Meaning::Never(why) = read(StatusCode::FOUND, &there, "http://r/a", None) else {
            panic!()
        };
        assert!(why.contains("http://x/y"), "{why}");
    }
}
