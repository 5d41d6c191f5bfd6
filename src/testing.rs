//! What the unit tests share.

use std::{fs, path::PathBuf, thread, time::Duration};

use crate::model::layout::Layout;

/// A data folder with the four folders in it, empty.
pub(crate) fn sandbox() -> (tempfile::TempDir, Layout) {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::below(root.path());
    for folder in layout.folders() {
        fs::create_dir(folder).unwrap();
    }
    (root, layout)
}

/// Waits until the children that other tests are starting run their programs: until its execve(2)
/// each shares the locks that a test has just given back.
pub(crate) fn children_have_begun() {
    let us = fs::read_link("/proc/self/exe").unwrap();
    let parent = format!("\nPPid:\t{}\n", std::process::id());
    let is_forked = |process: &PathBuf| {
        fs::read_link(process.join("exe")).is_ok_and(|program| program == us)
            && fs::read_to_string(process.join("status")).is_ok_and(|it| it.contains(&parent))
    };
    let processes = fs::read_dir("/proc").unwrap();
    let mut forked: Vec<_> = processes.flatten().map(|process| process.path()).collect();
    for _ in 0..10_000 {
        forked.retain(is_forked);
        if forked.is_empty() {
            return;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    panic!("children that run no program: {forked:?}");
}
