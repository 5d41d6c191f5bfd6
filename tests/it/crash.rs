//! What a crash leaves, and what the next start makes of it: the design's table line by line, with
//! processes that are really killed, and with states on disk as a kill leaves them. Where every
//! system call is such a moment: `crash_sweep`.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the recorder, the operator and the crash"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sealift::{
    model::{
        episode::{Digest, EpisodeId},
        layout::{REASON, RECEIPT},
        progress::Progress,
    },
    ship::{archive::Archive, pack},
};
use serde_json::{Value, json};

use crate::support::{
    Process, Reply, Sandbox, Scripted, eventually, json_file, json_of, names, sealift,
};

pub(crate) const ID: &str = "run-1";
/// More than a loopback connection's buffers hold.
const MUCH: usize = 16 << 20;

// While packing.

#[test]
fn killed_while_packing_it_packs_from_nothing() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, MUCH);
    // At its highest level zstd takes seconds for this: the kill comes in the middle.
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[pack]\nlevel = 19\nworkers = 1\n"));
    let partial = sandbox.layout.outbox.join(format!("{ID}.tar.zst.partial"));
    eventually("packing has begun", || {
        fs::metadata(&partial).is_ok_and(|found| found.len() > 0)
    });
    daemon.kill();
    // The plan by which some of it was sent meanwhile may lie beside it.
    let mut left = sandbox.outbox();
    left.retain(|name| *name != format!("{ID}.tar.zst.plan"));
    assert_eq!(left, [format!("{ID}.tar.zst.partial")]);
    let _daemon = sandbox.daemon();
    sandbox.wait_shipped(ID);
    assert_stored_once(&sandbox, reference, 201);
}

#[test]
fn a_plan_of_another_life_goes_with_its_episode_and_stays_where_that_waits() {
    let sandbox = Sandbox::with_receiver();
    sandbox.record("waits", &[("data.bin", b"open")]);
    for id in ["waits", "long-gone"] {
        let plan = sandbox.layout.outbox.join(format!("{id}.tar.zst.plan"));
        fs::write(plan, b"{}").unwrap();
    }
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), ["waits.tar.zst.plan"]);
}

#[test]
fn scratch_of_another_life_is_unlinked_though_its_episode_is_gone() {
    let sandbox = Sandbox::with_receiver();
    fs::write(
        sandbox.layout.outbox.join("long-gone.tar.zst.partial"),
        b"half",
    )
    .unwrap();
    fs::write(sandbox.layout.outbox.join("notes.txt"), b"not ours").unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), ["notes.txt"]);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

// With an archive that is durable.

#[test]
fn killed_while_uploading_it_sends_the_same_archive() {
    let mut sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, MUCH);
    let server = HalfReader::new();
    let daemon = sandbox.start(ship_to(&sandbox, &server.url));
    server.has_read_half();
    let sidecar = sandbox.layout.outbox.join(format!("{ID}.json"));
    eventually("the archive is durable beside its upload", || {
        sidecar.exists()
    });
    daemon.kill();
    let archive = fs::read(archive_in_outbox(&sandbox)).unwrap();
    let inode = inode_of(&archive_in_outbox(&sandbox));
    // It is not packed again: the receiver that is asked next sees the very same file go.
    let address = sandbox.kill_receiver();
    let daemon = sandbox.daemon();
    daemon.wait_log("ships");
    assert_eq!(inode_of(&archive_in_outbox(&sandbox)), inode);
    sandbox.start_receiver(&address);
    sandbox.wait_shipped(ID);
    assert_stored_once(&sandbox, reference, 201);
    assert_eq!(fs::read(sandbox.stored(ID)).unwrap(), archive);
    assert!(!daemon.log().contains("packed again"), "{}", daemon.log());
}

#[test]
fn an_archive_with_a_fitting_sidecar_is_sent_as_it_is() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 100_000);
    keep(&sandbox);
    let archive = fs::read(archive_in_outbox(&sandbox)).unwrap();
    let (code, tally) = with_level(&sandbox, 19);
    assert_eq!((code, &tally["shipped"]), (0, &json!(1)));
    assert_stored_once(&sandbox, reference, 201);
    // At another level it would have been other bytes.
    assert_eq!(fs::read(sandbox.stored(ID)).unwrap(), archive);
}

