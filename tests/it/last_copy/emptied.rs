//! The folder of an episode that waits is used again for another recording (`rm -rf run/*`, zarr
//! with `mode="w"`): it is the same folder, and holds nothing of what was packed.

#![expect(clippy::disallowed_methods, reason = "recorders remove as they like")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{NEW, OLD, answer, archives_of, ship_to};
use crate::support::{Mounted, Reply, Sandbox, Scripted, eventually, json_of, names, sealift};

const SAME: &[u8] = b"{\"zarr_format\":2}";

fn leave_archive(sandbox: &Sandbox, files: &[(&str, &[u8])]) {
    sandbox.seal("stored", files);
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let output = ship_to(sandbox, &busy.url())
        .arg("--once")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(sandbox.outbox(), ["stored.json", "stored.tar.zst"]);
}

fn remove_all_in(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn where_the_folder_was_emptied_and_recorded_anew_the_archive_of_the_first_recording_is_put_aside()
{
    let server = Scripted::new(|seen, _| answer(seen));
    for (case, second) in [
        ("other names", &[("other.bin", NEW)][..]),
        (
            "the same names",
            &[("data.bin", NEW), (".zgroup", SAME), ("c/.zarray", SAME)][..],
        ),
    ] {
        let sandbox = Sandbox::new("");
        leave_archive(
            &sandbox,
            &[("data.bin", OLD), (".zgroup", SAME), ("c/.zarray", SAME)],
        );
        remove_all_in(&sandbox.layout.episodes.join("stored"));
        sandbox.seal("stored", second);
        let output = ship_to(&sandbox, &server.url())
            .arg("--once")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(
            sandbox.shipped("stored").join("done.marker").exists(),
            "{case}: {log}"
        );
        let kept = archives_of(&sandbox, "stored", OLD);
        assert!(
            kept.iter()
                .any(|path| path.starts_with(&sandbox.layout.quarantine)),
            "{case}: {log}"
        );
        assert!(
            log.contains("stored.tar.zst in outbox/ is what stored was before it was changed"),
            "{log}"
        );
    }
}

/// Ships what stands there now, and says where the first recording is.
#[track_caller]
fn the_first_is_kept(sandbox: &Sandbox, server: &Scripted, case: &str) {
    let output = ship_to(sandbox, &server.url())
        .arg("--once")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        sandbox.shipped("stored").join("done.marker").exists(),
        "{case}: {log}"
    );
    let kept = archives_of(sandbox, "stored", OLD);
    assert!(
        kept.iter()
            .any(|path| path.starts_with(&sandbox.layout.quarantine)),
        "{case}: {log}"
    );
    assert_eq!(sandbox.outbox(), [""; 0], "{case}: {log}");
}

#[test]
fn where_other_files_that_were_finished_before_are_moved_into_the_emptied_folder_the_first_archive_is_put_aside()
 {
    let server = Scripted::new(|seen, _| answer(seen));
    let sandbox = Sandbox::new("");
    // Recorded before the first was packed, and moved in under its names after.
    let second = sandbox.path("second.bin");
    fs::write(&second, NEW).unwrap();
    leave_archive(&sandbox, &[("data.bin", OLD)]);
    let episode = sandbox.layout.episodes.join("stored");
    remove_all_in(&episode);
    fs::rename(second, episode.join("data.bin")).unwrap();
    fs::write(episode.join("done.marker"), b"").unwrap();
    the_first_is_kept(&sandbox, &server, "moved in");
}

