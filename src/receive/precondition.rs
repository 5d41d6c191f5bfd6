//! Whether a request is to be answered as asked, by its preconditions (RFC 9110, section 13).
//!
//! Pure. What is held never changes in place, so that a digest and a time speak for it alike. But
//! it may be taken away and another put there within a second, so a time is a weak validator.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::{episode::Digest, records::WallTime};

/// What the preconditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// They hold, or there are none.
    Holds,
    /// The client has it already: 304.
    NotModified,
    /// It is not as the client takes it to be: 412.
    Fails,
}

/// Evaluates the preconditions of a GET or HEAD, in the order of section 13.2.2. Without a time no
/// date is compared (sections 13.1.3 and 13.1.4).
pub(super) fn of_read(
    headers: &HeaderMap,
    sha256: &Digest,
    modified: Option<WallTime>,
) -> Precondition {
    if of_write(headers, Some((sha256, modified))) == Precondition::Fails {
        return Precondition::Fails;
    }
    let has_it = match names(headers, &header::IF_NONE_MATCH, sha256, Comparison::Weak) {
        Some(named) => named,
        None => is_from_before(headers, &header::IF_MODIFIED_SINCE, modified) == Some(true),
    };
    if has_it {
        Precondition::NotModified
    } else {
        Precondition::Holds
    }
}

