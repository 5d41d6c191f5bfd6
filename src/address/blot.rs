//! What another end says, without what the address and the headers hold in secret.
//!
//! ```text
//!  ?sv=1&sig=ab%2Bcd    the query, and each value in it that is long enough to be a secret,
//!                       as written, decoded, and escaped as others write it
//!  "Cannot PUT /x?sv=1&sig=ab%2Bcd"  ──▶  "Cannot PUT /x?…"
//!  {"signature":"ab+cd"}             ──▶  {"signature":"…"}
//! ```
//!
//! Servers and proxies repeat the target of a request in what they answer, and their answers are kept and shown. So they are
//! blotted before anything reads them. What a receiver of ours says of the archive (digests, the id, the type of a problem)
//! stays as it is, so that it can be judged.
//!
//! Pure.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::ID;
use crate::{
    episode::{Commit, Digest, EpisodeId},
    records::WallTime,
    wire::ProblemType,
};

/// What stands in the place of a secret.
const BLOT: &str = "\u{2026}";
/// A shorter value would be found in all kinds of words. It is blotted together with its name.
const LEAST_LEN: usize = 6;

/// The texts that may be secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Blot(Arc<[Secret]>);

struct Secret {
    text: String,
    /// It counts only where no letter and no digit stands beside it.
    is_word: bool,
}

impl std::fmt::Debug for Blot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blot")
    }
}

impl Blot {
    /// Of an address with its query, `{id}` in it or not, and of the fixed parts of configured headers.
    pub(super) fn of<'a>(template: &str, headers: impl Iterator<Item = &'a str>) -> Self {
        let mut secrets = Vec::new();
        let query = template.split_once('?').map(|(_, query)| query).unwrap_or_default();
        secrets.extend(query.split(ID).filter(|part| part.len() >= LEAST_LEN).map(|part| (part, false)));
        for pair in query.split(['&', ';']) {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            let parts = value.split(ID).filter(|part| part.len() >= LEAST_LEN);
            secrets.extend(parts.map(|part| (part, false)));
            if !value.is_empty() && value.len() < LEAST_LEN && !pair.contains(ID) {
                secrets.push((pair, true));
            }
        }
        secrets
            .extend(headers.map(str::trim).filter(|text| text.len() >= LEAST_LEN).map(|text| (text, false)));
        let mut all: Vec<_> = secrets
            .iter()
            .flat_map(|(text, is_word)| {
                spellings(text).into_iter().map(|text| Secret { text, is_word: *is_word })
            })
            .collect();
        // The longest first, so that nothing is left of it.
        all.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then_with(|| a.text.cmp(&b.text)));
        all.dedup_by(|a, b| a.text == b.text);
        Self(all.into())
    }

    /// A text without them.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// A body without them. One that is a JSON object or a list stays one, and is as it came where there is nothing to blot.
    #[must_use]
    pub fn body(&self, body: Vec<u8>) -> Vec<u8> {
        if self.0.is_empty() {
            return body;
        }
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
        match serde_json::from_slice(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                let blotted = self.value(&value, true);
                if blotted == value { body } else { blotted.to_string().into_bytes() }
            }
            Ok(_) | Err(_) => self.bytes(&body),
        }
    }

    fn value(&self, value: &Value, is_top: bool) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => values.iter().map(|value| self.value(value, false)).collect(),
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| match value {
                    Value::String(text) if is_top && is_judged(name, text) => (name.clone(), value.clone()),
                    _ => (self.text(name), self.value(value, false)),
                };
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            match self.0.iter().find(|secret| secret.stands_at(text, at)) {
                Some(secret) => {
                    out.extend_from_slice(BLOT.as_bytes());
                    at += secret.text.len();
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
    fn stands_at(&self, text: &[u8], at: usize) -> bool {
        let end = at + self.text.len();
        let is_free = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_none_or(|beside| !beside.is_ascii_alphanumeric())
        };
        text.get(at..end).is_some_and(|found| found.eq_ignore_ascii_case(self.text.as_bytes()))
            && (!self.is_word || (is_free(at.checked_sub(1)) && is_free(Some(end))))
    }
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

/// As others write it: decoded, with a blank for a plus sign, encoded once more, and escaped in JSON, HTML and XML.
fn spellings(text: &str) -> Vec<String> {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let as_form = percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let escaped = |text: &str| {
        let html =
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        [text.replace('/', "\\/"), text.replace('&', "\\u0026"), html]
    };
    let mut all = vec![text.to_owned(), encoded(text), encoded(&decoded)];
    all.extend(escaped(text));
    all.extend(escaped(&decoded));
    all.extend([decoded, as_form]);
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
        Blot::of(URL, ["Key hidden-key", "2"].into_iter())
    }

    #[test]
    fn a_secret_is_blotted_however_it_is_spelled() {
        for (said, blotted) in [
            ("Cannot PUT /c/a.tar.zst?sv=1&sig=s3cr3t%2Bsig%2Fx%3D&n=a", "Cannot PUT /c/a.tar.zst?\u{2026}a"),
            ("sig=s3cr3t%2bsig%2fx%3d.", "sig=\u{2026}."),
            ("the signature s3cr3t+sig/x= is too old", "the signature \u{2026} is too old"),
            (r#"{"sig":"s3cr3t+sig\/x=""#, "{\"sig\":\"\u{2026}\""),
            ("S3CR3T+SIG/X=", "\u{2026}"),
            ("n=a-private-part", "n=a\u{2026}"),
            ("?sv=1, and sv=10, msv=1", "?\u{2026}, and sv=10, msv=1"),
            ("your key: Key hidden-key", "your key: \u{2026}"),
            ("no backend for a", "no backend for a"),
        ] {
            assert_eq!(blot().text(said), blotted, "{said}");
        }
        assert_eq!(Blot::of("http://h/{id}", std::iter::empty()).text("all of it"), "all of it");
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
        let judged = json!({"type": "see s3cr3t+sig/x=", "episode_id": "a?sig=s3cr3t+sig/x="}).to_string();
        assert!(!String::from_utf8(blot().body(judged.into_bytes())).unwrap().contains("s3cr3t"));
        assert_eq!(
            blot().body(b"\xff s3cr3t+sig/x=".to_vec()),
            "\u{2026}".bytes().fold(b"\xff ".to_vec(), |mut all, byte| {
                all.push(byte);
                all
            })
        );
    }
}
