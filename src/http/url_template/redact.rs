//! What another end says, without what the address, the headers and the token hold in secret.
//!
//! ```text
//!  ?sv=1&sig=ab%2Bcd    the query, and each value in it that is long enough to be a secret,
//!                       as written, decoded, and escaped as others write it
//!  X-Key: {host}:k3y-of-ours         what is written in a header, and each longer word of it
//!  Authorization: Basic dXNlcjpwdw== what stands behind the scheme; decoded as well
//!  token_file                        the token
//!  "Cannot PUT /x?sv=1&sig=ab%2Bcd"  ──▶  "Cannot PUT /x?…"
//!  {"signature":"ab+cd"}             ──▶  {"signature":"…"}
//! ```
//!
//! Servers and proxies repeat the target of a request in what they answer, and their answers are
//! kept and shown. So they are blotted before anything reads them. What a receiver of ours says of
//! the archive (digests, the id, the type of a problem) stays as it is, so that it can be judged.
//!
//! Pure.

mod encodings;

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use self::encodings::len_of;
use super::ID;
use crate::model::{
    episode::{Commit, Digest, EpisodeId},
    records::WallTime,
    wire::ProblemType,
};

/// What stands in the place of a secret.
const BLOT: &str = "\u{2026}";
/// A shorter value would be found in all kinds of words. It is blotted together with its name.
const LEAST_LEN: usize = 6;
/// So short a word of a header is told from other words only where there are letters and digits in
/// it.
const LEAST_WORD_LEN: usize = 8;
/// What proves who asks is blotted from this length on; where it is shorter than [`LEAST_LEN`], as
/// a word by itself.
const LEAST_CREDENTIAL_LEN: usize = 4;
/// So long a credential stands in no id, digest or commit by chance.
const LONG_CREDENTIAL_LEN: usize = 16;
/// Members by whose names an answer is judged: their names stay, whatever a header holds.
const JUDGED_NAMES: [&str; 19] = [
    "type",
    "title",
    "status",
    "detail",
    "error",
    "errors",
    "code",
    "status_code",
    "ok",
    "success",
    "episode_id",
    "sha256",
    "content_sha256",
    "size_bytes",
    "stored_at",
    "your_commit",
    "head_commit",
    "remediation",
    "host",
];

/// The texts that may be secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Blot(Arc<[Secret]>);

/// The least length of a credential that is blotted within an id, bytes.
const LEAST_IN_AN_ID: usize = 32;

struct Secret {
    text: String,
    /// It counts only where no letter and no digit stands beside it.
    is_word: bool,
    /// It proves who asks, and is too long to be anything else.
    is_long_credential: bool,
}

