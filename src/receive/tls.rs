//! TLS: what connections are accepted with, and the handshake.
//!
//! ```text
//!  TCP ──▶ handshake ──▶ certificate, where one was shown: its name ──▶ HTTP
//!              └ not in time, not TLS, a certificate that is expired or not by our authority
//!                  ──▶ alert, closed
//! ```
//!
//! A client certificate is optional here even where one is asked for. Who shows none is heard out
//! and told in words what to set (or has a token); a handshake can only say a number. One that is
//! shown must be good.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::identity::{self, NameError};
use crate::{config::key_files::provider, model::episode::HostName};

/// From the connection to the end of the handshake: a few round trips on the worst line, and a busy
/// machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a handshake that failed, what the client still sends is read and thrown away up to this
/// many bytes and for this long. A socket that is closed with bytes unread is reset, and the reset
/// overtakes the alert.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What to check the hosts' certificates against.
///
/// # Errors
/// None of the authorities can be used.
pub(super) fn verifier(roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

/// What connections are accepted with, from now on.
///
/// # Errors
/// The cryptography does not do TLS 1.2 and 1.3, which the one that is compiled in does.
pub(super) fn server_config(
    certified: &Arc<CertifiedKey>,
    clients: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let resolver = SingleCertAndKey::from(Arc::clone(certified));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // A resumed session takes the certificate of the first one at its word: it would let in who has
    // expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A connection whose handshake is over, and whose certificate was shown.
pub(super) type Accepted<IO> = (TlsStream<IO>, Option<Result<HostName, NameError>>);

/// Makes the handshake. One that fails has sent its alert when this returns.
///
/// # Errors
/// What rustls said, or that it was not over in time.
pub(super) async fn handshake<IO>(config: Arc<ServerConfig>, stream: IO) -> io::Result<Accepted<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let accepting = TlsAcceptor::from(config).accept(stream).into_fallible();
    match timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => {
            let shown = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(<[_]>::first);
            let name = shown.map(|certificate| identity::name_of(certificate));
            Ok((stream, name))
        }
        Ok(Err((error, stream))) => {
            linger(stream).await;
            Err(error)
        }
        Err(_) => {
            let seconds = HANDSHAKE_TIMEOUT.as_secs();
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not over within {seconds} s"),
            ))
        }
    }
}

async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: IO) {
    // A client that has gone needs no alert.
    let _ = timeout(LINGER_TIME, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use tokio::time::Instant;

    use super::*;

    fn config() -> Arc<ServerConfig> {
        let made = rcgen::generate_simple_self_signed(vec!["receiver".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certified =
            CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider()).unwrap();
        server_config(&Arc::new(certified), None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_end_is_given_up_after_ten_seconds() {
        let (_client, stream) = tokio::io::duplex(64);
        let started = Instant::now();
        let error = handshake(config(), stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_sends_behind_a_failed_handshake_is_read_within_bounds_and_the_alert_is_out()
     {
        let (mut client, stream) = tokio::io::duplex(1024);
        let shaking = tokio::spawn(handshake(config(), stream));
        let started = Instant::now();
        let sent = client.write_all(&[b'x'; 16 * 1024]).await;
        assert!(sent.is_ok(), "it was read on");
        let mut alert = [0; 1];
        client.read_exact(&mut alert).await.unwrap();
        assert_eq!(alert, [21]);
        let error = shaking.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), started.elapsed().as_secs()),
            (io::ErrorKind::InvalidData, 1)
        );
    }
}
