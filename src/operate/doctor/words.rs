//! Commands and figures as a person types and reads them.

use std::{ffi::OsStr, fmt, ops::Deref, path::Path, time::Duration};

pub(super) use crate::model::text::{foreign_command as foreign, typed_path, word};
use crate::model::{snapshot::Snapshot, text::as_text};

/// What a recorder writes into `meta.json`, for those who have not read docs/recorders.md.
pub(crate) const COMMIT_IN_META: &str = r#"{"code_version":{"commit":"40 hexadecimal digits"}}"#;

/// What mends something: one simple command, which any POSIX shell takes as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operate) struct Fix {
    /// The command.
    pub(in crate::operate) command: String,
    /// What is to be done once it has ended, as a sentence, where that is not all.
    pub(in crate::operate) then: Option<String>,
    /// It is another person's, of the configuration or a receiver, and shown as they wrote it.
    pub(super) is_theirs: bool,
}

impl Fix {
    /// A command line of the configuration's or of a receiver's.
    pub(super) fn theirs(command: String) -> Self {
        let is_theirs = true;
        Self {
            is_theirs,
            ..command.into()
        }
    }

    /// What is to be done once the command has ended.
    pub(super) fn then(self, then: impl fmt::Display) -> Self {
        let before = self.then.map(|before| before + " ").unwrap_or_default();
        let then = Some(format!("{before}{then}"));
        Self { then, ..self }
    }
}

impl Deref for Fix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.command
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command)
    }
}

impl From<String> for Fix {
    fn from(command: String) -> Self {
        Self {
            command,
            then: None,
            is_theirs: false,
        }
    }
}

impl From<&str> for Fix {
    fn from(command: &str) -> Self {
        command.to_owned().into()
    }
}

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
    /// The certificate, or the token, that the receiver knows us by, where one is configured.
    pub(in crate::operate) credential: Option<std::path::PathBuf>,
}

/// Stands for an address that is not known, in a command that makes a file to be changed.
pub(super) const EXAMPLE_RECEIVER: &str = "--receiver https://receiver.example:8490";

