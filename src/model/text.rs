//! Text from outside as it may be shown: harmless for a terminal or a log, as one word of a shell's
//! command line, and without the secrets that an address may hold.

use std::{borrow::Cow, ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt as _, path::Path};

/// Text from outside, made harmless for a terminal or a log: control characters, escapes,
/// bidirectional overrides and invisible characters are shown as `\u{..}`. Ordinary text of any
/// script passes unchanged.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1;
            plain
                .then_some(c)
                .into_iter()
                .chain((!plain).then(|| c.escape_debug()).into_iter().flatten())
        })
        .collect()
}

/// A path as one word of a shell's command line, always in quotes.
#[must_use]
pub(crate) fn shell_word(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes(), |_| false)
}

/// A word of a shell's command line: plain where it can be.
#[must_use]
pub(crate) fn word(text: impl AsRef<OsStr>) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(b);
    quoted(text.as_ref().as_bytes(), |bytes| {
        !bytes.is_empty() && bytes.iter().all(plain)
    })
}

/// In quotes; and where it holds what a terminal might obey or no text has, as `$'\NNN'`.
fn quoted(bytes: &[u8], is_plain: impl Fn(&[u8]) -> bool) -> String {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| printable(text) == **text);
    match text {
        Some(text) if is_plain(bytes) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => escaped_word(bytes),
    }
}

/// "1.3 GB": three figures at most.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && amount < 9.95);
    format!("{amount:.decimals$} {}", UNITS[unit])
}

/// "3 min".
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        days => format!("{} days", days / 86_400),
    }
}

/// What a terminal might obey, or no text has, as a word of bash, zsh and ksh: `$'\NNN'`. Octal has
/// three digits and no more, whatever comes next.
#[must_use]
pub(crate) fn escaped_word(bytes: &[u8]) -> String {
    let mut quoted = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            0x20..0x7f => quoted.push(char::from(*byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\{byte:03o}");
            }
        }
    }
    quoted.push('\'');
    quoted
}

/// An address as it may be shown. Its query may hold a secret (a presigned address, a SAS token),
/// and so may a fragment, which no address of ours may have.
#[must_use]
pub(crate) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// An address without its user name and password (RFC 3986, section 3.2.1). One whose port is none
/// may hold a password with a slash or a question mark in it, and is shown no further than that.
#[must_use]
pub(crate) fn without_user(url: &str) -> Cow<'_, str> {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |length| start + length);
    let authority = &url[start..end];
    if let Some((_, host)) = authority.rsplit_once('@') {
        return Cow::Owned(format!("{}\u{2026}@{host}{}", &url[..start], &url[end..]));
    }
    let port = authority
        .rfind(':')
        .filter(|at| !authority[*at..].contains(']'));
    match port.filter(|at| {
        url[end..].contains('@')
            && authority[at + 1..]
                .bytes()
                .any(|byte| !byte.is_ascii_digit())
    }) {
        Some(at) => Cow::Owned(format!("{}:\u{2026}", &url[..start + at])),
        None => Cow::Borrowed(url),
    }
}

/// A text in which no address has its query, nor a user name or password.
#[must_use]
pub(crate) fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let ends =
            |next: char| next.is_whitespace() || matches!(next, '"' | '\'' | '`' | '<' | '>');
        let end = rest[at..]
            .find(ends)
            .map_or(rest.len(), |length| at + length);
        out.push_str(&rest[..at]);
        let address = without_user(&rest[at..end]);
        out.push_str(without_query(&address));
        if let Some(sign) = address[without_query(&address).len()..].chars().next() {
            out.push(sign);
            out.push('\u{2026}');
        }
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_path_back_byte_for_byte_and_no_terminal_obeys_it() {
        for name in [&b"it's"[..], b"a b", b"\xff'\\ \n7", b"\x1b[2J", b"$(id)"] {
            let word = shell_word(std::path::Path::new(std::ffi::OsStr::from_bytes(name)));
            assert_eq!(printable(&word), word);
            let read = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {word}")])
                .output()
                .unwrap();
            assert_eq!(read.stdout, name, "{word}");
        }
    }

    #[test]
    fn hostile_text_is_shown_and_not_obeyed() {
        assert_eq!(printable("Lauf grün 走 \"x\" \\"), "Lauf grün 走 \"x\" \\");
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("a\u{202e}b\r\n"), "a\\u{202e}b\\r\\n");
    }
}
