//! What the receiver's process takes, whatever is sent to it.

use std::sync::Arc;

use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{authority::Authority, support::Sandbox};

const UPLOADS: usize = 256;
const LIMIT_KIB: u64 = 64 * 1024;

/// What the program's own code takes of that, KiB, in an optimised build. A debug build has twice
/// as much, and how much of it was touched by then differs from run to run.
const CODE_KIB: u64 = 12 * 1024;

/// The most that a process has had in memory, KiB, with the code of an optimised build
/// (proc_pid_status(5)).
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    };
    let peak = kib("VmHWM:");
    if cfg!(debug_assertions) {
        peak - kib("RssFile:") + CODE_KIB
    } else {
        peak
    }
}

/// Holds so many uploads in the middle, each with more under way than any buffer takes, and says
/// what that took.
async fn peak_of_many<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    sandbox: &Sandbox,
    connect: impl AsyncFn() -> S,
) -> u64 {
    let digest = Digest::of(b"").to_header();
    let mut uploads = JoinSet::new();
    for n in 0..UPLOADS {
        let mut stream = connect().await;
        let head = head(
            "PUT",
            &format!("/v1/episodes/e{n}"),
            &[("Content-Length", "8388608"), ("Repr-Digest", &digest)],
        );
        uploads.spawn(async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = noise(64 * 1024);
            for _ in 0..32 {
                stream.write_all(&piece).await.unwrap();
            }
            stream.flush().await.unwrap();
            stream
        });
    }
    let open = uploads.join_all().await;
    assert_eq!(open.len(), UPLOADS);
    peak_kib(sandbox.receiver().pid())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_256_uploads_in_flight_it_stays_under_64_mib() {
    let sandbox = Sandbox::with_receiver();
    let address: SocketAddr = sandbox.url().trim_start_matches("http://").parse().unwrap();
    let peak = peak_of_many(&sandbox, async || {
        TcpStream::connect(address).await.unwrap()
    })
    .await;
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_256_uploads_in_flight_over_tls_it_stays_under_64_mib() {
    let authority = Authority::new();
    let mut sandbox = Sandbox::new("");
    let (certificate, key) = authority.sign("localhost", |_| ());
    for (name, content) in [("cert.pem", &certificate), ("key.pem", &key)] {
        std::fs::write(sandbox.path(name), content).unwrap();
    }
    let (certificate, key) = (sandbox.path("cert.pem"), sandbox.path("key.pem"));
    sandbox.start_receiver_over_tls(&format!(
        "tls_cert_file = {certificate:?}\ntls_key_file = {key:?}\n"
    ));
    let port: u16 = sandbox.url().rsplit(':').next().unwrap().parse().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let peak = peak_of_many(&sandbox, async || {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    })
    .await;
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}
