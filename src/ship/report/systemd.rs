//! What the service manager is told (sd_notify(3), systemd.service(5) on Type=notify).
//!
//! ```text
//!  start      EXTEND_TIMEOUT_USEC while a long clean-up moves  ▸  READY=1
//!  running    STATUS=... when it has changed                   ▸  WATCHDOG=1 while everybody moves
//!  SIGHUP     RELOADING=1 + MONOTONIC_USEC, in one message     ▸  READY=1
//!  stop       STOPPING=1 + EXTEND_TIMEOUT_USEC for the grace
//! ```
//!
//! The messages are those of the sd-notify crate. They are not sent by it: its socket blocks while
//! the manager's queue is full, and it is the loop that would wait there, whose heart the manager
//! would then miss. Here nothing waits. A message that cannot be sent is told once, until one can
//! be sent again; those that the manager waits for are sent again before the next one: the first
//! READY, and of reloads the last one, RELOADING and READY, whole.
//!
//! Without `NOTIFY_SOCKET` nothing is sent, and nothing else changes.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;

use crate::model::text::printable;

/// A status is one line of `systemctl status`; bytes. The manager takes messages of up to 4096.
const MAX_STATUS_BYTES: usize = 1000;

/// The line to the service manager; or none.
#[derive(Debug, Default)]
pub struct Notifier {
    line: Option<StatusMessage>,
    /// What the manager waits for, and did not get yet: at most the READY of the start or of a
    /// reload that it has heard of, and behind that one reload.
    owed: VecDeque<Owed>,
    status: String,
    told: bool,
}

#[derive(Debug, PartialEq)]
enum Owed {
    Ready,
    Reloading(String),
}

