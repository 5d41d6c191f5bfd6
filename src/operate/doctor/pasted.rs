//! Tests: whatever a fix names, it is one simple command, and a POSIX shell reads from it the words
//! that were meant.

mod broken;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use percent_encoding::percent_decode;

use super::{
    facts::Facts,
    judge::judge,
    row::{DoctorRow, Id, RowStatus},
};
use crate::model::{
    episode::EpisodeId,
    text::{read_typed_path, unescaped},
};

/// What may stand in double quotes: nothing of it is a command.
const IN_DOUBLE_QUOTES: &str = "${EDITOR:-vi}";

/// The words of a command line that is one simple command (POSIX, Shell Command Language, 2.9.1) in
/// the part of the language that fixes are written in; else what is wrong with it.
fn words_of(line: &str) -> Result<Vec<String>, String> {
    let line = line.strip_suffix(" </dev/null").unwrap_or(line);
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut left = line;
    while let Some(c) = left.chars().next() {
        let rest = &left[c.len_utf8()..];
        let quoted_to = |quote: char| {
            rest.split_once(quote)
                .ok_or_else(|| format!("no end of {quote} in {line}"))
        };
        match c {
            ' ' => {
                words.extend(word.take());
                left = rest;
            }
            '\'' => {
                let (quoted, after) = quoted_to('\'')?;
                word.get_or_insert_default().push_str(quoted);
                left = after;
            }
            '"' => {
                let (quoted, after) = quoted_to('"')?;
                if quoted != IN_DOUBLE_QUOTES {
                    return Err(format!("\"{quoted}\" in {line}"));
                }
                word.get_or_insert_default().push_str(quoted);
                left = after;
            }
            '\\' => {
                let escaped = rest.chars().next().filter(|c| "'();".contains(*c));
                let escaped = escaped.ok_or_else(|| format!("a backslash in {line}"))?;
                word.get_or_insert_default().push(escaped);
                left = &rest[1..];
            }
            '{' if word.is_none() && rest.starts_with('}') => {
                word = Some("{}".to_owned());
                left = &rest[1..];
            }
            // A glob that finds nothing is itself.
            '*' if left.starts_with("*/meta.json") => {
                word.get_or_insert_default().push('*');
                left = rest;
            }
            '!' if word.is_none() && !words.is_empty() && rest.starts_with(' ') => {
                word = Some("!".to_owned());
                left = rest;
            }
            c if c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c) => {
                word.get_or_insert_default().push(c);
                left = rest;
            }
            other => return Err(format!("an unquoted {other:?} in {line}")),
        }
    }
    words.extend(word.take());
    match words.first() {
        Some(first) if !first.is_empty() && (!first.contains('=')) => Ok(words),
        _ => Err(format!("no command in {line:?}")),
    }
}

/// Each row that any test of the judges makes is looked at.
pub(super) fn assert_is_one_command(fix: &str) {
    let words = words_of(fix);
    assert!(words.is_ok(), "{words:?}");
}

/// What `sh` calls, word by word, when these lines are pasted into it, one after another:
/// `programs` only write down how they were called.
fn called_by(lines: &[String], programs: &BTreeSet<String>) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (bin, log) = (folder.path().join("bin"), folder.path().join("log"));
    fs::create_dir(&bin).unwrap();
    for program in programs {
        let stub = bin.join(program);
        let script = "#!/bin/sh\nprintf '%s\\0' \"${0##*/}\" \"$@\" >>\"$LOG\"\nprintf '\\n\\0' >>\"$LOG\"\n";
        fs::write(&stub, script).unwrap();
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut shell = Command::new("/bin/sh")
        .env_clear()
        .env("PATH", &bin)
        .env("LOG", &log)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pasted = lines.join("\n") + "\n";
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(pasted.as_bytes()).unwrap();
    drop(stdin);
    let shell = shell.wait_with_output().unwrap();
    assert!(
        shell.status.success() && shell.stderr.is_empty(),
        "{shell:?}"
    );
    let said = fs::read_to_string(&log).unwrap();
    let calls = said.split_terminator("\n\0");
    calls
        .map(|call| call.split_terminator('\0').map(str::to_owned).collect())
        .collect()
}

/// Data folders, and names of episodes, that a shell or a terminal could take for something else.
fn hostile() -> Vec<(PathBuf, EpisodeId)> {
    let paths: [&[u8]; 9] = [
        b"/data",
        b"/srv/it's a \"dir\" $(touch pwned) `id`; & | # * ? \\ !",
        b"/srv/new\nline\x07 and\ttab",
        b"/srv/not \xff\xfe text",
        "/srv/L\u{e4}ufe \u{202e}x".as_bytes(),
        b"/srv/~x/{a,b}/[!a]",
        b"/srv/100%41%0A",
        b"/srv/ leading and trailing ",
        b"/-rf",
    ];
    let ids = [
        "run-1",
        "it's $(touch pwned) `id` \"x\"",
        "a b; c & d | e > f # g",
        "~x",
        "L\u{e4}ufe \u{202e}x\u{200b}",
        "100%41",
        "*?[a]!",
        "$HOME {a,b} !x",
        "=x",
    ];
    let pairs = paths.into_iter().zip(ids).map(|(path, id)| {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        (path, EpisodeId::parse(id).unwrap())
    });
    pairs.collect()
}

