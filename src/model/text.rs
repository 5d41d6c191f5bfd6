//! Text from outside as it may be shown: harmless for a terminal or a log, as one word of a shell's
//! command line, and without the secrets that an address may hold.

use std::{borrow::Cow, fmt::Write as _, os::unix::ffi::OsStrExt as _};

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

/// A path as one word of a shell's command line, so that a fix can be typed as it is shown: in
/// quotes, or as [`escaped_word`].
#[must_use]
pub(crate) fn shell_word(path: &std::path::Path) -> String {
    let plain = path.to_str().filter(|text| printable(text) == **text);
    plain.map_or_else(
        || escaped_word(path.as_os_str().as_bytes()),
        |text| format!("'{}'", text.replace('\'', r"'\''")),
    )
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