/// Commands of ours that do nothing without an address.
const NEED_A_RECEIVER: [&str; 2] = ["verify", "fetch"];

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
    /// have none; and a command of ours has to be about the same folders.
    pub(in crate::operate) fn typed(&self, command: &str) -> String {
        let (is_roots, bare) = match command.strip_prefix("sudo ") {
            Some(bare) => (true, bare),
            None => (false, command),
        };
        let typed = match bare.strip_prefix("sealift ") {
            Some(ours) => self.sealift(ours),
            None => bare.to_owned(),
        };
        self.as_root_unless(!is_roots, &typed)
    }

    /// The same for one who may do it as they are.
    pub(super) fn as_root_unless(&self, may: bool, command: &str) -> String {
        if may {
            command.to_owned()
        } else {
            self.as_root(command)
        }
    }

    /// With the receiver that the daemon sends to, where neither the command line nor a file names
    /// one.
    pub(in crate::operate) fn with_receiver_of(self, daemon: Option<&Snapshot>) -> Self {
        match daemon {
            Some(snapshot) if !self.knows_receiver() => Self {
                receiver: format!("--receiver {}", word(&snapshot.destination.url)),
                ..self
            },
            Some(_) | None => self,
        }
    }

    fn knows_receiver(&self) -> bool {
        self.file.is_some() || !self.receiver.is_empty()
    }

    /// `systemctl DEED UNIT`. Where there is no unit, what a person does by hand instead.
    pub(in crate::operate) fn unit_to(&self, deed: &str) -> Fix {
        if self.has_unit {
            let command = format!("systemctl {deed} {}", word(&self.unit));
            return self.as_root(&command).into();
        }
        match (deed, self.daemon_pid) {
            ("reload", Some(pid)) => self.signal("HUP", pid).into(),
            // The next would find the folder locked for as long as this one finishes what it has
            // begun. What hangs is killed, which costs nothing.
            ("restart", Some(pid)) => {
                let ended = format!(
                    "Once it has ended ({} ends one that hangs)",
                    self.signal("KILL", pid)
                );
                let again = if self.knows_receiver() {
                    format!(": {}", self.sealift("ship"))
                } else {
                    ", start it as it was started.".to_owned()
                };
                Fix::from(self.signal("TERM", pid)).then(ended + &again)
            }
            (_, _) if !self.knows_receiver() => self.configure("start"),
            (_, _) => self.sealift("ship").into(),
        }
    }

    /// What ships by hand.
    pub(super) fn ship_once(&self) -> Fix {
        if self.knows_receiver() {
            self.sealift("ship --once").into()
        } else {
            self.configure("start")
        }
    }

    /// What gives an episode to who ships, where the command does: a daemon that runs tries it
    /// again some time later, or at once.
    pub(in crate::operate) fn tried_again(&self, command: String) -> Fix {
        let fix = Fix::from(command);
        let has_daemon = self.has_unit || self.daemon_pid.is_some();
        if !has_daemon || !fix.contains(" --give ") {
            return fix;
        }
        let reload = self.unit_to("reload");
        fix.then(format!(
            "Then: {reload}  Without that, it is tried again within a minute, and what is said of it stays until then."
        ))
    }

    /// `sealift COMMAND`, about the same folders and the same receiver.
    pub(in crate::operate) fn sealift(&self, command: &str) -> String {
        let name = command.split(' ').next().unwrap_or_default();
        let receiver = if ASK_NO_RECEIVER.contains(&name) {
            ""
        } else {
            &self.receiver
        };
        // It would end at once: the address is the person's to change.
        let receiver = match NEED_A_RECEIVER.contains(&name) && !self.knows_receiver() {
            true => EXAMPLE_RECEIVER,
            false => receiver,
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
        foreign(file, |file| {
            if self.root {
                format!("\"${{EDITOR:-vi}}\" {file}")
            } else {
                format!("sudoedit {file}")
            }
        })
    }

    /// Changes the configuration, and lets the daemon know. Where the command line said it all, and
    /// no unit reads a file, one is made of that.
    pub(in crate::operate) fn configure(&self, then: &str) -> Fix {
        let default = Path::new(crate::config::DEFAULT_FILE);
        let file = self.file.as_deref().or(self.has_unit.then_some(default));
        if let Some(file) = file {
            return self.edited(file, then);
        }
        let file = "--config sealift.toml";
        let (receiver, change) = if self.knows_receiver() {
            (self.receiver.as_str(), "change sealift.toml")
        } else {
            let change = "set receiver.url in sealift.toml, which is an example there since no receiver is named here";
            (EXAMPLE_RECEIVER, change)
        };
        let setup = self.sealift(&format!("setup {file}"));
        let stop = self
            .daemon_pid
            .map(|pid| format!(" stop the daemon that runs ({}),", self.signal("TERM", pid)));
        Fix::from(format!("{setup} {receiver}")).then(format!(
            "Then {change},{} and start it with that file: {}",
            stop.unwrap_or_default(),
            self.sealift(&format!("ship {file}"))
        ))
    }

    /// Another certificate, or another token, where one is configured; else the key that would name
    /// one.
    pub(in crate::operate) fn change_credential(&self) -> Fix {
        match &self.credential {
            Some(file) => self.edited(file, "reload"),
            None => self.configure("reload"),
        }
    }

    /// Changes a file that the daemon reads, and lets it know.
    pub(super) fn edited(&self, file: &Path, then: &str) -> Fix {
        let unit = self.unit_to(then);
        let fix = Fix::from(self.edit(file)).then(format!("Then: {unit}"));
        match unit.then {
            Some(more) => fix.then(format!("  {more}")),
            None => fix,
        }
    }

    fn signal(&self, name: &str, pid: u32) -> String {
        self.as_root(&format!("kill -{name} {pid}"))
    }
}

/// A path for a program that only looks: where it cannot be given as text, the folder above it.
pub(super) fn path(path: &Path) -> String {
    let mut shown = String::new();
    let _ = foreign(as_text(path), |word| {
        shown = word.to_owned();
        String::new()
    });
    shown
}

/// Asks who answers at an origin for its certificate, and shows until when it is good, and for
/// whom.
pub(super) fn certificate_at(origin: &str) -> String {
    let authority = origin.rsplit("//").next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = word(host.trim_matches(['[', ']']));
    format!(
        "openssl s_client -connect {} -servername {host} -verify_hostname {host} </dev/null",
        word(authority)
    )
}

/// The programs that fixes name and that change nothing: what they show, a person acts on.
const ONLY_LOOK: [&str; 12] = [
    "cat",
    "curl",
    "df",
    "find",
    "findmnt",
    "getent",
    "journalctl",
    "ls",
    "lsof",
    "namei",
    "openssl",
    "readlink",
];
/// And the commands of ours.
const OURS_ONLY_LOOK: [&str; 5] = ["status", "doctor", "trace", "verify", "config"];