#[test]
fn an_archive_without_a_sidecar_is_packed_again() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    fs::write(archive_in_outbox(&sandbox), b"left by another program").unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
}

#[test]
fn a_sidecar_without_its_archive_is_not_believed() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    keep(&sandbox);
    fs::remove_file(archive_in_outbox(&sandbox)).unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
}

#[test]
fn a_sidecar_of_other_bytes_is_found_out() {
    let damage: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[100] ^= 1,
        |bytes| bytes.truncate(50),
        |bytes| bytes.clear(),
    ];
    for damage in damage {
        let sandbox = Sandbox::with_receiver();
        let reference = seal(&sandbox, 1000);
        keep(&sandbox);
        let mut bytes = fs::read(archive_in_outbox(&sandbox)).unwrap();
        damage(&mut bytes);
        fs::write(archive_in_outbox(&sandbox), bytes).unwrap();
        assert_eq!(sandbox.ship_once().0, 0);
        assert_stored_once(&sandbox, reference, 201);
    }
}

#[test]
fn a_sidecar_that_a_power_cut_emptied_is_not_believed() {
    for content in [&b""[..], b"{", &[0; 400]] {
        let sandbox = Sandbox::with_receiver();
        let reference = seal(&sandbox, 1000);
        keep(&sandbox);
        fs::write(sandbox.layout.outbox.join(format!("{ID}.json")), content).unwrap();
        assert_eq!(sandbox.ship_once().0, 0);
        assert_stored_once(&sandbox, reference, 201);
    }
}

#[test]
fn an_episode_that_changed_since_it_was_packed_is_packed_again() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    keep(&sandbox);
    fs::write(
        sandbox.layout.episodes.join(ID).join("late.txt"),
        b"one more",
    )
    .unwrap();
    let reference = reference(&sandbox);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
}

// Acknowledged.

#[test]
fn killed_between_the_answer_and_the_move_it_asks_again_and_is_told_200() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 100_000);
    let daemon = Arc::new(Mutex::new(None::<Process>));
    // The body has come, but the daemon is stopped before a byte of the answer goes out.
    let stopper = Arc::clone(&daemon);
    let server = AnswersAfter::new(move |head, body| {
        // The receiver stores it: what the shipper does not know any more, the receiver does.
        assert_eq!(put(&sandbox_address(head), ID, head, body), 201);
        eventually("the daemon is there to be stopped", || {
            stopper.lock().unwrap().is_some()
        });
        stopper.lock().unwrap().as_ref().unwrap().signal("STOP");
    });
    let mut command = ship_to(&sandbox, &server.url);
    let behind = sandbox.url().trim_start_matches("http://");
    fs::write(
        sandbox.path("behind.toml"),
        format!("[receiver.headers]\nx-behind = \"{behind}\"\n"),
    )
    .unwrap();
    command.arg("--config").arg(sandbox.path("behind.toml"));
    *daemon.lock().unwrap() = Some(sandbox.start(command));
    server.has_answered();
    daemon.lock().unwrap().take().unwrap().kill();
    assert!(sandbox.layout.episodes.join(ID).exists());
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 200);
}

#[test]
fn killed_with_the_receipt_written_and_not_moved_it_asks_again() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 100_000);
    // The last step fails for as long as something else stands where shipped/ was.
    let daemon = blocked(&sandbox, &sandbox.layout.shipped, || sandbox.daemon());
    let receipt = sandbox.layout.episodes.join(ID).join(RECEIPT);
    eventually("the receipt is written", || receipt.exists());
    daemon.kill();
    unblock(&sandbox.layout.shipped);
    let before = json_file(&receipt);
    assert_eq!(before["status_code"], 201);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 200);
    assert_eq!(
        json_file(&sandbox.shipped(ID).join(RECEIPT))["sha256"],
        before["sha256"]
    );
}

