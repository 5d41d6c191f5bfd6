//! The receiver: each way in which it can be missing, strange, or of another opinion.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use rcgen::date_time_ymd;
use sealift::{
    clock::wall_now,
    model::{episode::Digest, records::WallTime},
};
use serde_json::json;

use super::{Host, told_within_five_seconds};
use crate::{
    authority::Authority,
    support::{Reply, Sandbox, Scripted, eventually},
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A host whose receiver answers the doctor by script.
fn asking(script: impl Fn() -> Reply + Send + Sync + 'static) -> (Host, Scripted) {
    let server = Scripted::new(move |seen, _| {
        if seen.head.starts_with("PUT") {
            Reply::stored(seen)
        } else {
            script()
        }
    });
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    (host, server)
}

fn write(sandbox: &Sandbox, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = sandbox.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn nobody_who_listens_turns_one_row_and_the_next_start_turns_it_back() {
    let mut host = Host::sound();
    let before = host.wrong();
    let address = host.sandbox.kill_receiver();
    let row = host.turned("receiver-reachable", &before);
    assert_eq!(row["fix"], "systemctl start sealift-receiver.service");
    host.sandbox.start_receiver(&address);
    assert_eq!(host.wrong(), before);
}

#[test]
fn a_name_that_nobody_knows_turns_one_row() {
    let host = Host::without_a_daemon(Sandbox::new("http://receiver.invalid:8490"));
    let told = host.doctor();
    assert_eq!(
        told.wrong(),
        ["daemon", "receiver-name"],
        "{:#}",
        told.document
    );
    assert!(
        told.row("receiver-name")["summary"]
            .as_str()
            .unwrap()
            .contains("getent hosts receiver.invalid")
    );
}

/// Accepts, reads, and says nothing.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let held: Vec<_> = listener
            .incoming()
            .map(|stream| {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream
            })
            .collect();
        drop(held);
    });
    format!("http://{address}")
}

#[test]
fn a_receiver_that_hangs_keeps_nobody_waiting_for_five_seconds() {
    let host = Host::without_a_daemon(Sandbox::new(silent()));
    fs::write(host.sandbox.path("journal.hangs"), "").unwrap();
    let told = told_within_five_seconds(&host);
    assert_eq!(
        told.wrong(),
        ["daemon", "receiver-answer", "journal"],
        "{:#}",
        told.document
    );
}

#[test]
fn each_answer_that_no_receiver_gives_turns_one_row_and_a_web_server_none() {
    let say = Arc::new(AtomicU16::new(404));
    let script = Arc::clone(&say);
    let (host, _server) = asking(move || match script.load(Ordering::SeqCst) {
        200 => Reply::html(200),
        301 => Reply::empty(301).header("Location: https://elsewhere.example/"),
        507 => Reply::json(
            507,
            &json!({"type": "urn:sealift:no-space", "detail": "The store is full."}),
        ),
        status => Reply::html(status),
    });
    let before = host.wrong();
    assert_eq!(before, ["daemon"]);
    for (status, row) in [
        (405, None),
        (403, None),
        (501, None),
        (200, Some("receiver-answer")),
        (301, Some("receiver-answer")),
        (503, Some("receiver-answer")),
        (507, Some("receiver-answer")),
        (407, Some("receiver-answer")),
        (401, Some("receiver-credential")),
    ] {
        say.store(status, Ordering::SeqCst);
        match row {
            Some(row) => {
                let colour = if status == 503 { "yellow" } else { "red" };
                // On a machine that is busy the question may be lost, which is yellow.
                eventually(&format!("{status} is {colour}"), || {
                    host.doctor().row(row)["status"] == colour
                });
                host.turned(row, &before);
            }
            None => assert_eq!(host.wrong(), before, "{status}"),
        }
    }
}

#[test]
fn where_the_whole_address_is_set_there_is_no_admission_to_ask() {
    let server = Scripted::new(|_, _| Reply::empty(404));
    let host = Host::without_a_daemon(Sandbox::new(format!(
        "{}/bucket/{{id}}.tar.zst",
        server.url()
    )));
    assert_eq!(host.wrong(), ["daemon"]);
    let asked = server.seen().pop().unwrap();
    assert!(
        asked
            .head
            .starts_with("HEAD /bucket/sealift-doctor.tar.zst "),
        "{}",
        asked.head
    );
}

