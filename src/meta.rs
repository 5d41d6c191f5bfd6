//! A recorder's `meta.json`, as far as it is read here: the commit of the code that recorded the
//! episode, `code_version.commit`.
//!
//! Recorders write what their language calls JSON: Python `NaN` and `Infinity`, Windows a byte
//! order mark, C trailing NULs, old rigs Latin-1. None of that is about the commit, so it is read
//! past. What is no JSON even so says where.
//!
//! Pure.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use crate::episode::Commit;

/// A longer `meta.json` is packed like any file, and not searched for a commit.
pub const MAX_META_BYTES: u64 = 1024 * 1024;

/// Why there is no commit to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson {
    line: usize,
    column: usize,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meta.json is not JSON: line {}, column {}", self.line, self.column)
    }
}

/// The commit that it names; `Ok(None)` where it names none.
///
/// # Errors
/// [`NotJson`].
pub fn commit(meta: &[u8]) -> Result<Option<Commit>, NotJson> {
    let parsed: Result<Value, _> = serde_json::from_slice(meta);
    let value = match parsed {
        Ok(value) => value,
        Err(_) => serde_json::from_str(&lenient(meta))
            .map_err(|error: serde_json::Error| NotJson { line: error.line(), column: error.column() })?,
    };
    let named = value.get("code_version").and_then(|version| version.get("commit"));
    Ok(named.and_then(Value::as_str).and_then(Commit::parse))
}

/// The same without what is no JSON and says nothing of the commit. Lines and columns stay where
/// they are, but for the byte order mark.
fn lenient(meta: &[u8]) -> String {
    let text = decoded(meta);
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\0', ' ', '\r', '\n', '\t']);
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        let taken = if next == '"' {
            string_len(rest)
        } else if let Some(word) =
            ["-Infinity", "Infinity", "NaN"].iter().find(|word| rest.starts_with(**word))
        {
            out.push('0');
            out.extend(std::iter::repeat_n(' ', word.len() - 1));
            rest = &rest[word.len()..];
            continue;
        } else {
            next.len_utf8()
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// How long the string is that begins here, its quotes among it.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            '"' if !escaped => return at + 1,
            _ => escaped = next == '\\' && !escaped,
        }
    }
    text.len()
}

/// UTF-8; where it is none, UTF-16 by its byte order mark, else Latin-1, in which every byte is a
/// character.
fn decoded(meta: &[u8]) -> Cow<'_, str> {
    match (std::str::from_utf8(meta), meta) {
        (Ok(text), _) => Cow::Borrowed(text),
        (Err(_), [0xff, 0xfe, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_le_bytes)),
        (Err(_), [0xfe, 0xff, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_be_bytes)),
        (Err(_), _) => Cow::Owned(meta.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_read_whatever_else_a_recorder_takes_for_json() {
        let digits = "0123456789abcdef0123456789ABCDEF01234567";
        let named = format!(r#""code_version":{{"commit":"{digits}"}}"#);
        let utf16: Vec<u8> =
            format!("\u{feff}{{{named}}}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let latin1 = [b"{\"place\":\"M\xfcnchen\",".as_slice(), named.as_bytes(), b"}"].concat();
        let cases: [(&str, Vec<u8>); 9] = [
            ("plain", format!("{{{named}}}").into_bytes()),
            ("NaN", format!(r#"{{"gain":NaN,{named}}}"#).into_bytes()),
            ("infinities", format!(r#"{{"a":[Infinity,-Infinity, NaN],{named}}}"#).into_bytes()),
            ("a byte order mark", format!("\u{feff}{{{named}}}").into_bytes()),
            ("Latin-1", latin1),
            ("trailing NULs", format!("{{{named}}}\n\0\0\0\0").into_bytes()),
            ("UTF-16", utf16),
            ("all at once", format!("\u{feff}{{\"a\":NaN,{named}}}\0").into_bytes()),
            ("words in strings", format!(r#"{{"a":"NaN \" Infinity","b":NaN,{named}}}"#).into_bytes()),
        ];
        for (what, meta) in cases {
            let found = commit(&meta).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found.map(|commit| commit.as_str().to_owned()), Some(digits.to_lowercase()), "{what}");
        }
    }

    #[test]
    fn a_meta_that_is_no_json_says_where_and_one_without_a_commit_says_nothing() {
        for (meta, line, column) in [
            ("", 1, 0),
            ("{\n  \"a\": 1,\n  \"b\": }", 3, 8),
            ("{\"a\": NaN,\n 'b': 1}", 2, 2),
            ("{\"a\": 1", 1, 7),
        ] {
            let said = commit(meta.as_bytes()).unwrap_err();
            assert_eq!(said, NotJson { line, column }, "{meta}");
            assert_eq!(said.to_string(), format!("meta.json is not JSON: line {line}, column {column}"));
        }
        for meta in ["{}", "[1]", "NaN", r#"{"code_version":"x"}"#, r#"{"code_version":{"commit":"main"}}"#] {
            assert_eq!(commit(meta.as_bytes()), Ok(None), "{meta}");
        }
    }
}
