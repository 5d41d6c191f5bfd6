//! `unit`, `watchdog` and `restarts`: what the service manager says.

use crate::operate::doctor::{
    facts::{DaemonState, Facts, Unit},
    row::{DoctorRow, Id},
    setup,
    words::{Fix, word},
};

/// So often, and it is no accident.
const MANY_RESTARTS: u64 = 5;
/// The exit code of wrong arguments or a wrong configuration.
const USAGE: &str = "2";

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let Some(found) = &facts.unit else {
        return Vec::new();
    };
    if found.load_state == "not-found" {
        return vec![unknown(facts)];
    }
    vec![
        unit(facts, found),
        watchdog(facts, found),
        restarts(facts, found),
    ]
}

fn unknown(facts: &Facts) -> DoctorRow {
    let unit = &facts.hands.unit;
    let fix = "systemctl list-units --all '*sealift*'";
    let row = match facts.daemon {
        DaemonState::Answers(_) | DaemonState::Silent { .. } | DaemonState::NotPermitted { .. } => {
            DoctorRow::green(
                Id::Unit,
                format!(
                    "systemd knows no unit {unit}; the daemon that runs was started in another way."
                ),
            )
        }
        DaemonState::None if facts.is_shipped_by_hand() => DoctorRow::green(
            Id::Unit,
            format!(
                "systemd knows no unit {unit}: what is sealed is shipped by hand. As a service: contrib/install.sh, or the unit's \
                 name in doctor.unit."
            ),
        ),
        DaemonState::None | DaemonState::Unknown => DoctorRow::yellow(
            Id::Unit,
            format!(
                "systemd knows no unit {unit}. Install it (contrib/install.sh), or set doctor.unit to its name."
            ),
            fix,
        ),
    };
    row.with("load_state", "not-found")
}

fn unit(facts: &Facts, found: &Unit) -> DoctorRow {
    let (id, hands, name) = (Id::Unit, &facts.hands, &facts.hands.unit);
    if let Some(user) = &facts.people.unknown_user {
        let summary =
            format!("{name} runs as user {user}, whom this host does not know: it cannot start.");
        let make = hands.as_root(&format!("useradd --system --user-group {}", word(user)));
        let other = hands.as_root(&format!("systemctl edit {}", word(name)));
        let fix = Fix::from(make).then(format!(
            "Or set User= to one that is there ({other}), and run `sealift setup`."
        ));
        return DoctorRow::red(id, summary, fix).with("user", user.as_str());
    }
    let by_hand = match &facts.daemon {
        DaemonState::Answers(snapshot) => Some(Some(snapshot.pid)),
        DaemonState::Silent { pid, .. } | DaemonState::NotPermitted { pid } => Some(*pid),
        DaemonState::None | DaemonState::Unknown => None,
    };
    let row = match (found.load_state.as_str(), found.active_state.as_str()) {
        ("masked", _) => {
            let then = format!("Then: {}", hands.unit_to("enable --now"));
            let summary = format!("{name} is masked: it cannot be started.");
            DoctorRow::red(id, summary, hands.unit_to("unmask").then(then))
        }
        ("loaded", "active" | "reloading") if found.file_state == "disabled" => DoctorRow::yellow(
            id,
            format!("{name} is active, and will not be after a reboot: it is not enabled."),
            hands.unit_to("enable"),
        ),
        ("loaded", "active" | "reloading") => DoctorRow::green(id, format!("{name} is active.")),
        ("loaded", "activating") if found.sub_state == "auto-restart" => {
            let summary = format!(
                "{name} ends again and again ({}), and is about to be started once more.",
                ended(found)
            );
            ends(facts, &summary)
        }
        ("loaded", "activating" | "deactivating") => DoctorRow::yellow(
            id,
            format!(
                "{name} is {}: it cleans up after its last run, or before its end.",
                found.active_state
            ),
            format!("systemctl status {}", word(name)),
        ),
        ("loaded", "failed") => ends(facts, &format!("{name} has failed ({}).", ended(found))),
        ("loaded", "inactive") => match by_hand {
            Some(pid) => {
                let pid = pid
                    .map(|pid| format!(" (process {pid})"))
                    .unwrap_or_default();
                let summary = format!(
                    "{name} is not started, and a daemon runs that was started in another way{pid}."
                );
                let fix = format!("systemctl status {}", word(name));
                DoctorRow::yellow(id, summary, fix)
            }
            None => DoctorRow::red(
                id,
                format!("{name} is not started: nothing is shipped."),
                hands.unit_to("enable --now"),
            ),
        },
        (load, _) if load != "loaded" => {
            let fix = format!("systemctl status {}", word(name));
            DoctorRow::red(id, format!("{name} cannot be loaded ({load})."), fix)
        }
        (_, active) => DoctorRow::yellow(
            id,
            format!("{name} is {active}."),
            format!("systemctl status {}", word(name)),
        ),
    };
    row.with("active_state", found.active_state.as_str())
        .with("sub_state", found.sub_state.as_str())
        .with("unit_file_state", found.file_state.as_str())
        .with("result", found.result.as_str())
}

