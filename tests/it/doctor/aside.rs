//! What is in `quarantine/`: what the row says to type is typed, and looked at what becomes of it.

#![expect(
    clippy::disallowed_methods,
    reason = "operators move and remove as they like"
)]

use std::{
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Host;
use crate::support::{Reply, Sandbox, Scripted, eventually, json_file, names};

const OLD: &[u8] = b"as it was recorded first";
const NEW: &[u8] = b"as it was corrected";

/// A plain web server, which takes whatever comes and overwrites, once it is well; but not what
/// came first, which may be under way at that moment.
fn web_server(well: &Arc<AtomicBool>) -> Scripted {
    let (well, first) = (Arc::clone(well), OnceLock::new());
    Scripted::new(move |seen, _| {
        if !seen.head.starts_with("PUT") {
            return Reply::empty(404);
        }
        let digest = seen.header("repr-digest").map(str::to_owned);
        let is_first = *first.get_or_init(|| digest.clone()) == digest;
        Reply::empty(if is_first || !well.load(Ordering::SeqCst) {
            503
        } else {
            201
        })
    })
}

/// Whether what it took last under this id has these bytes.
fn holds(server: &Scripted, id: &str, bytes: &[u8]) -> bool {
    let path = sealift::model::episode::EpisodeId::parse(id)
        .unwrap()
        .percent_encoded();
    let last = server
        .seen()
        .into_iter()
        .rfind(|seen| seen.id == path && seen.head.starts_with("PUT"));
    let tar = last.map(|seen| zstd::decode_all(seen.body.as_slice()).unwrap());
    tar.is_some_and(|tar| tar.windows(bytes.len()).any(|window| window == bytes))
}

/// A host with an archive in quarantine, of what `id` was before it was corrected, and that is
/// delivered.
fn corrected(id: &str) -> (Host, Scripted) {
    let well = Arc::new(AtomicBool::new(false));
    let server = web_server(&well);
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    host.sandbox.seal(id, &[("data", OLD)]);
    let sidecar = host.sandbox.layout.outbox.join(format!("{id}.json"));
    eventually("its archive is kept", || sidecar.exists());
    let episode = host.sandbox.layout.episodes.join(id);
    fs::remove_file(episode.join("done.marker")).unwrap();
    fs::write(episode.join("data"), NEW).unwrap();
    fs::write(episode.join("done.marker"), "").unwrap();
    well.store(true, Ordering::SeqCst);
    host.daemon().signal("HUP");
    host.sandbox.wait_shipped(id);
    eventually("what it was is put aside", || {
        names(&host.sandbox.layout.quarantine)
            .iter()
            .any(|name| name == id)
    });
    (host, server)
}

fn typed(host: &Host, fix: &str) -> String {
    let output = host.type_in(fix);
    format!(
        "{:?} {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn what_an_episode_was_before_it_was_corrected_comes_back_under_another_name_by_the_fix_and_by_its_reason()
 {
    let long = "x".repeat(sealift::model::episode::MAX_ID_BYTES);
    for (id, by_reason) in [
        ("it's run 1", false),
        ("run-1", true),
        (long.as_str(), false),
    ] {
        let (host, server) = corrected(id);
        let second = sealift::disk::by_hand::second_name(id, 1);
        let row = host.doctor().row("quarantine");
        let summary = row["summary"].as_str().unwrap();
        assert!(
            summary.contains("was before it was changed or replaced"),
            "{summary}"
        );
        let fix = match by_reason {
            false => row["fix"].as_str().unwrap().to_owned(),
            true => {
                let reason =
                    json_file(&host.sandbox.quarantined(id).join("quarantine_reason.json"));
                let error = reason["error"].as_str().unwrap();
                let command = error.split_once(", type: ").unwrap().1;
                command.split_once("   Where ").unwrap().0.to_owned()
            }
        };
        let said = typed(&host, &fix);
        assert!(said.starts_with("Some(0)"), "{fix}\n{said}");
        host.sandbox.wait_shipped(&second);
        assert!(
            holds(&server, id, NEW) && holds(&server, &second, OLD),
            "{fix}"
        );
        assert_eq!(names(&host.sandbox.layout.quarantine), [""; 0]);
        eventually("nothing is left", || {
            names(&host.sandbox.layout.episodes).is_empty()
        });
        eventually("nothing is wrong", || host.wrong().is_empty());
    }
}

#[test]
fn what_an_episode_was_before_it_was_corrected_is_removed_by_what_its_sentence_names_where_it_is_not_wanted()
 {
    let (host, server) = corrected("run-1");
    let row = host.doctor().row("quarantine");
    let (_, remove) = row["summary"]
        .as_str()
        .unwrap()
        .split_once(" Where it is not wanted: ")
        .unwrap();
    assert!(typed(&host, remove).starts_with("Some(0)"), "{row}");
    assert_eq!(host.wrong(), Vec::<String>::new());
    assert!(holds(&server, "run-1", NEW));
}

#[test]
fn where_the_name_is_taken_before_the_fix_is_typed_nothing_is_overwritten_and_it_says_why() {
    let (host, _server) = corrected("run-1");
    let fix = host.doctor().row("quarantine")["fix"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = host.sandbox.record("run-1-1", &[]);
    let data = host.sandbox.data();
    let data = data.display();
    let said = host.type_in(&format!(
        "sealift requeue --unpack run-1 --as run-1-1 --data '{data}'"
    ));
    let shown = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.code() == Some(1) && shown.contains("is there already"),
        "{said:?}"
    );
    assert!(
        names(&other).is_empty()
            && host
                .sandbox
                .quarantined("run-1")
                .join("run-1.tar.zst")
                .exists()
    );
    // The fix takes the next that is free.
    assert!(typed(&host, &fix).starts_with("Some(0)"), "{fix}");
    host.sandbox.wait_shipped("run-1-2");
}

#[test]
fn the_last_copy_of_an_episode_comes_back_under_its_own_name_unless_another_was_shipped_under_it() {
    for shipped in [false, true] {
        let mut host = Host::without_a_daemon(Sandbox::with_receiver());
        let receiver = host.sandbox.url().to_owned();
        if shipped {
            host.sandbox.seal("run-1", &[("data", NEW)]);
            assert_eq!(host.sandbox.ship_once().0, 0);
        }
        host.sandbox.seal("run-1", &[("data", OLD)]);
        let busy = Scripted::new(|_, _| Reply::empty(503));
        let ship = |url: &str| {
            let mut command = crate::support::sealift();
            command
                .args(["ship", "--once", "--receiver", url, "--data"])
                .arg(host.sandbox.data());
            command.output().unwrap()
        };
        ship(&busy.url());
        fs::remove_dir_all(host.sandbox.layout.episodes.join("run-1")).unwrap();
        ship(&receiver);
        assert_eq!(names(&host.sandbox.layout.quarantine), ["run-1"]);
        let fix = host.doctor().row("quarantine")["fix"]
            .as_str()
            .unwrap()
            .to_owned();
        let said = typed(&host, &fix);
        assert!(said.starts_with("Some(0)"), "{fix}\n{said}");
        host.start_daemon();
        let name = if shipped { "run-1-1" } else { "run-1" };
        host.sandbox.wait_shipped(name);
        assert_eq!(
            fs::read(host.sandbox.shipped(name).join("data")).unwrap(),
            OLD
        );
        eventually("nothing is wrong", || {
            // One of that name was shipped within the day.
            host.wrong().iter().all(|row| row == "reused-names")
        });
    }
}

#[test]
fn what_its_own_seal_speaks_against_is_sealed_anew_by_the_fix_and_goes_back_by_the_next() {
    let host = Host::sound();
    let episode = host.sandbox.record(".run-1", &[("data", OLD)]);
    let sealed = crate::support::sealift()
        .arg("seal")
        .arg(&episode)
        .output()
        .unwrap();
    assert!(sealed.status.success());
    fs::write(episode.join("data"), [OLD, NEW].concat()).unwrap();
    fs::rename(&episode, episode.with_file_name("run-1")).unwrap();
    host.sandbox.wait_quarantined("run-1");
    let row = host.doctor().row("quarantine");
    let summary = row["summary"].as_str().unwrap();
    assert!(
        summary.contains("Look at what is there first (ls -laR "),
        "{summary}"
    );
    for command in ["sealift seal --again ", "sealift requeue run-1 "] {
        let fix = host.doctor().row("quarantine")["fix"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(fix.starts_with(command), "{fix}");
        let said = typed(&host, &fix);
        assert!(said.starts_with("Some(0)"), "{said}");
    }
    // The old marker is kept, out of what is shipped.
    assert_eq!(names(&host.sandbox.layout.quarantine), [".run-1.marker"]);
    host.sandbox.wait_shipped("run-1");
    assert_eq!(
        fs::read(host.sandbox.shipped("run-1").join("data")).unwrap(),
        [OLD, NEW].concat()
    );
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[test]
fn what_is_no_file_under_the_name_of_an_archive_is_moved_out_of_the_way_by_the_fix_and_the_others_go_on()
 {
    let host = Host::sound();
    let outbox = host.sandbox.layout.outbox.clone();
    fs::create_dir_all(outbox.join("a.tar.zst/theirs")).unwrap();
    std::os::unix::fs::symlink("/nowhere", outbox.join("b.tar.zst")).unwrap();
    fs::create_dir(outbox.join("c.tar.zst.partial")).unwrap();
    for id in ["a", "b", "c", "d"] {
        host.sandbox.seal(id, &[("data", OLD)]);
    }
    host.sandbox.wait_shipped("d");
    host.daemon()
        .wait_log("c.tar.zst.partial is a directory, and in the way of its archive");
    host.daemon()
        .wait_log("a.tar.zst is a directory, and in the way of its archive");
    let told = host.doctor();
    assert_eq!(
        told.first_red().unwrap()["id"],
        "folders",
        "{:#}",
        told.document
    );
    let fix = told.row("folders")["fix"].as_str().unwrap().to_owned();
    assert!(typed(&host, &fix).starts_with("Some(0)"), "{fix}");
    assert!(outbox.join("a.tar.zst.aside/theirs").exists(), "{fix}");
    host.daemon().signal("HUP");
    for id in ["a", "b", "c"] {
        host.sandbox.wait_shipped(id);
    }
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[test]
fn an_episode_that_is_sealed_again_without_the_commit_that_it_lacks_is_told_what_is_missing() {
    let server = Scripted::new(|seen, _| match seen.head.starts_with("PUT") {
        true => Reply::json(
            400,
            &serde_json::json!({"type": "urn:sealift:commit-missing"}),
        ),
        false => Reply::empty(404),
    });
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.sandbox.seal("run-1", &[("data", OLD)]);
    host.sandbox.ship_once();
    let fix = host.doctor().row("quarantine")["fix"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(fix.starts_with("sealift seal --again "), "{fix}");
    let typed = || {
        let typed = host.type_in(&fix);
        assert!(typed.status.success(), "{typed:?}");
        String::from_utf8(typed.stdout).unwrap()
    };
    let said = typed();
    assert!(
        said.contains("rejected for want of a commit, and has none still"),
        "{said}"
    );
    let commit = "a".repeat(40);
    let meta = format!(r#"{{"code_version":{{"commit":"{commit}"}}}}"#);
    fs::write(host.sandbox.quarantined("run-1").join("meta.json"), meta).unwrap();
    let said = typed();
    assert!(!said.contains("WARNING"), "{said}");
}
