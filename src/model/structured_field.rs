//! Structured fields (RFC 9651), as far as the wire has them: an item that is a boolean or a
//! number, and a dictionary's member that is a byte sequence.
//!
//! Pure. Parameters are read and ignored, as that RFC asks. A field that is malformed anywhere has
//! no value at all.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::HeaderMap;

/// A header that is there and does not hold what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// An item without its parameters.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Boolean(bool),
    Integer(i64),
    Bytes(Vec<u8>),
    /// A decimal, a string, a token, a date or an inner list.
    Other,
}

/// A header that is a boolean (section 3.3.6); `None` where it is not there.
///
/// # Errors
/// [`Malformed`], also where it is there twice.
pub(crate) fn boolean(headers: &HeaderMap, name: &str) -> Result<Option<bool>, Malformed> {
    item(headers, name)?
        .map(|item| match item {
            Item::Boolean(value) => Ok(value),
            Item::Integer(_) | Item::Bytes(_) | Item::Other => Err(Malformed),
        })
        .transpose()
}

/// A header that is a number of something, an integer that is not negative (section 3.3.1); `None`
/// where it is not there.
///
/// # Errors
/// [`Malformed`], also where it is there twice.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Malformed> {
    item(headers, name)?
        .map(|item| match item {
            Item::Integer(value) => u64::try_from(value).map_err(|_| Malformed),
            Item::Boolean(_) | Item::Bytes(_) | Item::Other => Err(Malformed),
        })
        .transpose()
}

/// The member of a dictionary (section 3.2) that is a byte sequence; `None` where there is none of
/// this key, or not such a one, and where the dictionary is malformed.
pub(crate) fn bytes_in_dictionary(field: &str, key: &str) -> Option<Vec<u8>> {
    let mut parser = Parser(field.trim_matches(' ').as_bytes());
    let mut found = None;
    while !parser.0.is_empty() {
        let is_it = parser.key()? == key.as_bytes();
        // Without a value it is true, and may have parameters all the same.
        let item = if parser.takes(b'=') {
            parser.member()?
        } else {
            Item::Boolean(true)
        };
        parser.parameters()?;
        // Of several of one key the last counts.
        if is_it {
            found = Some(item);
        }
        parser.skip(b" \t");
        if !parser.0.is_empty() {
            parser.takes(b',').then_some(())?;
            parser.skip(b" \t");
            (!parser.0.is_empty()).then_some(())?;
        }
    }
    match found? {
        Item::Bytes(bytes) => Some(bytes),
        Item::Boolean(_) | Item::Integer(_) | Item::Other => None,
    }
}

/// An item stands in one line: of several lines a list would be made, equal or not (section 4.2).
fn item(headers: &HeaderMap, name: &str) -> Result<Option<Item>, Malformed> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), other) = (lines.next(), lines.next()) else {
        return Ok(None);
    };
    let mut parser = Parser(line.as_bytes());
    let mut parse = || {
        parser.skip(b" ");
        let item = parser.bare_item()?;
        parser.parameters()?;
        parser.skip(b" ");
        parser.0.is_empty().then_some(item)
    };
    match (parse(), other) {
        (Some(item), None) => Ok(Some(item)),
        (None, _) | (_, Some(_)) => Err(Malformed),
    }
}

