//! An answer, as data: who wrote it shows in its body.

use http::{HeaderMap, header};
use serde_json::Value;

use super::fault;
use crate::{
    http::client::{Answered, BodyEnd, ClientError, ShortBody},
    model::{records::WallTime, text::printable, wire},
    ship::outcome::{Answer, AnswerBody, Fault, MAX_ANSWER_BYTES, Outcome, Voucher},
};

/// How much of a foreign answer is kept, characters.
const EXCERPT_CHARS: usize = 200;

/// Reads an answer to its end, or as far as it goes.
///
/// # Errors
/// [`Fault`] where an acknowledgement broke off.
pub(super) async fn read(answered: Answered) -> Result<Outcome, Fault> {
    let status = answered.status.as_u16();
    let acknowledges = answered.status.is_success();
    let (request_sent, of_this_host) = (answered.request_sent, answered.of_this_host);
    let mut head_says = head_says(&answered);
    let retry_after_s = wire::retry_after_s(&answered.headers);
    let server_date = server_date(&answered.headers);
    let media_type = wire::media_type(&answered.headers);
    let has_strong_etag = answered
        .headers
        .get(header::ETAG)
        .is_some_and(|tag| tag.as_bytes().starts_with(b"\"") && tag.len() > 2);
    let is_encoded = answered
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let ShortBody { bytes, end } = answered.short_body(MAX_ANSWER_BYTES).await;
    let whole = match end {
        BodyEnd::Whole => true,
        BodyEnd::TooLong => false,
        BodyEnd::Broken(ClientError::Cancelled) => return Err(Fault::Cancelled),
        BodyEnd::Broken(error) if acknowledges => return Err(fault(error)),
        // A refusal counts with as many of its words as came: its sender may have closed over our
        // unread body.
        BodyEnd::Broken(_) => false,
    };
    let body = if is_encoded && !bytes.is_empty() {
        // It was not asked for: whatever is in it, it is no receipt.
        AnswerBody::Foreign {
            html: true,
            excerpt: "(in a content coding that was not asked for)".to_owned(),
        }
    } else {
        classify(&media_type, &bytes, whole)
    };
    if acknowledges || body != AnswerBody::Empty {
        head_says.clear();
    }
    let voucher = if acknowledges && !request_sent {
        Voucher::Early
    } else if media_type == wire::PROBLEM_TYPE || says_what_is_wrong(&bytes) {
        Voucher::Problem
    } else if has_strong_etag {
        Voucher::StrongEtag
    } else {
        Voucher::Status
    };
    Ok(Outcome::Answered(Answer {
        status,
        body,
        head_says,
        retry_after_s,
        server_date,
        of_this_host,
        voucher,
    }))
}

/// What a bucket names a failure by in the answer to a HEAD, and some in any.
const ERROR_CODES: [&str; 3] = ["x-ms-error-code", "x-amz-error-code", "x-amz-error-message"];

fn head_says(answered: &Answered) -> String {
    let codes = ERROR_CODES.iter().filter_map(|name| {
        let code = answered.headers.get(*name)?.to_str().ok()?;
        Some(format!("{name}: {}", printable(code)))
    });
    let reason = Some(answered.reason.clone()).filter(|reason| !reason.is_empty());
    let said = reason.into_iter().chain(codes).collect::<Vec<_>>();
    said.join(", ").chars().take(EXCERPT_CHARS).collect()
}

pub(super) fn names_a_digest(body: &AnswerBody) -> bool {
    match body {
        AnswerBody::Json(body) => body
            .get("sha256")
            .or_else(|| body.get("content_sha256"))
            .is_some(),
        AnswerBody::Empty | AnswerBody::Garbled { .. } | AnswerBody::Foreign { .. } => false,
    }
}

