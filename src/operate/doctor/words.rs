//! Commands and figures as a person types and reads them.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

pub(super) use crate::model::text::word;

/// Who types, and what the commands are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operate) struct CommandContext {
    /// The calling user is root already.
    pub(in crate::operate) root: bool,
    /// The unit's name, checked.
    pub(in crate::operate) unit: String,
    /// Whether systemd knows a unit of this name.
    pub(in crate::operate) has_unit: bool,
    /// The daemon that runs.
    pub(in crate::operate) daemon_pid: Option<u32>,
    /// What to give to another `sealift` command so that it means the same: `--config FILE` and so
    /// on, as words of a shell.
    pub(in crate::operate) options: String,
    /// The same for those that talk to a receiver: `--receiver URL`, or nothing.
    pub(in crate::operate) receiver: String,
    /// The configuration file, where there is or should be one.
    pub(in crate::operate) file: Option<std::path::PathBuf>,
}

/// Commands of ours that have no `--receiver`.
const ASK_NO_RECEIVER: [&str; 4] = ["status", "trace", "rename", "setup"];

impl CommandContext {
    /// A command that takes root.
    pub(in crate::operate) fn as_root(&self, command: &str) -> String {
        if self.root {
            command.to_owned()
        } else {
            format!("sudo {command}")
        }
    }

    /// What the daemon says to type, as the one who types it has to: root needs no `sudo`, and may
    /// have none.
    pub(in crate::operate) fn typed(&self, command: &str) -> String {
        if self.root {
            without_sudo(command)
        } else {
            command.to_owned()
        }
    }

    /// The same for one who may do it as they are.
    pub(super) fn as_root_unless(&self, may: bool, command: &str) -> String {
        if may {
            command.to_owned()
        } else {
            self.as_root(command)
        }
    }

    /// `systemctl DEED UNIT`. Where there is no unit, what a person does by hand instead.
    pub(in crate::operate) fn unit_to(&self, deed: &str) -> String {
        if self.has_unit {
            return self.as_root(&format!("systemctl {deed} {}", word(&self.unit)));
        }
        match (deed, self.daemon_pid) {
            ("reload", Some(pid)) => self.signal("HUP", pid),
            ("restart", Some(pid)) => format!("{}; {}", self.stopped(pid), self.sealift("ship")),
            (_, _) => self.sealift("ship"),
        }
    }

    /// `sealift COMMAND`, about the same folders and the same receiver.
    pub(in crate::operate) fn sealift(&self, command: &str) -> String {
        let name = command.split(' ').next().unwrap_or_default();
        let receiver = if ASK_NO_RECEIVER.contains(&name) {
            ""
        } else {
            &self.receiver
        };
        let words = ["sealift", command, &self.options, receiver];
        words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Opens a file in an editor.
    pub(super) fn edit(&self, file: &Path) -> String {
        let file = path(file);
        if self.root {
            format!("\"${{EDITOR:-vi}}\" {file}")
        } else {
            format!("sudoedit {file}")
        }
    }

    /// Changes the configuration, and lets the daemon know. Where the command line said it all, and
    /// no unit reads a file, one is made, and what was given by hand is given again beside it.
    pub(in crate::operate) fn configure(&self, then: &str) -> String {
        match &self.file {
            Some(file) => format!("{} && {}", self.edit(file), self.unit_to(then)),
            None if self.has_unit => {
                format!(
                    "{} && {}",
                    self.edit(Path::new(crate::config::DEFAULT_FILE)),
                    self.unit_to(then)
                )
            }
            None => {
                let stop = self
                    .daemon_pid
                    .map(|pid| format!("{}; ", self.stopped(pid)));
                format!(
                    "test -e sealift.toml || sealift config default >sealift.toml; \"${{EDITOR:-vi}}\" sealift.toml && {{ {}{}; }}",
                    stop.unwrap_or_default(),
                    self.sealift("ship --config \"$PWD/sealift.toml\"")
                )
            }
        }
    }

    /// The next would find the folder locked for as long as this one finishes what it has begun.
    /// What hangs is killed, which costs nothing.
    fn stopped(&self, pid: u32) -> String {
        let (stop, kill) = (self.signal("TERM", pid), self.signal("KILL", pid));
        format!("{stop}; timeout 40 tail --pid={pid} -f /dev/null || {kill}")
    }

    fn signal(&self, name: &str, pid: u32) -> String {
        self.as_root(&format!("kill -{name} {pid}"))
    }
}

/// Takes `sudo` from the beginning of each command of a line, and from nothing that stands in
/// quotes.
fn without_sudo(line: &str) -> String {
    let (mut left, mut kept) = (line, String::with_capacity(line.len()));
    let (mut in_quotes, mut at_start) = (false, true);
    while let Some(c) = left.chars().next() {
        if at_start && let Some(command) = left.strip_prefix("sudo ") {
            left = command;
            continue;
        }
        match c {
            '\'' => in_quotes = !in_quotes,
            // The next one is neither a quote nor the end of a command.
            '\\' if !in_quotes => {
                kept.push(c);
                left = &left[1..];
                let Some(escaped) = left.chars().next() else {
                    break;
                };
                kept.push(escaped);
                left = &left[escaped.len_utf8()..];
                at_start = false;
                continue;
            }
            _ => {}
        }
        at_start = !in_quotes && (matches!(c, '&' | ';' | '|') || (at_start && c == ' '));
        kept.push(c);
        left = &left[c.len_utf8()..];
    }
    kept
}

/// A path as a word of a shell's command line. One that begins with a dash passes for no option.
pub(super) fn path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"-") {
        word(Path::new(".").join(path))
    } else {
        word(path)
    }
}

