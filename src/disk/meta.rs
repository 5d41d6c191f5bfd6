//! A recorder's `meta.json`, as far as it is read here: the commit of the code that recorded the
//! episode, `code_version.commit`.
//!
//! Recorders write what their language calls JSON: Python `NaN` and `Infinity`, C `nan`, `inf` and
//! trailing NULs, Windows a byte order mark, old rigs Latin-1. None of that is about the commit, so
//! it is read past. What is no JSON even so says where.
//!
//! Pure, but for [`look()`].

use std::borrow::Cow;

use serde_json::Value;

mod look;

pub(crate) use self::look::look;

use crate::model::{episode::Commit, layout::META, text::printable};

/// A longer `meta.json` is packed like any file, and not searched for a commit.
pub(crate) const MAX_META_BYTES: u64 = 1024 * 1024;

/// A value is shown as far as this, characters.
const MAX_SHOWN: usize = 60;
/// What is nested deeper says nothing of the commit, and is passed over. Less than what JSON
/// readers take.
const MAX_DEPTH: usize = 64;

/// What Python, JavaScript and C write for what is no number; none behind one that it begins with.
const NO_NUMBERS: [&str; 9] = [
    "-Infinity",
    "Infinity",
    "NaN",
    "-infinity",
    "infinity",
    "-inf",
    "inf",
    "-nan",
    "nan",
];

/// Why there is no commit to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaFault {
    /// It is no JSON; from here on.
    #[error("meta.json is not JSON: line {line}, column {column}")]
    NotJson {
        /// From 1 on.
        line: usize,
        /// From 1 on; 0 before the first character.
        column: usize,
    },
    /// It is a list, a text or a number.
    #[error("meta.json is not a JSON object")]
    NotAnObject,
    /// It names one that is none; what stands there, as JSON.
    #[error(
        "in meta.json, code_version.commit is {0}, and not the 40 hexadecimal digits of a commit"
    )]
    NoCommit(String),
    /// It is longer than is searched.
    #[error("meta.json is longer than {MAX_META_BYTES} bytes, and is not searched for a commit")]
    TooLong,
    /// It is a symlink, or a folder.
    #[error("meta.json is no regular file, and is not searched for a commit")]
    NoFile,
    /// What there is has almost that name.
    #[error("{0} is not called meta.json, and is not searched for a commit")]
    OtherName(String),
}

/// The commit that it names; `Ok(None)` where it names none.
///
/// # Errors
/// A [`MetaFault`].
pub(crate) fn commit(meta: &[u8]) -> Result<Option<Commit>, MetaFault> {
    let parsed: Result<Value, _> = serde_json::from_slice(meta);
    let value = match parsed {
        Ok(value) => value,
        Err(_) => serde_json::from_str(&lenient(meta)).map_err(|error: serde_json::Error| {
            MetaFault::NotJson {
                line: error.line(),
                column: error.column(),
            }
        })?,
    };
    if !value.is_object() {
        return Err(MetaFault::NotAnObject);
    }
    let named = value
        .get("code_version")
        .and_then(|version| version.get("commit"));
    let Some(named) = named.filter(|named| !named.is_null()) else {
        return Ok(None);
    };
    // What a program has printed ends with a newline.
    let commit = named.as_str().and_then(|text| Commit::parse(text.trim()));
    commit
        .map(Some)
        .ok_or_else(|| MetaFault::NoCommit(shown(named)))
}

