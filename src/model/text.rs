//! Text from outside as it may be shown: harmless for a terminal or a log, as one word of a shell's
//! command line, and without the secrets that an address may hold.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

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

/// Of words from outside, so much is shown, characters.
const MAX_SHOWN_CHARS: usize = 300;

/// The beginning of text from outside, made harmless.
pub(crate) fn excerpt(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&short)
}

/// Text whose characters may be written as [`printable`] shows them: `\u{202e}`. What is no such
/// escape stays as it is.
#[must_use]
pub(crate) fn unescaped(shown: &str) -> String {
    let mut parts = shown.split(r"\u{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escaped = part.split_once('}').and_then(|(digits, rest)| {
            let code = u32::from_str_radix(digits, 16).ok()?;
            Some((char::from_u32(code)?, rest))
        });
        match escaped {
            Some((character, rest)) => {
                text.push(character);
                text.push_str(rest);
            }
            None => {
                text.push_str(r"\u{");
                text.push_str(part);
            }
        }
    }
    text
}

/// Two names that are one where letter case is ignored come to the same.
pub(crate) fn folded(name: &str) -> String {
    name.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// A name or an id as one word of a shell's command line, always in quotes. What a terminal could
/// not show stands in it as it is shown ([`printable`]).
#[must_use]
pub(crate) fn shell_word(text: &Path) -> String {
    quoted(&printable(&text.to_string_lossy()))
}

/// A word of a shell's command line: plain where it can be. Any POSIX shell reads it.
#[must_use]
pub(crate) fn word(text: impl AsRef<OsStr>) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(&b);
    let text = printable(&text.as_ref().to_string_lossy());
    if !text.is_empty() && text.bytes().all(plain) {
        text
    } else {
        quoted(&text)
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What a path begins with that stands percent-encoded on our command line (RFC 8089): one that no
/// terminal and no POSIX shell could be given as text.
const FILE_URL: &str = "file://";
/// What is encoded in it besides what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A path as a word for a command of ours, whatever its bytes.
#[must_use]
pub(crate) fn typed_path(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if is_text(&path) {
        return word(&path);
    }
    let encoded = percent_encode(path.as_os_str().as_bytes(), ENCODED);
    word(format!("{FILE_URL}{encoded}"))
}

/// A path as it was typed for a command of ours ([`typed_path`]).
#[must_use]
pub(crate) fn read_typed_path(typed: OsString) -> PathBuf {
    let encoded = typed
        .as_bytes()
        .strip_prefix(FILE_URL.as_bytes())
        .filter(|path| path.starts_with(b"/"));
    match encoded {
        Some(encoded) => OsString::from_vec(percent_decode(encoded).collect()).into(),
        None => typed.into(),
    }
}

/// Another program's command that looks at a path or changes what is there. Where the path cannot
/// be given as text, the folder above it that can be is listed: what there is, a person sees.
#[must_use]
pub(crate) fn foreign_command(path: &Path, command: impl FnOnce(&str) -> String) -> String {
    if is_text(path) {
        command(&dashless(path))
    } else {
        format!("ls -la {}", dashless(as_text(path)))
    }
}

/// The path, or the folder above it that can be given as text.
#[must_use]
pub(crate) fn as_text(path: &Path) -> &Path {
    let mut above = path.ancestors();
    above
        .find(|path| is_text(path) && !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// A word that passes for no option.
fn dashless(path: &Path) -> String {
    if path.as_os_str().as_bytes().starts_with(b"-") {
        word(Path::new(".").join(path))
    } else {
        word(path)
    }
}

fn is_text(path: &Path) -> bool {
    path.to_str().is_some_and(|text| printable(text) == text)
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

    fn read_by_sh(word: &str) -> Vec<u8> {
        let script = format!("printf %s {word}");
        let read = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(read.stderr.is_empty(), "{word}: {read:?}");
        read.stdout
    }

    const ODD: [&[u8]; 9] = [
        b"/d/it's",
        b"/d/a b",
        b"/d/\xff'\\ \n7",
        b"/d/\x1b[2J",
        b"/d/$(id) `id` \"x\" ; & | #",
        b"/d/100%41 ~",
        "/d/L\u{e4}ufe".as_bytes(),
        "/d/L\u{e4}ufe \u{202e}x".as_bytes(),
        b"/d/-rf",
    ];

    #[test]
    fn a_posix_shell_and_our_command_line_read_any_path_back_and_no_terminal_obeys_it() {
        for name in ODD {
            let path = Path::new(OsStr::from_bytes(name));
            let word = typed_path(path);
            assert_eq!(printable(&word), word);
            let read = OsString::from_vec(read_by_sh(&word));
            assert_eq!(read_typed_path(read), path, "{word}");
        }
        assert_eq!(typed_path(Path::new("/d/a")), "/d/a");
        // Nothing else is decoded.
        for typed in ["/d/100%41", "file:a%41", "a/file:///b%41"] {
            assert_eq!(read_typed_path(typed.into()), Path::new(typed));
        }
    }

    #[test]
    fn another_program_is_given_a_path_or_the_folder_above_it_and_never_half_of_it() {
        for name in ODD {
            let path = Path::new(OsStr::from_bytes(name));
            let command = foreign_command(path, |path| format!("rm -r {path}"));
            match command.strip_prefix("rm -r ") {
                Some(word) => assert_eq!(read_by_sh(word), name),
                None => assert_eq!(command, "ls -la /d"),
            }
        }
        let command = |path: &str| foreign_command(Path::new(path), str::to_owned);
        assert_eq!(command("-rf"), "./-rf");
        assert_eq!(command("a\u{1b}"), "ls -la .");
    }

    #[test]
    fn a_name_is_a_word_as_it_is_shown() {
        assert_eq!(word("run-7"), "run-7");
        assert_eq!(word(""), "''");
        assert_eq!(shell_word(Path::new("run-7")), "'run-7'");
        assert_eq!(word("a \u{202e}b"), r"'a \u{202e}b'");
        assert_eq!(read_by_sh(&word("it's $(id)")), b"it's $(id)");
        for id in ["run-7", "it's", "a \u{202e}b\u{200b}", "100%41"] {
            let typed = String::from_utf8(read_by_sh(&word(id))).unwrap();
            assert_eq!(unescaped(&typed), id);
        }
        for odd in [r"\u{", r"\u{zz}x", r"\u{d800}", r"\n"] {
            assert_eq!(unescaped(odd), odd);
        }
    }

    #[test]
    fn hostile_text_is_shown_and_not_obeyed() {
        assert_eq!(printable("Lauf grün 走 \"x\" \\"), "Lauf grün 走 \"x\" \\");
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("a\u{202e}b\r\n"), "a\\u{202e}b\\r\\n");
    }
}
