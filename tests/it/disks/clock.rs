//! A wall clock that jumps. libfaketime plays it, for the wall clock alone: waits go by the other one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{Reply, Sandbox, Scripted, eventually, names};

/// How long the receiver asks for patience.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where Debian's package has it.
fn libfaketime() -> Option<PathBuf> {
    let below = |folder: &Path| {
        let found = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        found.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
    };
    let found = below(Path::new("/usr/lib"));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI has libfaketime");
        println!("skipped: libfaketime is not there");
    }
    found
}

#[test]
fn clock_jumps_forward_and_back_delete_nothing_and_retry_nothing_early() {
    let Some(library) = libfaketime() else { return };
    for (jump, back) in [("+400d", "+0d"), ("-20d", "+0d")] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let times = Arc::clone(&asked);
        let server = Scripted::new(move |seen, before| {
            times.lock().unwrap().push((seen.id.clone(), Instant::now()));
            let patience = format!("Retry-After: {}", PATIENCE.as_secs());
            if before == 0 { Reply::empty(503).header(&patience) } else { Reply::stored(seen) }
        });
        let sandbox = Sandbox::new(server.url());
        for folder in [&sandbox.layout.quarantine, &sandbox.layout.shipped] {
            fs::create_dir(folder.join("old")).unwrap();
        }
        let rc = sandbox.path("faketime");
        fs::write(&rc, "+0d").unwrap();
        // Whatever this machine's own says of its clock: nobody keeps it.
        let programs = sandbox.path("bin");
        fs::create_dir(&programs).unwrap();
        fs::write(programs.join("timedatectl"), "#!/bin/sh\necho no\n").unwrap();
        fs::set_permissions(programs.join("timedatectl"), fs::Permissions::from_mode(0o755)).unwrap();
        let config =
            "[shipper]\nquarantine_keep_days = 1\nshipped_keep_days = 1\nquarantine_cleanup_interval_s = 1";
        let mut ship = sandbox.command_with_config("ship", config);
        ship.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &rc);
        ship.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        ship.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
        let daemon = sandbox.start(ship);
        sandbox.seal("run-1", &[]);
        daemon.wait_log("run-1 was not delivered");
        fs::write(&rc, jump).unwrap();
        // It sees the jump: what it logs is stamped by it.
        sandbox.seal("run-2", &[]);
        sandbox.wait_shipped("run-1");
        sandbox.wait_shipped("run-2");
        daemon.wait_log("shipped run-2");
        let stamps: Vec<_> =
            daemon.log().lines().filter_map(|line| line.get(..4).map(str::to_owned)).collect();
        if jump.starts_with('+') {
            assert!(stamps.iter().min() != stamps.iter().max(), "it did not see the jump: {}", daemon.log());
        }
        fs::write(&rc, back).unwrap();
        sandbox.seal("run-3", &[]);
        sandbox.wait_shipped("run-3");
        eventually("the receiver has all three", || server.seen().len() >= 4);
        let asked = asked.lock().unwrap().clone();
        let of_it: Vec<_> = asked.iter().filter(|(id, _)| id == "run-1").map(|(_, at)| *at).collect();
        assert_eq!(of_it.len(), 2, "{jump}: {asked:?}");
        assert!(of_it[1] - of_it[0] >= PATIENCE, "{jump}: {asked:?}");
        assert_eq!(names(&sandbox.layout.quarantine), ["old"], "{jump}");
        assert_eq!(names(&sandbox.layout.shipped), ["old", "run-1", "run-2", "run-3"], "{jump}");
    }
}
