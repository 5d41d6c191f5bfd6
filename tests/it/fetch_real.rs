//! `sealift fetch` and `sealift verify` against our own receiver.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use serde_json::json;

use crate::support::{Sandbox, json_file, json_of, names, sealift};

/// Fetches into a new folder that `prepare` may put something into first.
fn fetch(
    sandbox: &Sandbox,
    id: &str,
    prepare: impl FnOnce(&Path),
) -> (i32, serde_json::Value, tempfile::TempDir) {
    let target = tempfile::tempdir().unwrap();
    prepare(target.path());
    let mut command = sealift();
    command
        .args(["fetch", id, "--json", "--receiver", sandbox.url(), "--to"])
        .arg(target.path());
    let (code, fetched) = json_of(command.output().unwrap());
    (code, fetched, target)
}

/// Content that does not compress to nothing.
fn content() -> Vec<u8> {
    (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[test]
fn what_our_receiver_stored_comes_back_verified() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal(
        "run-1",
        &[("data.bin", &content()), ("deep/er/notes.txt", b"once")],
    );
    assert_eq!(sandbox.ship_once().0, 0);
    let (code, fetched, target) = fetch(&sandbox, "run-1", |_| ());
    assert_eq!((code, &fetched["verified"]), (0, &json!(true)));
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(fetched["content_sha256"], receipt["content_sha256"]);
    assert_eq!(names(target.path()), ["run-1"]);
    assert_eq!(
        fs::read(target.path().join("run-1/data.bin")).unwrap(),
        content()
    );
    assert!(target.path().join("run-1/done.marker").exists());
}

#[test]
fn a_sparse_file_comes_back_sparse_and_whole() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.record("run-1", &[]);
    let file = File::create(episode.join("data.bin")).unwrap();
    file.set_len(32 << 20).unwrap();
    file.write_all_at(b"recorded", 20_000_000).unwrap();
    drop(file);
    fs::write(episode.join("done.marker"), b"").unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    let (code, _, target) = fetch(&sandbox, "run-1", |_| ());
    assert_eq!(code, 0);
    let [recorded, fetched] = [sandbox.shipped("run-1"), target.path().join("run-1")]
        .map(|episode| episode.join("data.bin"));
    assert!(fs::read(&fetched).unwrap() == fs::read(recorded).unwrap());
    let room = fetched.metadata().unwrap().blocks() * 512;
    assert!(room < 1 << 20, "it takes {room} bytes");
}

#[test]
fn our_receiver_gives_the_rest_of_what_broke_off() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("run-1", &[("data.bin", &content())]);
    assert_eq!(sandbox.ship_once().0, 0);
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    let archive = fs::read(sandbox.stored("run-1")).unwrap();
    let (code, fetched, target) = fetch(&sandbox, "run-1", |folder| {
        // As a run leaves it that was killed after so many bytes.
        fs::write(
            folder.join(".sealift-fetch-run-1.tar.zst.partial"),
            &archive[..1000],
        )
        .unwrap();
        let described = json!({
            "address": format!("{}/v1/episodes/run-1", sandbox.url()),
            "size_bytes": archive.len(),
            "sha256": receipt["sha256"],
            "content_sha256": receipt["content_sha256"],
            "etag": null,
        });
        fs::write(
            folder.join(".sealift-fetch-run-1.json"),
            described.to_string(),
        )
        .unwrap();
    });
    assert_eq!((code, &fetched["sha256"]), (0, &receipt["sha256"]));
    assert_eq!(names(target.path()), ["run-1"]);
    let log = fs::read_to_string(sandbox.path("receiver.log")).unwrap();
    assert!(log.contains("status_code=206"), "{log}");
}

#[test]
fn our_receiver_says_what_it_holds_and_reads_it_again_when_that_is_asked() {
    let sandbox = Sandbox::with_receiver();
    for id in ["gone", "rotten", "whole"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    assert_eq!(sandbox.ship_once().0, 0);
    let verify = |deep: &[&str]| {
        json_of(
            sandbox
                .command("verify")
                .arg("--json")
                .args(deep)
                .output()
                .unwrap(),
        )
    };
    assert_eq!(verify(&[]).0, 0);
    let (code, found) = verify(&["--deep"]);
    assert_eq!((code, &found["held"]), (0, &json!(3)), "{found}");

    // A disk that lies: the same length and time, another byte.
    let archive = File::options()
        .read(true)
        .write(true)
        .open(sandbox.stored("rotten"))
        .unwrap();
    let before = archive.metadata().unwrap();
    let mut last = [0];
    let offset = before.len() - 1;
    archive.read_exact_at(&mut last, offset).unwrap();
    archive.write_all_at(&[last[0] ^ 1], offset).unwrap();
    archive.set_modified(before.modified().unwrap()).unwrap();
    let (code, found) = verify(&["--deep"]);
    assert_eq!((code, &found["held"]), (1, &json!(2)), "{found}");
    assert_eq!(found["differs"][0]["episode_id"], "rotten", "{found}");

    #[expect(
        clippy::disallowed_methods,
        reason = "the receiver's operator removes as he likes"
    )]
    fs::remove_file(sandbox.stored("gone")).unwrap();
    let (code, found) = verify(&["gone", "whole"]);
    assert_eq!(
        (code, &found["held"], &found["missing"][0]["episode_id"]),
        (1, &json!(1), &json!("gone"))
    );
}
