//! A file that is open for writing while its episode leaves for another file system: there the
//! episode is copied, and what is written to the source after that would go with the source.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::json;

use super::{append, waits_for};
use crate::support::{Mounted, Process, Reply, Sandbox, Scripted, eventually, json_file, names};

/// Takes what it is sent, or refuses it. While the first upload waits for its answer, a file is
/// opened.
struct Opener {
    server: Scripted,
    file: Arc<OnceLock<PathBuf>>,
    opened: Arc<Mutex<Option<File>>>,
}

impl Opener {
    fn new(status: u16) -> Self {
        let (file, opened) = (
            Arc::new(OnceLock::<PathBuf>::new()),
            Arc::new(Mutex::new(None)),
        );
        let (to_open, held) = (Arc::clone(&file), Arc::clone(&opened));
        let server = Scripted::new(move |seen, nth| {
            if let (0, Some(file)) = (nth, to_open.get()) {
                *held.lock().unwrap() = Some(append(file));
            }
            match status {
                201 => Reply::stored(seen),
                _ => Reply::json(
                    status,
                    &json!({"type": "urn:sealift:too-large", "detail": "too large"}),
                ),
            }
        });
        Self {
            server,
            file,
            opened,
        }
    }

    fn take(&self) -> File {
        self.opened.lock().unwrap().take().unwrap()
    }
}

fn visible(folder: &Path) -> Vec<String> {
    names(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// Whether it is open before it is packed, for longer than is waited for; else it is opened during
/// the upload.
fn daemon_at_it(sandbox: &Sandbox, opener: &Opener, accepted: bool) -> (Process, File) {
    let file = sandbox
        .record("run-1", &[("data.mcap", b"head")])
        .join("data.mcap");
    let before = accepted.then(|| append(&file));
    if !accepted {
        opener.file.set(file).unwrap();
    }
    sandbox.seal("run-1", &[]);
    let toml = if accepted {
        "[pack]\nopen_files_wait_s = 0"
    } else {
        ""
    };
    let daemon = sandbox.start(sandbox.command_with_config("ship", toml));
    eventually("it waits for its file", || {
        opener.server.count("run-1") == 1 && waits_for(sandbox, "run-1")
    });
    (daemon, before.unwrap_or_else(|| opener.take()))
}

#[test]
fn what_is_written_to_a_file_that_is_open_when_its_episode_would_be_copied_to_another_disk_is_not_lost()
 {
    for accepted in [true, false] {
        let opener = Opener::new(201);
        let sandbox = Sandbox::new(opener.server.url());
        let Some(_disk) = Mounted::over(&sandbox.layout.shipped, "8m") else {
            return;
        };
        let (daemon, mut recorder) = daemon_at_it(&sandbox, &opener, accepted);
        daemon.wait_log("run-1 is delivered, and is not moved yet: data.mcap is open for writing");
        assert_eq!(visible(&sandbox.layout.shipped), [""; 0]);
        assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
        let receipt = sandbox.layout.episodes.join("run-1/shipping_receipt.json");
        assert!(
            !receipt.exists(),
            "which is no receipt of what may be written still"
        );
        recorder.write_all(b"tail").unwrap();
        drop(recorder);
        sandbox.wait_shipped("run-1");
        assert_eq!(
            fs::read(sandbox.shipped("run-1").join("data.mcap")).unwrap(),
            b"headtail"
        );
        assert_eq!(
            opener.server.count("run-1"),
            2,
            "what was written is delivered"
        );
        assert_eq!(
            json_file(&sandbox.shipped("run-1").join("shipping_receipt.json")).get("open_files"),
            None
        );
        eventually("nothing waits", || !waits_for(&sandbox, "run-1"));
        eventually("the source is gone", || {
            names(&sandbox.layout.episodes).is_empty()
        });
    }
}

#[test]
fn what_was_open_when_its_episode_would_be_copied_and_is_closed_as_it_was_is_moved_and_not_sent_again()
 {
    for accepted in [true, false] {
        let opener = Opener::new(201);
        let sandbox = Sandbox::new(opener.server.url());
        let Some(_disk) = Mounted::over(&sandbox.layout.shipped, "8m") else {
            return;
        };
        let (_daemon, recorder) = daemon_at_it(&sandbox, &opener, accepted);
        // Nothing waits behind it.
        sandbox.seal("run-2", &[("data.mcap", b"other")]);
        sandbox.wait_shipped("run-2");
        drop(recorder);
        sandbox.wait_shipped("run-1");
        assert_eq!(opener.server.count("run-1"), 1);
        let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
        assert_eq!(
            receipt.get("open_files"),
            accepted.then(|| json!(["data.mcap"])).as_ref()
        );
    }
}

#[test]
fn what_is_written_to_a_file_that_is_open_when_its_episode_is_rejected_to_another_disk_is_not_lost()
{
    let opener = Opener::new(422);
    let sandbox = Sandbox::new(opener.server.url());
    let Some(_disk) = Mounted::over(&sandbox.layout.quarantine, "8m") else {
        return;
    };
    let (daemon, mut recorder) = daemon_at_it(&sandbox, &opener, false);
    daemon.wait_log("run-1 is rejected, and is not moved yet: data.mcap is open for writing");
    assert_eq!(
        (
            visible(&sandbox.layout.quarantine),
            names(&sandbox.layout.episodes).len()
        ),
        (vec![], 1)
    );
    assert!(
        !sandbox
            .layout
            .episodes
            .join("run-1/quarantine_reason.json")
            .exists()
    );
    recorder.write_all(b"tail").unwrap();
    drop(recorder);
    sandbox.wait_quarantined("run-1");
    assert_eq!(
        fs::read(sandbox.quarantined("run-1").join("data.mcap")).unwrap(),
        b"headtail"
    );
    assert_eq!(
        opener.server.count("run-1"),
        2,
        "what was written was not judged"
    );
}

#[test]
fn requeue_leaves_on_another_disk_what_is_open_for_writing_and_says_by_which_process() {
    let opener = Opener::new(422);
    let sandbox = Sandbox::new(opener.server.url());
    let Some(_disk) = Mounted::over(&sandbox.layout.quarantine, "8m") else {
        return;
    };
    sandbox.seal("run-1", &[("data.mcap", b"head")]);
    assert_eq!(sandbox.ship_once().1["fatal"], 1);
    let recorder = append(&sandbox.quarantined("run-1").join("data.mcap"));
    let requeue = || {
        let out = sandbox.command("requeue").arg("run-1").output().unwrap();
        let said = [out.stdout, out.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat();
        (out.status.success(), said)
    };
    let (done, said) = requeue();
    let who = format!(
        "data.mcap is open for writing by process {}",
        std::process::id()
    );
    assert!(!done && said.contains(&who), "{said}");
    assert!(said.contains("close it"), "{said}");
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    drop(recorder);
    // A child that another test has just forked has the descriptor until its exec(3).
    eventually("it is put back", || requeue().0);
    assert_eq!(
        fs::read(sandbox.layout.episodes.join("run-1/data.mcap")).unwrap(),
        b"head"
    );
}