/// Every command that a row shows.
fn fixes(row: &DoctorRow) -> Vec<String> {
    let listed = row.details.get("fixes").and_then(|fixes| fixes.as_array());
    let listed = listed.into_iter().flatten().filter_map(|fix| fix.as_str());
    let listed: Vec<_> = listed.map(str::to_owned).collect();
    row.fix.clone().into_iter().chain(listed).collect()
}

fn all_broken() -> Vec<(&'static str, PathBuf, EpisodeId, Facts)> {
    let mut all = Vec::new();
    for (data, id) in hostile() {
        for caller in broken::CALLERS {
            for (name, breaks) in broken::BROKEN {
                let mut facts = broken::host(&data, caller);
                breaks(&mut facts, &id);
                all.push((*name, data.clone(), id.clone(), facts));
            }
        }
    }
    all
}

#[test]
fn every_fix_pasted_into_sh_is_one_simple_command_with_the_words_that_were_meant() {
    let (mut lines, mut meant) = (Vec::new(), Vec::new());
    let (mut seen, mut rows_with_a_fix) = (BTreeSet::new(), BTreeSet::new());
    for (name, data, id, facts) in all_broken() {
        for row in judge(&facts) {
            if row.fix.is_some() {
                assert_ne!(row.status, RowStatus::Green, "{name}: {row:?}");
                rows_with_a_fix.insert(row.id);
            }
            for fix in fixes(&row) {
                let words = words_of(&fix).unwrap_or_else(|why| panic!("{name}: {why}"));
                means_what_is_there(name, &words, &data, &id);
                if seen.insert(fix.clone()) {
                    // An editor that is not named is vi.
                    let read = |word: String| word.replace(IN_DOUBLE_QUOTES, "vi");
                    meant.push(words.into_iter().map(read).collect::<Vec<_>>());
                    lines.push(fix);
                }
            }
        }
    }
    // Of each check that can turn there was one.
    let missing: Vec<_> = Id::ALL
        .iter()
        .filter(|id| !rows_with_a_fix.contains(*id))
        .collect();
    assert_eq!(missing, Vec::<&Id>::new(), "no broken host turns these");
    assert!(lines.len() > 400, "{}", lines.len());
    let programs = meant.iter().map(|words| words[0].clone()).collect();
    let called = called_by(&lines, &programs);
    for ((line, words), called) in lines.iter().zip(&meant).zip(&called) {
        assert_eq!(called, words, "{line}");
    }
    assert_eq!(called.len(), lines.len());
}

/// A command of ours names the data folder and the episode as they are.
fn means_what_is_there(name: &str, words: &[String], data: &Path, id: &EpisodeId) {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let ours = match words.as_slice() {
        ["sealift", ours @ ..] | ["sudo", "sealift", ours @ ..] => ours,
        // As the user of that name.
        ["sudo", "-u", _, "sealift", ours @ ..] => ours,
        _ => return,
    };
    let after = |option: &str| {
        let at = ours.iter().position(|word| *word == option)?;
        ours.get(at + 1).copied()
    };
    if let Some(given) = after("--data") {
        assert_eq!(read_typed_path(given.into()), data, "{name}: {ours:?}");
    }
    let episode = match ours[0] {
        "seal" => ours.last().copied(),
        "setup" => after("--give"),
        _ => None,
    };
    if let Some(episode) = episode {
        let path = read_typed_path(episode.into());
        assert!(path.starts_with(data), "{name}: {ours:?}");
        assert_eq!(path.file_name().unwrap(), id.as_str(), "{name}: {ours:?}");
    }
    if ours[0] == "rename" {
        let old = after("episodes").unwrap();
        let decoded: Vec<u8> = percent_decode(old.as_bytes()).collect();
        let is_it = decoded == id.as_str().as_bytes() || decoded == broken::STRANGER;
        assert!(is_it, "{name}: {ours:?}");
    }
    if matches!(ours[0], "trace" | "requeue") && !ours.contains(&"--all") {
        let named = ours.iter().any(|word| unescaped(word) == id.as_str());
        assert!(named, "{name}: {ours:?}");
    }
}

#[test]
fn what_is_more_than_one_simple_command_is_told() {
    for line in [
        "a && b", "a; b", "a | b", "a & b", "a $(b)", "a `b`", "a # b", "a >b", "{ a; }",
        "a \"$b\"", "a $'b'", "A=b c", "a ~b", "a *", "# a", "", "'a", "a\nb", "! a",
    ] {
        assert!(words_of(line).is_err(), "{line}");
    }
    let words = words_of(r"find '/d/it'\''s' \( -a \) -exec x {} ';'").unwrap();
    let expected = ["find", "/d/it's", "(", "-a", ")", "-exec", "x", "{}", ";"];
    assert_eq!(words, expected);
}
