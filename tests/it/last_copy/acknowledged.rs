//! The folder of an episode is replaced while its upload waits for the answer: what was
//! acknowledged is no last copy.

#![expect(
    clippy::disallowed_methods,
    reason = "operators and recorders remove as they like"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{NEW, OLD};
use crate::support::{Reply, Sandbox, Scripted, eventually, names};

/// What becomes of the folder while the answer is waited for.
#[derive(Clone, Copy, PartialEq)]
enum Replaced {
    /// By another sealed episode.
    BySealed,
    /// By one that is recorded.
    ByOpen,
    /// All that was in it is removed.
    Emptied,
}

fn replace(episode: &Path, how: Replaced) {
    fs::remove_dir_all(episode).unwrap();
    fs::create_dir(episode).unwrap();
    if how != Replaced::Emptied {
        fs::write(episode.join("data.bin"), NEW).unwrap();
    }
    if how == Replaced::BySealed {
        fs::write(episode.join("done.marker"), b"").unwrap();
    }
}

#[test]
fn an_archive_that_was_acknowledged_goes_though_its_episode_was_replaced_while_the_answer_was_waited_for()
 {
    for how in [Replaced::BySealed, Replaced::ByOpen, Replaced::Emptied] {
        let paths = Arc::new(OnceLock::<(PathBuf, PathBuf)>::new());
        let of_script = Arc::clone(&paths);
        let replaced = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&replaced);
        let server = Scripted::new(move |seen, _| {
            let (episode, sidecar) = of_script.get().unwrap();
            if seen.head.starts_with("PUT") && !done.load(Ordering::SeqCst) {
                eventually("its archive is durable", || sidecar.exists());
                replace(episode, how);
                done.store(true, Ordering::SeqCst);
            }
            Reply::stored(seen)
        });
        let sandbox = Sandbox::new(server.url());
        let sidecar = sandbox.layout.outbox.join("run-1.json");
        paths
            .set((sandbox.layout.episodes.join("run-1"), sidecar))
            .unwrap();
        let config = "[shipper]\nreconcile_interval_s = 1\n";
        let daemon = sandbox.start(sandbox.command_with_config("ship", config));
        sandbox.seal("run-1", &[("data.bin", OLD)]);
        eventually("its folder is replaced", || replaced.load(Ordering::SeqCst));
        eventually("its archive went", || sandbox.outbox().is_empty());
        if how == Replaced::BySealed {
            sandbox.wait_shipped("run-1");
            assert_eq!(
                fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
                NEW
            );
        }
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
        assert!(!daemon.log().contains("last copy"), "{}", daemon.log());
    }
}