#[test]
fn a_token_that_is_not_known_turns_one_row_and_the_right_one_turns_it_back() {
    let mut sandbox = Sandbox::new("");
    let tokens = write(
        &sandbox,
        "tokens",
        &format!("lab-07 = \"{}\"\n", Digest::of(b"right")),
    );
    let config = write(
        &sandbox,
        "receive.toml",
        &format!("[receive]\ntokens_file = '{tokens}'\n"),
    );
    sandbox.start_receiver_with("127.0.0.1:0", &config);
    let host = Host::without_a_daemon(sandbox);
    let token = write(&host.sandbox, "token", "right");
    host.configure(&format!("[receiver]\ntoken_file = '{token}'\n"));
    host.editor_writes("right");
    let row = host.breaks_and_is_mended("receiver-credential", |host| {
        write(&host.sandbox, "token", "wrong");
    });
    assert!(row["fix"].as_str().unwrap().contains(&token), "{row}");
    assert_eq!(
        host.doctor().row("receiver-credential")["summary"],
        "It knows who we are."
    );
}

#[test]
fn a_commit_out_of_the_window_turns_one_row_and_the_update_command_is_its_fix() {
    let mut sandbox = Sandbox::new("");
    let commits = write(&sandbox, "commits", &format!("{COMMIT}\n"));
    let config = write(
        &sandbox,
        "receive.toml",
        &format!("[receive]\ncommits_file = '{commits}'\nremediation = 'cd /opt/lab\ngit pull'\n")
            .replace("'cd /opt/lab\ngit pull'", "\"cd /opt/lab\\ngit pull\""),
    );
    sandbox.start_receiver_with("127.0.0.1:0", &config);
    let host = Host::without_a_daemon(sandbox);
    let meta = |commit: &str| format!(r#"{{"code_version":{{"commit":"{commit}"}}}}"#);
    let other = COMMIT.replace('0', "f");
    host.sandbox
        .record("run-1", &[("meta.json", meta(COMMIT).as_bytes())]);
    assert_eq!(host.wrong(), ["daemon"]);
    let record = |host: &Host, commit: &str| {
        host.sandbox
            .record("run-1", &[("meta.json", meta(commit).as_bytes())]);
    };
    // The receiver's own words, where nobody has set anything.
    record(&host, &other);
    let row = host.turned("receiver-commit", &["daemon".to_owned()]);
    assert_eq!(row["fix"], "cd /opt/lab && git pull");
    assert_eq!(
        (&row["details"]["commit"], &row["details"]["episode_id"]),
        (&other.as_str().into(), &"run-1".into())
    );
    record(&host, COMMIT);
    // What this host should run updates its code; what it records next is of that.
    let lab = write(&host.sandbox, "lab", &other);
    let update = format!("printf {COMMIT} >'{lab}'");
    host.configure(&format!("[doctor]\nupdate_command = \"{update}\"\n"));
    record(&host, &other);
    let row = host.turned("receiver-commit", &["daemon".to_owned()]);
    host.type_fix(&row);
    let commit = fs::read_to_string(lab).unwrap();
    host.sandbox
        .record("run-2", &[("meta.json", meta(&commit).as_bytes())]);
    assert_eq!(host.wrong(), ["daemon"]);
}

#[test]
fn a_host_on_which_nothing_is_recorded_is_not_red_for_what_it_recorded_once() {
    let mut sandbox = Sandbox::new("");
    let commits = write(&sandbox, "commits", &format!("{COMMIT}\n"));
    let config = write(
        &sandbox,
        "receive.toml",
        &format!("[receive]\ncommits_file = '{commits}'\n"),
    );
    sandbox.start_receiver_with("127.0.0.1:0", &config);
    let mut host = Host::without_a_daemon(sandbox);
    host.start_daemon();
    let meta = format!(r#"{{"code_version":{{"commit":"{COMMIT}"}}}}"#);
    host.sandbox
        .seal("run-1", &[("meta.json", meta.as_bytes())]);
    host.sandbox.wait_shipped("run-1");
    assert_eq!(host.wrong(), Vec::<String>::new());
    // The window moves on, and nobody records.
    write(
        &host.sandbox,
        "commits",
        &format!("{}\n", COMMIT.replace('0', "f")),
    );
    eventually("the window has moved", || !host.wrong().is_empty());
    let row = host.turned("receiver-commit", &[]);
    assert_eq!(row["status"], "yellow", "{row}");
    assert!(row["summary"].as_str().unwrap().contains("run-1"), "{row}");
}

#[test]
fn without_an_episode_a_window_is_no_fault_and_an_episode_without_a_commit_is_one() {
    let mut sandbox = Sandbox::new("");
    let commits = write(&sandbox, "commits", &format!("{COMMIT}\n"));
    let config = write(
        &sandbox,
        "receive.toml",
        &format!("[receive]\ncommits_file = '{commits}'\n"),
    );
    sandbox.start_receiver_with("127.0.0.1:0", &config);
    let host = Host::without_a_daemon(sandbox);
    assert_eq!(host.wrong(), ["daemon"]);
    host.sandbox.record("run-1", &[("meta.json", b"{}")]);
    let row = host.turned("receiver-commit", &["daemon".to_owned()]);
    let listed = host.type_fix(&row).1;
    assert!(
        String::from_utf8(listed.stdout)
            .unwrap()
            .ends_with("/run-1/meta.json\n")
    );
}

#[test]
fn a_clock_that_is_off_turns_one_row() {
    let ahead = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let theirs = Arc::clone(&ahead);
    let (host, _server) = asking(move || {
        let seconds = wall_now().unix_seconds() - theirs.load(Ordering::SeqCst);
        let date = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap());
        Reply::empty(404).header(&format!("Date: {}", httpdate::fmt_http_date(date)))
    });
    let before = host.wrong();
    for (off, status) in [(600, "yellow"), (-600, "yellow"), (200_000, "red")] {
        ahead.store(off, Ordering::SeqCst);
        let row = host.turned("clock", &before);
        assert_eq!(
            (&row["status"], &row["fix"]),
            (&status.into(), &"timedatectl set-ntp true".into())
        );
    }
    ahead.store(0, Ordering::SeqCst);
    assert_eq!(host.wrong(), before);
}

/// Certificates of both sides, by one authority; each ends when the test says.
struct Tls {
    host: Host,
    authority: Authority,
    ca: String,
}

fn date_in_days(days: i64) -> (i32, u8, u8) {
    let text = WallTime::from_unix_seconds(wall_now().unix_seconds() + days * 86_400).to_string();
    let mut parts = text[..10].split('-');
    let year = parts.next().unwrap().parse().unwrap();
    let mut small = || parts.next().unwrap().parse().unwrap();
    (year, small(), small())
}

fn over_tls(server_days: i64, client_days: i64) -> Tls {
    let authority = Authority::new();
    let mut sandbox = Sandbox::new("");
    let ca = write(&sandbox, "ca.pem", &authority.pem());
    let signed = |name: &str, days: i64| {
        authority.sign(name, |params| {
            let (year, month, day) = date_in_days(days);
            params.not_after = date_time_ymd(year, month, day);
        })
    };
    let (server, client) = (
        signed("localhost", server_days),
        signed("lab-07", client_days),
    );
    let files = [
        ("server.pem", &server.0),
        ("server.key", &server.1),
        ("host.pem", &client.0),
        ("host.key", &client.1),
    ];
    let [server_pem, server_key, host_pem, host_key] =
        files.map(|(name, text)| write(&sandbox, name, text));
    sandbox.start_receiver_over_tls(&format!(
        "tls_cert_file = '{server_pem}'\ntls_key_file = '{server_key}'\nclient_ca_file = '{ca}'\n"
    ));
    let host = Host::without_a_daemon(sandbox);
    host.configure(&format!(
        "[receiver]\nca_file = '{ca}'\nclient_cert_file = '{host_pem}'\nclient_key_file = '{host_key}'\n"
    ));
    Tls {
        host,
        authority,
        ca,
    }
}

#[test]
fn a_receiver_over_tls_that_is_asked_without_it_is_told_with_the_address_that_is_meant() {
    let tls = over_tls(90, 90);
    let https = tls.host.sandbox.url().to_owned();
    let plain = Sandbox::new(https.replacen("https", "http", 1));
    let row = Host::without_a_daemon(plain)
        .doctor()
        .row("receiver-answer");
    let said = row["summary"].as_str().unwrap();
    assert!(
        said.contains("speaks TLS") && said.contains(&format!("receiver.url = \"{https}\"")),
        "{row}"
    );
}

#[test]
fn certificates_that_are_about_to_end_turn_a_row_each() {
    let sound = over_tls(90, 90);
    assert_eq!(
        sound.host.wrong(),
        ["daemon"],
        "{:#}",
        sound.host.doctor().document
    );
    let left = sound.host.doctor().row("client-certificate")["details"]["days_left"]
        .as_i64()
        .unwrap();
    assert!((88..=90).contains(&left), "{left}");
    assert_eq!(
        over_tls(90, 20).host.wrong(),
        ["daemon", "client-certificate"]
    );
    let row = over_tls(20, 90)
        .host
        .turned("receiver-certificate", &["daemon".to_owned()]);
    assert_eq!(row["status"], "yellow");
}

#[test]
fn a_new_certificate_of_ours_in_the_place_of_one_that_ends_turns_the_row_back() {
    let tls = over_tls(90, 2);
    let host = &tls.host;
    let row = host.turned("client-certificate", &["daemon".to_owned()]);
    assert_eq!(row["status"], "red");
    let (pem, key) = tls.authority.sign("lab-07", |_| {});
    let shown = host.type_fix(&row).1;
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("DNS:lab-07"),
        "{shown:?}"
    );
    write(&host.sandbox, "host.pem", &pem);
    write(&host.sandbox, "host.key", &key);
    assert_eq!(host.wrong(), ["daemon"]);
}

