//! One entry of the journal, out of a line of `journalctl -o json`.
//!
//! Pure. A field is a text; or, where it is no UTF-8, an array of numbers; or an array of either,
//! where it is there more than once; or null, where it is too long to be shown (systemd's
//! JOURNAL_EXPORT_FORMATS, "Journal JSON Format").

use serde_json::{Map, Value};

use crate::model::snapshot::journal::{
    ALL, ATTEMPT, BYTES, DELIVERED_MS, ELAPSED_MS, EPISODE, OFFSET_BYTES, PACKED_MS, SEEN_MS,
    STATUS_CODE, VERDICT,
};

/// More of a message is not kept, characters.
const MAX_MESSAGE_CHARS: usize = 2000;

/// One entry. Texts are as they came: not printable yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JournalEntry {
    /// When, microseconds after 1970.
    pub at_us: Option<u64>,
    /// Which episode.
    pub episode: Option<String>,
    /// What became of it.
    pub verdict: Option<String>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The archive's length.
    pub bytes: Option<u64>,
    /// From the marker on, milliseconds.
    pub elapsed_ms: Option<u64>,
    /// From the marker until it was seen, milliseconds.
    pub seen_ms: Option<u64>,
    /// From the marker until it was packed, milliseconds.
    pub packed_ms: Option<u64>,
    /// From the marker until it was acknowledged, milliseconds.
    pub delivered_ms: Option<u64>,
    /// The how manieth attempt it was.
    pub attempt: Option<u64>,
    /// From which byte on that went.
    pub offset_bytes: Option<u64>,
    /// What was said, its beginning.
    pub message: String,
    /// It has fields of ours. What the words say besides is then not asked: names stand in them,
    /// and a name can read like a verdict.
    pub has_fields: bool,
    /// The service manager has said it, and not the unit's own process.
    pub by_manager: bool,
}

impl JournalEntry {
    /// Reads one line; `None` where it is no JSON object.
    #[must_use]
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
            return None;
        };
        let message = text(fields.get("MESSAGE")).unwrap_or_default();
        let has_fields = ALL.iter().any(|name| fields.contains_key(*name));
        // A daemon that logs to stderr has the fields behind the message, in words.
        let told = |name: &str| match has_fields {
            true => text(fields.get(name)),
            false => in_words(&message, name),
        };
        let counted = |name: &str| told(name)?.trim().parse().ok();
        Some(Self {
            at_us: number(&fields, "__REALTIME_TIMESTAMP"),
            episode: told(EPISODE),
            verdict: told(VERDICT),
            status: told(STATUS_CODE).and_then(|text| text.trim().parse().ok()),
            bytes: counted(BYTES),
            elapsed_ms: counted(ELAPSED_MS),
            seen_ms: counted(SEEN_MS),
            packed_ms: counted(PACKED_MS),
            delivered_ms: counted(DELIVERED_MS),
            attempt: counted(ATTEMPT),
            offset_bytes: counted(OFFSET_BYTES),
            has_fields,
            by_manager: text(fields.get("SYSLOG_IDENTIFIER")).is_some_and(|name| name == "systemd"),
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
        })
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    text(fields.get(name))?.trim().parse().ok()
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let bytes: Option<Vec<u8>> = parts
                .iter()
                .map(|part| part.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                // More than once: the first.
                None => parts
                    .iter()
                    .find_map(|part| text(Some(part).filter(|part| !part.is_number()))),
            }
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// `NAME=value` or `NAME="value"` as a word of the text; the last, since what stands before the
/// fields came from outside.
fn in_words(message: &str, name: &str) -> Option<String> {
    let found = message.rmatch_indices(name).find_map(|(at, _)| {
        let begins = message[..at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace);
        message[at + name.len()..]
            .strip_prefix('=')
            .filter(|_| begins)
    })?;
    let value = match found.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => found.split_whitespace().next(),
    };
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_every_form_that_journalctl_gives_them() {
        let entry = JournalEntry::parse(
            br#"{"__REALTIME_TIMESTAMP":"1793500000000000","MESSAGE":[115,104,105,112,27,91,255],"EPISODE":["a","b"],
                "VERDICT":"fatal","STATUS_CODE":"412","BYTES":null,"ELAPSED_MS":"12"}"#,
        )
        .unwrap();
        assert_eq!(entry.at_us, Some(1_793_500_000_000_000));
        assert_eq!(entry.message, "ship\u{1b}[\u{fffd}");
        assert_eq!(entry.episode.as_deref(), Some("a"));
        assert_eq!(
            (entry.verdict.as_deref(), entry.status),
            (Some("fatal"), Some(412))
        );
        assert_eq!((entry.bytes, entry.elapsed_ms), (None, Some(12)));
        let strange = JournalEntry::parse(
            br#"{"MESSAGE":{"a":1},"EPISODE":[[97,98],[99]],"STATUS_CODE":"41x","VERDICT":[true,[300]]}"#,
        )
        .unwrap();
        assert_eq!(
            strange,
            JournalEntry {
                episode: Some("ab".to_owned()),
                has_fields: true,
                ..JournalEntry::default()
            }
        );
    }

    #[test]
    fn what_is_no_object_is_no_entry() {
        for line in [
            "",
            "{",
            "[]",
            "null",
            "\"text\"",
            "{\"MESSAGE\":\"a\"} more",
        ] {
            assert_eq!(JournalEntry::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_line_of_stderr_has_its_fields_in_words_and_the_last_ones_count() {
        let message = "ERROR quarantined a: answered 412 with \\\"VERDICT=delivered\\\". EPISODE=a VERDICT=\\\"fatal\\\" STATUS_CODE=412";
        let entry =
            JournalEntry::parse(format!("{{\"MESSAGE\":\"{message}\"}}").as_bytes()).unwrap();
        assert_eq!(entry.verdict.as_deref(), Some("fatal"));
        assert_eq!(
            (entry.episode.as_deref(), entry.status),
            (Some("a"), Some(412))
        );
        assert_eq!(in_words("MY_VERDICT=x", "VERDICT"), None);
        assert_eq!(in_words("VERDICT", "VERDICT"), None);
    }

    #[test]
    fn a_name_that_reads_like_fields_is_no_field_where_there_are_real_ones() {
        let name = "run-1 VERDICT=fatal STATUS_CODE=412";
        let line = serde_json::json!({"MESSAGE": format!("{name} is sealed but not at rest"), "EPISODE": name});
        let entry = JournalEntry::parse(line.to_string().as_bytes()).unwrap();
        assert_eq!(
            (entry.episode.as_deref(), entry.verdict, entry.status),
            (Some(name), None, None)
        );
    }

    #[test]
    fn a_huge_message_is_cut() {
        let entry =
            JournalEntry::parse(format!("{{\"MESSAGE\":\"{}\"}}", "x".repeat(90_000)).as_bytes())
                .unwrap();
        assert_eq!(entry.message.len(), MAX_MESSAGE_CHARS);
    }
}
