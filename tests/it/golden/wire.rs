//! Recorded exchanges, as tests/golden/94d9e91/wire/ has them.

use std::{
    fs,
    io::{self, BufRead},
};

use sealift::model::episode::Digest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::files::kept;

/// One request, and how it was answered.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exchange {
    pub(super) request: Request,
    /// Whether `100 Continue` came first.
    #[serde(default, rename = "continue")]
    pub(super) continued: bool,
    /// None where the connection was cut.
    pub(super) response: Option<Response>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Request {
    pub(super) head: Vec<String>,
    /// Which body, where one was sent in full.
    body: Option<String>,
    /// So many bytes of it, and then the connection was cut.
    pub(super) cut: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Response {
    pub(super) head: Vec<String>,
    /// Text.
    pub(super) body: Option<String>,
    /// Which body, where it is an archive.
    archive: Option<String>,
}

/// The exchanges of one recording, in their order.
pub(super) fn recorded(name: &str) -> Vec<Exchange> {
    serde_json::from_slice(&fs::read(kept("wire").join(format!("{name}.json"))).unwrap()).unwrap()
}

impl Exchange {
    /// `PUT /v1/episodes/small`
    pub(super) fn line(&self) -> &str {
        self.request.head[0].trim_end_matches(" HTTP/1.1")
    }

    pub(super) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap()
    }

    pub(super) fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }
}

impl Request {
    pub(super) fn body(&self) -> Vec<u8> {
        self.body.as_deref().map(body).unwrap_or_default()
    }
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        status(&self.head)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.archive) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(name)) => body(name),
            (None, None) => Vec::new(),
        }
    }
}

pub(super) fn status(head: &[String]) -> u16 {
    head[0].split(' ').nth(1).unwrap().parse().unwrap()
}

/// A header's value.
pub(super) fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The lines of a head, up to the empty one.
///
/// # Errors
/// Those of the connection, and `UnexpectedEof` where it is closed without one.
pub(super) fn read_head(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line? {
            line if line.is_empty() => return Ok(head),
            line => head.push(line),
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

pub(super) fn length(head: &[String]) -> usize {
    header(head, "content-length").map_or(0, |length| length.parse().unwrap())
}

/// A body, from its pieces: `hex BYTES` and `noise FROM LENGTH`.
pub(super) fn body(name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for line in fs::read_to_string(kept("wire/bodies").join(name))
        .unwrap()
        .lines()
    {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["hex", digits] => body.extend(
                (0..digits.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()),
            ),
            ["noise", from, length] => {
                let (from, length): (usize, usize) =
                    (from.parse().unwrap(), length.parse().unwrap());
                body.extend(&noise(from + length)[from..]);
            }
            _ => panic!("{name}: {line}"),
        }
    }
    body
}

/// Bytes that no compressor makes smaller: digests of `golden 0`, `golden 1`, ...
pub(super) fn noise(length: usize) -> Vec<u8> {
    let blocks = (0..=length / 32).flat_map(|n| Sha256::digest(format!("golden {n}")));
    blocks.take(length).collect()
}

/// Digest, as the header has it.
pub(super) fn digest_header(body: &[u8]) -> String {
    Digest::of(body).to_header()
}
