//! What the build 94d9e91 wrote is taken over: folders, stores, configurations, and both sides of
//! the wire.
//!
//! The files are under tests/golden/, as that build wrote them; the README there says how they were
//! made. git keeps neither times nor inodes, so `files.rs` puts back what a checkout loses, and
//! says what it substitutes.

mod files;
mod peer;
mod wire;

use std::{fs, io::Write as _, os::unix::net::UnixListener, process::Output, thread};

use serde_json::{Value, json};

use self::files::{
    Golden, configuration, content_digest, snapshot_of_a_living_process, store, told,
};
use crate::{
    authority::Authority,
    support::{Reply, Sandbox, Scripted, Seen, eventually, json_file, json_of, names, sealift},
};

/// A receiver that holds nothing yet and stores whatever comes.
fn stores(seen: &Seen) -> Reply {
    if seen.head.starts_with("PUT") {
        Reply::stored(seen)
    } else {
        Reply::empty(404)
    }
}

fn bodies<'a>(seen: &'a [Seen], id: &str) -> Vec<&'a [u8]> {
    let of_it = seen
        .iter()
        .filter(|seen| seen.id == id && seen.head.starts_with("PUT"));
    of_it.map(|seen| seen.body.as_slice()).collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_the_old_shipper_left_is_delivered_once_and_nothing_of_it_is_lost() {
    let server = Scripted::new(|seen, _| stores(seen));
    let sandbox = Sandbox::new(server.url());
    let golden = Golden::shipper(&sandbox);
    // Bytes that packing anew would not give: what arrives says whether it was packed again.
    for id in ["waiting", "Lauf 7"] {
        golden.compressed_otherwise(id);
    }
    let kept = |id: &str, ending: &str| {
        fs::read(sandbox.layout.outbox.join(format!("{id}{ending}"))).unwrap()
    };
    let (waiting, run, edited) = (
        kept("waiting", ".tar.zst"),
        kept("Lauf 7", ".tar.zst"),
        kept("edited", ".tar.zst"),
    );
    let (shipped, quarantined) = (
        names(&sandbox.layout.shipped),
        names(&sandbox.layout.quarantine),
    );

    let daemon = sandbox.daemon();
    for id in ["waiting", "Lauf 7", "edited", "half"] {
        sandbox.wait_shipped(id);
    }
    eventually("only what is in conflict stays in the outbox", || {
        sandbox.outbox() == ["conflict.json", "conflict.tar.zst"]
    });
    let seen = server.seen();
    assert_eq!(
        bodies(&seen, "waiting"),
        [waiting],
        "packed again though nothing had changed"
    );
    assert_eq!(
        bodies(&seen, "Lauf%207"),
        [run],
        "packed again though nothing had changed"
    );
    let sent = bodies(&seen, "edited");
    assert_eq!(sent.len(), 1);
    assert_ne!(
        content_digest(sent[0]),
        content_digest(&edited),
        "what was packed before it was edited was sent"
    );
    assert_eq!(bodies(&seen, "half").len(), 1);
    assert_eq!(
        bodies(&seen, "conflict").len(),
        0,
        "a conflict is not sent again"
    );
    for id in ["noted", "emptied"] {
        assert_eq!(bodies(&seen, id).len(), 0, "{id} was delivered");
    }

    assert_eq!(names(&sandbox.layout.episodes), ["conflict", "recording"]);
    let mut all = shipped;
    all.extend(["waiting", "Lauf 7", "edited", "half"].map(str::to_owned));
    all.sort();
    assert_eq!(names(&sandbox.layout.shipped), all);
    // What it was before it was written over is in no other place.
    let aside = sandbox.quarantined("edited").join("edited.tar.zst");
    assert_eq!(fs::read(aside).unwrap(), edited);
    let mut all = quarantined;
    all.push("edited".to_owned());
    all.sort();
    assert_eq!(names(&sandbox.layout.quarantine), all);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn an_old_conflict_is_a_conflict_still_and_is_requeued() {
    let server = Scripted::new(|seen, _| stores(seen));
    let sandbox = Sandbox::new(server.url());
    let golden = Golden::shipper(&sandbox);
    golden.keep_only(&["conflict"]);
    let status = stdout(&sandbox_status(&sandbox));
    let conflicts = || sandbox.ship_once().1["conflicts"].clone();
    assert!(status.contains("conflict"), "{status}");
    assert_eq!(conflicts(), 1);
    assert_eq!(server.count("conflict"), 0);
    let mut requeue = sealift();
    requeue
        .args(["requeue", "--from", "conflict", "conflict", "--data"])
        .arg(sandbox.data());
    assert!(requeue.status().unwrap().success());
    assert_eq!(sandbox.ship_once().1["shipped"], 1);
    assert_eq!(bodies(&server.seen(), "conflict").len(), 1);
}

fn sandbox_status(sandbox: &Sandbox) -> Output {
    sealift()
        .args(["status", "--json", "--data"])
        .arg(sandbox.data())
        .output()
        .unwrap()
}

#[test]
fn what_the_old_shipper_quarantined_is_requeued_whatever_the_reason() {
    let server = Scripted::new(|seen, _| stores(seen));
    let sandbox = Sandbox::new(server.url());
    let golden = Golden::shipper(&sandbox);
    golden.keep_only(&[]);
    let requeue = |arguments: &[&str]| {
        let mut requeue = sandbox.command("requeue");
        requeue
            .args(["--from", "quarantine"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let told = requeue(&["--all", "--status", "413"]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(names(&sandbox.layout.episodes), ["too-large"]);
    // Of two that bear one id neither is taken unless it is named; an archive without an episode is
    // unpacked by hand.
    let told = requeue(&["--all", "--unasked"]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let back = ["manifest", "no-commit", "out-of-window", "too-large"];
    assert_eq!(names(&sandbox.layout.episodes), back);
    for id in back {
        assert!(
            !sandbox
                .layout
                .episodes
                .join(id)
                .join("quarantine_reason.json")
                .exists(),
            "{id}"
        );
    }
    // The manifest of one speaks against it still; the others are delivered.
    assert_eq!(sandbox.ship_once().1["shipped"], 3);
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    for folder in ["rejected~1", "rejected"] {
        let told = requeue(&["--folder", folder]);
        assert!(told.status.success(), "{told:?}");
        assert_eq!(names(&sandbox.layout.episodes), ["rejected"]);
        assert_eq!(sandbox.ship_once().1["shipped"], 1);
    }
    let sent = server.seen();
    let sent = bodies(&sent, "rejected");
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0], sent[1]);
    assert_eq!(names(&sandbox.layout.quarantine), ["last-copy", "manifest"]);
    let kept = names(&sandbox.quarantined("last-copy"));
    assert!(kept.contains(&"last-copy.tar.zst".to_owned()), "{kept:?}");
}

#[test]
fn what_the_old_shipper_shipped_goes_by_its_age_and_only_with_a_receipt() {
    let mut sandbox = Sandbox::new("");
    let golden = Golden::shipper(&sandbox);
    golden.keep_only(&[]);
    store("window", &sandbox.store());
    golden.shipped_days_ago(3);
    sandbox.start_receiver("127.0.0.1:0");
    let config = "[shipper]\nshipped_keep_days = 1\nquarantine_keep_days = 0\nquarantine_cleanup_interval_s = 1\n";
    let mut ship = sandbox.command_with_config("ship", config);
    ship.env("PATH", sandbox.clock_is_kept(true));
    let _daemon = sandbox.start(ship);
    sandbox.seal("fresh", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("fresh");
    eventually("the old ones with a receipt are gone", || {
        !sandbox.shipped("with-receipt").exists() && !sandbox.shipped("taken").exists()
    });
    let kept = ["bare", "emptied", "fresh", "noted", "taken~1"];
    eventually("the others stay", || names(&sandbox.layout.shipped) == kept);
}

#[test]
fn what_the_old_shipper_shipped_is_verified_and_fetched() {
    let mut sandbox = Sandbox::new("");
    Golden::shipper(&sandbox);
    store("window", &sandbox.store());
    sandbox.start_receiver("127.0.0.1:0");
    let verify = |arguments: &[&str]| sandbox.command("verify").args(arguments).output().unwrap();
    for arguments in [&["with-receipt"][..], &["--deep", "with-receipt"][..]] {
        let told = verify(arguments);
        assert!(told.status.success(), "{told:?}");
    }
    // The receiver never had these: they went to another one.
    assert_eq!(verify(&["bare"]).status.code(), Some(1));
    let of_two = stdout(&verify(&["taken"]));
    assert!(of_two.contains("1 stored, 0 missing, 1 differ"), "{of_two}");
    let to = sandbox.path("back");
    fs::create_dir(&to).unwrap();
    let told = sandbox
        .command("fetch")
        .args(["with-receipt", "--to"])
        .arg(&to)
        .output()
        .unwrap();
    assert!(told.status.success(), "{told:?}");
    for name in ["data.bin", "meta.json", "sub/notes.txt", "done.marker"] {
        let of =
            |folder: std::path::PathBuf| fs::read(folder.join("with-receipt").join(name)).unwrap();
        assert_eq!(of(to.clone()), of(sandbox.layout.shipped.clone()), "{name}");
    }
}

#[test]
fn folders_of_the_old_shipper_are_counted_without_a_daemon() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    Golden::shipper(&sandbox);
    let (code, status) = whole_json(&sandbox_status(&sandbox));
    assert_eq!(code, 1, "one is in conflict, some are quarantined");
    let told = told("status.json");
    // The old daemon had seen all but the one that was sealed after it was asked.
    assert_eq!(
        status["folders"]["quarantined"], told["folders"]["quarantined"],
        "{status}"
    );
    assert_ne!(status["daemon"], "running");
}

#[test]
fn an_old_daemon_that_runs_on_is_understood_by_the_new_status() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    Golden::shipper(&sandbox);
    let listener = UnixListener::bind(sandbox.layout.control_socket()).unwrap();
    let answer = snapshot_of_a_living_process();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The whole of the request is in the first segment.
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    let (_, status) = whole_json(&sandbox_status(&sandbox));
    assert_eq!(status["daemon"], "running", "{status}");
    let told = told("status.json");
    for member in [
        "counts",
        "episodes",
        "totals",
        "destination",
        "host_id",
        "version",
        "watch",
    ] {
        let (old, new) = (&told["snapshot"][member], &status["snapshot"][member]);
        assert!(
            holds(new, old),
            "{member}: the old daemon said {old}, and status says {new}"
        );
    }
}

/// Whether all that the old one says stands in the new one; times that pass are left out.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => old.iter().all(|(name, old)| {
            name.ends_with("_s") || new.get(name).is_some_and(|new| holds(new, old))
        }),
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        (new, old) => new == old,
    }
}

