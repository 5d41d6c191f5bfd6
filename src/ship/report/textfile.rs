//! The metrics as a file, for node_exporter's textfile collector.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::disk::durable;

/// One file. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Textfile(Arc<TextfileInner>);

#[derive(Debug)]
struct TextfileInner {
    path: PathBuf,
    writing: AtomicBool,
    failed: AtomicBool,
}

impl Textfile {
    /// At this path.
    #[must_use]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(Arc::new(TextfileInner {
            path,
            writing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }))
    }

    /// Whether it may be written now: not while the last writing is under way, on a disk that hangs
    /// perhaps. [`Textfile::write`] ends it.
    pub(crate) fn begin(&self) -> bool {
        !self.0.writing.swap(true, Ordering::SeqCst)
    }

    /// Replaces what was there: a reader sees the old or the new one. Told once when it fails, and
    /// when it works again.
    pub(crate) fn write(&self, text: &str) {
        let TextfileInner {
            path,
            writing,
            failed,
        } = &*self.0;
        match durable::write_shown_file(path, text.as_bytes()) {
            Ok(()) if failed.swap(false, Ordering::SeqCst) => {
                tracing::info!("metrics are written to {} again", path.display());
            }
            Ok(()) => {}
            Err(error) if !failed.swap(true, Ordering::SeqCst) => tracing::warn!(
                "Metrics cannot be written to {}: {error}. Everything else goes on. The user that ships must be able to write to {}; \
                 in a unit, name that folder in a ReadWritePaths= line of its own (systemctl edit sealift).",
                path.display(),
                path.parent().unwrap_or(Path::new("/")).display()
            ),
            Err(_) => {}
        }
        writing.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn it_is_replaced_whole_and_everybody_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealift.prom");
        let textfile = Textfile::at(path.clone());
        for text in ["a longer one\n", "short\n"] {
            assert!(textfile.begin() && !textfile.begin());
            textfile.write(text);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn whoever_reads_while_it_is_rewritten_sees_one_of_the_two_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealift.prom");
        let (old, new) = ("old line\n".repeat(20_000), "a new line\n".repeat(30_000));
        let textfile = Textfile::at(path.clone());
        textfile.write(&old);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200 {
                    assert!(textfile.begin());
                    textfile.write(if n % 2 == 0 { &new } else { &old });
                }
                done.store(true, Ordering::SeqCst);
            });
            let mut seen = [0_usize; 2];
            while !done.load(Ordering::SeqCst) {
                let text = fs::read_to_string(&path).unwrap();
                assert!(
                    text == old || text == new,
                    "{} bytes that are neither",
                    text.len()
                );
                seen[usize::from(text == new)] += 1;
            }
            assert!(seen.iter().sum::<usize>() > 0, "none has read");
        });
    }

    #[test]
    fn where_it_cannot_be_written_it_is_tried_again() {
        let textfile = Textfile::at("/proc/nowhere/sealift.prom".into());
        for _ in 0..2 {
            assert!(textfile.begin());
            textfile.write("x\n");
        }
        assert!(textfile.0.failed.load(Ordering::SeqCst));
    }
}
