//! What can go wrong on the way to an answer, and reading it out of the error chains of the layers
//! below.

use std::{error::Error, io};

use crate::model::records::dated;

/// Why an exchange has no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name means nothing to the resolver.
    #[error("its name cannot be resolved: {0}")]
    UnknownName(String),
    /// Nothing listens, or there is no way.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// A certificate, the name in it, or the handshake was refused by one of the two sides.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// One of the waits was too long.
    #[error("{0}")]
    TimedOut(Wait),
    /// The connection broke after it stood, or what came over it is not HTTP.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// A connection that was kept from a request before had ended at the other end when this one
    /// was sent. It may be sent again at once; requests whose bodies are in memory are, and never
    /// end so.
    #[error("the connection was lost: {0}")]
    Stale(String),
    /// The address cannot be used.
    #[error("the request could not be made: {0}")]
    Request(String),
    /// The body's source failed.
    #[error("the body could not be read: {0}")]
    Body(io::Error),
    /// The progress of the work was told to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Which wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Name, connection and TLS handshake.
    #[error("no connection within the connect time-out")]
    Connect,
    /// No byte either way.
    #[error("no byte moved within the idle time-out")]
    Idle,
    /// From the last byte sent to the answer.
    #[error("no answer within the answer time-out")]
    Answer,
}

/// Sorts the error of a connector: where it failed decides.
///
/// hyper-rustls hands through what the TCP connector said (a type of its own), and wraps what
/// happened in the handshake as an [`io::Error`]; that is the only difference to go by.
pub(super) fn of_connecting(error: &(dyn Error + Send + Sync + 'static)) -> ClientError {
    if let Some(tls) = find::<rustls::Error>(error) {
        return ClientError::Tls(explain(tls));
    }
    if find::<io::Error>(error).is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        return ClientError::TimedOut(Wait::Connect);
    }
    if error.is::<io::Error>() {
        return ClientError::Lost(format!("during the TLS handshake: {}", chain(error)));
    }
    // The connector's own words for what getaddrinfo(3) said; it has no type for it that could be
    // asked.
    let why = chain(error);
    if why.starts_with("dns error") {
        ClientError::UnknownName(why)
    } else {
        ClientError::Unreachable(why)
    }
}

/// Sorts an error that a standing connection gave while reading or writing.
///
/// The alert of a TLS 1.3 server that wants another client certificate comes here: the client's
/// handshake was over before the server looked (RFC 8446, section 4.4.2.4 and figure 1).
pub(super) fn of_io(error: &io::Error) -> ClientError {
    if let Some(tls) = find::<rustls::Error>(error) {
        return ClientError::Tls(explain(tls));
    }
    // ETIMEDOUT: the kernel's own idea of an idle time-out (TCP_USER_TIMEOUT, keep-alive).
    if error.kind() == io::ErrorKind::TimedOut {
        return ClientError::TimedOut(Wait::Idle);
    }
    ClientError::Lost(error.to_string())
}

/// The first error of this type in a chain. [`io::Error`] hides what it wraps from
/// [`Error::source`], which gives the source of that; so it is opened by hand.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            // The innermost of several nested I/O errors is the one that the system gave.
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            return inner.and_then(|inner| find(inner)).or(Some(found));
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The messages of a chain, outermost first, each once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        next = error.source();
    }
    text
}

/// How the message begins that is about such a certificate.
pub(crate) const CERTIFICATE_OF_AN_AUTHORITY: &str = "the certificate is one of an authority";

/// What each message has in it that is about the certificate that we show, or do not.
pub(crate) const OUR_CERTIFICATE: &str = "client certificate";

/// What is said of an alert that is about our certificate.
pub(super) const OUR_CERTIFICATE_IS_REFUSED: &str = "the receiver refuses our client certificate";

/// rustls's words, and what to do where that is not plain.
fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};
    let hint = match error {
        // A bad signature: an authority of the same name, made anew.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "receiver.ca_file must hold the authority that signed the receiver's certificate",
        // rustls-webpki has no word of its own for it.
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            return format!(
                "{CERTIFICATE_OF_AN_AUTHORITY}: it has basicConstraints CA:TRUE, as `openssl req -x509` makes it; make it anew \
                 with -addext basicConstraints=critical,CA:FALSE"
            );
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the receiver asks for a client certificate: set receiver.client_cert_file and receiver.client_key_file"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError,
        ) => OUR_CERTIFICATE_IS_REFUSED,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other end does not speak TLS: is this an http:// address?"
        }
        _ => return dated(&error.to_string()),
    };
    format!("{} ({hint})", dated(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_however_deep_it_is_wrapped() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert!(
            matches!(of_io(&wrapped), ClientError::Tls(text) if text.contains("client_cert_file"))
        );
        let wrapped = io::Error::other(io::Error::from(io::ErrorKind::TimedOut));
        assert!(matches!(
            of_connecting(&wrapped),
            ClientError::TimedOut(Wait::Connect)
        ));
        let eof = io::Error::other(io::Error::new(io::ErrorKind::UnexpectedEof, "eof"));
        assert!(matches!(of_connecting(&eof), ClientError::Lost(_)));
    }
}
