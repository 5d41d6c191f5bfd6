//! The configured address and headers: checked once, filled in for each episode.
//!
//! ```text
//!  receiver.url      https://h:8490 ──▶ https://h:8490/v1/episodes/{id} ──▶ an episode's address
//!                    https://h/runs/{id}.tar.zst ──▶ as it is
//!  receiver.headers  X-Run = "{host}/{id}" ──▶ pieces ────────────────────▶ a request's headers
//! ```
//!
//! Pure. What is filled in comes from an episode and cannot break out of its place: an id is
//! percent-encoded, a digest and a commit are hexadecimal digits.

mod redact;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    uri::Scheme,
};

pub(crate) use self::redact::Blot;

use crate::model::{
    episode::{Commit, Digest, EpisodeId},
    records::ArchiveFacts,
    text::{printable, without_query, without_user},
    wire,
};

const ID: &str = "{id}";

/// Headers that say how the message is framed. HTTP itself writes them.
const FRAMING: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the configuration says of the receiver and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The address.
    #[error("receiver.url {why}")]
    Url {
        /// What is wrong and what to do. The address is not shown: it may hold a password.
        why: String,
    },
    /// A header.
    #[error("receiver.headers: {name:?} {why}")]
    Header {
        /// Its name as configured.
        name: String,
        /// What is wrong. Never the value.
        why: String,
    },
    /// The host's name cannot be sent.
    #[error("shipper.host_id must be printable ASCII: it travels in a header")]
    HostId,
}

/// An address with a place for the id.
#[derive(Debug, Clone)]
pub struct UrlTemplate {
    /// Holds `{id}` at least once.
    template: String,
    /// Where a receiver of ours keeps what broke off; `{id}` stands in it too. `None` where the
    /// whole address is set: that is no receiver of ours.
    uploads: Option<String>,
    is_private: bool,
}

impl UrlTemplate {
    /// Parses `receiver.url`.
    ///
    /// # Errors
    /// [`AddressError::Url`].
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let wrong = |why: &str| AddressError::Url {
            why: why.to_owned(),
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("must begin with http:// or https://"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('#') {
            return Err(wrong(
                "holds a fragment (#...), which is never sent: remove it",
            ));
        }
        if authority.contains('@') {
            return Err(wrong(
                "holds a user name or password: put a token into token_file, or a header",
            ));
        }
        if authority.contains(['{', '}']) {
            return Err(wrong(
                "holds {id} in the host's name: it can stand in the path or the query only",
            ));
        }
        // `Uri` reads what follows the last colon as it likes: 99999 becomes the scheme's own port.
        let bare = authority
            .rsplit_once(']')
            .map_or(authority, |(_, port)| port);
        if let Some((_, port)) = bare.split_once(':')
            && !port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            return Err(wrong("has a port that is not a number from 1 to 65535"));
        }
        let (template, uploads) = if path.contains(ID) {
            (url.to_owned(), None)
        } else {
            let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
            let base = path.trim_end_matches('/');
            if format!("{base}/").contains(wire::EPISODES_PATH) {
                return Err(wrong(
                    "must end before /v1/episodes, which is added for each episode (or be the whole address, with {id} in it)",
                ));
            }
            let below = |path: &str| format!("{scheme}://{authority}{base}{path}{ID}{query}");
            (below(wire::EPISODES_PATH), Some(below(wire::UPLOADS_PATH)))
        };
        let example = template.replace(ID, "id");
        if example.contains(['{', '}']) {
            return Err(wrong("holds a placeholder other than {id}"));
        }
        let uri: Uri = example
            .parse()
            .map_err(|error| wrong(&format!("is not an address: {error}")))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("must begin with http:// or https://")),
        };
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        Ok(Self {
            is_private: is_https || is_loopback(host),
            template,
            uploads,
        })
    }

    /// For a person: without the query, which may hold a secret, and without what is added for each
    /// episode.
    pub fn shown(&self) -> String {
        let shown = without_query(&self.template);
        let added = format!("{}{ID}", wire::EPISODES_PATH);
        let base = self
            .uploads
            .as_ref()
            .and_then(|_| shown.strip_suffix(&added));
        printable(base.unwrap_or(shown))
    }

    /// The address of an episode, for a person and for what others read: without the query.
    pub fn shown_of(&self, id: &EpisodeId) -> String {
        without_query(&self.template).replace(ID, &id.percent_encoded())
    }

    /// Whether both lead to the same place, for each episode.
    pub fn leads_where(&self, other: &Self) -> bool {
        (&self.template, &self.uploads) == (&other.template, &other.uploads)
    }

    /// The address of an episode. It may hold a secret in its query: it is for the request alone.
    pub fn of(&self, id: &EpisodeId) -> String {
        self.template.replace(ID, &id.percent_encoded())
    }

    /// Where an upload of this archive that broke off is found again, if the receiver may be one of
    /// ours.
    pub fn of_upload(&self, id: &EpisodeId, sha256: &Digest) -> Option<String> {
        let segments = format!("{}/{sha256}", id.percent_encoded());
        self.uploads
            .as_ref()
            .map(|uploads| uploads.replace(ID, &segments))
    }

    /// The same for an archive that is packed by this plan, and whose digest comes at the end.
    pub fn of_planned_upload(&self, id: &EpisodeId, plan: &Digest) -> Option<String> {
        let segments = format!("{}/{}{plan}", id.percent_encoded(), wire::PLAN_PREFIX);
        self.uploads
            .as_ref()
            .map(|uploads| uploads.replace(ID, &segments))
    }

    /// Where a receiver of ours says beforehand what it would answer. `None` where the whole
    /// address is set.
    pub fn of_admission(&self) -> Option<String> {
        let one = format!("{}{ID}", wire::UPLOADS_PATH);
        self.uploads
            .as_ref()
            .map(|uploads| uploads.replacen(&one, wire::ADMISSION_PATH, 1))
    }

    /// As it is written, with `{id}` in it.
    pub(crate) fn template(&self) -> &str {
        &self.template
    }

    /// What is left out of all that is said there: this query, what these headers hold, and the
    /// token.
    pub fn blot(&self, headers: &ExtraHeaders, token: Option<&str>) -> Blot {
        let credentials: Vec<_> = headers
            .credentials()
            .chain(token.map(str::to_owned))
            .collect();
        Blot::of(&self.template, headers.texts(), &credentials)
    }

    /// Whether what is sent there cannot be read on the way: https, or a loopback address.
    pub fn is_private(&self) -> bool {
        self.is_private
    }
}