#[test]
fn a_receipt_inside_episodes_proves_nothing() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    // As good as a receipt can be, down to the digests; only nobody holds the bytes.
    keep(&sandbox);
    let sidecar = json_file(&sandbox.layout.outbox.join(format!("{ID}.json")));
    write_json(
        &sandbox.layout.episodes.join(ID).join(RECEIPT),
        &receipt(&sidecar),
    );
    let (code, tally) = ship_once_to(&sandbox, "http://127.0.0.1:1");
    assert_eq!((code, &tally["shipped"]), (1, &json!(0)));
    assert!(sandbox.layout.episodes.join(ID).exists());
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
    assert_eq!(
        names(&sandbox.shipped(ID)),
        ["data.bin", "deep", "done.marker", RECEIPT]
    );
}

#[test]
fn what_was_moved_leaves_no_archive_behind() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    keep(&sandbox);
    let kept = take_outbox(&sandbox);
    assert_eq!(sandbox.ship_once().0, 0);
    put_back(&kept);
    assert_eq!(sandbox.ship_once().0, 0);
    eventually("the archive is unlinked", || sandbox.outbox().is_empty());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    assert_stored_once(&sandbox, reference, 201);
}

#[test]
fn what_was_moved_beside_another_of_its_name_leaves_no_archive_behind() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    fs::create_dir(sandbox.shipped(ID)).unwrap();
    fs::write(sandbox.shipped(ID).join("somebody's"), b"keep me").unwrap();
    keep(&sandbox);
    let kept = take_outbox(&sandbox);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(
        names(&sandbox.layout.shipped),
        [ID.to_owned(), format!("{ID}~1")]
    );
    put_back(&kept);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), [""; 0]);
    assert_eq!(names(&sandbox.shipped(ID)), ["somebody's"]);
    assert_eq!(content_of(&sandbox.stored(ID)), reference);
}

#[test]
fn what_was_written_to_while_it_was_moved_is_not_taken_for_delivered() {
    for left in ["archive and sidecar", "scratch", "note"] {
        let sandbox = Sandbox::with_receiver();
        let reference = seal(&sandbox, 1000);
        keep(&sandbox);
        let kept = take_outbox(&sandbox);
        assert_eq!(sandbox.ship_once().0, 0);
        // Killed between the move and the look behind it, and written to in between, by a recorder
        // that had it open. Its archive has its final name and a sidecar, or was acknowledged
        // before that, or it never had one.
        let of_archive = |(path, _): &&(PathBuf, Vec<u8>)| *path == archive_in_outbox(&sandbox);
        match left {
            "scratch" => {
                let partial = sandbox.layout.outbox.join(format!("{ID}.tar.zst.partial"));
                fs::write(partial, &kept.iter().find(of_archive).unwrap().1).unwrap();
            }
            "note" => put_back(
                &kept
                    .iter()
                    .filter(|file| !of_archive(file))
                    .cloned()
                    .collect::<Vec<_>>(),
            ),
            _ => put_back(&kept),
        }
        let mut open = fs::File::options()
            .append(true)
            .open(sandbox.shipped(ID).join("data.bin"))
            .unwrap();
        open.write_all(b"late").unwrap();
        drop(open);
        // It is packed and offered as it is now, in the same pass; the receiver says that it holds
        // another.
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["conflicts"]), (1, &json!(1)), "{left}");
        assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
        let back = sandbox.layout.episodes.join(ID);
        assert_eq!(names(&back), ["data.bin", "deep", "done.marker"]);
        assert!(fs::read(back.join("data.bin")).unwrap().ends_with(b"late"));
        assert_eq!(content_of(&sandbox.stored(ID)), reference);
    }
}

// Rejected.

#[test]
fn killed_with_the_reason_written_and_not_moved_it_decides_afresh() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 100_000);
    let rejecting = rejecting();
    let daemon = blocked(&sandbox, &sandbox.layout.quarantine, || {
        sandbox.start(ship_to(&sandbox, &rejecting.url()))
    });
    let reason = sandbox.layout.episodes.join(ID).join(REASON);
    eventually("the reason is written", || reason.exists());
    daemon.kill();
    unblock(&sandbox.layout.quarantine);
    // The receiver has been mended meanwhile: the episode is as good as any.
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
    assert!(
        !sandbox.shipped(ID).join(REASON).exists(),
        "a reason that did not hold was shipped"
    );
}

