//! Ten broken set-ups, as docs/operations.md lists them: the doctor's first red row alone says what
//! is wrong; its first row that is not green where that may pass by itself.

use std::fs;

use rcgen::date_time_ymd;
use sealift::model::episode::Digest;

use super::{Host, Told};
use crate::{
    authority::Authority,
    support::{Sandbox, eventually},
};

/// The row that is red first, and a word of its sentence or its fix by which a person knows what it
/// is about.
pub(crate) const SET_UPS: [(&str, &str); 10] = [
    ("configuration", "did you mean `url`"),
    ("credentials", "token"),
    ("folders", "episodes"),
    ("folder-access", "read-only"),
    ("daemon", "No daemon runs"),
    ("client-certificate", "has expired"),
    ("receiver-reachable", "cannot be reached"),
    ("receiver-tls", "ca_file"),
    ("receiver-credential", "does not know who we are"),
    ("receiver-commit", "out-of-window-update"),
];

fn file(sandbox: &Sandbox, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = sandbox.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn tls(sandbox: &mut Sandbox, client_year: i32) -> (String, Authority) {
    let authority = Authority::new();
    let ca = file(sandbox, "ca.pem", &authority.pem());
    let (server, server_key) = authority.sign("localhost", |_| {});
    let (client, client_key) = authority.sign("lab-07", |params| {
        params.not_after = date_time_ymd(client_year, 1, 1);
    });
    let [server, server_key] = [("server.pem", server), ("server.key", server_key)]
        .map(|(name, text)| file(sandbox, name, &text));
    let [client, client_key] = [("host.pem", client), ("host.key", client_key)]
        .map(|(name, text)| file(sandbox, name, &text));
    sandbox.start_receiver_over_tls(&format!(
        "tls_cert_file = '{server}'\ntls_key_file = '{server_key}'\nclient_ca_file = '{ca}'\n"
    ));
    let config = format!(
        "[receiver]\nca_file = '{ca}'\nclient_cert_file = '{client}'\nclient_key_file = '{client_key}'\n"
    );
    (config, authority)
}

/// A host that runs, and is broken in this way.
struct Broken {
    host: Host,
    mounted: Option<crate::support::Mounted>,
    authority: Option<Authority>,
    /// Of the receiver, before it was killed.
    address: String,
}

fn broken(set_up: &str) -> Option<Broken> {
    let (mut mounted, mut authority, mut address) = (None, None, String::new());
    let mut sandbox = Sandbox::new("");
    let mut config = String::new();
    match set_up {
        "client-certificate" | "receiver-tls" => {
            let year = if set_up == "receiver-tls" { 4000 } else { 2020 };
            let (toml, signed_by) = tls(&mut sandbox, year);
            config = toml;
            if set_up == "receiver-tls" {
                let wrong = file(&sandbox, "wrong.pem", &Authority::new().pem());
                config = config.replace(sandbox.path("ca.pem").to_str().unwrap(), &wrong);
            }
            authority = Some(signed_by);
        }
        "receiver-credential" => {
            let tokens = file(
                &sandbox,
                "tokens",
                &format!("lab-07 = \"{}\"\n", Digest::of(b"right")),
            );
            let receive = file(
                &sandbox,
                "receive.toml",
                &format!("[receive]\ntokens_file = '{tokens}'\n"),
            );
            sandbox.start_receiver_with("127.0.0.1:0", &receive);
            config = format!(
                "[receiver]\ntoken_file = '{}'\n",
                file(&sandbox, "token", "wrong")
            );
        }
        "receiver-commit" => {
            let commits = file(&sandbox, "commits", &format!("{}\n", "a".repeat(40)));
            let receive = file(
                &sandbox,
                "receive.toml",
                &format!("[receive]\ncommits_file = '{commits}'\n"),
            );
            sandbox.start_receiver_with("127.0.0.1:0", &receive);
            config = "[doctor]\nupdate_command = \"out-of-window-update\"\n".to_owned();
            let meta = format!(r#"{{"code_version":{{"commit":"{}"}}}}"#, "b".repeat(40));
            sandbox.record("run-1", &[("meta.json", meta.as_bytes())]);
        }
        _ => sandbox.start_receiver("127.0.0.1:0"),
    }
    let mut host = Host::without_a_daemon(sandbox);
    host.configure(&config);
    host.start_daemon();
    match set_up {
        "configuration" => host.configure("[receiver]\nurll = \"https://receiver.example\"\n"),
        "credentials" => host.configure("[receiver]\ntoken_file = \"/no/such/token\"\n"),
        #[expect(
            clippy::disallowed_methods,
            reason = "a disk that is not mounted any more"
        )]
        "folders" => {
            host.stop_daemon();
            fs::remove_dir_all(&host.sandbox.layout.episodes).unwrap();
        }
        "folder-access" => {
            host.stop_daemon();
            mounted = Some(crate::support::Mounted::over(
                &host.sandbox.layout.shipped,
                "200m",
            )?);
            let remounted = host.type_in(&format!(
                "mount -o remount,ro '{}'",
                host.sandbox.layout.shipped.display()
            ));
            assert!(remounted.status.success());
        }
        "daemon" => host.stop_daemon(),
        "receiver-reachable" => {
            address = host.sandbox.kill_receiver();
        }
        _ => {}
    }
    if !matches!(set_up, "folders" | "receiver-commit") {
        host.sandbox.seal("run-2", &[("data", b"x")]);
    }
    Some(Broken {
        host,
        mounted,
        authority,
        address,
    })
}