/// An address as it may be shown, printable: without its query, and with a sign where something is
/// left out. A user name and a password, which no address of ours may hold, are left out as well.
pub(crate) fn shown(url: &str) -> String {
    let url = without_user(url);
    let without = without_query(&url);
    let left_out = match url[without.len()..].chars().next() {
        Some(sign) => format!("{sign}\u{2026}"),
        None => String::new(),
    };
    printable(without) + &left_out
}

/// Scheme, host and port of an address, in one spelling: who answers there, whatever the path (RFC
/// 6454, section 4). `None` for what is no http or https address.
pub(crate) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let default = match uri.scheme()? {
        scheme if *scheme == Scheme::HTTPS => 443,
        scheme if *scheme == Scheme::HTTP => 80,
        _ => return None,
    };
    let (scheme, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
    Some(format!(
        "{scheme}://{host}:{}",
        uri.port_u16().unwrap_or(default)
    ))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// What there is to fill in.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    /// Whose request it is.
    pub id: &'a EpisodeId,
    /// The archive that is sent; `None` where none is.
    pub facts: Option<&'a ArchiveFacts>,
    /// The recorder's commit, where there is one.
    pub commit: Option<&'a Commit>,
    /// Who sends.
    pub host: &'a HeaderValue,
}

/// The configured headers. Their values may be secrets: none is ever shown.
#[derive(Clone, PartialEq)]
pub struct ExtraHeaders(Vec<(HeaderName, Vec<Piece>)>);

impl fmt::Debug for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Id,
    Sha256,
    ContentSha256,
    Commit,
    Host,
}

const PLACEHOLDERS: [(&str, Piece); 5] = [
    ("id", Piece::Id),
    ("sha256", Piece::Sha256),
    ("content_sha256", Piece::ContentSha256),
    ("commit", Piece::Commit),
    ("host", Piece::Host),
];

