//! Who may come in, over real TLS sockets: every certificate with every token, and files that
//! change while it runs.

use std::{io, sync::Arc};

use rcgen::{CertificateParams, DistinguishedName, date_time_ymd};
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use sealift::model::episode::HostName;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::authority::Authority;

/// Certificate and key as PEM.
type Shown = (String, String);
type TlsClient = Client<TlsStream<TcpStream>>;

/// A receiver behind TLS that takes certificates and tokens, and holds an episode `held` which only
/// `reader` may read.
struct Gate {
    rig: Rig,
    /// Signs the receiver's certificate.
    authority: Authority,
    /// Signs the hosts'.
    hosts: Authority,
}

impl Gate {
    async fn new() -> Self {
        let (authority, hosts) = (Authority::new(), Authority::new());
        let rig = Rig::with(|config, rig| {
            let (certificate, key) = authority.sign("localhost", |_| {});
            config.tls = Some((rig.file("cert", &certificate), rig.file("key", &key)));
            config.client_ca_file = Some(rig.file("ca", &hosts.pem()));
            config.tokens_file = Some(rig.file("tokens", &token("lab-07")));
            config.readers = [HostName::parse("reader").unwrap()].into();
        })
        .await;
        let gate = Self {
            rig,
            authority,
            hosts,
        };
        let reader = gate.hosts.sign("reader", |_| {});
        let mut client = gate.connect(Some(&reader)).await.unwrap();
        client
            .request(&put_head("held", b"archive"), b"archive")
            .await
            .receipt();
        gate
    }

    async fn connect(&self, shown: Option<&Shown>) -> io::Result<TlsClient> {
        self.connect_by(&self.authority, shown, &TLS13).await
    }

    async fn connect_by(
        &self,
        trusted: &Authority,
        shown: Option<&Shown>,
        version: Version,
    ) -> io::Result<TlsClient> {
        self.connect_with(client_config(trusted, shown, version))
            .await
    }

    async fn connect_with(&self, config: Arc<ClientConfig>) -> io::Result<TlsClient> {
        let stream = TcpStream::connect(self.rig.receivers[0]).await?;
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let spoken = stream.get_ref().1.alpn_protocol().map(<[_]>::to_vec);
        assert!(
            matches!(spoken.as_deref(), Some(b"http/1.1" | b"http/1.0")),
            "{spoken:?}"
        );
        Ok(Client(BufStream::new(stream)))
    }

    /// What a HEAD of `held` meets: a status, or the alert.
    async fn asks(&self, shown: Option<&Shown>, authorization: &str, over: Version) -> String {
        let asked = async {
            let mut client = self.connect_by(&self.authority, shown, over).await?;
            // An alert comes after the client's handshake (TLS 1.3), and meets the write or the
            // read.
            client
                .0
                .write_all(head_of_held(authorization).as_bytes())
                .await?;
            client.0.flush().await?;
            client.0.fill_buf().await?;
            Ok(client.answer(true).await)
        };
        match tokio::time::timeout(DEADLINE, asked)
            .await
            .expect("no answer")
        {
            Ok(answer) => answer.status.to_string(),
            Err(error) => {
                let error: io::Error = error;
                error.to_string()
            }
        }
    }
}

type Version = &'static SupportedProtocolVersion;

