//! The folder of an episode that waits is used again for another recording (`rm -rf run/*`, zarr with `mode="w"`): it is
//! the same folder, and holds nothing of what was packed.

#![expect(clippy::disallowed_methods, reason = "recorders remove as they like")]

use std::{fs, path::Path};

use super::{NEW, OLD, answer, archives_of, ship_to};
use crate::support::{Reply, Sandbox, Scripted, names};

const SAME: &[u8] = b"{\"zarr_format\":2}";

fn leave_archive(sandbox: &Sandbox, files: &[(&str, &[u8])]) {
    sandbox.seal("stored", files);
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let output = ship_to(sandbox, &busy.url()).arg("--once").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(sandbox.outbox(), ["stored.json", "stored.tar.zst"]);
}

fn remove_all_in(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[test]
fn where_the_folder_was_emptied_and_recorded_anew_the_archive_of_the_first_recording_is_put_aside() {
    let server = Scripted::new(|seen, _| answer(seen));
    for (case, second) in [
        ("other names", &[("other.bin", NEW)][..]),
        ("the same names", &[("data.bin", NEW), (".zgroup", SAME), ("c/.zarray", SAME)][..]),
    ] {
        let sandbox = Sandbox::new("");
        leave_archive(&sandbox, &[("data.bin", OLD), (".zgroup", SAME), ("c/.zarray", SAME)]);
        remove_all_in(&sandbox.layout.episodes.join("stored"));
        sandbox.seal("stored", second);
        let output = ship_to(&sandbox, &server.url()).arg("--once").output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(sandbox.shipped("stored").join("done.marker").exists(), "{case}: {log}");
        let kept = archives_of(&sandbox, "stored", OLD);
        assert!(kept.iter().any(|path| path.starts_with(&sandbox.layout.quarantine)), "{case}: {log}");
        assert!(log.contains("The archive stored.tar.zst was found in outbox/ without its episode"), "{log}");
    }
}

#[test]
fn where_an_episode_was_corrected_or_written_on_in_its_folder_no_archive_is_put_aside() {
    let server = Scripted::new(|seen, _| answer(seen));
    for case in ["written on", "written over", "one file replaced", "one file removed"] {
        let sandbox = Sandbox::new("");
        leave_archive(&sandbox, &[("data.bin", OLD), ("meta.json", SAME)]);
        let episode = sandbox.layout.episodes.join("stored");
        let longer = [OLD, NEW].concat();
        match case {
            "written on" => fs::write(episode.join("data.bin"), longer).unwrap(),
            "written over" => fs::write(episode.join("data.bin"), NEW).unwrap(),
            "one file replaced" => {
                fs::write(episode.join("meta.new"), b"corrected").unwrap();
                fs::rename(episode.join("meta.new"), episode.join("meta.json")).unwrap();
            }
            _ => fs::remove_file(episode.join("meta.json")).unwrap(),
        }
        let output = ship_to(&sandbox, &server.url()).arg("--once").output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{case}: {log}");
        assert!(sandbox.shipped("stored").exists(), "{case}: {log}");
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{case}: {log}");
        assert_eq!(sandbox.outbox(), [""; 0], "{case}: {log}");
    }
}