impl ExtraHeaders {
    /// Parses `receiver.headers`.
    ///
    /// # Errors
    /// [`AddressError::Header`].
    pub fn parse(headers: &BTreeMap<String, String>) -> Result<Self, AddressError> {
        let parse = |(name, value): (&String, &String)| {
            let wrong = |why: &str| AddressError::Header {
                name: name.clone(),
                why: why.to_owned(),
            };
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| wrong("is not a header's name (RFC 9110, section 5.1)"))?;
            if FRAMING.contains(&parsed) {
                return Err(wrong("cannot be set: HTTP itself writes it"));
            }
            header_text(value).ok_or_else(|| wrong("has a value that is not printable ASCII"))?;
            Ok((parsed, pieces(value).map_err(|why| wrong(&why))?))
        };
        headers
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// All of them, in one text that two have only where they are the same.
    pub(crate) fn template(&self) -> String {
        let written = |piece: &Piece| {
            let known = PLACEHOLDERS.iter().find(|(_, known)| known == piece);
            match (piece, known) {
                (Piece::Text(text), _) => text.clone(),
                (_, known) => known.map_or_else(String::new, |(name, _)| format!("{{{name}}}")),
            }
        };
        let line = |(name, pieces): &(HeaderName, Vec<Piece>)| {
            format!(
                "\n{name}: {}",
                pieces.iter().map(written).collect::<String>()
            )
        };
        self.0.iter().map(line).collect()
    }

    /// What is written in them, outside of what is filled in.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let pieces = self.0.iter().flat_map(|(_, pieces)| pieces);
        pieces.filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// What proves who asks: what stands behind a scheme (RFC 9110, section 11.4), and what that is
    /// decoded where the scheme is Basic (RFC 7617, section 2), with the password by itself.
    fn credentials(&self) -> impl Iterator<Item = String> {
        let pairs = self.0.iter().flat_map(|(name, pieces)| {
            let proves = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION;
            let texts = pieces.iter().filter_map(|piece| match piece {
                Piece::Text(text) => text.trim().split_once(' '),
                _ => None,
            });
            texts.filter_map(move |(scheme, behind)| {
                let is_basic = scheme.eq_ignore_ascii_case("Basic");
                (proves || is_basic).then(|| (is_basic, behind.trim()))
            })
        });
        pairs.flat_map(|(is_basic, behind)| {
            let unpadded = behind.trim_end_matches('=');
            let decoded = STANDARD_NO_PAD.decode(unpadded).ok().filter(|_| is_basic);
            // Other clients write Latin-1 (RFC 7617, section 2.1).
            let decoded = decoded.map(|decoded| match String::from_utf8(decoded) {
                Ok(text) => text,
                Err(other) => other.into_bytes().into_iter().map(char::from).collect(),
            });
            let password = decoded.as_deref().and_then(|both| both.split_once(':'));
            let password = password.map(|(_, password)| password.to_owned());
            [
                Some(behind.to_owned()),
                Some(unpadded.to_owned()),
                password,
                decoded,
            ]
            .into_iter()
            .flatten()
        })
    }

    /// Adds them to `headers`, in the place of what stands there by the same name.
    ///
    /// # Errors
    /// [`AddressError::Header`] where what is filled in cannot travel in a header.
    pub fn fill(&self, filling: &Filling<'_>, headers: &mut HeaderMap) -> Result<(), AddressError> {
        for (name, pieces) in &self.0 {
            // A header about a commit that an episode does not have, or about an archive where none
            // is sent, is left out, with whatever stands around it.
            let Some(text) = pieces
                .iter()
                .map(|piece| piece.fill(filling))
                .collect::<Option<String>>()
            else {
                headers.remove(name);
                continue;
            };
            let mut value = header_text(&text).ok_or_else(|| AddressError::Header {
                name: name.as_str().to_owned(),
                why: "cannot be filled in".to_owned(),
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    }
}

impl Piece {
    fn fill(&self, filling: &Filling<'_>) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            // As in an address, so that an id of any script fits, and two ids never look alike.
            Self::Id => Some(filling.id.percent_encoded()),
            Self::Sha256 => filling.facts.map(|facts| facts.sha256.to_string()),
            Self::ContentSha256 => filling.facts.map(|facts| facts.content_sha256.to_string()),
            Self::Commit => filling.commit.map(|commit| commit.as_str().to_owned()),
            Self::Host => filling.host.to_str().ok().map(str::to_owned),
        }
    }
}

fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("has a { without a }")?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let placeholder = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name);
        let (_, piece) = placeholder.ok_or(
            "holds a placeholder that is not known; there are {id}, {sha256}, {content_sha256}, {commit} and {host}",
        )?;
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Text that can travel in a header as it is: printable ASCII (RFC 9110, section 5.5).
pub(crate) fn header_text(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    printable
        .then(|| HeaderValue::from_str(text).ok())
        .flatten()
}