impl Blot {
    /// Of an address with its query, `{id}` in it or not, of the fixed parts of configured headers,
    /// and of what proves who asks.
    pub(super) fn of<'a>(
        template: &str,
        headers: impl Iterator<Item = &'a str>,
        credentials: &[String],
    ) -> Self {
        let mut secrets = Vec::new();
        let query = template
            .split_once('?')
            .map(|(_, query)| query)
            .unwrap_or_default();
        secrets.extend(
            query
                .split(ID)
                .filter(|part| part.len() >= LEAST_LEN)
                .map(|part| (part, false)),
        );
        for pair in query.split(['&', ';']) {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            let parts = value.split(ID).filter(|part| part.len() >= LEAST_LEN);
            secrets.extend(parts.map(|part| (part, false)));
            if !value.is_empty() && value.len() < LEAST_LEN && !pair.contains(ID) {
                secrets.push((pair, true));
            }
        }
        for text in headers.map(str::trim) {
            if text.len() >= LEAST_LEN {
                secrets.push((text, false));
            }
            secrets.extend(words(text));
        }
        let credentials = credentials.iter().map(String::as_str);
        secrets.extend(
            credentials
                .clone()
                .filter(|text| text.len() >= LEAST_CREDENTIAL_LEN)
                .map(|text| (text, text.len() < LEAST_LEN)),
        );
        let long: Vec<_> = credentials
            .filter(|text| text.len() >= LONG_CREDENTIAL_LEN)
            .flat_map(spellings)
            .filter(|text| text.len() >= LONG_CREDENTIAL_LEN)
            .collect();
        let mut all: Vec<_> = secrets
            .iter()
            .flat_map(|(text, is_word)| spellings(text).into_iter().map(|text| (text, *is_word)))
            .map(|(text, is_word)| Secret {
                is_long_credential: long.contains(&text),
                text,
                is_word,
            })
            .collect();
        // The longest first, so that nothing is left of it; and what counts everywhere before what
        // counts as a word.
        all.sort_by(|a, b| {
            b.text
                .len()
                .cmp(&a.text.len())
                .then_with(|| (&a.text, a.is_word).cmp(&(&b.text, b.is_word)))
        });
        all.dedup_by(|a, b| a.text == b.text);
        Self(all.into())
    }

    /// A text without them.
    pub fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// A body without them. One that is a JSON object or a list stays one, and is as it came where
    /// there is nothing to blot.
    pub fn body(&self, body: Vec<u8>) -> Vec<u8> {
        if self.0.is_empty() {
            return body;
        }
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
        match serde_json::from_slice(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                let blotted = self.value(&value, true);
                if blotted == value {
                    body
                } else {
                    blotted.to_string().into_bytes()
                }
            }
            Ok(_) | Err(_) => self.bytes(&body),
        }
    }

    fn value(&self, value: &Value, is_top: bool) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values
                .iter()
                .map(|value| self.value(value, false))
                .collect(),
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| {
                    let is_judged_name = is_top && JUDGED_NAMES.contains(&name.as_str());
                    let shown = if is_judged_name {
                        name.clone()
                    } else {
                        self.text(name)
                    };
                    match value {
                        Value::String(text)
                            if is_top
                                && is_judged(name, text)
                                && !self.repeats_a_credential(name, text) =>
                        {
                            (name.clone(), value.clone())
                        }
                        Value::Number(_) if is_judged_name => (shown, value.clone()),
                        _ => (shown, self.value(value, false)),
                    }
                };
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
            Value::Number(number) => {
                let (text, shown) = (number.to_string(), self.text(&number.to_string()));
                if text == shown {
                    value.clone()
                } else {
                    Value::String(shown)
                }
            }
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }

    /// An id may well hold what also stands in a token or a header, such as the name of its host:
    /// there only what is longer than such names counts.
    fn repeats_a_credential(&self, name: &str, text: &str) -> bool {
        let found = |secret: &Secret| {
            (0..text.len()).any(|at| secret.len_at(text.as_bytes(), at).is_some())
        };
        let least = if name == "episode_id" {
            LEAST_IN_AN_ID
        } else {
            0
        };
        self.0
            .iter()
            .any(|secret| secret.is_long_credential && secret.text.len() >= least && found(secret))
    }

    fn bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            match self.0.iter().find_map(|secret| secret.len_at(text, at)) {
                Some(len) => {
                    out.extend_from_slice(BLOT.as_bytes());
                    at += len;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }
}

impl Secret {
    /// How long it is where it stands here, as it is or escaped.
    fn len_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let (rest, secret) = (text.get(at..)?, self.text.as_bytes());
        let as_it_is = rest
            .get(..secret.len())
            .filter(|found| found.eq_ignore_ascii_case(secret));
        let len = match as_it_is {
            Some(found) => found.len(),
            None => self.text.chars().try_fold(0, |len, wanted| {
                Some(len + len_of(wanted, rest.get(len..)?)?)
            })?,
        };
        let is_free = |at: Option<usize>| {
            at.and_then(|at| text.get(at))
                .is_none_or(|beside| !beside.is_ascii_alphanumeric())
        };
        (!self.is_word || (is_free(at.checked_sub(1)) && is_free(Some(at + len)))).then_some(len)
    }
}

