use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::*;

/// One folder on the disk that tests are on, and one in memory.
fn folders() -> Vec<tempfile::TempDir> {
    let on_disk = tempfile::tempdir().unwrap();
    let in_memory = tempfile::tempdir_in("/dev/shm").ok();
    [Some(on_disk), in_memory].into_iter().flatten().collect()
}

/// A process that maps a file, says so, and keeps it mapped with no descriptor left until its input
/// ends.
fn mapped_by_a_process(file: &Path) -> Option<Child> {
    const PROGRAM: &str = "import mmap, sys\n\
        f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()\n\
        print('mapped', flush=True); sys.stdin.read()";
    let mut python = Command::new("python3");
    let child = python
        .args(["-c", PROGRAM])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("CI").is_none(), "python3 is not there");
        return None;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "mapped\n");
    Some(child)
}

fn writers(path: &Path) -> Writers {
    OpenFileProbe::below(path.parent().unwrap()).writers(&File::open(path).unwrap())
}

fn file_in(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("samples.bin");
    std::fs::write(&path, [0; 8192]).unwrap();
    path
}

#[test]
fn a_file_that_is_open_for_writing_is_told_from_one_that_is_closed() {
    for folder in folders() {
        let path = file_in(&folder);
        assert_eq!(writers(&path), Writers::Closed);
        let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
        writer.write_all(b"more").unwrap();
        assert_eq!(writers(&path), Writers::Open);
        let holder = find_holder(&path).unwrap();
        assert_eq!(holder.pid, std::process::id());
        drop(writer);
        let _reader = File::open(&path).unwrap();
        assert_eq!(writers(&path), Writers::Closed, "a reader is no writer");
        assert_eq!(find_holder(&path), None);
    }
}

#[test]
fn a_file_that_is_mapped_writable_is_open_though_its_descriptor_is_closed() {
    for folder in folders() {
        let path = file_in(&folder);
        let Some(mut process) = mapped_by_a_process(&path) else {
            return;
        };
        assert_eq!(writers(&path), Writers::Open);
        assert_eq!(
            find_holder(&path).map(|holder| holder.pid),
            Some(process.id())
        );
        drop(process.stdin.take());
        process.wait().unwrap();
        assert_eq!(writers(&path), Writers::Closed);
    }
}

#[test]
fn one_who_opens_a_file_for_writing_while_it_is_asked_after_waits_for_nothing_and_ends_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(&folder);
    let probe = OpenFileProbe::below(folder.path());
    // Each open breaks the lease that it meets, and the kernel sends SIGIO for it.
    std::thread::scope(|threads| {
        let opens = threads.spawn(|| {
            for _ in 0..20_000 {
                OpenOptions::new().append(true).open(&path).unwrap();
            }
        });
        let file = File::open(&path).unwrap();
        while !opens.is_finished() {
            assert!(matches!(
                probe.writers(&file),
                Writers::Closed | Writers::Open
            ));
        }
    });
}

#[test]
fn another_users_file_is_not_told_without_the_capability() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(&folder);
    std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    let file = File::open(&path).unwrap();
    let probe = OpenFileProbe::below(folder.path());
    assert_eq!(probe.writers(&file), Writers::Closed, "root has it");
    // Another thread of root's takes the user that owns nothing here, which takes its capabilities
    // as well.
    let told = std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_533)).unwrap();
            probe.writers(&file)
        });
        other.join().unwrap()
    });
    assert_eq!(told, Writers::NotPermitted);
    assert_eq!(OpenFileProbe::never().writers(&file), Writers::Untold);
}