#[derive(Debug)]
struct StatusMessage {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`. One that cannot be used is told, and is no reason
    /// not to ship.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        Self::to(&name).unwrap_or_else(|error| {
            tracing::warn!(
                "The service manager cannot be notified at {}: {error}. Everything else works.",
                printable(&name.to_string_lossy())
            );
            Self::default()
        })
    }

    /// To this socket: a path, or `@` and an abstract name (unix(7)).
    ///
    /// # Errors
    /// Where there is no socket of ours to send from, or the name is none.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let manager = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            line: Some(StatusMessage { socket, manager }),
            ..Self::default()
        })
    }

    /// Whether a service manager listens.
    pub fn is_heard(&self) -> bool {
        self.line.is_some()
    }

    /// Everything stands.
    pub fn ready(&mut self) {
        if self.owed.back() != Some(&Owed::Ready) {
            self.owe(Owed::Ready);
        }
        self.pay();
    }

    /// The configuration is read again; [`Notifier::ready`] ends it.
    pub fn reloading(&mut self) {
        // From systemd 253 on, a reload that does not say since when is a failed one.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => {
                // An older one that it has not heard of goes, and its READY with it: one in two
                // would be one without an end.
                let unheard = self
                    .owed
                    .iter()
                    .position(|owed| matches!(owed, Owed::Reloading(_)));
                self.owed.truncate(unheard.unwrap_or(self.owed.len()));
                self.owe(Owed::Reloading(words(&[NotifyState::Reloading, now])));
                self.pay();
            }
            Err(error) => tracing::debug!("no monotonic clock: {error}"),
        }
    }

    /// It ends, and may take so long over it.
    pub fn stopping(&mut self, grace: Duration) {
        let _ = self.send(&words(&[NotifyState::Stopping, extension(grace)]));
    }

    /// What is under way moves, and may go on for so long from now.
    pub fn extend(&mut self, by: Duration) {
        let _ = self.send(&words(&[extension(by)]));
    }

    /// The heart beats.
    pub fn beat(&mut self) {
        let _ = self.send(&words(&[NotifyState::Watchdog]));
    }

    /// How it stands, in a person's words. Sent where it is not what was said last.
    pub fn status(&mut self, status: &str) {
        let line = one_line(status);
        if line != self.status && self.send(&words(&[NotifyState::Status(&line)])) {
            self.status = line;
        }
    }

    fn owe(&mut self, owed: Owed) {
        if self.line.is_some() {
            self.owed.push_back(owed);
        }
    }

    /// In order: a READY that overtook its RELOADING would be lost on the manager.
    fn pay(&mut self) -> bool {
        while let Some(owed) = self.owed.pop_front() {
            let message = match &owed {
                Owed::Ready => words(&[NotifyState::Ready]),
                Owed::Reloading(message) => message.clone(),
            };
            if !self.deliver(&message) {
                self.owed.push_front(owed);
                return false;
            }
        }
        true
    }

    fn send(&mut self, message: &str) -> bool {
        self.pay() && self.deliver(message)
    }

    fn deliver(&mut self, message: &str) -> bool {
        let Some(line) = &self.line else { return false };
        match line.send(message) {
            Ok(()) => {
                if std::mem::take(&mut self.told) {
                    tracing::info!("The service manager takes our notifications again.");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        "The service manager does not take our notifications: {error}. Shipping goes on; where the unit has a \
                         watchdog, it may start us again."
                    );
                }
                false
            }
        }
    }
}

impl StatusMessage {
    fn send(&self, message: &str) -> io::Result<()> {
        // By address each time: a manager that has made its socket anew is found again.
        self.socket
            .send_to_addr(message.as_bytes(), &self.manager)
            .map(drop)
    }
}

/// The watchdog's patience (`WATCHDOG_USEC`, where it is meant for this process).
pub(crate) fn watchdog() -> Option<Duration> {
    // It may be "0", which is no watchdog.
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

fn extension(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// One message: a line for each.
fn words(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

/// A newline in a status would be the beginning of another assignment.
fn one_line(status: &str) -> String {
    let mut line = printable(&status.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.len() > MAX_STATUS_BYTES {
        let end = (0..=MAX_STATUS_BYTES - 4)
            .rev()
            .find(|end| line.is_char_boundary(*end))
            .unwrap_or(0);
        line.truncate(end);
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Manager {
        _folder: tempfile::TempDir,
        path: PathBuf,
        socket: UnixDatagram,
    }

    impl Manager {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self {
                _folder: folder,
                path,
                socket,
            }
        }

        fn heard(&self) -> Vec<String> {
            let mut heard = Vec::new();
            let mut buffer = [0; 8192];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
            heard
        }
    }

    #[test]
    fn a_reload_is_one_message_with_its_time_and_ready_after_it() {
        let manager = Manager::new();
        let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
        notifier.reloading();
        notifier.ready();
        let heard = manager.heard();
        let [reloading, ready] = heard.as_slice() else {
            panic!("{heard:?}")
        };
        let usec = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0, "{reloading:?}");
        assert_eq!(ready, "READY=1\n");
    }

    #[test]
    fn a_status_is_one_printable_line_and_is_said_once() {
        let manager = Manager::new();
        let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
        notifier.status("1 waiting; receiver held: no\r\nREADY=1\u{1b}[31m");
        notifier.status("1 waiting; receiver held: no\r\nREADY=1\u{1b}[31m");
        notifier.status(&"ü".repeat(5000));
        let heard = manager.heard();
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert_eq!(
            heard[0],
            "STATUS=1 waiting; receiver held: no READY=1\\u{1b}[31m\n"
        );
        assert!(
            heard[1].len() < 1100 && heard[1].ends_with(" ...\n"),
            "{}",
            heard[1].len()
        );
    }

    #[test]
    fn a_full_socket_blocks_nobody_and_what_must_arrive_arrives_in_order() {
        let manager = Manager::new();
        let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
        // The kernel's queue is far shorter (net.unix.max_dgram_qlen).
        for _ in 0..10_000 {
            notifier.beat();
        }
        assert!(notifier.told);
        notifier.reloading();
        notifier.ready();
        let beats = manager.heard();
        assert!(beats.len() < 10_000 && beats.iter().all(|beat| beat == "WATCHDOG=1\n"));
        notifier.beat();
        let heard = manager.heard();
        assert!(heard[0].starts_with("RELOADING=1\n"), "{heard:?}");
        assert_eq!(heard[1..], ["READY=1\n", "WATCHDOG=1\n"]);
    }

    #[test]
    fn behind_a_full_socket_the_last_reload_is_kept_whole_and_none_is_cut_in_two() {
        for reloading_heard in [false, true] {
            let manager = Manager::new();
            let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
            if reloading_heard {
                notifier.reloading();
                assert!(notifier.owed.is_empty());
            }
            for _ in 0..10_000 {
                notifier.beat();
            }
            // The one that began, or the start.
            notifier.ready();
            for _ in 0..100 {
                notifier.reloading();
                notifier.ready();
                assert!(notifier.owed.len() <= 3, "{:?}", notifier.owed);
            }
            let Some(Owed::Reloading(last)) = notifier.owed.get(1) else {
                panic!("{:?}", notifier.owed)
            };
            let last = last.clone();
            manager.heard();
            notifier.beat();
            let heard = manager.heard();
            assert_eq!(heard, ["READY=1\n", &last, "READY=1\n", "WATCHDOG=1\n"]);
        }
    }

    #[test]
    fn a_line_that_fails_is_told_again_after_it_had_recovered() {
        let manager = Manager::new();
        let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
        for _ in 0..2 {
            for _ in 0..10_000 {
                notifier.beat();
            }
            assert!(notifier.told);
            manager.heard();
            notifier.beat();
            assert!(!notifier.told);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the manager goes")]
    fn a_socket_that_vanishes_and_comes_back_is_found_again() {
        let mut manager = Manager::new();
        let mut notifier = Notifier::to(manager.path.as_os_str()).unwrap();
        notifier.ready();
        std::fs::remove_file(&manager.path).unwrap();
        notifier.status("one");
        assert!(notifier.told);
        manager.socket = UnixDatagram::bind(&manager.path).unwrap();
        manager.socket.set_nonblocking(true).unwrap();
        notifier.status("one");
        assert_eq!(manager.heard(), ["STATUS=one\n"]);
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        let mut notifier = Notifier::default();
        notifier.ready();
        notifier.status("one");
        assert!(!notifier.is_heard() && !notifier.told && notifier.owed.is_empty());
    }

    #[test]
    fn an_abstract_name_is_a_socket_too() {
        let name = format!("sealift-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(OsStr::new(&format!("@{name}")))
            .unwrap()
            .ready();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\n");
    }
}