/// The words of a header's text that may be secrets, and whether each counts as a word alone.
fn words(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let parts = |next: char| {
        next.is_whitespace()
            || matches!(
                next,
                ',' | ';' | ':' | '"' | '\'' | '(' | ')' | '<' | '>' | '=' | '&' | '?'
            )
    };
    text.split(parts).filter_map(|word| {
        let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
        let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
        let is_secret = word.len() >= LEAST_WORD_LEN || (word.len() >= LEAST_LEN && is_mixed);
        let is_word =
            word.len() < LEAST_WORD_LEN || word.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_secret.then_some((word, is_word))
    })
}

/// Members that a verdict is made of, where they say what they are for.
fn is_judged(name: &str, text: &str) -> bool {
    let value = || Value::from(text);
    match name {
        "type" => ProblemType::from_urn(text).is_some(),
        "episode_id" => EpisodeId::parse(text).is_ok() && !text.contains(['?', '=']),
        "sha256" | "content_sha256" => serde_json::from_value::<Digest>(value()).is_ok(),
        "stored_at" => serde_json::from_value::<WallTime>(value()).is_ok(),
        "your_commit" | "head_commit" => Commit::parse(text).is_some(),
        _ => false,
    }
}

/// As it is written, decoded, and decoded with a blank for a plus sign. What escapes it once more
/// is looked through where it stands.
fn spellings(text: &str) -> Vec<String> {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let as_form = percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned();
    let mut all = vec![text.to_owned(), decoded, as_form];
    // Decoded it may have become too short to be told from other words.
    all.retain(|spelled| spelled.len() >= LEAST_LEN.min(text.len()));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const URL: &str = "https://h/c/{id}.tar.zst?sv=1&sig=s3cr3t%2Bsig%2Fx%3D&n={id}-private-part";

    fn blot() -> Blot {
        Blot::of(URL, ["Key hidden-key", "2"].into_iter(), &[])
    }

    #[test]
    fn a_secret_is_blotted_however_it_is_spelled() {
        for (said, blotted) in [
            (
                "Cannot PUT /c/a.tar.zst?sv=1&sig=s3cr3t%2Bsig%2Fx%3D&n=a",
                "Cannot PUT /c/a.tar.zst?\u{2026}a",
            ),
            ("sig=s3cr3t%2bsig%2fx%3d.", "sig=\u{2026}."),
            (
                "the signature s3cr3t+sig/x= is too old",
                "the signature \u{2026} is too old",
            ),
            (r#"{"sig":"s3cr3t+sig\/x=""#, "{\"sig\":\"\u{2026}\""),
            ("S3CR3T+SIG/X=", "\u{2026}"),
            ("n=a-private-part", "n=a\u{2026}"),
            ("?sv=1, and sv=10, msv=1", "?\u{2026}, and sv=10, msv=1"),
            ("your key: Key hidden-key", "your key: \u{2026}"),
            ("no backend for a", "no backend for a"),
        ] {
            assert_eq!(blot().text(said), blotted, "{said}");
        }
        assert_eq!(
            Blot::of("http://h/{id}", std::iter::empty(), &[]).text("all of it"),
            "all of it"
        );
    }

    #[test]
    fn json_stays_json_and_what_is_judged_stays_as_it_is() {
        let digest = "a".repeat(64);
        let said = json!({
            "type": "urn:sealift:conflict", "episode_id": "run-private-part", "sha256": digest,
            "stored_at": "2026-11-29T00:00:00Z", "size_bytes": 7,
            "url": "http://h/c/a.tar.zst?sv=1&sig=s3cr3t%2Bsig%2Fx%3D", "s3cr3t+sig/x=": ["-private-part", 1],
        });
        let escaped = said.to_string().replace('&', "\\u0026");
        let body: Value = serde_json::from_slice(&blot().body(escaped.into_bytes())).unwrap();
        let expected = json!({
            "type": "urn:sealift:conflict", "episode_id": "run-private-part", "sha256": digest,
            "stored_at": "2026-11-29T00:00:00Z", "size_bytes": 7,
            "url": "http://h/c/a.tar.zst?\u{2026}&sig=\u{2026}", "\u{2026}": ["\u{2026}", 1],
        });
        assert_eq!(body, expected);
        let untouched = b"{ \"a\" : 1.50 }".to_vec();
        assert_eq!(blot().body(untouched.clone()), untouched);
        let judged =
            json!({"type": "see s3cr3t+sig/x=", "episode_id": "a?sig=s3cr3t+sig/x="}).to_string();
        assert!(
            !String::from_utf8(blot().body(judged.into_bytes()))
                .unwrap()
                .contains("s3cr3t")
        );
        assert_eq!(
            blot().body(b"\xff s3cr3t+sig/x=".to_vec()),
            "\u{2026}".bytes().fold(b"\xff ".to_vec(), |mut all, byte| {
                all.push(byte);
                all
            })
        );
    }

    #[test]
    fn an_id_that_holds_the_name_of_its_host_as_a_token_does_stays_in_a_receipt() {
        let token = "robot-arm-station-07";
        let blot = Blot::of("http://h/{id}", std::iter::empty(), &[token.to_owned()]);
        let receipt = serde_json::json!({"episode_id": format!("{token}-2026-11-29")});
        assert_eq!(blot.value(&receipt, true), receipt);
    }

    #[test]
    fn what_proves_who_asks_is_blotted_wherever_it_stands_and_however_it_is_escaped() {
        let credentials = ["T0k/en+s3cr3t=value\\", "pass", "a"].map(str::to_owned);
        let headers = [
            ":K3Ysecret",
            "Signature=\"ab12cd\", keyId=lab, sha256=",
            "our recorder",
        ];
        let blot = Blot::of("http://h/{id}", headers.into_iter(), &credentials);
        for (said, blotted) in [
            (
                "Bearer T0k/en+s3cr3t=value\\ is invalid",
                "Bearer \u{2026} is invalid",
            ),
            ("T0k%2Fen%2bs3cr3t%3Dvalue%5c", "\u{2026}"),
            ("T0k%2Fen+s3cr3t%3Dvalue%5C", "\u{2026}"),
            ("T0k%252Fen%252Bs3cr3t%253Dvalue%255C", "\u{2026}"),
            ("T0k&sol;en&plus;s3cr3t&equals;value&bsol;", "\u{2026}"),
            (
                r#"{"t":"T0k\/en\u002Bs3cr3t=value\\""#,
                "{\"t\":\"\u{2026}\"",
            ),
            ("T0k&#x2F;en&#43;s3cr3t=value\\", "\u{2026}"),
            ("user:pass, a passage", "user:\u{2026}, a passage"),
            ("key K3Ysecret of lab", "key \u{2026} of lab"),
            ("ab12cd, not ab12cde", "\u{2026}, not ab12cde"),
            ("no recorder, two recorders", "no \u{2026}, two recorders"),
        ] {
            assert_eq!(blot.text(said), blotted, "{said}");
        }
        let token = "0123456789abcdef".repeat(4);
        let blot = Blot::of(
            "http://h/{id}",
            ["sha256: 12345678"].into_iter(),
            std::slice::from_ref(&token),
        );
        let said = json!({
            "type": "urn:sealift:conflict", "sha256": token, "episode_id": format!("a-{token}"), "size_bytes": 12345678,
            "pin": 12345678,
        });
        let body: Value =
            serde_json::from_slice(&blot.body(said.to_string().into_bytes())).unwrap();
        let expected = json!({
            "type": "urn:sealift:conflict", "sha256": "\u{2026}", "episode_id": "a-\u{2026}", "size_bytes": 12345678,
            "pin": "\u{2026}",
        });
        assert_eq!(body, expected);
    }
}
