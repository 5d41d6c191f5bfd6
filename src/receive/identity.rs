//! Who it is that asks, and what they may read.
//!
//! ```text
//!  certificate ──▶ its first DNS name, else its common name ──▶ HostName ──▶ Known
//!       │                                        └ none, or no name that can be filed under ─▶ 401
//!       └ none ──▶ Authorization: Bearer ──▶ SHA-256 ──▶ tokens ──▶ HostName ──▶ Known
//!                       └ none, malformed, unknown ──────────────────────────────▶ 401
//! ```
//!
//! Pure: no I/O. That a certificate is signed by an authority we trust, and not expired, was
//! settled by the handshake. A certificate suffices: a token beside it is not looked at. Where no
//! name is asked for, every caller is [`Caller::Unnamed`].

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, header};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use crate::model::{
    episode::{Digest, HostName, IdError},
    wire::{Problem, ProblemType},
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Callers are not asked who they are.
    Unnamed,
    /// Whose certificate or token it is.
    Known(HostName),
}

impl Caller {
    /// The authenticated name.
    pub(crate) fn name(&self) -> Option<&HostName> {
        match self {
            Self::Unnamed => None,
            Self::Known(name) => Some(name),
        }
    }
}

/// The ways in which callers can say who they are. Where there is none, they are not asked.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    /// The handshake asks for certificates.
    pub certificates: bool,
    /// The tokens that are known, where they are taken.
    pub tokens: Option<&'a Tokens>,
}

/// Says who asks, from the certificate that the handshake took and a request's headers.
///
/// # Errors
/// `unauthenticated`, which says what to set.
pub(crate) fn identify(
    ways: Ways<'_>,
    certificate: Option<&Result<HostName, NameError>>,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    if !ways.certificates && ways.tokens.is_none() {
        return Ok(Caller::Unnamed);
    }
    let refused = |detail: String| Err(Problem::new(ProblemType::Unauthenticated, detail));
    match certificate {
        Some(Ok(name)) => return Ok(Caller::Known(name.clone())),
        Some(Err(why)) => return refused(format!("Your certificate names no host: {why}.")),
        None => {}
    }
    let set = match (ways.certificates, ways.tokens.is_some()) {
        (true, true) => "client_cert_file and client_key_file, or token_file",
        (true, false) => "client_cert_file and client_key_file",
        (false, true | false) => "token_file",
    };
    if !headers.contains_key(header::AUTHORIZATION) {
        let taken_off = match ways.tokens {
            Some(_) => {
                " No Authorization has arrived: where token_file is set, something in between takes it off."
            }
            None => "",
        };
        return refused(format!(
            "This receiver asks who you are. A shipper sets {set} in its [receiver].{taken_off}"
        ));
    }
    let Some(tokens) = ways.tokens else {
        return refused(format!(
            "This receiver takes no tokens. A shipper sets {set} in its [receiver]."
        ));
    };
    match bearer(headers).map(|token| tokens.name_of(token)) {
        Some(Some(name)) => Ok(Caller::Known(name.clone())),
        Some(None) => refused("The token is not known here.".to_owned()),
        None => refused("Authorization is not one line of: Bearer TOKEN.".to_owned()),
    }
}