#[test]
fn killed_while_quarantining_it_quarantines_where_the_receiver_still_rejects_it() {
    let sandbox = Sandbox::new("");
    seal(&sandbox, 100_000);
    let rejecting = rejecting();
    let daemon = blocked(&sandbox, &sandbox.layout.quarantine, || {
        sandbox.start(ship_to(&sandbox, &rejecting.url()))
    });
    let reason = sandbox.layout.episodes.join(ID).join(REASON);
    eventually("the reason is written", || reason.exists());
    daemon.kill();
    unblock(&sandbox.layout.quarantine);
    assert!(sandbox.layout.episodes.join(ID).exists());
    let (code, tally) = ship_once_to(&sandbox, &rejecting.url());
    assert_eq!((code, &tally["fatal"]), (1, &json!(1)));
    assert_eq!(
        names(&sandbox.quarantined(ID)),
        ["data.bin", "deep", "done.marker", REASON]
    );
    let reason = json_file(&sandbox.quarantined(ID).join(REASON));
    assert_eq!(
        (&reason["episode_id"], &reason["status_code"]),
        (&json!(ID), &json!(422))
    );
    assert_eq!(sandbox.outbox(), [""; 0]);
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    let sent = rejecting.seen();
    assert!(
        sent.iter().all(|seen| seen.body == sent[0].body),
        "it was packed to other bytes"
    );
}

#[test]
fn a_receipt_that_was_not_acted_on_does_not_go_to_quarantine() {
    let sandbox = Sandbox::new("");
    seal(&sandbox, 1000);
    keep(&sandbox);
    let sidecar = json_file(&sandbox.layout.outbox.join(format!("{ID}.json")));
    write_json(
        &sandbox.layout.episodes.join(ID).join(RECEIPT),
        &receipt(&sidecar),
    );
    ship_once_to(&sandbox, &rejecting().url());
    assert_eq!(
        names(&sandbox.quarantined(ID)),
        ["data.bin", "deep", "done.marker", REASON]
    );
}

// An archive whose episode is gone.

#[test]
fn an_archive_whose_episode_is_in_quarantine_is_unlinked() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    keep(&sandbox);
    let kept = take_outbox(&sandbox);
    let rejecting = rejecting();
    ship_once_to(&sandbox, &rejecting.url());
    assert_eq!(names(&sandbox.layout.quarantine), [ID]);
    put_back(&kept);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), [""; 0]);
    assert_eq!(names(&sandbox.layout.quarantine), [ID]);
}

#[test]
fn an_archive_whose_episode_is_nowhere_may_be_the_last_copy_and_is_quarantined() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    keep(&sandbox);
    fs::remove_dir_all(sandbox.layout.episodes.join(ID)).unwrap();
    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["fatal"]), (1, &json!(1)), "{tally}");
    assert_eq!(sandbox.outbox(), [""; 0]);
    let rescued = &names(&sandbox.layout.quarantine)[0];
    let rescued = sandbox.layout.quarantine.join(rescued);
    let archive = names(&rescued)
        .into_iter()
        .find(|name| name.ends_with(".tar.zst"))
        .unwrap();
    assert_eq!(content_of(&rescued.join(&archive)), reference);
    assert!(!sandbox.stored(ID).exists());
    // What the reason says to type brings it back, and it is shipped.
    let reason = json_file(&rescued.join(REASON));
    let command = reason["error"]
        .as_str()
        .unwrap()
        .split_once("type: ")
        .unwrap()
        .1;
    let command = command.strip_prefix("sealift ").unwrap();
    let program = env!("CARGO_BIN_EXE_sealift");
    let typed = Command::new("sh")
        .args(["-c", &format!("'{program}' {command}")])
        .output()
        .unwrap();
    assert!(typed.status.success(), "{command}: {typed:?}");
    assert_eq!(sandbox.ship_once().0, 0);
    assert!(sandbox.stored(ID).exists());
}

