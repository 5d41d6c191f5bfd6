//! What a response means for the destination: when it is held, how it is probed, what releases it,
//! and how the weather is sat out.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;

use crate::support::{Process, Reply, Sandbox, Scripted, eventually, json_file, names};

/// A daemon that packs and sends one at a time, in the order of the seals, and tells of every step.
fn one_at_a_time(sandbox: &Sandbox) -> Process {
    let mut command =
        sandbox.command_with_config("ship", "[receiver]\nconcurrency = 1\n[pack]\nworkers = 1");
    command.env("RUST_LOG", "debug");
    sandbox.start(command)
}

/// Seals these one after another, so that the order in which they are sent is known.
fn seal_in_order(sandbox: &Sandbox, ids: &[&str]) {
    for (minute, id) in ids.iter().enumerate() {
        let marker = sandbox
            .seal(id, &[("data.bin", id.as_bytes())])
            .join("done.marker");
        let set = std::process::Command::new("touch")
            .args(["-d", &format!("2026-01-02T03:{minute:02}:00Z")])
            .arg(marker)
            .status();
        assert!(set.unwrap().success());
    }
}

#[test]
fn a_held_destination_is_probed_by_another_episode_each_time_until_one_is_delivered() {
    let (packed, mended) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (gate, works, refused) = (
        Arc::clone(&packed),
        Arc::clone(&mended),
        Arc::new(AtomicUsize::new(0)),
    );
    let refusals = Arc::clone(&refused);
    let server = Scripted::new(move |seen, count| {
        eventually("the others are packed", || gate.load(Ordering::SeqCst));
        if count >= 4 && works.load(Ordering::SeqCst) {
            return Reply::stored(seen);
        }
        refusals.fetch_add(1, Ordering::SeqCst);
        // In a receiver's words and without: for these statuses it makes no difference.
        match count % 4 {
            0 => Reply::json(403, &json!({"detail": "no"})),
            1 => Reply::empty(401),
            2 => Reply::html(404),
            _ => Reply::empty(501),
        }
    });
    let sandbox = Sandbox::new(server.url());
    seal_in_order(&sandbox, &["a", "b", "c"]);
    let daemon = one_at_a_time(&sandbox);
    // One is at the gate; what waits behind it shows in the outbox.
    eventually("all are packed", || {
        daemon.log().matches("packed").count() >= 3
    });
    packed.store(true, Ordering::SeqCst);
    eventually("the fourth probe is answered", || server.seen().len() >= 4);
    daemon.wait_log("The receiver cannot be used");
    daemon.wait_log("The receiver still cannot be used");
    mended.store(true, Ordering::SeqCst);
    for id in ["a", "b", "c"] {
        sandbox.wait_shipped(id);
    }
    // Each once, the smaller archive first, before one goes again; once one is delivered, all the
    // rest follow at once.
    let order = server.order();
    let mut first: Vec<_> = order[..3].to_vec();
    first.sort();
    assert_eq!(first, ["a", "b", "c"], "{order:?}");
    let probes = refused.load(Ordering::SeqCst) + 1;
    assert!(
        order[..probes].windows(2).all(|pair| pair[0] != pair[1]),
        "{order:?}"
    );
    assert_eq!(order.len(), probes + 2, "{order:?}");
    daemon.wait_log("The receiver works again");
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn while_the_destination_is_held_nothing_moves_and_one_probe_goes_at_a_time() {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak, held) = (
        Arc::clone(&under_way),
        Arc::clone(&most),
        Arc::new(AtomicBool::new(false)),
    );
    let counts = Arc::clone(&held);
    let server = Scripted::new(move |_, _| {
        let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
        if counts.load(Ordering::SeqCst) {
            peak.fetch_max(at_once, Ordering::SeqCst);
        }
        thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        Reply::empty(403)
    });
    let sandbox = Sandbox::new(server.url());
    let ids: Vec<_> = (0..12).map(|n| format!("run-{n:02}")).collect();
    for id in &ids {
        sandbox.seal(id, &[]);
    }
    let mut command = sandbox.command("ship");
    command.env("RUST_LOG", "sealift=debug");
    let mut daemon = sandbox.start(command);
    // Up to four go before anybody knows that the destination is at fault, and the others, which
    // were not tried yet, behind them. With the twelfth answer all are through. The first of them
    // is told, and the others say nothing new.
    daemon.wait_log("The receiver cannot be used");
    eventually("what was under way when the hold began has ended", || {
        let log = daemon.log();
        log.matches("cannot be used").count() + log.matches("refused as well").count() >= 12
    });
    held.store(true, Ordering::SeqCst);
    let before = server.seen().len();
    eventually("a probe came", || server.seen().len() > before);
    assert_eq!(names(&sandbox.layout.episodes), ids);
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
    assert!(daemon.terminate().success());
}

#[test]
fn an_episode_that_is_refused_alone_waits_alone_while_others_are_delivered() {
    for reply in [
        Reply::empty(403),
        Reply::empty(400),
        Reply::json(404, &json!({"detail": "not this one"})),
    ] {
        let server = Scripted::new(move |seen, _| match seen.id.as_str() {
            "bad" => reply.clone(),
            _ => Reply::stored(seen),
        });
        let sandbox = Sandbox::new(server.url());
        seal_in_order(&sandbox, &["bad", "a", "b"]);
        let daemon = sandbox.daemon();
        for id in ["a", "b"] {
            sandbox.wait_shipped(id);
        }
        daemon.wait_log("bad is refused while others are not");
        sandbox.seal("c", &[]);
        sandbox.wait_shipped("c");
        assert_eq!(names(&sandbox.layout.episodes), ["bad"]);
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    }
}