#[test]
fn an_expired_certificate_of_ours_is_the_first_red_row() {
    let told = over_tls(90, -2).host.doctor();
    assert_eq!(told.first_red().unwrap()["id"], "daemon");
    assert_eq!(
        told.wrong(),
        ["daemon", "client-certificate", "receiver-credential"],
        "{:#}",
        told.document
    );
}

#[test]
fn an_expired_certificate_of_the_receivers_is_shown_by_the_fix_and_a_new_one_turns_it_back() {
    let Tls {
        mut host,
        authority,
        ca,
    } = over_tls(-2, 90);
    let row = host.turned("receiver-certificate", &["daemon".to_owned()]);
    assert!(
        row["summary"].as_str().unwrap().contains("expired"),
        "{row}"
    );
    let typed = host.type_fix(&row).1;
    let shown = String::from_utf8_lossy(&typed.stdout);
    assert!(
        shown.contains("NotAfter: ") && shown.contains("certificate has expired"),
        "{typed:?}"
    );
    // Its operator renews it.
    let (pem, key) = authority.sign("localhost", |_| {});
    let (pem, key) = (
        write(&host.sandbox, "server.pem", &pem),
        write(&host.sandbox, "server.key", &key),
    );
    host.sandbox.start_receiver_over_tls(&format!(
        "tls_cert_file = '{pem}'\ntls_key_file = '{key}'\nclient_ca_file = '{ca}'\n"
    ));
    assert_eq!(host.wrong(), ["daemon"]);
}

#[test]
fn an_authority_that_is_not_trusted_turns_one_row_and_the_right_one_turns_it_back() {
    let Tls { host, ca, .. } = over_tls(90, 90);
    let right = fs::read_to_string(host.config_file()).unwrap();
    let other = write(&host.sandbox, "other.pem", &Authority::new().pem());
    host.editor_writes(&right);
    let row = host.breaks_and_is_mended("receiver-tls", |host| {
        host.configure(&right.replace(&ca, &other));
    });
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("receiver.ca_file"),
        "{row}"
    );
}

#[test]
fn without_a_certificate_where_one_is_asked_for_the_credential_turns() {
    let Tls { host, ca, .. } = over_tls(90, 90);
    let right = fs::read_to_string(host.config_file()).unwrap();
    host.editor_writes(&right);
    host.breaks_and_is_mended("receiver-credential", |host| {
        host.configure(&format!("[receiver]\nca_file = '{ca}'\n"));
    });
}
