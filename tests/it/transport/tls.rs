//! The same over TLS: whom we trust, who we are, and what each side says when it does not like the
//! other.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, date_time_ymd};
use rustls::{
    HandshakeKind, NamedGroup, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sealift::{http::client::Client, ship::outcome::Fault};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

use super::{JSON, LARGE, Peer, Sandbox, Server, answered, fault, object, until, within};

fn server_config(
    (certificate, key): &(String, String),
    clients: Option<&Authority>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
                .build()
                .unwrap(),
        ),
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Stores whatever comes.
async fn receiver(config: Arc<ServerConfig>) -> Server {
    Server::raw(move |stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let Ok(tls) = acceptor.accept(stream).await else {
                return;
            };
            let mut peer = Peer::new(tls);
            while let Some((_, body)) = peer.request().await {
                peer.answer("201 Created", JSON, &json!({"len": body.len()}).to_string())
                    .await;
            }
        }
    })
    .await
}

fn trusting(server: &Server, authority: &Authority) -> Sandbox {
    let mut sandbox = Sandbox::to(format!("https://localhost:{}", server.address.port()));
    sandbox.config.ca_file = sandbox.file("ca.pem", &authority.pem());
    sandbox
}

async fn refusal(sandbox: &Sandbox) -> String {
    match fault(sandbox.deliver(sandbox.holding("a", b"x")).await) {
        Fault::Tls(why) => why,
        other => panic!("not a fault of TLS: {other:?}"),
    }
}

#[tokio::test]
async fn a_ca_file_that_begins_with_a_byte_order_mark_is_read() {
    let authority = Authority::new();
    let server = receiver(server_config(&authority.sign("localhost", |_| {}), None)).await;
    let mut sandbox = trusting(&server, &authority);
    sandbox.config.ca_file = sandbox.file("ca.pem", &format!("\u{feff}{}", authority.pem()));
    answered(sandbox.deliver(sandbox.holding("a", b"x")).await);
}

#[tokio::test]
async fn a_large_and_a_small_archive_arrive_over_one_tls_connection() {
    let authority = Authority::new();
    let server = receiver(server_config(&authority.sign("localhost", |_| {}), None)).await;
    let sandbox = trusting(&server, &authority);
    let transport = sandbox.transport();
    for (id, len) in [("small", 7), ("large", 5_000_001), ("again", 7)] {
        let delivery = sandbox.of_length(id, len);
        let progress = delivery.progress.clone();
        assert_eq!(
            answered(within(transport.deliver(delivery)).await),
            (201, object(json!({"len": len})))
        );
        assert_eq!(progress.bytes(), len);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_first_key_share_is_one_that_no_quantum_computer_will_read() {
    let authority = Authority::new();
    let config = server_config(&authority.sign("localhost", |_| {}), None);
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let server = Server::raw(move |stream| {
        let (acceptor, noted) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&noted));
        async move {
            let tls = acceptor.accept(stream).await.unwrap();
            let connection = tls.get_ref().1;
            let group = connection.negotiated_key_exchange_group().unwrap().name();
            *noted.lock().unwrap() = Some((group, connection.handshake_kind().unwrap()));
            let mut peer = Peer::new(tls);
            peer.request().await;
            peer.answer("201 Created", JSON, "{}").await;
        }
    })
    .await;
    let sandbox = trusting(&server, &authority);
    within(sandbox.transport().deliver(sandbox.holding("a", b"x"))).await;
    // A full handshake: it was not asked for another one.
    let hybrid = (NamedGroup::X25519MLKEM768, HandshakeKind::Full);
    assert_eq!(*seen.lock().unwrap(), Some(hybrid));
}

