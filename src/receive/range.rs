//! Which bytes of an archive a GET asks for (RFC 9110, section 14).
//!
//! Pure. One range is served; several at once are answered with the whole, as that RFC allows. So
//! is a range in a form that is not known, and one that belongs to another archive than the one
//! that is held (`If-Range`).

use std::ops::Range;

use http::{HeaderMap, header};

use super::precondition::etag;
use crate::model::episode::Digest;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RangeChoice {
    /// All of it: 200.
    Whole,
    /// These bytes, never none: 206.
    Part(Range<u64>),
    /// Nothing of what was asked for is there: 416.
    NotThere,
}

/// Reads `Range` and `If-Range` for an archive of this length and digest.
pub(crate) fn wanted(headers: &HeaderMap, size_bytes: u64, sha256: &Digest) -> RangeChoice {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let Some(range) = text(header::RANGE) else {
        return RangeChoice::Whole;
    };
    // A date is no strong validator here, and a weak one never matches (section 13.1.5).
    if headers.contains_key(header::IF_RANGE) && text(header::IF_RANGE) != Some(&etag(sha256)) {
        return RangeChoice::Whole;
    }
    match parse(range) {
        Some((Some(first), last)) if first < size_bytes => {
            let end = last.map_or(size_bytes, |last| size_bytes.min(last.saturating_add(1)));
            RangeChoice::Part(first..end)
        }
        // The last so many bytes; all of a shorter archive.
        Some((None, Some(length))) if length > 0 && size_bytes > 0 => {
            RangeChoice::Part(size_bytes.saturating_sub(length)..size_bytes)
        }
        Some(_) => RangeChoice::NotThere,
        None => RangeChoice::Whole,
    }
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-length`, the last two numbers as they stand;
/// `None` for anything else.
fn parse(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = range.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    let backwards = first.zip(last).is_some_and(|(first, last)| last < first);
    let empty = first.is_none() && last.is_none();
    (unit.eq_ignore_ascii_case("bytes") && !backwards && !empty).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SIZE: u64 = 1000;

    fn of(size_bytes: u64, range: &str, if_range: Option<&str>) -> RangeChoice {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(validator) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(validator).unwrap());
        }
        wanted(&headers, size_bytes, &Digest::of(b"archive"))
    }

    #[test]
    fn every_form_of_one_range_is_served_and_every_other_gets_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", RangeChoice::Part(0..1)),
            ("bytes=0-499", RangeChoice::Part(0..500)),
            ("bytes=500-", RangeChoice::Part(500..1000)),
            ("Bytes= 999-999", RangeChoice::Part(999..1000)),
            ("bytes=0-99999", RangeChoice::Part(0..1000)),
            ("bytes=0-18446744073709551615", RangeChoice::Part(0..1000)),
            ("bytes=-1", RangeChoice::Part(999..1000)),
            ("bytes=-5000", RangeChoice::Part(0..1000)),
            ("bytes=-0", RangeChoice::NotThere),
            ("bytes=1000-", RangeChoice::NotThere),
            ("bytes=1000-2000", RangeChoice::NotThere),
            ("bytes=5-4", RangeChoice::Whole),
            ("bytes=-", RangeChoice::Whole),
            ("bytes=", RangeChoice::Whole),
            ("bytes=a-b", RangeChoice::Whole),
            ("bytes=+1-2", RangeChoice::Whole),
            ("bytes=0-1,5-6", RangeChoice::Whole),
            ("bytes=99999999999999999999-", RangeChoice::Whole),
            ("lines=1-2", RangeChoice::Whole),
            ("500", RangeChoice::Whole),
        ] {
            assert_eq!(of(SIZE, range, None), expected, "{range}");
        }
        assert_eq!(
            wanted(&HeaderMap::new(), SIZE, &Digest::of(b"")),
            RangeChoice::Whole
        );
        for range in ["bytes=0-", "bytes=-1"] {
            assert_eq!(
                of(0, range, None),
                RangeChoice::NotThere,
                "{range} of nothing"
            );
        }
    }

    #[test]
    fn a_range_of_another_archive_gets_the_whole() {
        let ours = etag(&Digest::of(b"archive"));
        assert_eq!(
            of(SIZE, "bytes=5-", Some(&ours)),
            RangeChoice::Part(5..1000)
        );
        let other = etag(&Digest::of(b"other"));
        for validator in [
            other.as_str(),
            &format!("W/{ours}"),
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "",
        ] {
            assert_eq!(
                of(SIZE, "bytes=5-", Some(validator)),
                RangeChoice::Whole,
                "{validator}"
            );
        }
    }
}