/// What goes into `WWW-Authenticate`, without which there is no 401 (RFC 9110, section 15.5.2; RFC
/// 6750, section 3). No scheme is registered for certificates; a client lets one be that it does
/// not know, and would try tokens in vain where it was asked for them.
pub(crate) fn challenge(ways: Ways<'_>, headers: &HeaderMap) -> &'static str {
    if ways.tokens.is_none() {
        "ClientCertificate realm=\"sealift\""
    } else if headers.contains_key(header::AUTHORIZATION) {
        "Bearer realm=\"sealift\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"sealift\""
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1; the scheme in any case, RFC
/// 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (scheme, token) = line.as_bytes().split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Why a certificate names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// It is not one that can be taken apart.
    #[error("it cannot be read")]
    Unreadable,
    /// It has neither.
    #[error("it has no DNS name and no common name")]
    Nameless,
    /// What it has cannot be filed under.
    #[error("{0:?} cannot be a host's name here: {1}")]
    Unusable(String, IdError),
}

/// Whose certificate this is: its first DNS name (RFC 5280, section 4.2.1.6), else its common name.
///
/// # Errors
/// [`NameError`].
pub(crate) fn name_of(certificate_der: &[u8]) -> Result<HostName, NameError> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate_der)
        .map_err(|_| NameError::Unreadable)?;
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|_| NameError::Unreadable)?;
    let dns = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            // No other kind names a host in this program's sense.
            _ => None,
        });
    let common = || {
        certificate
            .subject()
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
    };
    let name = dns.or_else(common).ok_or(NameError::Nameless)?;
    HostName::parse(name).map_err(|why| NameError::Unusable(name.to_owned(), why))
}

/// The tokens that are known: digests, never the tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    known: Vec<(HostName, Digest)>,
    /// The names by what their spellings have in common.
    spellings: BTreeMap<String, HostName>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Tokens {
    /// Reads a file of `name = "SHA-256 of the token, hex"` lines (TOML). Without one no token is
    /// known.
    ///
    /// # Errors
    /// What is wrong, by line or name. Never quotes a value: the operator may have written the
    /// token itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: BTreeMap<String, toml::Value> = toml::from_str(text).map_err(|error| {
            let before = text
                .get(..error.span().map_or(0, |span| span.start))
                .unwrap_or_default();
            format!(
                "line {}: {}",
                before.matches('\n').count() + 1,
                error.message()
            )
        })?;
        let mut tokens: Vec<(HostName, Digest)> = Vec::with_capacity(table.len());
        let mut spellings = BTreeMap::new();
        for (name, value) in table {
            if value.is_table() {
                return Err(format!(
                    "{name}: a name with a dot in it stands in quotation marks"
                ));
            }
            let digest = value.as_str().and_then(|hex| hex.parse().ok()).ok_or_else(|| {
                format!("{name}: not the SHA-256 of a token, 64 hexadecimal digits in quotation marks")
            })?;
            let name = HostName::parse(&name)
                .map_err(|why| format!("{name:?} cannot be a name: {why}"))?;
            if let Some(other) = spellings.insert(name.folded(), name.clone()) {
                return Err(format!(
                    "{other} and {name} are two spellings of one name; a host has one"
                ));
            }
            if let Some((other, _)) = tokens.iter().find(|(_, known)| *known == digest) {
                return Err(format!(
                    "{other} and {name} have the same token; each needs its own"
                ));
            }
            tokens.push((name, digest));
        }
        Ok(Self {
            known: tokens,
            spellings,
        })
    }

    /// Whose tokens are known.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HostName> {
        self.known.iter().map(|(name, _)| name)
    }

    /// How the name is spelt that has this in common with its other spellings.
    pub(super) fn spelling_of(&self, folded: &str) -> Option<&HostName> {
        self.spellings.get(folded)
    }

    /// Whose token this is. Looks at every entry and compares in constant time, so that how long it
    /// takes tells nothing of what is known.
    pub fn name_of(&self, token: &[u8]) -> Option<&HostName> {
        let shown = Digest::of(token);
        let mut place = u64::MAX;
        for (n, (_, known)) in (0..).zip(&self.known) {
            place.conditional_assign(&n, known.0.ct_eq(&shown.0));
        }
        self.known
            .get(usize::try_from(place).ok()?)
            .map(|(name, _)| name)
    }
}

/// Whether this caller may read an episode: a host its own, a reader every one. Where callers are
/// not asked who they are, every caller reads. What was stored while they were not asked has no
/// owner, and is for readers alone.
pub(crate) fn may_read(
    caller: &Caller,
    owner: Option<&HostName>,
    readers: &BTreeSet<HostName>,
) -> bool {
    match caller {
        Caller::Unnamed => true,
        Caller::Known(name) => readers.contains(name) || owner == Some(name),
    }
}

#[cfg(test)]
mod tests;