#[tokio::test]
async fn an_unknown_authority_a_wrong_name_and_an_expired_certificate_are_the_destinations_fault() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = receiver(server_config(&authority.sign("localhost", |_| {}), None)).await;
    let why = refusal(&trusting(&server, &stranger)).await;
    assert!(why.contains("ca_file"), "{why}");

    let mut sandbox = trusting(&server, &authority);
    sandbox.config.url = format!("https://{}", server.address);
    let why = refusal(&sandbox).await;
    assert!(why.contains("not valid for name"), "{why}");

    let expired = authority.sign("localhost", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let server = receiver(server_config(&expired, None)).await;
    let why = refusal(&trusting(&server, &authority)).await;
    assert!(why.contains("expired"), "{why}");
    assert!(
        why.contains("2002-01-01T") && !why.contains("UNIX"),
        "{why}"
    );

    // As `openssl req -x509` makes it.
    let of_authority = authority.sign("localhost", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let server = receiver(server_config(&of_authority, None)).await;
    let why = refusal(&trusting(&server, &authority)).await;
    assert!(
        why.contains("the certificate is one of an authority"),
        "{why}"
    );
    assert!(why.contains("CA:FALSE"), "{why}");
}

#[tokio::test]
async fn where_ca_file_is_set_the_system_is_not_trusted_beside_it_and_a_client_keeps_what_it_has_read()
 {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = receiver(server_config(&authority.sign("localhost", |_| {}), None)).await;
    let sandbox = trusting(&server, &stranger);
    let outcome = within(sandbox.transport().deliver(sandbox.holding("a", b"x"))).await;
    assert!(matches!(fault(outcome), Fault::Tls(_)));

    sandbox.file("ca.pem", &authority.pem());
    let transport = sandbox.transport();
    sandbox.file("ca.pem", "broken");
    assert!(Client::new(&sandbox.config).is_err());
    assert_eq!(
        answered(within(transport.deliver(sandbox.holding("a", b"x"))).await).0,
        201
    );

    // What was made under the old files is not used under the new.
    sandbox.file("ca.pem", &stranger.pem());
    let outcome = within(sandbox.transport().deliver(sandbox.holding("a", b"x"))).await;
    assert!(matches!(fault(outcome), Fault::Tls(_)));
    drop(transport);
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_a_foreign_client_certificate_is_told_and_the_right_one_is_taken() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = receiver(server_config(
        &authority.sign("localhost", |_| {}),
        Some(&authority),
    ))
    .await;
    let mut sandbox = trusting(&server, &authority);
    // The alert comes when the client thinks that all is well (TLS 1.3), and races with what it
    // sends.
    for _ in 0..20 {
        let why = refusal(&sandbox).await;
        assert!(why.contains("client_cert_file"), "{why}");
        let fault = fault(sandbox.deliver(sandbox.of_length("large", LARGE)).await);
        assert!(matches!(fault, Fault::Tls(_)), "{fault:?}");
    }
    for (signer, taken) in [(&stranger, false), (&authority, true)] {
        let (certificate, key) = signer.sign("client", |_| {});
        sandbox.config.client_cert = sandbox
            .file("client.pem", &certificate)
            .zip(sandbox.file("client.key", &key));
        if taken {
            assert_eq!(
                answered(sandbox.deliver(sandbox.holding("a", b"x")).await).0,
                201
            );
        } else {
            let why = refusal(&sandbox).await;
            assert!(why.contains("our client certificate"), "{why}");
        }
    }
    // The alerts do not tell: the first is that of a certificate that has expired.
    type Change = fn(&mut CertificateParams);
    let not_yet: Change = |params| params.not_before = date_time_ymd(2060, 1, 1);
    let for_servers: Change =
        |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    for (change, words) in [
        (not_yet, "it is valid from 2060-01-01T00:00:00Z"),
        (for_servers, "its extendedKeyUsage has no clientAuth"),
    ] {
        let (certificate, key) = authority.sign("client", change);
        sandbox.config.client_cert = sandbox
            .file("client.pem", &certificate)
            .zip(sandbox.file("client.key", &key));
        let why = refusal(&sandbox).await;
        assert!(
            why.contains("our client certificate") && why.contains(words),
            "{why}"
        );
    }
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_over_tls_is_heard_when_the_server_closes_over_what_it_did_not_read() {
    let authority = Authority::new();
    let config = server_config(&authority.sign("localhost", |_| {}), None);
    let server = Server::raw(move |stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let Ok(tls) = acceptor.accept(stream).await else {
                return;
            };
            let mut peer = Peer::new(tls);
            peer.head().await;
            peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            peer.body(100_000).await;
            peer.answer("413 Content Too Large", JSON, "{}").await;
        }
    })
    .await;
    let sandbox = trusting(&server, &authority);
    for _ in 0..20 {
        let outcome = sandbox.deliver(sandbox.of_length("large", LARGE)).await;
        assert_eq!(answered(outcome), (413, object(json!({}))));
    }
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn plain_http_behind_an_https_address_is_the_destinations_fault() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.drain().await;
    })
    .await;
    let why = refusal(&trusting(&server, &Authority::new())).await;
    assert!(why.contains("does not speak TLS"), "{why}");
}

#[tokio::test]
async fn a_handshake_that_breaks_off_is_weather() {
    let server = Server::raw(|stream| async move { drop(stream) }).await;
    let sandbox = trusting(&server, &Authority::new());
    let fault = fault(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert!(matches!(fault, Fault::Lost(_)), "{fault:?}");
}
