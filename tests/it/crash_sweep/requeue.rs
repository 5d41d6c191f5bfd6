//! `sealift requeue`, killed at every call that changes something, and failed by its disk there.

use super::{moves::Across, *};

/// The calls of a move, of a removal and of a hint.
const CALLS: &[&str] = &["openat", "fsync", "rename", "renameat2", "unlink"];
/// And those of a copy to another file system.
const COPYING: &[&str] = &[
    "openat",
    "mkdirat",
    "pwrite64",
    "ftruncate",
    "fsync",
    "symlinkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
];

impl Rig {
    fn requeue(&self, from: &str) -> Command {
        let mut requeue = sealift();
        self.requeue_arguments(&mut requeue, from);
        requeue
    }

    fn requeue_arguments(&self, command: &mut Command, from: &str) {
        command.args([
            "requeue",
            ID,
            "--from",
            from,
            "--receiver",
            self.sandbox.url(),
            "--data",
        ]);
        command
            .arg(self.sandbox.data())
            .arg("--config")
            .arg(self.sandbox.path("one-of-each.toml"));
    }

    fn traced_requeue(&self, from: &str, options: &[&str]) -> String {
        let mut strace = self.strace(options);
        self.requeue_arguments(&mut strace, from);
        strace.output().unwrap();
        self.trace()
    }

    /// Breaks each moment of a requeue; each time everything is first made as `prepare` does.
    /// Returns how many of each call.
    fn sweep_requeue(
        &self,
        from: &str,
        prepare: impl Fn(),
        fault: &str,
        calls: &[&str],
        check: impl Fn(),
    ) -> BTreeMap<String, usize> {
        self.reset();
        prepare();
        let moments = self.moments_of_its_thread(&self.traced_requeue(from, &[]), calls);
        let mut swept = BTreeMap::new();
        for (call, nth) in moments {
            let inject = format!("inject={call}:{fault}:when={nth}");
            self.reset();
            prepare();
            let trace = self.traced_requeue(from, &["-e", &inject]);
            assert!(is_broken(&trace), "{call} {nth} was not met again");
            at(&format!("{call} {nth}, {fault}"), &trace, &check);
            *swept.entry(call).or_insert(0) += 1;
        }
        println!("requeue from {from}, {fault}: {swept:?}");
        swept
    }

    /// One thread does all of it, and the names on its way have its process's number in them: so
    /// calls are counted by thread, and not by path.
    fn moments_of_its_thread(&self, trace: &str, calls: &[&str]) -> Vec<(String, usize)> {
        let (mut counts, mut moments) = (BTreeMap::<String, usize>::new(), Vec::new());
        let lines: Vec<_> = trace.lines().filter_map(parse).collect();
        let own = lines
            .first()
            .map(|(thread, _)| (*thread).to_owned())
            .unwrap();
        for (_, line) in lines
            .into_iter()
            .filter(|(thread, line)| *thread == own && calls.contains(&line.call))
        {
            let nth = counts.entry(line.call.to_owned()).or_default();
            *nth += 1;
            let is_below = self
                .roots
                .iter()
                .any(|root| line.arguments.contains(root.as_str()));
            let only_reads = line.call == "openat" && !line.arguments.contains("O_CREAT");
            if is_below && !only_reads {
                moments.push((line.call.to_owned(), *nth));
            }
        }
        moments
    }

    /// Whole, in one of these places, and with its record wherever that is asked for.
    #[track_caller]
    fn is_in_one_place(&self, before: &Path, record: &str) {
        let episode = self.sandbox.layout.episodes.join(ID);
        assert_ne!(
            before.exists(),
            episode.exists(),
            "in both places, or in none"
        );
        assert!(
            !before.exists() || before.join(record).exists(),
            "still there, and its {record} is not"
        );
        let here = if before.exists() { before } else { &episode };
        assert_eq!(crash::reference_of(&self.sandbox, here), self.reference);
    }
}