/// Whether a PUT has a precondition that [`of_write`] evaluates.
pub(super) fn is_asked_of_write(headers: &HeaderMap) -> bool {
    [header::IF_MATCH, header::IF_UNMODIFIED_SINCE]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// Evaluates `If-Match` and `If-Unmodified-Since` of a PUT; `held` is what is there.
/// `If-None-Match` asks that nothing be overwritten, and nothing ever is.
pub(super) fn of_write(
    headers: &HeaderMap,
    held: Option<(&Digest, Option<WallTime>)>,
) -> Precondition {
    let is_there = headers.contains_key(header::IF_MATCH);
    let holds = match held {
        None => !is_there,
        Some((sha256, modified)) => {
            let named = names(headers, &header::IF_MATCH, sha256, Comparison::Strong);
            named.unwrap_or_else(|| {
                is_from_before(headers, &header::IF_UNMODIFIED_SINCE, modified) != Some(false)
            })
        }
    };
    if holds {
        Precondition::Holds
    } else {
        Precondition::Fails
    }
}

/// Evaluates `If-Match` and `If-None-Match` of what changes an upload. That has no entity tag and
/// no time, so that nothing but `*` names it.
pub(super) fn of_upload(headers: &HeaderMap) -> Precondition {
    let any = |name| any_member(headers, name, |tag| tag == b"*");
    let fails = any(&header::IF_MATCH) == Some(false) || any(&header::IF_NONE_MATCH) == Some(true);
    if fails {
        Precondition::Fails
    } else {
        Precondition::Holds
    }
}

/// When what is held was last modified, as far as that can be said now: a stamp by a clock that is
/// ahead of ours says nothing (section 8.8.2.1).
pub(super) fn last_modified(stored_at: WallTime, now: WallTime) -> Option<WallTime> {
    (stored_at <= now).then_some(stored_at)
}

/// The strong validator of an archive: its digest (RFC 9110, section 8.8.3).
pub(super) fn etag(sha256: &Digest) -> String {
    format!("\"{sha256}\"")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags names this archive, or any; `None` where the header is not there.
fn names(
    headers: &HeaderMap,
    name: &HeaderName,
    sha256: &Digest,
    comparison: Comparison,
) -> Option<bool> {
    let ours = etag(sha256);
    any_member(headers, name, |tag| {
        let opaque = tag
            .strip_prefix(b"W/")
            .filter(|_| comparison == Comparison::Weak);
        tag == b"*" || opaque.unwrap_or(tag) == ours.as_bytes()
    })
}

/// Whether one of the list's members is such a one; `None` where the header is not there. A comma
/// in a tag's quotes separates nothing, and no byte in them is escaped (RFC 9110, section 8.8.3).
fn any_member(
    headers: &HeaderMap,
    name: &HeaderName,
    is_it: impl Fn(&[u8]) -> bool,
) -> Option<bool> {
    let any_of = |line: &HeaderValue| {
        let mut is_quoted = false;
        let mut members = line.as_bytes().split(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        });
        members.any(|member| is_it(member.trim_ascii()))
    };
    let mut lines = headers.get_all(name).iter();
    headers.contains_key(name).then(|| lines.any(any_of))
}

fn is_from_before(
    headers: &HeaderMap,
    name: &HeaderName,
    modified: Option<WallTime>,
) -> Option<bool> {
    Some(modified? <= date(headers, name)?)
}

/// A date that cannot be read is no date, and is ignored (sections 13.1.3 and 13.1.4).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<WallTime> {
    let date = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    Some(WallTime::from_unix_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn of(lines: &[(HeaderName, &str)]) -> (Precondition, Precondition) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let (sha256, modified) = (
            Digest::of(b"held"),
            Some(WallTime::from_unix_seconds(784_111_777)),
        );
        (
            of_read(&headers, &sha256, modified),
            of_write(&headers, Some((&sha256, modified))),
        )
    }

    #[test]
    fn each_precondition_is_evaluated_in_its_order() {
        use Precondition::{Fails, Holds, NotModified};
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        let ours = etag(&Digest::of(b"held"));
        let (weak, other) = (format!("W/{ours}"), etag(&Digest::of(b"other")));
        let listed = format!("{other} , \"x\",{ours}");
        // What stands in a tag's quotes is of the tag.
        let inside = format!("\"a,*,b\", \"W/\", \"c, {}\"", ours.trim_matches('"'));
        let behind = format!("{inside},{ours}");
        for (lines, read, write) in [
            (vec![], Holds, Holds),
            (vec![(IF_MATCH, ours.as_str())], Holds, Holds),
            (vec![(IF_MATCH, "*")], Holds, Holds),
            (vec![(IF_MATCH, &listed)], Holds, Holds),
            (vec![(IF_MATCH, &other), (IF_MATCH, &ours)], Holds, Holds),
            (vec![(IF_MATCH, &other)], Fails, Fails),
            (vec![(IF_MATCH, &weak)], Fails, Fails),
            (vec![(IF_MATCH, ours.trim_matches('"'))], Fails, Fails),
            (vec![(IF_MATCH, "")], Fails, Fails),
            (vec![(IF_MATCH, &inside)], Fails, Fails),
            (vec![(IF_MATCH, &behind)], Holds, Holds),
            (vec![(IF_NONE_MATCH, &inside)], Holds, Holds),
            (vec![(IF_NONE_MATCH, &behind)], NotModified, Holds),
            (vec![(IF_UNMODIFIED_SINCE, THEN)], Holds, Holds),
            (vec![(IF_UNMODIFIED_SINCE, BEFORE)], Fails, Fails),
            (vec![(IF_UNMODIFIED_SINCE, "then")], Holds, Holds),
            // What names the archive is asked alone.
            (
                vec![(IF_MATCH, &ours), (IF_UNMODIFIED_SINCE, BEFORE)],
                Holds,
                Holds,
            ),
            (vec![(IF_NONE_MATCH, &ours)], NotModified, Holds),
            (vec![(IF_NONE_MATCH, &weak)], NotModified, Holds),
            (vec![(IF_NONE_MATCH, "*")], NotModified, Holds),
            (vec![(IF_NONE_MATCH, &other)], Holds, Holds),
            (vec![(IF_MODIFIED_SINCE, THEN)], NotModified, Holds),
            (vec![(IF_MODIFIED_SINCE, BEFORE)], Holds, Holds),
            (
                vec![(IF_NONE_MATCH, &other), (IF_MODIFIED_SINCE, THEN)],
                Holds,
                Holds,
            ),
            (
                vec![(IF_MATCH, &other), (IF_NONE_MATCH, &ours)],
                Fails,
                Fails,
            ),
        ] {
            assert_eq!(of(&lines), (read, write), "{lines:?}");
        }
    }

    #[test]
    fn nothing_matches_where_nothing_is_held() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_write(&headers, None), Precondition::Holds);
        headers.insert(header::IF_MATCH, HeaderValue::from_static("*"));
        assert_eq!(of_write(&headers, None), Precondition::Fails);
    }

    #[test]
    fn bytes_beyond_ascii_in_one_tag_hide_no_other() {
        let ours = Digest::of(b"held");
        let line = [b"\"\xc3\xa9\", ", etag(&ours).as_bytes()].concat();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_bytes(&line).unwrap());
        assert_eq!(of_read(&headers, &ours, None), Precondition::Holds);
    }

    #[test]
    fn a_stamp_that_is_ahead_of_our_clock_is_no_time_and_no_date_is_compared_with_it() {
        let now = WallTime::from_unix_seconds(784_111_777);
        let ahead = WallTime::from_unix_seconds(784_111_778);
        assert_eq!(last_modified(now, now), Some(now));
        assert_eq!(last_modified(ahead, now), None);
        let sha256 = Digest::of(b"held");
        for name in [header::IF_UNMODIFIED_SINCE, header::IF_MODIFIED_SINCE] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(THEN));
            assert_eq!(of_read(&headers, &sha256, None), Precondition::Holds);
            assert_eq!(
                of_write(&headers, Some((&sha256, None))),
                Precondition::Holds
            );
        }
    }

    #[test]
    fn nothing_but_an_asterisk_names_an_upload() {
        for (name, value, holds) in [
            (header::IF_MATCH, "*", true),
            (header::IF_MATCH, "\"x\", *", true),
            (header::IF_MATCH, "\"x\"", false),
            (header::IF_MATCH, "\"*\"", false),
            (header::IF_NONE_MATCH, "*", false),
            (header::IF_NONE_MATCH, "\"x\"", true),
            (header::IF_UNMODIFIED_SINCE, BEFORE, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let holds = if holds {
                Precondition::Holds
            } else {
                Precondition::Fails
            };
            assert_eq!(of_upload(&headers), holds, "{headers:?}");
        }
        assert_eq!(of_upload(&HeaderMap::new()), Precondition::Holds);
    }
}