/// The beginning of a name that is an id, as like to the one that is none as can be.
pub(super) fn tame(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let tamed: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._~-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .skip_while(|c| matches!(c, '.' | '-'))
        .take(crate::model::episode::MAX_ID_BYTES / 2)
        .collect();
    if tamed.is_empty() {
        "episode".to_owned()
    } else {
        tamed
    }
}

/// A span as a person says it.
pub(super) fn span(span: Duration) -> String {
    crate::model::text::span(span.as_secs())
}

/// An amount as a person says it.
pub(super) fn amount(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let (mut left, mut unit) = (bytes, None);
    for name in UNITS {
        if left < 10_000 {
            break;
        }
        (left, unit) = (left / 1000, Some(name));
    }
    format!("{left} {}", unit.unwrap_or("bytes"))
}

/// `1 episode`, `2 episodes`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_fix_that_the_daemon_names_has_no_sudo_for_root_and_keeps_each_for_others() {
        let mut hands = CommandContext {
            root: true,
            unit: String::new(),
            has_unit: false,
            daemon_pid: None,
            options: String::new(),
            receiver: String::new(),
            file: None,
        };
        for (said, by_root) in [
            ("sudo chattr -i '/d/a'", "chattr -i '/d/a'"),
            (
                "sudo test -e '/d/a'/done.marker && sudo chown -R 10 '/d/a'",
                "test -e '/d/a'/done.marker && chown -R 10 '/d/a'",
            ),
            ("sudo a; sudo b | sudo c", "a; b | c"),
            // Names of episodes.
            ("sudo ls 'x && sudo y'", "ls 'x && sudo y'"),
            (
                r"sudo ls 'it'\''s; sudo y' && sudo z",
                r"ls 'it'\''s; sudo y' && z",
            ),
            ("echo sudo x", "echo sudo x"),
        ] {
            hands.root = true;
            assert_eq!(hands.typed(said), by_root);
            hands.root = false;
            assert_eq!(hands.typed(said), said);
        }
    }

    #[test]
    fn a_word_is_what_a_shell_reads_back_and_shows_nothing_that_commands_a_terminal() {
        let names: [&[u8]; 9] = [
            b"/var/lib/sealift",
            b"",
            b"a b",
            b"it's",
            b"$(id) `id` \"x\" \\n ; & |",
            b"\x1b[2J\x07",
            b"not \xff text",
            b"newline\nand 7\x017",
            "Läufe".as_bytes(),
        ];
        for name in names {
            let quoted = word(OsStr::from_bytes(name));
            assert!(crate::model::text::printable(&quoted) == quoted, "{quoted}");
            let read = Command::new("bash")
                .arg("-c")
                .arg(format!("printf %s {quoted}"))
                .output()
                .unwrap();
            assert_eq!(read.stdout, name, "{quoted}");
        }
        assert_eq!(word("/var/lib/sealift"), "/var/lib/sealift");
        assert_eq!(path(Path::new("-rf")), "./-rf");
    }

    #[test]
    fn spans_and_amounts_are_said_as_a_person_says_them() {
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(7_100)), "118 min");
        assert_eq!(span(Duration::from_secs(90_000)), "25 h");
        assert_eq!(span(Duration::from_secs(900_000)), "10 days");
        assert_eq!(amount(9_999), "9999 bytes");
        assert_eq!(amount(12_345_678), "12 MB");
        assert_eq!(
            (count(1, "ship"), count(2, "ship")),
            ("1 ship".to_owned(), "2 ships".to_owned())
        );
    }

    #[test]
    fn without_a_unit_the_commands_are_those_of_somebody_who_starts_it_by_hand() {
        let hands = CommandContext {
            root: false,
            unit: "sealift.service".to_owned(),
            has_unit: true,
            daemon_pid: None,
            options: "--data /d".to_owned(),
            receiver: String::new(),
            file: None,
        };
        assert_eq!(
            hands.unit_to("start"),
            "sudo systemctl start sealift.service"
        );
        let hands = CommandContext {
            has_unit: false,
            ..hands
        };
        assert_eq!(hands.unit_to("start"), "sealift ship --data /d");
        let running = CommandContext {
            daemon_pid: Some(7),
            ..hands.clone()
        };
        assert_eq!(running.unit_to("reload"), "sudo kill -HUP 7");
        let stopped = "sudo kill -TERM 7; timeout 40 tail --pid=7 -f /dev/null || sudo kill -KILL 7; sealift ship";
        assert_eq!(running.unit_to("restart"), format!("{stopped} --data /d"));
        let configured =
            format!("sealift.toml && {{ {stopped} --config \"$PWD/sealift.toml\" --data /d; }}");
        assert!(running.configure("reload").ends_with(&configured));
        assert_eq!(hands.edit(Path::new("/etc/a b")), "sudoedit '/etc/a b'");
        let hands = CommandContext {
            root: true,
            ..hands
        };
        assert_eq!(hands.edit(Path::new("/etc/a")), "\"${EDITOR:-vi}\" /etc/a");
        let hands = CommandContext {
            receiver: "--receiver http://r".to_owned(),
            ..hands
        };
        assert_eq!(
            hands.sealift("doctor"),
            "sealift doctor --data /d --receiver http://r"
        );
        // They have no such option.
        assert_eq!(hands.sealift("status"), "sealift status --data /d");
        assert_eq!(
            hands.sealift("trace run-1"),
            "sealift trace run-1 --data /d"
        );
    }
}