fn quarantine(rig: &Rig) {
    let rejecting = Scripted::new(|_, _| {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not ours"}),
        )
    });
    rig.ship(&rejecting.url()).output().unwrap();
    assert!(rig.sandbox.quarantined(ID).join(REASON).exists());
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_requeue_from_quarantine_killed_at_any_call_leaves_it_in_one_place_and_is_done_by_the_next() {
    let Some(rig) = Rig::new() else { return };
    for fault in [KILL, "error=EIO"] {
        let swept = rig.sweep_requeue(
            "quarantine",
            || quarantine(&rig),
            fault,
            CALLS,
            || {
                rig.is_in_one_place(&rig.sandbox.quarantined(ID), REASON);
                rig.requeue("quarantine").output().unwrap();
                rig.finishes();
            },
        );
        assert!(
            swept["renameat2"] >= 1 && swept["fsync"] >= 2 && swept["unlink"] >= 1,
            "{swept:?}"
        );
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_requeue_from_shipped_killed_at_any_call_leaves_it_in_one_place_and_is_done_by_the_next() {
    let Some(rig) = Rig::new() else { return };
    let lose = || {
        assert!(
            rig.ship(rig.sandbox.url())
                .output()
                .unwrap()
                .status
                .success()
        );
        empty(&rig.sandbox.store().join("episodes"));
    };
    let swept = rig.sweep_requeue("shipped", lose, KILL, CALLS, || {
        rig.is_in_one_place(&rig.sandbox.shipped(ID), RECEIPT);
        rig.requeue("shipped").output().unwrap();
        rig.finishes();
    });
    assert!(
        swept["renameat2"] >= 1 && swept["fsync"] >= 2 && swept["unlink"] >= 1,
        "{swept:?}"
    );
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_requeue_of_a_conflict_killed_at_any_call_forgets_it_or_does_not() {
    let Some(rig) = Rig::new() else { return };
    let conflicting = Scripted::new(|_, _| {
        Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "title": "other content"}),
        )
    });
    let conflict = || {
        rig.ship(&conflicting.url()).output().unwrap();
    };
    let swept = rig.sweep_requeue("conflict", conflict, KILL, CALLS, || {
        rig.requeue("conflict").output().unwrap();
        rig.finishes();
    });
    assert!(swept["unlink"] >= 2 && swept["openat"] >= 1, "{swept:?}");
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_requeue_across_file_systems_killed_at_any_call_loses_nothing_and_leaves_no_half() {
    let Some(across) = Across::new() else { return };
    let rig = &across.rig;
    let prepare = || {
        quarantine(rig);
    };
    let swept = rig.sweep_requeue("quarantine", prepare, KILL, COPYING, || {
        // The start finishes what is half; then there may be two of it, for a moment's kill, and
        // both are whole.
        rig.ship(rig.sandbox.url()).output().unwrap();
        across.no_scratch();
        rig.requeue("quarantine").output().unwrap();
        let output = rig.ship(rig.sandbox.url()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        across.no_scratch();
        let layout = &rig.sandbox.layout;
        assert_eq!(
            (names(&layout.episodes), names(&layout.quarantine)),
            (vec![], vec![])
        );
        let shipped = names(&layout.shipped);
        assert!((1..=2).contains(&shipped.len()), "{shipped:?}");
        for name in shipped {
            assert_eq!(
                crash::reference_of(&rig.sandbox, &layout.shipped.join(name)),
                rig.reference
            );
        }
        assert_eq!(names(&rig.sandbox.store().join("episodes")).len(), 1);
    });
    for (call, at_least) in [
        ("pwrite64", 3),
        ("mkdirat", 4),
        ("symlinkat", 1),
        ("renameat2", 4),
        ("unlinkat", 7),
    ] {
        assert!(
            swept.get(call).is_some_and(|count| *count >= at_least),
            "{call}: {swept:?}"
        );
    }
}