/// What keeps an entry of an episode from being searched for a commit, where that is what it is
/// there for.
pub(crate) fn unsearched(path: &[u8], is_file: bool, size_bytes: u64) -> Option<MetaFault> {
    let name = std::str::from_utf8(path)
        .ok()
        .filter(|path| path.eq_ignore_ascii_case(META))?;
    if name != META {
        return Some(MetaFault::OtherName(name.to_owned()));
    }
    match is_file {
        false => Some(MetaFault::NoFile),
        true => (size_bytes > MAX_META_BYTES).then_some(MetaFault::TooLong),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(MAX_SHOWN).collect();
    printable(&short) + if short.len() < text.len() { "..." } else { "" }
}

/// The same without what is no JSON and says nothing of the commit. Lines and columns stay where
/// they are, but for the byte order mark.
fn lenient(meta: &[u8]) -> String {
    let text = decoded(meta);
    let text = text
        .trim_start_matches('\u{feff}')
        .trim_end_matches(['\0', ' ', '\r', '\n', '\t']);
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let mut depth = 0_usize;
    while let Some(next) = rest.chars().next() {
        // The innermost that is left has nothing in it.
        let mut is_left = depth < MAX_DEPTH;
        match next {
            '[' | '{' => depth += 1,
            ']' | '}' => {
                is_left = depth <= MAX_DEPTH;
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let word = NO_NUMBERS.iter().find(|word| rest.starts_with(**word));
        let len = match (word, next) {
            (Some(word), _) => word.len(),
            (None, '"') => string_len(rest),
            (None, '0'..='9') => number_len(rest),
            (None, _) => next.len_utf8(),
        };
        let (token, behind) = rest.split_at(len);
        match next {
            _ if !is_left => out.push_str(&blank(token)),
            '"' => out.push_str(&whole_pairs(token)),
            // Larger than any number that is read here.
            '0'..='9' if token.parse().is_ok_and(f64::is_infinite) => {
                out.push('0');
                out.push_str(&blank(&token[1..]));
            }
            _ if word.is_some() => {
                out.push('0');
                out.push_str(&blank(&token[1..]));
            }
            _ => out.push_str(token),
        }
        rest = behind;
    }
    out
}

/// As many blanks, and the ends of its lines.
fn blank(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect()
}

/// A string, with a stand-in for each half of a pair that is alone: Python writes a byte of a
/// file's name that is no UTF-8 as `\udc80`.
fn whole_pairs(string: &str) -> String {
    let unit = |at: usize| {
        let digits = string.get(at..at + 6)?.strip_prefix("\\u")?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let (mut out, mut at) = (String::with_capacity(string.len()), 0);
    while let Some(next) = string[at..].chars().next() {
        let (text, len) = match (next, unit(at), unit(at + 6)) {
            ('\\', Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&string[at..at + 12], 12),
            ('\\', Some(0xd800..=0xdfff), _) => ("\\ufffd", 6),
            // What is escaped begins nothing.
            ('\\', ..) => {
                let len = string[at + 1..]
                    .chars()
                    .next()
                    .map_or(1, |escaped| 1 + escaped.len_utf8());
                (&string[at..at + len], len)
            }
            _ => (&string[at..at + next.len_utf8()], next.len_utf8()),
        };
        out.push_str(text);
        at += len;
    }
    out
}

fn number_len(text: &str) -> usize {
    text.find(|next: char| !matches!(next, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'))
        .unwrap_or(text.len())
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
    // With the byte order mark of UTF-8, and not all of it UTF-8.
    let meta = meta.strip_prefix(b"\xef\xbb\xbf").unwrap_or(meta);
    match (std::str::from_utf8(meta), meta) {
        (Ok(text), _) => Cow::Borrowed(text),
        (Err(_), [0xff, 0xfe, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_le_bytes)),
        (Err(_), [0xfe, 0xff, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_be_bytes)),
        (Err(_), _) => Cow::Owned(meta.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_read_whatever_else_a_recorder_takes_for_json() {
        let digits = "0123456789abcdef0123456789ABCDEF01234567";
        let named = format!(r#""code_version":{{"commit":"{digits}"}}"#);
        let utf16: Vec<u8> = format!("\u{feff}{{{named}}}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let latin1 = [
            b"{\"place\":\"M\xfcnchen\",".as_slice(),
            named.as_bytes(),
            b"}",
        ]
        .concat();
        let deep = |levels: usize| format!("{}1,\"]\"{}", "[".repeat(levels), "]".repeat(levels));
        let marked = [b"\xef\xbb\xbf".as_slice(), &latin1].concat();
        let cases: [(&str, Vec<u8>); 17] = [
            ("a byte order mark and Latin-1", marked),
            (
                "C's own",
                format!(r#"{{"a":[nan,-nan,inf,-inf,infinity],{named}}}"#).into_bytes(),
            ),
            ("plain", format!("{{{named}}}").into_bytes()),
            ("NaN", format!(r#"{{"gain":NaN,{named}}}"#).into_bytes()),
            (
                "infinities",
                format!(r#"{{"a":[Infinity,-Infinity, NaN],{named}}}"#).into_bytes(),
            ),
            (
                "a byte order mark",
                format!("\u{feff}{{{named}}}").into_bytes(),
            ),
            ("Latin-1", latin1),
            (
                "trailing NULs",
                format!("{{{named}}}\n\0\0\0\0").into_bytes(),
            ),
            ("UTF-16", utf16),
            (
                "all at once",
                format!("\u{feff}{{\"a\":NaN,{named}}}\0").into_bytes(),
            ),
            (
                "half a pair",
                format!(r#"{{"a":"\\udc80 \\ud83d\\ude00 \\\\udc80",{named}}}"#).into_bytes(),
            ),
            (
                "a large number",
                format!(r#"{{"a":[1e999,-1E+400,1.5e3],{named}}}"#).into_bytes(),
            ),
            (
                "deep",
                format!(r#"{{"a":{},{named}}}"#, deep(200)).into_bytes(),
            ),
            (
                "very deep",
                format!(r#"{{"a":{},"b":NaN,{named}}}"#, deep(100_000)).into_bytes(),
            ),
            (
                "just as deep",
                format!(r#"{{"a":{},"b":NaN,{named}}}"#, deep(MAX_DEPTH)).into_bytes(),
            ),
            (
                "a newline",
                format!("{{{}}}", named.replace(digits, &format!(" {digits}\\n"))).into_bytes(),
            ),
            (
                "words in strings",
                format!(r#"{{"a":"NaN \" Infinity","b":NaN,{named}}}"#).into_bytes(),
            ),
        ];
        for (what, meta) in cases {
            let found = commit(&meta).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(
                found.map(|commit| commit.as_str().to_owned()),
                Some(digits.to_lowercase()),
                "{what}"
            );
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
            assert_eq!(said, MetaFault::NotJson { line, column }, "{meta}");
            assert_eq!(
                said.to_string(),
                format!("meta.json is not JSON: line {line}, column {column}")
            );
        }
        for meta in [
            "[1]",
            "NaN",
            "null",
            "\"x\"",
            "1.5",
            "[{\"code_version\":{}}]",
        ] {
            let said = commit(meta.as_bytes()).unwrap_err();
            assert_eq!(said.to_string(), "meta.json is not a JSON object", "{meta}");
        }
        for meta in [
            "{}",
            r#"{"code_version":"x"}"#,
            r#"{"code_version":{"commit":null}}"#,
        ] {
            assert_eq!(commit(meta.as_bytes()), Ok(None), "{meta}");
        }
    }

    #[test]
    fn a_commit_that_is_none_is_shown() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        for (value, shown) in [
            ("\"main\"".to_owned(), "\"main\"".to_owned()),
            ("\"\"".to_owned(), "\"\"".to_owned()),
            ("123".to_owned(), "123".to_owned()),
            (format!("\"{digits}-dirty\""), format!("\"{digits}-dirty\"")),
            (
                format!("[\"{}\"]", "x".repeat(99)),
                format!("[\"{}...", "x".repeat(MAX_SHOWN - 2)),
            ),
        ] {
            let said = commit(format!(r#"{{"code_version":{{"commit":{value}}}}}"#).as_bytes())
                .unwrap_err();
            assert_eq!(said, MetaFault::NoCommit(shown.clone()));
            assert!(
                said.to_string()
                    .contains(&format!("code_version.commit is {shown}, and not")),
                "{said}"
            );
        }
    }
}
