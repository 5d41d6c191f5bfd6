//! Whether a request is to be answered as asked, by its preconditions (RFC 9110, section 13).
//!
//! Pure. What is held never changes in place, so that a digest and a time speak for it alike. But
//! it may be taken away and another put there within a second, so a time is a weak validator.

use http::{HeaderMap, HeaderName, header};

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

/// Evaluates the preconditions of a GET or HEAD, in the order of section 13.2.2.
pub(super) fn of_read(headers: &HeaderMap, sha256: &Digest, modified: WallTime) -> Precondition {
    if of_write(headers, Some((sha256, modified))) == Precondition::Fails {
        return Precondition::Fails;
    }
    let has_it = match names(headers, &header::IF_NONE_MATCH, sha256, Comparison::Weak) {
        Some(named) => named,
        None => date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|since| modified <= since),
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
pub(super) fn of_write(headers: &HeaderMap, held: Option<(&Digest, WallTime)>) -> Precondition {
    let is_there = headers.contains_key(header::IF_MATCH);
    let holds = match held {
        None => !is_there,
        Some((sha256, modified)) => {
            let named = names(headers, &header::IF_MATCH, sha256, Comparison::Strong);
            named.unwrap_or_else(|| {
                date(headers, &header::IF_UNMODIFIED_SINCE).is_none_or(|since| modified <= since)
            })
        }
    };
    if holds {
        Precondition::Holds
    } else {
        Precondition::Fails
    }
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
    headers.contains_key(name).then(|| {
        let ours = etag(sha256);
        let lines = headers.get_all(name).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|tag| {
            let tag = tag.trim();
            let opaque = tag
                .strip_prefix("W/")
                .filter(|_| comparison == Comparison::Weak);
            tag == "*" || opaque.unwrap_or(tag) == ours
        })
    })
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
    use http::HeaderValue;

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
            WallTime::from_unix_seconds(784_111_777),
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
}