/// Whether a receiver of ours wrote this: a problem of its closed set, or a receipt.
pub(super) fn is_of_a_receiver(outcome: &Outcome) -> bool {
    let Outcome::Answered(answer) = outcome else {
        return false;
    };
    let AnswerBody::Json(body) = &answer.body else {
        return false;
    };
    answer.problem_type().is_some() || serde_json::from_value::<wire::Receipt>(body.clone()).is_ok()
}

/// Whether this is a problem (RFC 9457) or an error of another form, under whatever media type.
fn says_what_is_wrong(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let Ok(Value::Object(said)) = serde_json::from_slice(bytes) else {
        return false;
    };
    let text = |name| said.get(name).is_some_and(Value::is_string);
    // A URI reference, as a problem's type is (RFC 9457, section 3.1.1), and not a word for a kind.
    let names_a_kind = said
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.contains([':', '/']));
    let is_failure = |status: &Value| match status {
        Value::Number(number) => number
            .as_u64()
            .is_some_and(|status| (400..=599).contains(&status)),
        Value::String(text) => {
            text.parse()
                .is_ok_and(|status: u16| (400..=599).contains(&status))
                || ["error", "fail", "failed", "failure"]
                    .contains(&text.to_ascii_lowercase().as_str())
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let is_empty = |error: &Value| match error {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(true) => false,
    };
    (text("title") && (names_a_kind || text("detail")))
        || (names_a_kind && text("detail"))
        || ["status", "status_code", "code"]
            .iter()
            .any(|name| said.get(*name).is_some_and(is_failure))
        || ["error", "errors"]
            .iter()
            .any(|name| said.get(*name).is_some_and(|error| !is_empty(error)))
        || ["ok", "success"]
            .iter()
            .any(|name| said.get(*name) == Some(&Value::Bool(false)))
}

fn server_date(headers: &HeaderMap) -> Option<WallTime> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?.trim()).ok()?;
    let seconds = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().map(WallTime::from_unix_seconds)
}

fn classify(media_type: &str, bytes: &[u8], whole: bool) -> AnswerBody {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return AnswerBody::Empty;
    }
    let excerpt = |text: &str| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        printable(&words.chars().take(EXCERPT_CHARS).collect::<String>())
    };
    let (excerpt, page) = (excerpt(text), excerpt(&page_words(text)));
    let names_a_digest = || text.contains("\"sha256\"") || text.contains("\"content_sha256\"");
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) if whole && is_json(media_type) => {
            return AnswerBody::Json(Value::Object(object));
        }
        // What names a digest has one in mind: under a type that no receiver uses it is no
        // receiver's word, and not nothing. The same where it cannot be read.
        Ok(Value::Object(_)) | Err(_) if text.starts_with('{') && names_a_digest() => {
            return AnswerBody::Garbled { excerpt };
        }
        // A receipt that broke off, or what is too long to be looked through for a digest. Other
        // words under this type are those of servers that write it beside everything (`Created`).
        Ok(_) if !whole && text.starts_with('{') && is_json(media_type) => {
            return AnswerBody::Garbled { excerpt };
        }
        Err(error)
            if (!whole || error.is_eof()) && text.starts_with('{') && is_json(media_type) =>
        {
            return AnswerBody::Garbled { excerpt };
        }
        Ok(_) | Err(_) => {}
    }
    // Whatever it is called: `<html`, `<script>`, `<head>`, `<!--`, `<?xml`; in UTF-16 as well.
    let mut shown = text
        .chars()
        .filter(|c| !matches!(c, '\0' | '\u{fffd}'))
        .skip_while(|c| c.is_whitespace());
    let begins_as_markup = (shown.next() == Some('<'))
        .then(|| shown.next())
        .flatten()
        .is_some_and(|next| matches!(next, '!' | '?' | '/') || next.is_ascii_alphabetic());
    // A page that says that it is no page.
    if begins_as_markup && is_json(media_type) {
        return AnswerBody::Garbled { excerpt };
    }
    let html = begins_as_markup
        || matches!(media_type, "text/html" | "text/xml" | "application/xml")
        || media_type.ends_with("+xml");
    let excerpt = if html && !page.is_empty() {
        page
    } else {
        excerpt
    };
    AnswerBody::Foreign { html, excerpt }
}

