//! The unit, as systemctl(1) shows it.

use super::{PROGRAM, run::stdout_of};
use crate::operate::doctor::facts::Unit;

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus,WatchdogUSec,NRestarts,MainPID,User,ReadWritePaths";

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
            "ReadWritePaths" => {
                unit.read_write_paths = Some(value.split_whitespace().map(str::to_owned).collect());
            }
            _ => {}
        }
    }
    Some(unit).filter(|unit| !unit.load_state.is_empty())
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
        assert_eq!(parse("System has not been booted with systemd\n"), None);
    }
}
