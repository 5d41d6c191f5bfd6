//! What a receiver tells a host to do: is it a command, or is it meant for a person?

use std::{env, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{model::text::printable, operate::doctor::facts::Remedy};

/// A remediation is one line.
const MAX_CHARS: usize = 500;
/// Where root finds more than others do.
const MORE: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// From outside: one line, harmless to a terminal, and not endless. Whether a command is harmless
/// to this host its operator decides.
pub(super) fn of(text: &str) -> Option<Remedy> {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let first = lines.first()?;
    let is_command = is_command(first);
    let line = printable(&lines.join(if is_command { " && " } else { " " }));
    let line: String = line.chars().take(MAX_CHARS).collect();
    Some(if is_command {
        Remedy::Command(line)
    } else {
        Remedy::Words(line)
    })
}

/// It begins with a program that is here, and does not end as a sentence does.
fn is_command(line: &str) -> bool {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word == "sudo" || word.contains('='));
    let Some(first) = words.next() else {
        return false;
    };
    let first = first.trim_end_matches(';');
    let is_program = match first {
        "cd" => true,
        path if path.starts_with(['/', '~', '.']) => true,
        name => {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = env::split_paths(&path).chain(MORE.map(Into::into));
            folders
                .into_iter()
                .any(|folder| is_executable(&folder.join(name)))
        }
    };
    is_program && !line.ends_with(['.', '!', '?', ':', ')'])
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_and_a_sentence_is_none() {
        let command = |text: &str| Some(Remedy::Command(text.to_owned()));
        let words = |text: &str| Some(Remedy::Words(text.to_owned()));
        for (text, expected) in [
            (
                "cd /opt/lab\n git pull\n",
                command("cd /opt/lab && git pull"),
            ),
            (
                "sudo FORCE=1 /opt/lab/update",
                command("sudo FORCE=1 /opt/lab/update"),
            ),
            ("sh update.sh\u{7}", command("sh update.sh\\u{7}")),
            (
                "Please update the lab code:\nsee https://wiki/lab (ask Bob)",
                words("Please update the lab code: see https://wiki/lab (ask Bob)"),
            ),
            ("update the lab code", words("update the lab code")),
            (
                "install the new version.",
                words("install the new version."),
            ),
            (" \n ", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        let Some(Remedy::Words(long)) = of(&"x".repeat(9000)) else {
            panic!()
        };
        assert_eq!(long.len(), MAX_CHARS);
    }
}