/// Whether a command shows something, and mends nothing by itself.
pub(in crate::operate) fn only_looks(command: &str) -> bool {
    let mut words = command.split(' ').skip_while(|word| *word == "sudo");
    match (words.next(), words.next()) {
        (Some("sealift"), Some(ours)) => {
            OURS_ONLY_LOOK.contains(&ours) || words.any(|word| word == "--dry-run")
        }
        (Some("systemctl"), Some(verb)) => matches!(verb, "status" | "show" | "cat"),
        (Some(program), _) => ONLY_LOOK.contains(&program),
        (None, _) => true,
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
    use super::*;

    fn hands() -> CommandContext {
        CommandContext {
            root: false,
            unit: "sealift.service".to_owned(),
            has_unit: true,
            daemon_pid: None,
            options: "--data /d".to_owned(),
            receiver: String::new(),
            file: None,
            credential: None,
        }
    }

    #[test]
    fn a_fix_that_the_daemon_names_has_no_sudo_for_root_and_keeps_it_for_others() {
        let root = CommandContext {
            root: true,
            ..hands()
        };
        for (said, by_root) in [
            ("sudo chattr -i '/d/a'", "chattr -i '/d/a'"),
            ("lsof '/d/sudo a'", "lsof '/d/sudo a'"),
            ("sudoedit /d/a", "sudoedit /d/a"),
        ] {
            assert_eq!(root.typed(said), by_root);
            assert_eq!(hands().typed(said), said);
        }
    }

    #[test]
    fn spans_and_counts_are_said_as_a_person_says_them() {
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(7_100)), "118 min");
        assert_eq!(span(Duration::from_secs(90_000)), "25 h");
        assert_eq!(span(Duration::from_secs(900_000)), "10 days");
        assert_eq!(
            (count(1, "ship"), count(2, "ship")),
            ("1 ship".to_owned(), "2 ships".to_owned())
        );
    }

    #[test]
    fn without_a_unit_the_commands_are_those_of_one_who_starts_it_by_hand() {
        let hands = hands();
        assert_eq!(
            &*hands.unit_to("start"),
            "sudo systemctl start sealift.service"
        );
        let hands = CommandContext {
            has_unit: false,
            ..hands
        };
        // It would be refused without an address: a file is made in which one is set.
        let start = hands.unit_to("start");
        assert_eq!(
            &*start,
            "sealift setup --config sealift.toml --data /d --receiver https://receiver.example:8490"
        );
        let then = start.then.unwrap();
        assert!(
            then.contains("set receiver.url in sealift.toml")
                && then.ends_with(": sealift ship --config sealift.toml --data /d"),
            "{then}"
        );
        let hung = CommandContext {
            daemon_pid: Some(7),
            ..hands.clone()
        };
        let then = hung.unit_to("restart").then.unwrap();
        assert!(then.ends_with("start it as it was started."), "{then}");
        let mut snapshot = Snapshot::default();
        snapshot.destination.url = "http://r".to_owned();
        let hands = hands.with_receiver_of(Some(&snapshot));
        let ship = "sealift ship --data /d --receiver http://r";
        assert_eq!(&*hands.unit_to("start"), ship);
        let running = CommandContext {
            daemon_pid: Some(7),
            ..hands.clone()
        };
        assert_eq!(&*running.unit_to("reload"), "sudo kill -HUP 7");
        let restart = running.unit_to("restart");
        assert_eq!(&*restart, "sudo kill -TERM 7");
        assert!(
            restart
                .then
                .unwrap()
                .ends_with(": sealift ship --data /d --receiver http://r"),
            "what is stopped is started again"
        );
        assert_eq!(hands.edit(Path::new("/etc/a b")), "sudoedit '/etc/a b'");
        let hands = CommandContext {
            root: true,
            ..hands
        };
        assert_eq!(hands.edit(Path::new("/etc/a")), "\"${EDITOR:-vi}\" /etc/a");
        assert_eq!(
            hands.sealift("doctor"),
            "sealift doctor --data /d --receiver http://r"
        );
        let nameless = CommandContext {
            receiver: String::new(),
            file: None,
            ..hands.clone()
        };
        assert_eq!(
            nameless.sealift("verify --all"),
            format!("sealift verify --all --data /d {EXAMPLE_RECEIVER}")
        );
        // They have no such option.
        assert_eq!(hands.sealift("status"), "sealift status --data /d");
        assert_eq!(
            hands.sealift("trace run-1"),
            "sealift trace run-1 --data /d"
        );
    }

    #[test]
    fn a_change_of_the_configuration_is_one_command_and_the_sentence_says_what_applies_it() {
        let with_file = CommandContext {
            file: Some("/etc/it's.toml".into()),
            ..hands()
        };
        let fix = with_file.configure("reload");
        assert_eq!(&*fix, r"sudoedit '/etc/it'\''s.toml'");
        let then = "Then: sudo systemctl reload sealift.service";
        assert_eq!(fix.then.as_deref(), Some(then));
        assert_eq!(
            &*hands().configure("restart"),
            "sudoedit /etc/sealift/sealift.toml"
        );
        // The command line said it all: a file is made of that.
        let by_hand = CommandContext {
            has_unit: false,
            daemon_pid: Some(7),
            receiver: "--receiver http://r".to_owned(),
            ..hands()
        };
        let fix = by_hand.configure("reload");
        assert_eq!(
            &*fix,
            "sealift setup --config sealift.toml --data /d --receiver http://r"
        );
        let then = fix.then.unwrap();
        assert!(
            then.contains("(sudo kill -TERM 7)")
                && then.ends_with(
                    ": sealift ship --config sealift.toml --data /d --receiver http://r"
                ),
            "{then}"
        );
    }
}