fn ended(found: &Unit) -> String {
    match (found.result.as_str(), found.exit_status.as_str()) {
        ("exit-code", USAGE) => "exit code 2: a wrong configuration".to_owned(),
        ("exit-code", code) => format!("exit code {code}"),
        ("watchdog", _) => "its heart had stopped".to_owned(),
        (result, _) => result.to_owned(),
    }
}

/// It does not stay up. A restart does not mend that where it may not write to its folders.
fn ends(facts: &Facts, summary: &str) -> DoctorRow {
    if !setup::lets_it_start(facts) {
        return DoctorRow::red(Id::Unit, summary, with_its_log(facts, "restart", "-n 20"));
    }
    let summary = format!("{summary} Its folders are not there, or it may not write to them.");
    let then = format!("Then: {}", facts.hands.unit_to("restart"));
    DoctorRow::red(Id::Unit, summary, facts.setup().then(then))
}

/// What is done to the unit; and where what it said before that is read.
fn with_its_log(facts: &Facts, deed: &str, filter: &str) -> Fix {
    let unit = word(&facts.hands.unit);
    let look = format!("journalctl -u {unit} {filter} --no-pager");
    let look = facts.hands.as_root(&look);
    facts
        .hands
        .unit_to(deed)
        .then(format!("Why, its log says: {look}"))
}

pub(in crate::operate::doctor) const WATCHDOG_DROP_IN: &str = "zz-sealift-watchdog";

pub(in crate::operate::doctor) fn has_no_watchdog(unit: &Unit) -> bool {
    match unit.watchdog.as_str() {
        "" | "0" => true,
        "infinity" => !is_watchdog_unknown(unit),
        _ => false,
    }
}

/// Before a unit's first start systemd says `infinity`, whatever the unit's file says.
fn is_watchdog_unknown(unit: &Unit) -> bool {
    unit.watchdog == "infinity" && unit.main_pid == 0
}

fn watchdog(facts: &Facts, found: &Unit) -> DoctorRow {
    let id = Id::Watchdog;
    if is_watchdog_unknown(found) {
        return DoctorRow::green(id, "Whether a stall is noticed is seen once it is started.");
    }
    if has_no_watchdog(found) {
        let summary = format!(
            "{} has no watchdog: a silent stall would not be noticed.",
            facts.hands.unit
        );
        return DoctorRow::yellow(id, summary, facts.setup());
    }
    // What the daemon was told at its start counts; the unit may have been changed since.
    if let DaemonState::Answers(snapshot) = &facts.daemon
        && snapshot.pid == found.main_pid
        && snapshot.heart.watchdog_ms.is_none()
    {
        let summary = "The unit has a watchdog, and the daemon that runs was started without it.";
        return DoctorRow::yellow(id, summary, facts.hands.unit_to("restart"));
    }
    DoctorRow::green(id, format!("A stall is noticed within {}.", found.watchdog))
}