#[test]
fn a_receipt_in_shipped_for_other_bytes_does_not_cover_an_archive() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    assert_eq!(sandbox.ship_once().0, 0);
    // The same name a second time, with other content: packed, kept, and gone before it was
    // delivered.
    fs::remove_file(sandbox.stored(ID)).unwrap();
    let reference = seal(&sandbox, 2000);
    keep(&sandbox);
    fs::remove_dir_all(sandbox.layout.episodes.join(ID)).unwrap();
    sandbox.ship_once();
    assert_eq!(sandbox.outbox(), [""; 0]);
    let rescued = names(&sandbox.layout.quarantine);
    assert_eq!(rescued.len(), 1, "it was the last copy of other bytes");
    let rescued = sandbox.layout.quarantine.join(&rescued[0]);
    let archive = names(&rescued)
        .into_iter()
        .find(|name| name.ends_with(".tar.zst"))
        .unwrap();
    assert_eq!(content_of(&rescued.join(archive)), reference);
}

#[test]
fn while_episodes_is_another_folder_nothing_is_swept() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    keep(&sandbox);
    let daemon = sandbox.start(reconciling_each_second(&sandbox, "http://127.0.0.1:1"));
    daemon.wait_log("was not delivered");
    // Unmounted: where the episodes were is an empty folder of another inode.
    fs::rename(&sandbox.layout.episodes, sandbox.path("elsewhere")).unwrap();
    for newcomer in ["new-1", "new-2"] {
        let episode = sandbox.layout.episodes.join(newcomer);
        fs::create_dir_all(&episode).unwrap();
        fs::write(episode.join("done.marker"), b"").unwrap();
        // Found by a pass over the new folder, which listed the old archive in the outbox too.
        eventually("the newcomer is packed", || {
            sandbox
                .outbox()
                .iter()
                .any(|name| name.starts_with(newcomer))
        });
    }
    assert!(archive_in_outbox(&sandbox).exists());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn where_episodes_was_missing_at_the_start_no_archive_is_taken_for_an_orphan() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    keep(&sandbox);
    fs::rename(&sandbox.layout.episodes, sandbox.path("elsewhere")).unwrap();
    assert_eq!(
        sandbox.ship_once().0,
        1,
        "what may be a last copy is left undone"
    );
    assert!(archive_in_outbox(&sandbox).exists());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn while_episodes_is_missing_nothing_is_swept() {
    let sandbox = Sandbox::with_receiver();
    seal(&sandbox, 1000);
    keep(&sandbox);
    let mut daemon = sandbox.start(reconciling_each_second(&sandbox, "http://127.0.0.1:1"));
    daemon.wait_log("was not delivered");
    fs::rename(&sandbox.layout.episodes, sandbox.path("elsewhere")).unwrap();
    daemon.wait_log("Failed to look through");
    assert!(archive_in_outbox(&sandbox).exists());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    // It comes back, and with it everything goes on.
    fs::rename(sandbox.path("elsewhere"), &sandbox.layout.episodes).unwrap();
    assert!(daemon.terminate().success());
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), [""; 0]);
}

// A removal or a copy that was begun.

#[test]
fn a_removal_that_was_begun_is_finished_and_a_copy_is_begun_again() {
    let sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 1000);
    let outside = sandbox.path("outside");
    fs::write(&outside, b"not yours to remove").unwrap();
    for folder in [
        &sandbox.layout.episodes,
        &sandbox.layout.shipped,
        &sandbox.layout.quarantine,
    ] {
        for name in [".sealift-trash-run-9", ".sealift-copy-run-9"] {
            let leftover = folder.join(name);
            fs::create_dir_all(leftover.join("deep/er")).unwrap();
            fs::write(leftover.join("deep/er/file"), b"half").unwrap();
            fs::write(leftover.join("done.marker"), b"").unwrap();
            symlink(&outside, leftover.join("link")).unwrap();
        }
    }
    fs::write(sandbox.layout.outbox.join(".sealift-copy-run-1.json"), b"{").unwrap();
    fs::write(
        sandbox.layout.outbox.join(".sealift-trash-run-1.tar.zst"),
        b"half",
    )
    .unwrap();
    fs::write(
        sandbox
            .layout
            .episodes
            .join(ID)
            .join(".sealift-copy-shipping_receipt.json"),
        b"{",
    )
    .unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 201);
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    assert_eq!(names(&sandbox.layout.shipped), [ID]);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    assert_eq!(
        names(&sandbox.shipped(ID)),
        ["data.bin", "deep", "done.marker", RECEIPT]
    );
    assert_eq!(fs::read(outside).unwrap(), b"not yours to remove");
}