#[test]
fn where_a_recording_is_written_over_or_replaced_or_some_of_it_removed_the_archive_of_what_it_was_is_put_aside()
 {
    let server = Scripted::new(|seen, _| answer(seen));
    let small: [(&str, &[u8]); 3] = [("a.json", SAME), ("b.json", SAME), ("data.bin", OLD)];
    for case in [
        "written over",
        "cut off",
        "one of three replaced",
        "removed",
        "the clock was ahead",
    ] {
        let sandbox = Sandbox::new("");
        leave_archive(&sandbox, &small);
        let episode = sandbox.layout.episodes.join("stored");
        match case {
            // HDF5's mode w, numpy.save: O_TRUNC, and the inode stays.
            "written over" => fs::write(episode.join("data.bin"), NEW).unwrap(),
            "cut off" => fs::write(episode.join("data.bin"), &OLD[..OLD.len() / 2]).unwrap(),
            "one of three replaced" => {
                fs::write(episode.join("data.new"), NEW).unwrap();
                fs::rename(episode.join("data.new"), episode.join("data.bin")).unwrap();
            }
            "removed" => fs::remove_file(episode.join("data.bin")).unwrap(),
            _ => {
                let archive = sandbox.layout.outbox.join("stored.tar.zst");
                let archive = fs::File::options().write(true).open(archive).unwrap();
                archive
                    .set_modified(SystemTime::now() + Duration::from_secs(20 * 86_400))
                    .unwrap();
                fs::remove_file(episode.join("data.bin")).unwrap();
                fs::write(episode.join("data.bin"), NEW).unwrap();
            }
        }
        the_first_is_kept(&sandbox, &server, case);
    }
}

#[test]
fn where_a_recording_was_written_on_in_its_folder_no_archive_is_put_aside() {
    let server = Scripted::new(|seen, _| answer(seen));
    for case in ["written on", "a file came", "other permissions"] {
        let sandbox = Sandbox::new("");
        leave_archive(&sandbox, &[("data.bin", OLD), ("meta.json", SAME)]);
        let episode = sandbox.layout.episodes.join("stored");
        match case {
            "written on" => fs::write(episode.join("data.bin"), [OLD, NEW].concat()).unwrap(),
            "a file came" => fs::write(episode.join("more.bin"), NEW).unwrap(),
            _ => {
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(episode.join("data.bin"), mode).unwrap();
            }
        }
        let output = ship_to(&sandbox, &server.url())
            .arg("--once")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{case}: {log}");
        assert!(sandbox.shipped("stored").exists(), "{case}: {log}");
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{case}: {log}");
        assert_eq!(sandbox.outbox(), [""; 0], "{case}: {log}");
    }
}

#[test]
fn where_there_is_no_room_in_quarantine_for_what_it_was_the_doctor_says_so_at_once_and_the_others_ship()
 {
    let sandbox = Sandbox::new("");
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    leave_archive(&sandbox, &[("data.bin", &noise)]);
    fs::write(sandbox.layout.episodes.join("stored/data.bin"), NEW).unwrap();
    let Some(_small) = Mounted::over(&sandbox.layout.quarantine, "256k") else {
        return;
    };
    let server = Scripted::new(|seen, _| answer(seen));
    let _daemon = sandbox.start(ship_to(&sandbox, &server.url()));
    sandbox.seal("other", &[("data.bin", NEW)]);
    sandbox.wait_shipped("other");
    let doctor = || {
        let output = sealift()
            .args(["doctor", "--json", "--data"])
            .arg(sandbox.data())
            .output()
            .unwrap();
        let (_, told) = json_of(output);
        let rows = told["checks"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["id"] == "moves").unwrap()
    };
    eventually("the row is red", || doctor()["status"] == "red");
    let row = doctor();
    let summary = row["summary"].as_str().unwrap();
    assert!(
        summary.contains("1 episode is sealed and cannot be packed. stored: "),
        "{row}"
    );
    assert!(
        summary.contains(" bytes on the disk of ") && summary.contains("where 262144 are free"),
        "{row}"
    );
    assert!(row["fix"].as_str().unwrap().starts_with("df -H "), "{row}");
    assert!(sandbox.layout.episodes.join("stored/done.marker").exists());
    assert_eq!(archives_of(&sandbox, "stored", &noise).len(), 1);
}