/// What is still to be read. Each step is one of section 4.2.
struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    fn takes(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !belongs(*byte));
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    fn skip(&mut self, these: &[u8]) {
        self.take_while(|byte| these.contains(&byte));
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let begins = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'*';
        self.0.first().filter(|byte| begins(byte))?;
        Some(self.take_while(|byte| {
            begins(&byte) || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
        }))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.takes(b';') {
            self.skip(b" ");
            self.key()?;
            if self.takes(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn member(&mut self) -> Option<Item> {
        if !self.takes(b'(') {
            return self.bare_item();
        }
        loop {
            self.skip(b" ");
            if self.takes(b')') {
                return Some(Item::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            matches!(self.0.first(), Some(b' ' | b')')).then_some(())?;
        }
    }

    fn bare_item(&mut self) -> Option<Item> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.numeric(),
            b'"' => self.string(),
            b'?' => {
                let (said, rest) = self.0.split_at_checked(2)?;
                self.0 = rest;
                match said {
                    b"?1" => Some(Item::Boolean(true)),
                    b"?0" => Some(Item::Boolean(false)),
                    _ => None,
                }
            }
            b':' => {
                self.takes(b':');
                let encoded = self.take_while(|byte| byte != b':');
                self.takes(b':').then_some(())?;
                BASE64.decode(encoded).ok().map(Item::Bytes)
            }
            // A date; a display string (its escapes are not looked into).
            b'@' => {
                self.takes(b'@');
                matches!(self.numeric()?, Item::Integer(_)).then_some(Item::Other)
            }
            b'%' => {
                self.takes(b'%');
                self.string()
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'*' => {
                self.take_while(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(Item::Other)
            }
            _ => None,
        }
    }

    /// A decimal has at most 12 digits before its point, and 1 to 3 behind it. An integer may be
    /// larger than that RFC's 15 digits: what cannot be a length is for the caller to say.
    fn numeric(&mut self) -> Option<Item> {
        let is_negative = self.takes(b'-');
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if self.takes(b'.') {
            let behind = self.take_while(|byte| byte.is_ascii_digit());
            let is_one = (1..=12).contains(&digits.len()) && (1..=3).contains(&behind.len());
            return is_one.then_some(Item::Other);
        }
        let value: i64 = str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Item::Integer(if is_negative { -value } else { value }))
    }

    fn string(&mut self) -> Option<Item> {
        self.takes(b'"').then_some(())?;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            match *self.0.first()? {
                b'"' => {
                    self.takes(b'"');
                    return Some(Item::Other);
                }
                b'\\' => {
                    matches!(self.0.get(1)?, b'"' | b'\\').then_some(())?;
                    self.0 = &self.0[2..];
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("field", HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_boolean_is_read_with_whatever_parameters_and_nothing_else_is_one() {
        for (line, expected) in [
            ("?1", Ok(Some(true))),
            (" ?0 ", Ok(Some(false))),
            ("?1;a", Ok(Some(true))),
            (
                "?0;a=1; b=\"x;\\\"y\";*c=:AA==:;d=@-5;e=1.5;f=t/o:k;g=%\"%c3%bc\";h=?0",
                Ok(Some(false)),
            ),
            ("?2", Err(Malformed)),
            ("?", Err(Malformed)),
            ("1", Err(Malformed)),
            ("true", Err(Malformed)),
            ("?1, ?1", Err(Malformed)),
            ("?1;", Err(Malformed)),
            ("?1;A=1", Err(Malformed)),
            ("?1;a=", Err(Malformed)),
            ("?1;a=\"b", Err(Malformed)),
            ("?1 ;a", Err(Malformed)),
            ("?1;a=@1.5", Err(Malformed)),
            ("", Err(Malformed)),
        ] {
            assert_eq!(boolean(&headers(&[line]), "field"), expected, "{line:?}");
        }
        assert_eq!(boolean(&headers(&[]), "field"), Ok(None));
        assert_eq!(boolean(&headers(&["?1", "?1"]), "field"), Err(Malformed));
    }

    #[test]
    fn a_number_is_an_integer_that_is_not_negative() {
        for (line, expected) in [
            ("0", Ok(Some(0))),
            ("007", Ok(Some(7))),
            ("5;unit=bytes", Ok(Some(5))),
            ("9223372036854775807", Ok(Some(9_223_372_036_854_775_807))),
            ("-0", Ok(Some(0))),
            ("9223372036854775808", Err(Malformed)),
            ("-1", Err(Malformed)),
            ("+1", Err(Malformed)),
            ("1.0", Err(Malformed)),
            ("1.", Err(Malformed)),
            ("5 5", Err(Malformed)),
            ("5,5", Err(Malformed)),
            ("0x5", Err(Malformed)),
            ("?1", Err(Malformed)),
            ("-", Err(Malformed)),
        ] {
            assert_eq!(number(&headers(&[line]), "field"), expected, "{line:?}");
        }
        // Two lines are one value with a comma in it (section 4.2), also where they are equal.
        assert_eq!(number(&headers(&["5", "5"]), "field"), Err(Malformed));
    }

    #[test]
    fn a_dictionarys_member_is_found_among_others_and_the_last_of_its_key_counts() {
        for (field, expected) in [
            ("k=:AQ==:", Some(&[1_u8][..])),
            (
                "  a;p=1, b=(1 \"x, k=:Ag==:\";q t);r ,\tk=:AQ==:;p;q=2",
                Some(&[1]),
            ),
            ("k=:AQ==:, k=:Ag==:", Some(&[2])),
            ("k=:AQ==:, k", None),
            ("a=\"k=:AQ==:\"", None),
            ("a=1, k=5", None),
            ("k=:AQ==:,", None),
            ("k=:AQ==:, ", None),
            ("k=:AQ==: b=1", None),
            ("k=:AQ==:, b=(1", None),
            ("k=:AQ==:, b=(1\"x\")", None),
            ("k= :AQ==:", None),
            ("k=:AQ", None),
            ("k=:A:", None),
            ("K=:AQ==:", None),
            ("", None),
        ] {
            assert_eq!(
                bytes_in_dictionary(field, "k").as_deref(),
                expected,
                "{field:?}"
            );
        }
    }
}