// The receiver.

#[test]
fn a_receiver_killed_in_mid_upload_holds_no_half_and_gets_the_whole_when_it_is_back() {
    let mut sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, MUCH);
    let proxy = Proxy::new(sandbox.url(), Holds::TheBodyAfter(4 << 20));
    let daemon = sandbox.start(ship_to(&sandbox, &proxy.url));
    let incoming = sandbox.store().join("incoming");
    eventually("the receiver has a part of it", || {
        fs::read_dir(&incoming)
            .unwrap()
            .any(|part| part.unwrap().metadata().is_ok_and(|part| part.len() > 0))
    });
    let address = sandbox.kill_receiver();
    assert_eq!(names(&sandbox.store().join("episodes")), [""; 0]);
    eventually("the shipper keeps the archive", || {
        archive_in_outbox(&sandbox).exists()
    });
    assert!(sandbox.layout.episodes.join(ID).exists());
    sandbox.start_receiver(&address);
    sandbox.wait_shipped(ID);
    assert_stored_once(&sandbox, reference, 201);
    drop(daemon);
}

#[test]
fn a_receiver_killed_before_its_answer_arrives_says_200_when_it_is_back() {
    let mut sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 300_000);
    let proxy = Proxy::new(sandbox.url(), Holds::TheAnswer);
    let _daemon = sandbox.start(ship_to(&sandbox, &proxy.url));
    eventually("the receiver has stored it", || sandbox.stored(ID).exists());
    let address = sandbox.kill_receiver();
    assert!(sandbox.layout.episodes.join(ID).exists());
    sandbox.start_receiver(&address);
    sandbox.wait_shipped(ID);
    assert_stored_once(&sandbox, reference, 200);
}

#[test]
fn an_archive_that_was_published_and_not_remembered_is_hashed_and_held() {
    let mut sandbox = Sandbox::with_receiver();
    let reference = seal(&sandbox, 300_000);
    keep(&sandbox);
    let address = sandbox.kill_receiver();
    fs::copy(archive_in_outbox(&sandbox), sandbox.stored(ID)).unwrap();
    fs::write(
        sandbox.store().join("incoming/0123456789abcdef-7.part"),
        b"half",
    )
    .unwrap();
    sandbox.start_receiver(&address);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_stored_once(&sandbox, reference, 200);
}

// What they are made of.

/// Seals an episode with so many bytes that do not compress. Returns the digest of its tar stream.
pub(crate) fn seal(sandbox: &Sandbox, bytes: usize) -> Digest {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes.div_ceil(8))
    .flatten()
    .collect();
    sandbox.seal(ID, &[("data.bin", &noise), ("deep/er/notes.txt", b"once")]);
    reference(sandbox)
}

/// The digest of an episode's tar stream, packed here and now.
fn reference(sandbox: &Sandbox) -> Digest {
    reference_of(sandbox, &sandbox.layout.episodes.join(ID))
}

/// The same of a directory, wherever it stands.
pub(crate) fn reference_of(sandbox: &Sandbox, directory: &Path) -> Digest {
    let id = EpisodeId::parse(ID).unwrap();
    let (writer, _archive) = Archive::create(&sandbox.path("reference")).unwrap();
    let options = pack::PackOptions {
        level: 1,
        workers: std::num::NonZeroU32::MIN,
        open_files: pack::OpenFilePolicy::default(),
    };
    let packed = pack::pack(&id, directory, writer, &options, &Progress::default()).unwrap();
    packed.facts.content_sha256
}

/// The digest of the tar stream inside an archive.
pub(crate) fn content_of(archive: &Path) -> Digest {
    Digest::of(&zstd::decode_all(fs::File::open(archive).unwrap()).unwrap())
}

