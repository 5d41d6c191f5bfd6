//! An outbox with too little room, and one that is fuller than it says.

use std::fs;

use crate::{
    crash_sweep::strace_is_there,
    resume::{MIB, noise},
    service::traced,
    support::{Mounted, Sandbox, each, json_of, names},
};

#[test]
fn before_packing_the_room_is_reserved_and_without_it_nothing_is_written_or_moved() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.seal("run-1", &[("noise.bin", &noise(MIB))]);
    let Some(_mounted) = Mounted::over(&sandbox.layout.outbox, "64k") else {
        return;
    };
    let output = sandbox.command("ship").arg("--once").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("run-1 is sent without a copy in the outbox"),
        "{log}"
    );
    assert!(
        log.contains("bytes in the outbox, where 65536 are free and 6553 are to stay free"),
        "{log}"
    );
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    assert_eq!(sandbox.outbox(), [""; 0]);
}

#[test]
fn enospc_and_edquot_hold_packing_remove_the_partial_and_never_touch_the_episode() {
    if !strace_is_there() {
        return;
    }
    each(
        &[
            ("ENOSPC", "No space left on device"),
            ("EDQUOT", "Disk quota exceeded"),
        ],
        |(error, words)| {
            let sandbox = Sandbox::with_receiver();
            for id in ["run-1", "run-2"] {
                sandbox.seal(id, &[("noise.bin", &noise(MIB))]);
            }
            let mut ship = sandbox.command_with_config("ship", "[pack]\nworkers = 1");
            ship.args(["--once", "--json"]);
            let partial = sandbox.layout.outbox.join("run-1.tar.zst.partial");
            let how = format!("inject=write,pwrite64:error={error}:when=2+");
            let output = traced(&sandbox, &ship, &partial, "write,pwrite64", &how)
                .output()
                .unwrap();
            let log = String::from_utf8(output.stderr.clone()).unwrap();
            assert!(
                fs::read_to_string(sandbox.path("strace.log"))
                    .unwrap()
                    .contains("(INJECTED)"),
                "{log}"
            );
            let (code, tally) = json_of(output);
            // Both go without a copy: the second is not tried in an outbox that is known to be
            // full.
            assert_eq!((code, tally["shipped"].as_u64()), (0, Some(2)), "{log}");
            let folder = sandbox.layout.outbox.display();
            let told =
                format!("The outbox is full: no archive can be written in {folder}: {words}");
            assert_eq!(log.matches(&told).count(), 1, "{log}");
            assert_eq!(sandbox.outbox(), [""; 0]);
            for id in ["run-1", "run-2"] {
                assert!(fs::read(sandbox.shipped(id).join("noise.bin")).unwrap() == noise(MIB));
            }
        },
    );
}