/// Prepares what a person brings along, types the fix, and does what a service manager or the lab
/// does then.
fn mend(set_up: &str, row: &serde_json::Value, broken: &mut Broken) {
    let fix = row["fix"].as_str().unwrap();
    let Broken {
        host,
        authority,
        address,
        ..
    } = broken;
    let meta = |commit: &str| format!(r#"{{"code_version":{{"commit":"{commit}"}}}}"#);
    match set_up {
        "configuration" | "credentials" => host.editor_writes(""),
        "client-certificate" => {
            let (pem, key) = authority.as_ref().unwrap().sign("lab-07", |_| {});
            file(&host.sandbox, "host.pem", &pem);
            file(&host.sandbox, "host.key", &key);
        }
        "receiver-tls" => {
            let [wrong, right] = ["wrong.pem", "ca.pem"].map(|name| host.sandbox.path(name));
            let config = fs::read_to_string(host.config_file()).unwrap();
            host.editor_writes(&config.replace(wrong.to_str().unwrap(), right.to_str().unwrap()));
        }
        "receiver-credential" => host.editor_writes("right"),
        "receiver-commit" => {
            let lab = host.sandbox.path("lab");
            let update = format!(
                "#!/bin/bash\nprintf %s {} >'{}'\n",
                "a".repeat(40),
                lab.display()
            );
            host.script("out-of-window-update", &update);
        }
        _ => {}
    }
    let typed = host.type_in(&format!(
        "cd '{}' && {fix}",
        host.sandbox.path("").display()
    ));
    assert!(
        typed.status.success(),
        "{set_up}: {fix}: {}",
        String::from_utf8_lossy(&typed.stderr)
    );
    if let Some((_, then)) = row["summary"].as_str().unwrap().rsplit_once("Then: ") {
        host.type_in(then);
    }
    match set_up {
        "daemon" => host.start_daemon(),
        "receiver-reachable" => host.sandbox.start_receiver(address),
        "receiver-commit" => {
            let commit = fs::read_to_string(host.sandbox.path("lab")).unwrap();
            host.sandbox
                .record("run-2", &[("meta.json", meta(&commit).as_bytes())]);
        }
        _ => {}
    }
}

#[test]
fn the_first_red_row_alone_says_what_is_wrong_and_what_to_type() {
    // One after another: each has a handshake to make in its time.
    for (id, word) in &SET_UPS {
        let Some(mut broken) = broken(id) else {
            continue;
        };
        // One question says nothing of how long it has lasted, and the daemon has not been held for
        // long.
        let passes = *id == "receiver-reachable";
        let worst = if passes { "yellow" } else { "red" };
        let first = |told: &Told| {
            let mut rows = told.rows().iter();
            rows.find(|row| row["status"] == worst).cloned()
        };
        let is_first = |told: &Told| first(told).is_some_and(|row| row["id"] == *id);
        let mut told = broken.host.doctor_in_time();
        // A busy machine may not make the handshake in the time for it.
        for _ in 0..10 {
            if !is_first(&told) {
                told = broken.host.doctor_in_time();
            }
        }
        assert!(is_first(&told), "{id}: {:#}", told.document);
        let first = first(&told).unwrap();
        let shown = format!("{} {}", first["summary"], first["fix"]);
        assert!(shown.contains(word), "{id}: {shown}");
        assert_eq!(told.code, if passes { 1 } else { 2 });
        mend(id, &first, &mut broken);
        let mut last = String::new();
        let green = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&format!("{id} is green"), || {
                let told = broken.host.doctor();
                last = format!("{:#}", told.document);
                told.rows()
                    .iter()
                    .any(|row| row["id"] == *id && row["status"] == "green")
            });
        }));
        assert!(green.is_ok(), "{id}: {last}");
        drop(broken.mounted.take());
    }
}
