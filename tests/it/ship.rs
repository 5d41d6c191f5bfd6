//! The main job, from marker to shipped/.

#![expect(
    clippy::disallowed_methods,
    reason = "an operator removes and renames as they like"
)]

use std::fs;

use serde_json::json;

use crate::support::{Reply, Sandbox, Scripted, eventually_within, json_file, names};

#[test]
fn a_sealed_episode_is_shipped_and_an_open_one_is_not() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal(
        "run-1",
        &[("data.bin", b"recorded"), ("deep/er/notes.txt", b"once")],
    );
    sandbox.record("run-2", &[("data.bin", b"still recording")]);
    let mut daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    assert!(sandbox.layout.episodes.join("run-2").exists());
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["status_code"], 201);
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    assert!(sandbox.stored("run-1").exists());
    assert!(daemon.terminate().success());
    assert_eq!(sandbox.outbox(), [""; 0]);
}

#[test]
fn one_pass_ships_everything_sealed_and_counts_it() {
    let sandbox = Sandbox::with_receiver();
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    let (code, tally) = sandbox.ship_once();
    assert_eq!(code, 0);
    assert_eq!(tally["scanned"], 3);
    assert_eq!(tally["shipped"], 3);
}

#[test]
fn folders_that_somebody_removes_while_it_runs_are_made_anew() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "detail": "no"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let daemon = sandbox.daemon();
    sandbox.seal("first", &[]);
    // Not merely under its name: the move is through.
    daemon.wait_log("shipped first");
    for folder in [
        &sandbox.layout.shipped,
        &sandbox.layout.quarantine,
        &sandbox.layout.outbox,
    ] {
        fs::remove_dir_all(folder).unwrap();
    }
    sandbox.seal("second", &[]);
    sandbox.seal("bad", &[]);
    sandbox.wait_shipped("second");
    sandbox.wait_quarantined("bad");
    daemon.wait_log("shipped second");
    daemon.wait_log("quarantined bad");
    let log = daemon.log();
    assert_eq!(
        log.matches("was gone while we ran, and was made anew")
            .count(),
        3,
        "{log}"
    );
    assert!(!log.contains("cannot go on"), "{log}");
}

#[test]
fn a_folder_that_went_with_the_one_it_was_in_is_named_and_not_made() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).unwrap();
    let config = format!("[shipper]\nshipped_dir = {:?}", disk.join("shipped"));
    let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    daemon.wait_log("ships");
    sandbox.seal("first", &[]);
    daemon.wait_log("shipped first");
    fs::rename(&disk, sandbox.path("unplugged")).unwrap();
    sandbox.seal("second", &[]);
    daemon.wait_log("second cannot go on: delivered, but it cannot be moved: ");
    let log = daemon.log();
    assert!(
        log.contains(&format!(
            "{} is gone, and cannot be made anew",
            disk.join("shipped").display()
        )),
        "{log}"
    );
    assert!(!disk.exists());
    assert_eq!(names(&sandbox.layout.episodes), ["second"]);
}

#[test]
fn an_episodes_folder_that_was_not_there_is_told_since_the_path_may_be_wrong() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let once = |data: &std::path::Path| {
        let mut command = sandbox.command("ship");
        let output = command
            .args(["--once"])
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        assert!(output.status.success());
        let told = format!(
            "{} was not there, and was created",
            data.join("episodes").display()
        );
        String::from_utf8(output.stderr)
            .unwrap()
            .matches(&told)
            .count()
    };
    fs::remove_dir(&sandbox.layout.episodes).unwrap();
    assert_eq!(once(&sandbox.data()), 1);
    assert_eq!(once(&sandbox.data()), 0);
}

#[test]
fn one_pass_promises_no_other_try() {
    let server = Scripted::new(|_, _| Reply::empty(503));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let output = sandbox.command("ship").arg("--once").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("It stays and is sent again at the next start."),
        "{log}"
    );
}

#[test]
fn memory_does_not_grow_with_the_size_of_an_episode() {
    const MIB: usize = 1 << 20;
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let peak = |id: &str, noise_bytes: usize, length: usize| {
        let sandbox = Sandbox::new(server.url());
        let config = "[pack]\nlevel = 1\nworkers = 1";
        let daemon = sandbox.start(sandbox.command_with_config("ship", config));
        let episode = sandbox.record(id, &[("data.bin", &noise(noise_bytes))]);
        // Noise, which goes over the wire as it is; behind it a hole, which is read and packed as
        // zeros.
        let data = fs::File::options()
            .write(true)
            .open(episode.join("data.bin"))
            .unwrap();
        data.set_len(length as u64).unwrap();
        drop(data);
        fs::write(episode.join("done.marker"), b"").unwrap();
        let minutes = std::time::Duration::from_secs(240);
        eventually_within(minutes, "it is shipped", || sandbox.shipped(id).exists());
        daemon.peak_kib()
    };
    // The smaller one fills every buffer that there is: the compressor's are touched as they are
    // needed.
    let small = peak("small", 16 * MIB, 32 * MIB);
    let large = peak("large", 64 * MIB, 600 * MIB);
    assert!(
        large < small + 8 * 1024,
        "{small} KiB for 32 MiB, {large} KiB for 600 MiB"
    );
}

/// Bytes that nothing can compress (splitmix64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    words.take(length / 8).flat_map(u64::to_le_bytes).collect()
}