/// What a page says to a person: its title, else its text without tags, scripts and styles.
fn page_words(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let begin = at + lower[at..].find('>')? + 1;
        let end = begin + lower[begin..].find("</title")?;
        Some(unescaped(&page[begin..end]))
    });
    if let Some(title) = title.filter(|title| !title.trim().is_empty()) {
        return title;
    }
    let (mut words, mut rest) = (String::new(), 0);
    while let Some(at) = lower[rest..].find('<') {
        let tag = rest + at;
        words.push_str(&page[rest..tag]);
        words.push(' ');
        let hidden = ["script", "style"]
            .iter()
            .find(|name| lower[tag + 1..].starts_with(**name));
        let end = match hidden {
            Some(name) => lower[tag..].find(&format!("</{name}")),
            None => lower[tag..].find('>').map(|end| end + 1),
        };
        rest = end.map_or(page.len(), |end| tag + end.max(1));
    }
    words.push_str(&page[rest..]);
    unescaped(&words)
}

fn unescaped(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ];
    entities
        .iter()
        .fold(text.to_owned(), |text, (name, c)| text.replace(name, c))
}

/// The two types that receivers speak. Others with the `+json` suffix are what gateways and
/// firewalls use.
fn is_json(media_type: &str) -> bool {
    matches!(media_type, "application/json" | wire::PROBLEM_TYPE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_receiver_is_whoever_answers_a_json_object_as_json() {
        let object = || AnswerBody::Json(json!({"a": 1}));
        for media_type in ["application/json", "application/problem+json"] {
            assert_eq!(
                classify(media_type, br#" {"a": 1} "#, true),
                object(),
                "{media_type}"
            );
        }
        for (media_type, text) in [
            ("text/plain", r#"{"a": 1}"#),
            ("", r#"{"a": 1}"#),
            ("application/json", "[1]"),
            ("application/vnd.waf.error+json", r#"{"a": 1}"#),
            ("json", r#"{"a": 1}"#),
        ] {
            assert!(
                matches!(
                    classify(media_type, text.as_bytes(), true),
                    AnswerBody::Foreign { html: false, .. }
                ),
                "{media_type} {text}"
            );
        }
    }

    #[test]
    fn what_means_to_be_a_receipt_and_cannot_be_read_does_not_pass_for_nothing() {
        for (media_type, text, whole) in [
            (
                "application/json",
                r#"{"episode_id":"a","sha256":"0000"#,
                true,
            ),
            ("application/json", r#"{"sha256":"0000"}"#, false),
            ("application/json", r#"{"sha256":'0000'}"#, true),
            ("application/problem+json", "{", true),
            ("application/json", "<!DOCTYPE html><html>", true),
            // What is behind that is not read.
            ("application/json", r#"{"echo":"xxx"#, false),
            ("text/plain", r#"{"sha256":"0000"}"#, true),
            ("", r#"{"content_sha256":"0000"}"#, true),
        ] {
            let body = classify(media_type, text.as_bytes(), whole);
            assert!(
                matches!(body, AnswerBody::Garbled { .. }),
                "{media_type} {text} {body:?}"
            );
        }
    }

    #[test]
    fn other_words_under_a_receipts_type_are_no_receipt() {
        for (text, whole) in [
            ("Created", true),
            ("http://store.example/run-1.tar.zst", true),
            ("{\"a\":1}\n{\"b\":2}", true),
            (r#"{"stored":true,"took":NaN}"#, true),
            ("{'stored': True}", true),
            ("[1]", false),
        ] {
            let body = classify("application/json", text.as_bytes(), whole);
            assert!(
                matches!(body, AnswerBody::Foreign { html: false, .. }),
                "{text} {body:?}"
            );
        }
    }

    #[test]
    fn a_page_is_known_by_its_type_or_its_beginning() {
        for (media_type, text, page) in [
            ("text/html", "hello", true),
            ("", "\n<!DOCTYPE html><html>", true),
            ("text/plain", "\u{feff}<HTML>", true),
            ("text/plain", "<script>location='/login'</script>", true),
            ("", "<head><title>x</title>", true),
            ("application/octet-stream", "<!-- portal -->", true),
            ("", "<?xml version='1.0'?><Error/>", true),
            ("application/atom+xml", "x", true),
            ("", "\0<html>", true),
            ("", "\u{fffd}\u{fffd}<\0h\0t\0m\0l\0>\0", true),
            ("text/plain", "<3 bytes", false),
            ("text/plain", "stored <b>", false),
        ] {
            let AnswerBody::Foreign { html, .. } = classify(media_type, text.as_bytes(), true)
            else {
                panic!("{text}")
            };
            assert_eq!(html, page, "{text}");
        }
        assert_eq!(classify("text/html", b" \r\n", true), AnswerBody::Empty);
    }

    #[test]
    fn of_a_page_its_title_is_kept_or_else_its_text_without_tags() {
        for (page, words) in [
            (
                "<!DOCTYPE html><html><head><TITLE>409\n Conflict</TITLE></head><body><h1>x</h1>",
                "409 Conflict",
            ),
            (
                "<html><style>a{}</style><script>x<1</script><p>Log in &amp; go</p> now",
                "Log in & go now",
            ),
            (
                "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No.</Message>",
                "AccessDenied No.",
            ),
            ("<html><title></title><b>Portal", "Portal"),
            // Nothing to be read: the markup says something at least.
            ("<html><body></body></html>", "<html><body></body></html>"),
            ("<script>location='/login'", "<script>location='/login'"),
            ("<", "<"),
        ] {
            let body = classify("text/html", page.as_bytes(), true);
            let (html, excerpt) = (true, words.to_owned());
            assert_eq!(body, AnswerBody::Foreign { html, excerpt }, "{page}");
        }
    }

    #[test]
    fn what_says_that_it_failed_is_known_in_whatever_form() {
        for said in [
            r#"{"type":"about:blank","title":"No"}"#,
            r#"{"title":"Not Found","detail":"no such route"}"#,
            r#"{"title":"No","status":404}"#,
            r#"{"status":"404"}"#,
            r#"{"status":"error","error":"object is locked, not replaced"}"#,
            r#"{"code":503,"message":"no"}"#,
            r#"{"errors":[{"code":1}]}"#,
            r#"{"success":false}"#,
        ] {
            assert!(says_what_is_wrong(said.as_bytes()), "{said}");
        }
        for said in [
            "",
            "stored",
            "[404]",
            r#"{"ok":true}"#,
            r#"{"success":true,"errors":[],"error":null}"#,
            r#"{"status":"stored","code":0}"#,
            r#"{"status":200,"id":"a","type":"archive"}"#,
            r#"{"type":"episode","title":"run-7"}"#,
        ] {
            assert!(!says_what_is_wrong(said.as_bytes()), "{said}");
        }
    }

    #[test]
    fn an_excerpt_is_short_printable_and_on_one_line() {
        let text = format!("a\n\tb \u{1b}[2J\u{202e}{}", "x".repeat(1000));
        let AnswerBody::Foreign { excerpt, .. } = classify("", text.as_bytes(), true) else {
            panic!()
        };
        assert!(
            excerpt.starts_with("a b \\u{1b}[2J\\u{202e}xxx"),
            "{excerpt}"
        );
        assert!(excerpt.chars().count() < EXCERPT_CHARS + 20);
    }

    #[test]
    fn the_answers_date_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::DATE,
            header::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"),
        );
        assert_eq!(
            server_date(&headers),
            Some(WallTime::from_unix_seconds(784_111_777))
        );
        headers.insert(header::DATE, header::HeaderValue::from_static("yesterday"));
        assert_eq!(server_date(&headers), None);
    }
}