fn client_config(
    trusted: &Authority,
    shown: Option<&Shown>,
    version: Version,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(trusted.roots());
    let mut config = match shown {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn token(name: &str) -> String {
    format!(
        "{name} = \"{}\"\n",
        Digest::of(format!("token-of-{name}").as_bytes())
    )
}

fn head_of_held(authorization: &str) -> String {
    let line = [("Authorization", authorization)];
    head(
        "HEAD",
        "/v1/episodes/held",
        if authorization.is_empty() { &[] } else { &line },
    )
}

#[tokio::test]
async fn every_certificate_and_every_token_gets_its_documented_answer() {
    let gate = Gate::new().await;
    let stranger = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let nameless = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params.distinguished_name = DistinguishedName::new();
    };
    let common_name_alone = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "reader");
    };
    // 200: the reader. 403: somebody else with a name. 401: nobody we know.
    for (what, shown, answers) in [
        ("none", None, ["401", "401", "403"]),
        (
            "expired",
            Some(gate.hosts.sign("reader", expired)),
            ["CertificateExpired"; 3],
        ),
        (
            "wrong authority",
            Some(stranger.sign("reader", |_| {})),
            ["UnknownCA"; 3],
        ),
        ("right", Some(gate.hosts.sign("reader", |_| {})), ["200"; 3]),
        (
            "right, by its common name",
            Some(gate.hosts.sign("x", common_name_alone)),
            ["200"; 3],
        ),
        (
            "right, another host's",
            Some(gate.hosts.sign("lab-08", |_| {})),
            ["403"; 3],
        ),
        ("nameless", Some(gate.hosts.sign("x", nameless)), ["401"; 3]),
        (
            "climbing",
            Some(gate.hosts.sign(".hidden", |_| {})),
            ["401"; 3],
        ),
    ] {
        let tokens = ["", "Bearer wrong", "Bearer token-of-lab-07"];
        for (authorization, expected) in tokens.into_iter().zip(answers) {
            for version in [&TLS12, &TLS13] {
                let told = gate.asks(shown.as_ref(), authorization, version).await;
                let fits = if expected.len() == 3 {
                    told == expected
                } else {
                    told.contains(expected)
                };
                assert!(
                    fits,
                    "{what}, {authorization:?}, {version:?}: {told}, not {expected}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_speaks_nothing_newer_than_http_1_0_is_answered() {
    let gate = Gate::new().await;
    let reader = gate.hosts.sign("reader", |_| {});
    let mut config = (*client_config(&gate.authority, Some(&reader), &TLS13)).clone();
    config.alpn_protocols = vec![b"http/1.0".to_vec()];
    let mut client = gate.connect_with(Arc::new(config)).await.unwrap();
    let ask = "HEAD /v1/episodes/held HTTP/1.0\r\n\r\n";
    assert_eq!(client.request(ask, b"").await.status, 200);
}

#[tokio::test]
async fn who_is_not_known_is_told_what_to_set_and_nothing_of_what_is_held() {
    let gate = Gate::new().await;
    let mut client = gate.connect(None).await.unwrap();
    let put = put_with("held", b"archive", &[("Expect", "100-continue")]);
    for (request, challenge) in [
        (
            head("GET", "/v1/admission", &[]),
            "Bearer realm=\"sealift\"",
        ),
        (head("GET", "/v1/other", &[]), "Bearer realm=\"sealift\""),
        (
            head("PUT", "/v1/episodes/..", &[]),
            "Bearer realm=\"sealift\"",
        ),
        (
            head("GET", "/v1/admission", &[("Authorization", "Bearer x")]),
            "Bearer realm=\"sealift\", error=\"invalid_token\"",
        ),
        (put, "Bearer realm=\"sealift\""),
    ] {
        let answer = client.request(&request, b"").await;
        let (kind, problem) = answer.problem();
        assert_eq!(
            (answer.status, kind.as_str()),
            (401, "unauthenticated"),
            "{request}"
        );
        assert_eq!(answer.headers["www-authenticate"], challenge, "{request}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("client_cert_file") || challenge.contains("invalid"),
            "{detail}"
        );
    }
    let mut client = gate.connect(None).await.unwrap();
    assert_eq!(
        client
            .request(&head("GET", "/healthz", &[]), b"")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn new_connections_see_the_new_certificates_and_standing_ones_end_as_they_began() {
    let gate = Gate::new().await;
    let old = gate.hosts.sign("reader", |_| {});
    let mut standing = gate.connect(Some(&old)).await.unwrap();
    assert_eq!(standing.request(&head_of_held(""), b"").await.status, 200);

    // Another authority on either side.
    let (authority, hosts) = (Authority::new(), Authority::new());
    let new = hosts.sign("reader", |_| {});
    let (certificate, key) = authority.sign("localhost", |_| {});
    for (name, content) in [("cert", &certificate), ("key", &key), ("ca", &hosts.pem())] {
        gate.rig.file(name, content);
    }
    gate.rig.reload().await;
    assert_eq!(standing.request(&head_of_held(""), b"").await.status, 200);
    assert!(
        gate.connect(Some(&old)).await.is_err(),
        "the old certificate is not shown any more"
    );
    let rotated = Gate {
        rig: gate.rig,
        authority,
        hosts,
    };
    assert_eq!(rotated.asks(Some(&new), "", &TLS13).await, "200");
    assert!(
        rotated
            .asks(Some(&old), "", &TLS13)
            .await
            .contains("UnknownCA")
    );

    // What is broken changes nothing.
    for name in ["cert", "key", "ca"] {
        let kept = std::fs::read_to_string(rotated.rig.folder.path().join(name)).unwrap();
        for broken in ["", "broken", &old.0] {
            // The authority's file may hold any certificate.
            if name != "ca" || broken != old.0 {
                rotated.rig.file(name, broken);
                rotated.rig.reload().await;
                assert_eq!(
                    rotated.asks(Some(&new), "", &TLS13).await,
                    "200",
                    "{name} {broken:?}"
                );
            }
        }
        rotated.rig.file(name, &kept);
    }
}

#[tokio::test]
async fn a_token_counts_from_the_next_request_on_and_is_withdrawn_likewise() {
    let gate = Gate::new().await;
    let mut client = gate.connect(None).await.unwrap();
    let ask = head_of_held("Bearer token-of-lab-09");
    assert_eq!(client.request(&ask, b"").await.status, 401);
    gate.rig
        .file("tokens", &(token("lab-07") + &token("lab-09")));
    gate.rig.reload().await;
    assert_eq!(client.request(&ask, b"").await.status, 403);
    gate.rig.file("tokens", "lab-09");
    gate.rig.reload().await;
    assert_eq!(
        client.request(&ask, b"").await.status,
        403,
        "a file that cannot be read changes nothing"
    );
    gate.rig.file("tokens", &token("lab-07"));
    gate.rig.reload().await;
    assert_eq!(client.request(&ask, b"").await.status, 401);
    // The last one, too.
    let ask = head_of_held("Bearer token-of-lab-07");
    assert_eq!(client.request(&ask, b"").await.status, 403);
    gate.rig.file("tokens", "");
    gate.rig.reload().await;
    assert_eq!(client.request(&ask, b"").await.status, 401);
}

#[tokio::test]
async fn a_second_spelling_of_a_hosts_name_is_refused_in_words() {
    let gate = Gate::new().await;
    for (name, status) in [
        // By the file of tokens, and as a reader.
        ("LAB-07", 401),
        ("lab-07.", 401),
        ("Reader", 401),
        ("reader", 200),
        // The first that comes.
        ("Lab-08", 403),
        ("lab-08", 401),
        ("Lab-08", 403),
    ] {
        let shown = gate.hosts.sign("x", |params| {
            params.subject_alt_names.clear();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
        });
        let mut client = gate.connect(Some(&shown)).await.unwrap();
        let request = head("GET", "/v1/episodes/held", &[]);
        let answer = client.request(&request, b"").await;
        assert_eq!(answer.status, status, "{name}");
        if status == 401 {
            let (_, problem) = answer.problem();
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("one spelling"), "{name}: {detail}");
        }
    }
}

#[tokio::test]
async fn each_connection_shows_its_certificate_and_no_session_is_resumed() {
    let gate = Gate::new().await;
    let reader = gate.hosts.sign("reader", |_| {});
    for version in [&TLS12, &TLS13] {
        // One that remembers sessions, as curl and browsers do.
        let config = client_config(&gate.authority, Some(&reader), version);
        for _ in 0..2 {
            let mut client = gate.connect_with(Arc::clone(&config)).await.unwrap();
            assert_eq!(client.request(&head_of_held(""), b"").await.status, 200);
            let kind = client.0.get_ref().get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_up_nobody() {
    let gate = Gate::new().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gate.rig.receivers[0]).await.unwrap();
        // The beginning of a handshake, and no more.
        stream.write_all(&[22, 3, 1]).await.unwrap();
        silent.push(stream);
    }
    let reader = gate.hosts.sign("reader", |_| {});
    assert_eq!(gate.asks(Some(&reader), "", &TLS13).await, "200");
}

#[tokio::test]
async fn a_client_that_begins_with_a_hybrid_key_share_is_answered_with_one_at_once() {
    let gate = Gate::new().await;
    let config = (*client_config(&gate.authority, None, &TLS13)).clone();
    let groups = &config.crypto_provider().kx_groups;
    assert_eq!(groups[0].name(), NamedGroup::X25519MLKEM768);
    let client = gate.connect_with(Arc::new(config)).await.unwrap();
    let connection = client.0.get_ref().get_ref().1;
    let group = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn a_client_that_reads_when_it_has_sent_all_hears_over_tls_that_it_may_not_in() {
    let gate = Gate::new().await;
    let large = noise(24 << 20);
    for _ in 0..10 {
        let mut client = gate.connect(None).await.unwrap();
        // It fails where what it sends is not taken.
        let answer = client.request(&put_head("a", &large), &large).await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_closed_and_answered_with_nothing_that_looks_like_http() {
    let gate = Gate::new().await;
    let mut client = gate.rig.connect().await;
    client.send(head("GET", "/healthz", &[]).as_bytes()).await;
    let mut answer = Vec::new();
    let read = client.0.read_to_end(&mut answer);
    tokio::time::timeout(DEADLINE, read)
        .await
        .expect("it stays open")
        .unwrap();
    assert_eq!(
        answer.first(),
        Some(&21),
        "an alert: {}",
        answer.escape_ascii()
    );
}
