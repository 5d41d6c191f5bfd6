//! The manual and the completions, made from the commands as they are.

use std::{
    fs,
    process::{Command, Output},
};

use crate::support::{names, sealift};

fn stdout(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The commands that `--help` shows.
fn commands() -> Vec<String> {
    let help = stdout(sealift().arg("--help"));
    let list = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let names = list.lines().filter_map(|line| {
        line.strip_prefix("  ")?
            .split(' ')
            .next()
            .map(str::to_owned)
    });
    names
        .filter(|name| !name.is_empty() && name != "help")
        .collect()
}

#[test]
fn every_command_has_a_page_with_all_of_its_options_and_no_other_page_is_there() {
    let folder = tempfile::tempdir().unwrap();
    stdout(sealift().arg("man").arg(folder.path()));
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        let page = fs::read_to_string(folder.path().join(format!("sealift-{command}.1"))).unwrap();
        let page = page.replace("\\-", "-");
        let help = stdout(sealift().args([command, "--help"]));
        let options = help
            .split_whitespace()
            .filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options.map(|word| word.trim_end_matches([',', '.', ')', ']', ':'])) {
            assert!(
                page.contains(option),
                "{command}: {option} is not in its page"
            );
        }
    }
    let pages = names(folder.path());
    let is_known = |page: &String| {
        page == "sealift.1"
            || commands
                .iter()
                .any(|command| page.starts_with(&format!("sealift-{command}")))
    };
    assert!(pages.iter().all(is_known), "{pages:?}");
    let missing = folder.path().join("missing");
    assert_eq!(
        sealift()
            .arg("man")
            .arg(missing)
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("sealift");
    fs::write(&script, stdout(sealift().args(["completions", "bash"]))).unwrap();
    let complete = |words: &[&str]| {
        let typed = words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" ");
        let before = words.iter().rev().nth(1).unwrap_or(&"sealift");
        let ask = format!(
            "source {script:?}; COMP_WORDS=(sealift {typed}); COMP_CWORD={}; _sealift sealift '{}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            words.len(),
            words.last().unwrap()
        );
        stdout(Command::new("bash").args(["--norc", "-c", &ask]))
            .trim()
            .to_owned()
    };
    assert_eq!(complete(&["requ"]), "requeue");
    assert_eq!(complete(&["requeue", "--dry"]), "--dry-run");
    assert_eq!(complete(&["requeue", "--from", "qu"]), "quarantine");
    for shell in ["zsh", "fish"] {
        let script = stdout(sealift().args(["completions", shell]));
        assert!(
            script.contains("requeue") && script.contains("dry-run"),
            "{shell}"
        );
    }
    assert_eq!(
        sealift()
            .args(["completions", "none"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
}