/// It is in shipped/ with a receipt of this status, the store holds one archive of just its bytes,
/// and nothing else is left.
#[track_caller]
pub(crate) fn assert_stored_once(sandbox: &Sandbox, reference: Digest, status: u16) {
    assert_eq!(
        names(&sandbox.store().join("episodes")),
        [format!("{ID}.tar.zst")]
    );
    let stored = sandbox.stored(ID);
    assert_eq!(content_of(&stored), reference, "other content was stored");
    let receipt = json_file(&sandbox.shipped(ID).join(RECEIPT));
    assert_eq!(receipt["status_code"], status);
    assert_eq!(
        receipt["sha256"],
        Digest::of(&fs::read(stored).unwrap()).to_string()
    );
    assert_eq!(receipt["content_sha256"], reference.to_string());
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    assert!(!sandbox.layout.episodes.join(ID).exists());
    assert!(!sandbox.quarantined(ID).exists());
}

fn archive_in_outbox(sandbox: &Sandbox) -> PathBuf {
    sandbox.layout.outbox.join(format!("{ID}.tar.zst"))
}

fn inode_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).unwrap().ino()
}

/// `ship --data ... --receiver URL`
fn ship_to(sandbox: &Sandbox, url: &str) -> Command {
    let mut command = sealift();
    command
        .args(["ship", "--receiver", url, "--data"])
        .arg(sandbox.data());
    command
}

fn ship_once_to(sandbox: &Sandbox, url: &str) -> (i32, Value) {
    json_of(
        ship_to(sandbox, url)
            .args(["--once", "--json"])
            .output()
            .unwrap(),
    )
}

fn with_level(sandbox: &Sandbox, level: u8) -> (i32, Value) {
    let config = format!("[pack]\nlevel = {level}\n");
    let mut command = sandbox.command_with_config("ship", &config);
    json_of(command.args(["--once", "--json"]).output().unwrap())
}

fn reconciling_each_second(sandbox: &Sandbox, url: &str) -> Command {
    let config = sandbox.path("each-second.toml");
    fs::write(&config, "[shipper]\nreconcile_interval_s = 1\n").unwrap();
    let mut command = ship_to(sandbox, url);
    command.arg("--config").arg(config);
    command
}

/// Has the archive kept in the outbox: one pass while nobody can take it.
#[track_caller]
pub(crate) fn keep(sandbox: &Sandbox) {
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let (code, tally) = ship_once_to(sandbox, &busy.url());
    assert_eq!((code, &tally["transient_failures"]), (1, &json!(1)));
    assert_eq!(
        sandbox.outbox(),
        [format!("{ID}.json"), format!("{ID}.tar.zst")]
    );
}

/// The outbox's files with their content.
fn take_outbox(sandbox: &Sandbox) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = sandbox
        .outbox()
        .into_iter()
        .map(|name| sandbox.layout.outbox.join(name));
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn put_back(files: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        fs::write(path, content).unwrap();
    }
}

/// Starts a process that finds everything in order, and then cannot move anything into this folder.
fn blocked(sandbox: &Sandbox, folder: &Path, start: impl FnOnce() -> Process) -> Process {
    let sealed = sandbox.layout.episodes.join(ID).join("done.marker");
    fs::remove_file(&sealed).unwrap();
    let process = start();
    process.wait_log("ships");
    eventually("the start is over", || {
        sandbox.layout.private.join("lock").exists()
    });
    // In one step: a folder that is missing for a moment is made anew.
    let aside = sandbox.path("in-the-way");
    fs::write(&aside, b"in the way").unwrap();
    renameat_with(CWD, &aside, CWD, folder, RenameFlags::EXCHANGE).unwrap();
    // Its trial of the moves may have left something there just now.
    fs::remove_dir_all(&aside).unwrap();
    fs::write(&sealed, b"").unwrap();
    process
}