/// The exit code, and all of stdout as JSON.
fn whole_json(output: &Output) -> (i32, Value) {
    (
        output.status.code().unwrap(),
        serde_json::from_slice(&output.stdout).unwrap(),
    )
}

#[test]
fn configurations_of_the_old_build_are_accepted_and_mean_the_same() {
    let sandbox = Sandbox::new("");
    let place = sandbox.path("golden");
    fs::create_dir_all(place.join("metrics")).unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost", |_| {});
    for (name, content) in [
        ("ca.pem", authority.pem()),
        ("hosts-ca.pem", authority.pem()),
        ("host.pem", certificate.clone()),
        ("receiver.pem", certificate),
        ("host.key", key.clone()),
        ("receiver.key", key),
        ("token", "secret\n".to_owned()),
        ("tokens", format!("\"lab-08\" = \"{}\"\n", "0".repeat(64))),
        ("commits", format!("{}\n", "a".repeat(40))),
    ] {
        fs::write(place.join(name), content).unwrap();
    }
    for name in ["shipper", "receiver"] {
        let written = configuration(&format!("{name}.toml"), &place);
        let config = sandbox.path(&format!("{name}.toml"));
        fs::write(&config, &written).unwrap();
        let of = |command| {
            sealift()
                .args(["config", command, "--config"])
                .arg(&config)
                .output()
                .unwrap()
        };
        let checked = of("check");
        assert!(checked.status.success(), "{checked:?}");
        let shown: toml::Table = stdout(&of("show")).parse().unwrap();
        let then: toml::Table = configuration(&format!("{name}.shown"), &place)
            .parse()
            .unwrap();
        let written: toml::Table = written.parse().unwrap();
        for table in written.keys() {
            for (key, value) in then[table].as_table().unwrap() {
                assert_eq!(shown[table].get(key), Some(value), "[{table}] {key}");
            }
        }
    }
    let config = sandbox.path("contrib.toml");
    fs::write(&config, configuration("contrib.toml", &place)).unwrap();
    let checked = sealift()
        .args(["config", "check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn an_old_lock_file_keeps_no_new_daemon_out() {
    let server = Scripted::new(|seen, _| stores(seen));
    let sandbox = Sandbox::new(server.url());
    let golden = Golden::shipper(&sandbox);
    golden.keep_only(&["waiting"]);
    assert!(sandbox.layout.private.join("lock").exists());
    let (code, tally) = json_of(
        sandbox
            .command("ship")
            .args(["--once", "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!((code, &tally["shipped"]), (0, &json!(1)));
    assert_eq!(
        json_file(&sandbox.shipped("waiting").join("shipping_receipt.json"))["episode_id"],
        "waiting"
    );
}
