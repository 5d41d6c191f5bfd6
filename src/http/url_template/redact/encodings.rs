//! A character, however another end writes it.
//!
//! ```text
//!  ä   ä in UTF-8, or in Latin-1   %C3%A4   %E4   %25C3%25A4   \u00e4   \xe4   &#228;   &#xE4;
//!  /   /   %2F   %252F   \/   \u002f   &#47;   &sol;
//! ```
//!
//! In a URL (RFC 3986, section 2.1), however often over; in JSON (RFC 8259, section 7); in HTML.
//!
//! Pure.

/// What HTML calls the characters that stand in tokens and passwords.
const NAMES: [(&[u8], u8); 33] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"plus", b'+'),
    (b"comma", b','),
    (b"period", b'.'),
    (b"sol", b'/'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"commat", b'@'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"bsol", b'\\'),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"lowbar", b'_'),
    (b"grave", b'`'),
    (b"lcub", b'{'),
    (b"verbar", b'|'),
    (b"vert", b'|'),
    (b"rcub", b'}'),
    (b"nbsp", b' '),
];

/// What stands for bytes that are no UTF-8, once they were read as that.
const UNREADABLE: &[u8] = "\u{fffd}".as_bytes();

/// How long this character is where it is written here.
pub(super) fn len_of(wanted: char, text: &[u8]) -> Option<usize> {
    if let Ok(wanted) = u8::try_from(wanted)
        && wanted.is_ascii()
    {
        return by_code(u32::from(wanted), text).or_else(|| of_byte(wanted, text));
    }
    let in_utf8 = || {
        let mut buffer = [0; 4];
        let mut bytes = wanted.encode_utf8(&mut buffer).bytes();
        bytes.try_fold(0, |len, byte| Some(len + of_byte(byte, text.get(len..)?)?))
    };
    let in_latin_1 = || {
        u8::try_from(wanted)
            .ok()
            .and_then(|byte| of_byte(byte, text))
    };
    let lost = || text.starts_with(UNREADABLE).then_some(UNREADABLE.len());
    by_code(u32::from(wanted), text)
        .or_else(in_utf8)
        .or_else(in_latin_1)
        .or_else(lost)
}

/// By its number, or its name.
fn by_code(wanted: u32, text: &[u8]) -> Option<usize> {
    match text {
        [b'\\', b'u', ..] => {
            let unit = |at: usize| number(text.get(at..at + 4)?, 16);
            let high = unit(2)?;
            match (high, text.get(6..8)) {
                (0xd800..=0xdbff, Some(b"\\u")) => {
                    let low = unit(8).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                    (0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00) == wanted).then_some(12)
                }
                _ => (high == wanted).then_some(6),
            }
        }
        [b'&', rest @ ..] => {
            let len = rest.iter().take(10).position(|byte| *byte == b';')?;
            let is_meant = match &rest[..len] {
                [b'#', b'x' | b'X', digits @ ..] => number(digits, 16) == Some(wanted),
                [b'#', digits @ ..] => number(digits, 10) == Some(wanted),
                name => NAMES
                    .iter()
                    .any(|(known, byte)| *known == name && u32::from(*byte) == wanted),
            };
            is_meant.then_some(len + 2)
        }
        _ => None,
    }
}

/// One byte of it, or one that is all of it.
fn of_byte(wanted: u8, text: &[u8]) -> Option<usize> {
    let hex = |at: usize| {
        let is_it = number(text.get(at..at + 2)?, 16) == Some(u32::from(wanted));
        is_it.then_some(at + 2)
    };
    let escaped = match text {
        [b'%', rest @ ..] => {
            // `%25` is the sign itself, escaped once more.
            let over = rest.chunks(2).take_while(|pair| *pair == b"25").count();
            (0..=over).rev().find_map(|over| hex(1 + 2 * over))
        }
        [b'\\', b'x', ..] => hex(2),
        [b'\\', next, ..] if *next == wanted && !next.is_ascii_alphanumeric() => Some(2),
        [b'+', ..] if wanted == b' ' => Some(1),
        _ => None,
    };
    escaped.or_else(|| text.first()?.eq_ignore_ascii_case(&wanted).then_some(1))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_known_however_it_is_written() {
        for (wanted, written) in [
            (
                '\u{e4}',
                [
                    "\u{e4}",
                    "%C3%a4",
                    "%E4",
                    "%25C3%25A4",
                    "%2525e4",
                    r"\u00E4",
                    r"\xe4",
                    "&#228;",
                    "&#xe4;",
                    "\u{fffd}",
                ]
                .as_slice(),
            ),
            (
                '\u{1f600}',
                &[
                    "\u{1f600}",
                    r"\ud83d\uDE00",
                    "&#128512;",
                    "&#x1F600;",
                    "%F0%9F%98%80",
                ],
            ),
            ('\u{20ac}', &["\u{20ac}", r"\u20ac", "&#8364;", "%E2%82%AC"]),
            (
                '/',
                &[
                    "/", "%2f", "%252F", "%25252f", r"\/", r"\u002F", r"\x2f", "&#47;", "&#x2F;",
                    "&sol;",
                ],
            ),
            ('%', &["%25", "%2525", "%"]),
            (' ', &[" ", "+", "%20", "&nbsp;", "&#32;"]),
            ('a', &["a", "A", "%61"]),
        ] {
            for written in written {
                let text = format!("{written}~");
                let found = len_of(wanted, text.as_bytes());
                assert_eq!(found, Some(written.len()), "{wanted} as {written}");
            }
        }
        assert_eq!(len_of('\u{e4}', b"\xe4"), Some(1));
        for (wanted, other) in [
            ('\u{e4}', "a"),
            ('\u{e4}', "&#229;"),
            ('/', "%25"),
            ('/', "&sol"),
            ('\u{1f600}', r"\ud83d\u0041"),
            ('a', "%zz"),
            ('\u{20ac}', "%80"),
        ] {
            assert_eq!(len_of(wanted, other.as_bytes()), None, "{wanted} {other}");
        }
    }
}