fn unblock(folder: &Path) {
    fs::remove_file(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

fn rejecting() -> Scripted {
    Scripted::new(|_, _| {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not an episode of ours"}),
        )
    })
}

/// What the shipper would write beside an episode that was delivered as its sidecar says.
fn receipt(sidecar: &Value) -> Value {
    json!({
        "episode_id": sidecar["episode_id"], "sha256": sidecar["sha256"],
        "content_sha256": sidecar["content_sha256"], "size_bytes": sidecar["size_bytes"],
        "status_code": 201, "receiver": "http://r", "delivered_at_wall": "2026-01-01T00:00:00Z",
        "manifest": "none", "receipt": null,
    })
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// Reads half of a body, says so, and then nothing more.
struct HalfReader {
    url: String,
    half: mpsc::Receiver<()>,
}

impl HalfReader {
    fn new() -> Self {
        let (url, half) = accepting(|stream, said| {
            let (mut reader, length) = read_head(&stream, &mut String::new());
            reader.read_exact(&mut vec![0; length / 2]).unwrap();
            let _ = said.send(());
            thread::park();
        });
        Self { url, half }
    }

    fn has_read_half(&self) {
        self.half.recv_timeout(crate::support::DEADLINE).unwrap();
    }
}

/// Reads the whole request, does something, answers 201.
struct AnswersAfter {
    url: String,
    answered: mpsc::Receiver<()>,
}

impl AnswersAfter {
    fn new(before: impl Fn(&str, &[u8]) + Send + Sync + 'static) -> Self {
        let (url, answered) = accepting(move |mut stream, said| {
            let mut head = String::new();
            let (mut reader, length) = read_head(&stream, &mut head);
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            before(&head, &body);
            stream
                .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            let _ = said.send(());
        });
        Self { url, answered }
    }

    fn has_answered(&self) {
        self.answered
            .recv_timeout(crate::support::DEADLINE)
            .unwrap();
    }
}

fn accepting(
    serve: impl Fn(TcpStream, &mpsc::Sender<()>) + Send + Sync + 'static,
) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let serve = Arc::new(serve);
        for stream in listener.incoming() {
            let (serve, sender) = (Arc::clone(&serve), sender.clone());
            thread::spawn(move || serve(stream.unwrap(), &sender));
        }
    });
    (url, receiver)
}

/// Reads a request's head, and asks for the body where the client waits for that. Returns the
/// body's length.
fn read_head(mut stream: &TcpStream, head: &mut String) -> (BufReader<TcpStream>, usize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        assert!(
            reader.read_line(head).unwrap() > 0,
            "the client left: {head:?}"
        );
    }
    if head.to_ascii_lowercase().contains("100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    }
    let length = header(head, "content-length").unwrap().parse().unwrap();
    (reader, length)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// The real receiver, as the shipper was told to name it.
fn sandbox_address(head: &str) -> String {
    header(head, "x-behind").unwrap().to_owned()
}

/// Hands a request on to a receiver. Returns the status.
fn put(address: &str, id: &str, head: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request =
        format!("PUT /v1/episodes/{id} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for name in ["Content-Length", "Repr-Digest", "Sealift-Content-Digest"] {
        request += &format!("{name}: {}\r\n", header(head, name).unwrap());
    }
    stream
        .write_all(format!("{request}\r\n").as_bytes())
        .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a proxy keeps to itself on its first connection, until its upstream is gone.
#[derive(Clone, Copy)]
enum Holds {
    TheBodyAfter(u64),
    TheAnswer,
}

/// Between the shipper and the receiver. Every connection but the first passes unhindered.
struct Proxy {
    url: String,
}

impl Proxy {
    fn new(upstream: &str, holds: Holds) -> Self {
        let upstream: SocketAddr = upstream.trim_start_matches("http://").parse().unwrap();
        let count = AtomicUsize::new(0);
        let (url, _) = accepting(move |client, _| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            // The receiver is away: the client is told by a closed connection.
            let Ok(server) = TcpStream::connect(upstream) else {
                return;
            };
            let (mut to_server, mut from_server) = (server.try_clone().unwrap(), server);
            let (from_client, mut to_client) = (client.try_clone().unwrap(), client);
            thread::spawn(move || {
                let allowed = match holds {
                    Holds::TheBodyAfter(bytes) if first => bytes,
                    Holds::TheBodyAfter(_) | Holds::TheAnswer => u64::MAX,
                };
                let _ = std::io::copy(&mut from_client.take(allowed), &mut to_server);
            });
            let held = first && matches!(holds, Holds::TheAnswer);
            let _ = if held {
                std::io::copy(&mut from_server, &mut std::io::sink())
            } else {
                std::io::copy(&mut from_server, &mut to_client)
            };
            let _ = to_client.shutdown(std::net::Shutdown::Both);
        });
        Self { url }
    }
}