#[test]
fn two_different_episodes_that_no_receiver_refused_alike_hold_the_destination() {
    let server = Scripted::new(|seen, count| {
        if count < 2 {
            Reply::html(413)
        } else {
            Reply::stored(seen)
        }
    });
    let sandbox = Sandbox::new(server.url());
    seal_in_order(&sandbox, &["a", "b", "c"]);
    let daemon = one_at_a_time(&sandbox);
    daemon.wait_log("The receiver cannot be used: answered 413");
    for id in ["a", "b", "c"] {
        sandbox.wait_shipped(id);
    }
    let order = server.order();
    assert_eq!(order[..2], ["a", "b"]);
    daemon.wait_log("a is refused while others are not, or not by a receiver");
    daemon.wait_log("The receiver works again");
}

#[test]
fn refused_differently_they_do_not() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "a" => Reply::html(413),
        "b" => Reply::empty(400),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    seal_in_order(&sandbox, &["a", "b", "c"]);
    let daemon = one_at_a_time(&sandbox);
    sandbox.wait_shipped("c");
    assert!(!daemon.log().contains("cannot be used"), "{}", daemon.log());
}

#[test]
fn after_the_weather_it_is_sent_again_with_the_same_bytes() {
    for bad in [
        Reply::empty(503),
        Reply::html(502),
        Reply::json(507, &json!({"detail": "full"})),
        Reply::hang_up(),
    ] {
        let server = Scripted::new(move |seen, count| {
            if count < 2 {
                bad.clone()
            } else {
                Reply::stored(seen)
            }
        });
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        let daemon = sandbox.daemon();
        sandbox.wait_shipped("run-1");
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|again| again.body == seen[0].body));
        daemon.wait_log("run-1 was not delivered");
        daemon.wait_log("is sent again in");
    }
}

#[test]
fn retry_after_is_honoured() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "later" => Reply::json(503, &json!({"detail": "busy"})).header("Retry-After: 90"),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("later", &[]);
    let daemon = sandbox.daemon();
    daemon.wait_log("is sent again in 90 s");
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[]);
        sandbox.wait_shipped(id);
    }
    assert_eq!(server.count("later"), 1);

    // A short one is waited for, and no longer.
    let (server, clock) = timed(|count| match count {
        0 => Some(Reply::empty(429).header("Retry-After: 1")),
        _ => None,
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let _daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    let times = clock();
    assert!((1000..10_000).contains(&(times[1] - times[0])), "{times:?}");
}

/// A server that knows when each request came, milliseconds.
fn timed(
    script: impl Fn(usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Scripted, impl Fn() -> Vec<u64>) {
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let server = Scripted::new(move |seen, count| {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an uptime is small and positive"
        )]
        log.lock().unwrap().push((seconds * 1000.0) as u64);
        script(count).unwrap_or_else(|| Reply::stored(seen))
    });
    (server, move || times.lock().unwrap().clone())
}

#[test]
fn a_receiver_that_asks_for_days_is_asked_again_after_an_hour() {
    let server = Scripted::new(|_, _| Reply::empty(503).header("Retry-After: 999999999"));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    sandbox.daemon().wait_log("is sent again in 60 min");
}

#[test]
fn a_receiver_that_was_not_there_yet_gets_everything_when_it_comes() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let sandbox = Sandbox::new(format!("http://{address}"));
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[]);
    }
    let daemon = sandbox.daemon();
    daemon.wait_log("the receiver cannot be reached");
    let server = Scripted::listen(&address, |seen, _| Reply::stored(seen));
    for id in ["a", "b", "c"] {
        sandbox.wait_shipped(id);
        assert_eq!(server.count(id), 1);
    }
}

#[test]
fn a_receiver_that_is_restarted_gets_each_episode_once() {
    let mut sandbox = Sandbox::with_receiver();
    let _daemon = sandbox.daemon();
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    let address = sandbox.kill_receiver();
    sandbox.seal("b", &[]);
    eventually("the archive of b is kept", || {
        sandbox.outbox() == ["b.json", "b.tar.zst"]
    });
    sandbox.start_receiver(&address);
    sandbox.wait_shipped("b");
    assert_eq!(
        json_file(&sandbox.shipped("b").join("shipping_receipt.json"))["status_code"],
        201
    );
}

/// An authority, and a receiver behind a certificate of it for `localhost`.
fn tls_receiver() -> (String, u16) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let tls = StreamOwned::new(tls, stream.unwrap());
            // A client that does not trust us hangs up: that is what the test is about.
            thread::spawn(move || stored(BufReader::new(tls)));
        }
    });
    (authority.pem(), port)
}

/// Takes one upload and answers 204.
fn stored<S: Read + Write>(mut stream: BufReader<S>) -> std::io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .unwrap();
    let mut body = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut body)?;
    stream
        .get_mut()
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_certificate_that_is_not_trusted_holds_the_destination_until_it_is() {
    let (trusted, port) = tls_receiver();
    let (stranger, _) = tls_receiver();
    let sandbox = Sandbox::new(format!("https://localhost:{port}"));
    let ca_file = sandbox.path("ca.pem");
    fs::write(&ca_file, stranger).unwrap();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let config = format!("[receiver]\nca_file = {ca_file:?}");
    let mut once = sandbox.command_with_config("ship", &config);
    let (code, tally) = crate::support::json_of(once.args(["--once", "--json"]).output().unwrap());
    assert_eq!((code, &tally["held"]), (1, &json!(1)), "{tally}");

    let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    daemon.wait_log("The receiver cannot be used: TLS failed");
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    // The operator mends it, and the daemon goes on.
    fs::write(&ca_file, trusted).unwrap();
    daemon.signal("HUP");
    sandbox.wait_shipped("run-1");
    daemon.wait_log("The receiver works again");
}