fn restarts(facts: &Facts, found: &Unit) -> DoctorRow {
    let (id, name) = (Id::Restarts, &facts.hands.unit);
    let fix = with_its_log(facts, "reset-failed", "-b -p warning -n 50");
    let row = match found.restarts {
        0 => {
            return DoctorRow::green(id, "It was not started again by systemd.")
                .with("restarts", 0);
        }
        1 => DoctorRow::yellow(id, format!("systemd had to start {name} again once."), fix),
        n if n < MANY_RESTARTS => DoctorRow::yellow(
            id,
            format!("systemd had to start {name} again {n} times."),
            fix,
        ),
        n => DoctorRow::red(
            id,
            format!("systemd had to start {name} again {n} times."),
            fix,
        ),
    };
    row.with("restarts", found.restarts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{judge::healthy_host::sound, row::RowStatus};

    fn unit_of(change: impl FnOnce(&mut Facts, &mut Unit)) -> Vec<DoctorRow> {
        let mut facts = sound();
        let mut unit = facts.unit.take().unwrap();
        change(&mut facts, &mut unit);
        facts.unit = Some(unit);
        rows(&facts)
    }

    #[test]
    fn a_unit_that_may_not_write_to_its_folders_is_set_up_and_not_started_again_for_ever() {
        for (active, sub) in [("activating", "auto-restart"), ("failed", "failed")] {
            let rows = unit_of(|facts, unit| {
                (facts.daemon, facts.hands.has_unit) = (DaemonState::None, true);
                (unit.active_state, unit.sub_state) = (active.to_owned(), sub.to_owned());
                unit.read_write_paths = Some(vec!["/var/lib/elsewhere".to_owned()]);
                facts.folders[0].real = Some(("/srv/data/episodes".into(), 1));
            });
            let fix = rows[0].fix.as_deref().unwrap_or_default();
            assert_eq!(fix, "sealift setup --data /d", "{:?}", rows[0]);
        }
    }

    #[test]
    fn each_state_of_the_unit_has_its_row_and_its_fix() {
        for (load, active, sub, enabled, status, fix) in [
            (
                "loaded",
                "active",
                "running",
                "enabled",
                RowStatus::Green,
                "",
            ),
            (
                "loaded",
                "reloading",
                "reload",
                "enabled",
                RowStatus::Green,
                "",
            ),
            (
                "loaded",
                "active",
                "running",
                "disabled",
                RowStatus::Yellow,
                "systemctl enable sealift.service",
            ),
            (
                "loaded",
                "inactive",
                "dead",
                "enabled",
                RowStatus::Red,
                "systemctl enable --now sealift.service",
            ),
            (
                "loaded",
                "failed",
                "failed",
                "enabled",
                RowStatus::Red,
                "systemctl restart sealift.service",
            ),
            (
                "loaded",
                "activating",
                "auto-restart",
                "enabled",
                RowStatus::Red,
                "systemctl restart sealift.service",
            ),
            (
                "loaded",
                "activating",
                "start",
                "enabled",
                RowStatus::Yellow,
                "systemctl status sealift.service",
            ),
            (
                "masked",
                "inactive",
                "dead",
                "masked",
                RowStatus::Red,
                "systemctl unmask sealift.service",
            ),
            (
                "bad-setting",
                "inactive",
                "dead",
                "",
                RowStatus::Red,
                "systemctl status",
            ),
            (
                "loaded",
                "maintenance",
                "x",
                "enabled",
                RowStatus::Yellow,
                "systemctl status",
            ),
            (
                "not-found",
                "inactive",
                "dead",
                "",
                RowStatus::Yellow,
                "systemctl list-units",
            ),
        ] {
            let rows = unit_of(|facts, unit| {
                facts.daemon = DaemonState::None;
                (unit.load_state, unit.active_state) = (load.to_owned(), active.to_owned());
                (unit.sub_state, unit.file_state) = (sub.to_owned(), enabled.to_owned());
            });
            assert_eq!(rows[0].status, status, "{:?}", rows[0]);
            assert!(
                rows[0].fix.clone().unwrap_or_default().contains(fix),
                "{:?}",
                rows[0]
            );
        }
    }

    #[test]
    fn a_daemon_that_was_started_by_hand_is_no_alarm() {
        let inactive = |unit: &mut Unit| unit.active_state = "inactive".to_owned();
        let rows = unit_of(|_, unit| inactive(unit));
        assert_eq!(rows[0].status, RowStatus::Yellow);
        assert_eq!(
            unit_of(|_, unit| unit.load_state = "not-found".to_owned())[0].status,
            RowStatus::Green
        );
    }

    #[test]
    fn an_unarmed_watchdog_is_armed_by_the_fix() {
        for watchdog in ["0", "infinity", ""] {
            let row = &unit_of(|_, unit| unit.watchdog = watchdog.to_owned())[1];
            assert_eq!(row.status, RowStatus::Yellow);
            assert_eq!(row.fix.as_deref(), Some("sealift setup --data /d"));
        }
        // What was never started says nothing of it.
        let row = &unit_of(|_, unit| {
            (unit.watchdog, unit.main_pid) = ("infinity".to_owned(), 0);
        })[1];
        assert_eq!(row.status, RowStatus::Green);
        let row = &unit_of(|facts, unit| {
            let DaemonState::Answers(snapshot) = &mut facts.daemon else {
                panic!()
            };
            snapshot.heart.watchdog_ms = None;
            unit.main_pid = snapshot.pid;
        })[1];
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Yellow, Some("systemctl restart sealift.service"))
        );
    }

    #[test]
    fn restarts_are_told_and_many_of_them_are_red() {
        for (restarts, status) in [
            (0, RowStatus::Green),
            (1, RowStatus::Yellow),
            (4, RowStatus::Yellow),
            (5, RowStatus::Red),
        ] {
            let row = &unit_of(|_, unit| unit.restarts = restarts)[2];
            assert_eq!(row.status, status);
            assert_eq!(row.fix.is_some(), restarts > 0);
        }
    }

    #[test]
    fn a_unit_whose_user_is_not_there_is_red_and_setup_touches_nothing_for_it() {
        let mut facts = sound();
        facts.people.shipper = None;
        facts.people.unknown_user = Some("gone".to_owned());
        let row = &rows(&facts)[0];
        assert_eq!(row.status, RowStatus::Red, "{row:?}");
        assert!(row.summary.contains("user gone"), "{row:?}");
        let all = crate::operate::doctor::judge::folders::rows(&facts);
        assert!(all.iter().all(|row| row.id != Id::FolderAccess), "{all:?}");
    }

    #[test]
    fn a_wrong_configuration_is_named_as_what_ended_it() {
        let rows = unit_of(|facts, unit| {
            facts.daemon = DaemonState::None;
            unit.active_state = "failed".to_owned();
            (unit.result, unit.exit_status) = ("exit-code".to_owned(), "2".to_owned());
        });
        assert!(
            rows[0].summary.contains("a wrong configuration"),
            "{:?}",
            rows[0]
        );
    }
}
