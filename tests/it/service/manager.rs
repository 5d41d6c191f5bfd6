//! A service manager: a datagram socket that remembers what it was told.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use crate::support::eventually;

pub(crate) struct Manager {
    folder: tempfile::TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length) = socket.recv(&mut buffer) {
                hears
                    .lock()
                    .unwrap()
                    .push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        });
        Self { folder, heard }
    }

    /// A command that this manager starts.
    pub(crate) fn over(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", self.socket());
        command
    }

    pub(crate) fn open_to_everybody(&self) {
        for (path, mode) in [
            (self.folder.path().to_owned(), 0o755),
            (self.socket(), 0o666),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many messages begin so.
    pub(crate) fn count(&self, beginning: &str) -> usize {
        self.heard()
            .iter()
            .filter(|message| message.starts_with(beginning))
            .count()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let mut last = Vec::new();
        let what = format!("the manager is told {text:?}");
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, || {
                last = self.heard();
                last.iter().any(|message| message.contains(text))
            });
        }));
        if let Err(panic) = found {
            last.retain(|message| !message.starts_with("WATCHDOG"));
            eprintln!("it was told {last:#?}");
            std::panic::resume_unwind(panic);
        }
    }
}
