//! The unit, as systemctl(1) shows it.

use std::path::PathBuf;

use super::{PROGRAM, run::stdout_of};
use crate::operate::doctor::facts::Unit;

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus,WatchdogUSec,NRestarts,MainPID,User,DynamicUser,ReadWritePaths";

/// `None` where there is no systemd to ask.
pub(in crate::operate::doctor) async fn unit(name: &str) -> Option<Unit> {
    let shown = stdout_of(
        "systemctl",
        &["show", PROPERTIES, "--no-pager", "--", name],
        PROGRAM,
    )
    .await?;
    parse(&shown)
}

/// Where systemd looks for units of the system, the first that has it wins (systemd.unit(5)).
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The user that a unit's file and its drop-ins in `/etc` name, where no systemd runs that would
/// say it.
pub(in crate::operate::doctor) fn user_in_file(name: &str) -> Option<String> {
    let set = std::env::var_os("SYSTEMD_UNIT_PATH");
    let folders: Vec<_> = match &set {
        Some(set) => std::env::split_paths(set).collect(),
        None => UNIT_FOLDERS.iter().map(PathBuf::from).collect(),
    };
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let mut text = folders.iter().find_map(|folder| read(folder.join(name)))?;
    let drop_ins = folders[0].join(format!("{name}.d"));
    let mut drop_ins: Vec<_> = std::fs::read_dir(drop_ins)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "conf"))
        .collect();
    drop_ins.sort();
    for drop_in in drop_ins.into_iter().filter_map(read) {
        text = text + "\n" + &drop_in;
    }
    let mut said = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("User="));
    let user = said.next_back()?.trim();
    (!user.is_empty()).then(|| user.to_owned())
}

fn parse(shown: &str) -> Option<Unit> {
    let mut unit = Unit::default();
    for line in shown.lines() {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().to_owned();
        match name {
            "LoadState" => unit.load_state = value,
            "ActiveState" => unit.active_state = value,
            "SubState" => unit.sub_state = value,
            "UnitFileState" => unit.file_state = value,
            "Result" => unit.result = value,
            "ExecMainStatus" => unit.exit_status = value,
            "WatchdogUSec" => unit.watchdog = value,
            "NRestarts" => unit.restarts = value.parse().unwrap_or_default(),
            "MainPID" => unit.main_pid = value.parse().unwrap_or_default(),
            "User" => unit.user = value,
            "DynamicUser" => unit.is_user_dynamic = value == "yes",
            "ReadWritePaths" => {
                unit.read_write_paths = Some(words(&value));
            }
            _ => {}
        }
    }
    Some(unit).filter(|unit| !unit.load_state.is_empty())
}

/// A list as systemctl(1) shows it: what is not plain is quoted as for a shell, with `"` or with
/// `$'`.
fn words(list: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = list.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(rest.next()),
            ('$', None) if word.is_none() && rest.peek() == Some(&'\'') => {}
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_read_and_anything_else_is_no_unit() {
        let unit = parse(
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nWatchdogUSec=3min\nNRestarts=2\n\
             MainPID=41\nUser=sealift\nResult=success\nExecMainStatus=0\nReadWritePaths=/a -/b\nOdd\nMore=x\n",
        )
        .unwrap();
        assert_eq!(
            (unit.load_state.as_str(), unit.restarts, unit.main_pid),
            ("loaded", 2, 41)
        );
        assert_eq!(
            (unit.watchdog.as_str(), unit.user.as_str()),
            ("3min", "sealift")
        );
        assert_eq!(
            unit.read_write_paths,
            Some(vec!["/a".to_owned(), "-/b".to_owned()])
        );
        for (shown, read) in [
            (r#""/a b" -/c"#, &["/a b", "-/c"][..]),
            (r#""/a \"b\" \\" /c"#, &[r#"/a "b" \"#, "/c"]),
            (r"$'/it\'s one' /c", &["/it's one", "/c"]),
            ("", &[]),
        ] {
            assert_eq!(words(shown), read, "{shown}");
        }
        assert_eq!(parse("System has not been booted with systemd\n"), None);
    }
}
