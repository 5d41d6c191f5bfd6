//! `configuration` and `credentials`.

use std::path::Path;

use super::{
    permission_fixes,
    permissions::{READ, as_shipper},
};
use crate::operate::doctor::{
    facts::{DaemonState, Facts, SettingsProblem},
    row::{DoctorRow, Id},
    words::{EXAMPLE_RECEIVER, Fix, foreign},
};

/// What a secret's file should not allow: writing by its group, reading or writing by everybody.
const LOOSE: u32 = 0o026;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = vec![configuration(facts)];
    if facts.settings.problem.is_none() {
        rows.push(credentials(facts));
    }
    rows
}

fn configuration(facts: &Facts) -> DoctorRow {
    let (id, settings, hands) = (Id::Configuration, &facts.settings, &facts.hands);
    let default = std::path::Path::new(crate::config::DEFAULT_FILE);
    let file = settings.file.as_deref().unwrap_or(default);
    let shown = file.display();
    let row = match &settings.problem {
        None => match (unread(facts), &settings.file) {
            (Some((summary, fix)), _) => DoctorRow::red(
                id,
                format!("The configuration {shown} cannot be read: {summary}"),
                fix,
            ),
            (None, Some(_)) => DoctorRow::green(id, format!("The configuration {shown} is right.")),
            (None, None) => DoctorRow::green(
                id,
                "The command line says all there is to say; no file was read.",
            ),
        },
        Some(SettingsProblem::NotPermitted(why)) if facts.people.we_see_as_the_shipper() => {
            let fix =
                unread(facts).map_or_else(|| as_root_to_look(facts, file).into(), |(_, fix)| fix);
            let who = &facts.people.shipper().name;
            DoctorRow::red(
                id,
                format!("The configuration {shown} cannot be read by {who}: {why}."),
                fix,
            )
        }
        Some(SettingsProblem::NotPermitted(why)) => {
            let summary = format!(
                "{} may not read the configuration {shown}: {why}. What depends on it is not checked.",
                facts.people.us.name
            );
            DoctorRow::yellow(id, summary, as_shipper(hands, &facts.people))
        }
        Some(SettingsProblem::Missing) => {
            let fix = hands.as_root(&hands.sealift("setup"));
            DoctorRow::red(
                id,
                format!("There is no configuration: {shown} is not there."),
                fix,
            )
        }
        Some(SettingsProblem::Wrong(_)) if settings.file.is_none() && settings.url.is_none() => {
            return no_receiver(facts);
        }
        Some(SettingsProblem::Wrong(message)) => {
            let said = in_one_line(message);
            let check = hands.sealift("config check");
            let fix = match &settings.file {
                Some(file) => Fix::from(hands.edit(file)).then(format!("Then: {check}")),
                None => check.into(),
            };
            return DoctorRow::red(id, sentence(&said), fix).with(
                "message",
                message
                    .lines()
                    .map(crate::model::text::printable)
                    .collect::<Vec<_>>(),
            );
        }
    };
    match &settings.file {
        Some(file) => row.with("file", file.to_string_lossy()),
        None => row,
    }
}

/// The command line says where the folders are, and not where the receiver is. A daemon that runs
/// knows.
fn no_receiver(facts: &Facts) -> DoctorRow {
    let (id, hands) = (Id::Configuration, &facts.hands);
    match &facts.daemon {
        DaemonState::Answers(_) => DoctorRow::yellow(
            id,
            "No receiver is named on the command line, and no file was read: what depends on it is not checked.",
            // With the receiver that the daemon names.
            hands.sealift("doctor"),
        ),
        _ => DoctorRow::red(
            id,
            "No receiver is named: give --receiver URL, or a configuration with receiver.url (--config FILE).",
            hands.sealift("doctor") + " " + EXAMPLE_RECEIVER,
        ),
    }
}

/// Why the shipper cannot read the configuration, though the calling user can, and what lets it.
fn unread(facts: &Facts) -> Option<(String, Fix)> {
    let (settings, shipper) = (&facts.settings, facts.people.shipper());
    settings.file.as_ref()?;
    if let Some(step) = permission_fixes::barrier(facts, &settings.way) {
        return Some((
            format!("{}.", permission_fixes::closed(facts, step)),
            facts.setup(),
        ));
    }
    let owned = settings.owned.filter(|owned| !shipper.may(READ, *owned))?;
    let summary = format!(
        "{}, who ships, may not (mode {:04o}).",
        shipper.name,
        owned.mode & 0o7777
    );
    Some((summary, facts.setup()))
}

fn as_root_to_look(facts: &Facts, file: &Path) -> String {
    let look = foreign(file, |file| format!("namei -lx {file}"));
    facts.hands.as_root(&look)
}

/// Where it is, and what: the first and the last of what the parser says, without the line itself
/// and its caret.
fn in_one_line(message: &str) -> String {
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let Some(first) = lines.next() else {
        return "It is wrong".to_owned();
    };
    let place = message
        .lines()
        .find_map(|line| line.split_once("at line "))
        .map(|(_, place)| place.trim());
    match (place, lines.next_back()) {
        (Some(place), Some(last)) => {
            format!("{} (line {place}) {last}", first.trim_end_matches(':'))
        }
        (None, Some(last)) => format!("{first} {last}"),
        (_, None) => first.to_owned(),
    }
}

fn sentence(said: &str) -> String {
    if said.ends_with(['.', '?', '!']) {
        said.to_owned()
    } else {
        format!("{said}.")
    }
}

fn credentials(facts: &Facts) -> DoctorRow {
    let (id, hands, people) = (Id::Credentials, &facts.hands, &facts.people);
    let files = &facts.settings.files;
    let shipper = people.shipper();
    for file in files {
        let (key, shown) = (file.key, file.path.display());
        match (&file.unreadable, file.owned.as_ref().ok()) {
            (Some((_, true)), _) if !people.we_see_as_the_shipper() => {
                let summary = format!(
                    "{} may not read {key} {shown}; so the receiver is not asked.",
                    people.us.name
                );
                return DoctorRow::yellow(id, summary, as_shipper(hands, people));
            }
            (Some((why, false)), _) => {
                let summary = format!("{key} {shown} cannot be read: {why}.");
                return DoctorRow::red(id, summary, hands.configure("reload"));
            }
            _ => {}
        }
        if let Some(step) = permission_fixes::barrier(facts, &file.way) {
            let summary = format!(
                "{key} {shown} cannot be read: {}.",
                permission_fixes::closed(facts, step)
            );
            return DoctorRow::red(id, summary, facts.setup());
        }
        match (&file.unreadable, file.owned.as_ref().ok()) {
            (Some((why, _)), owned) => {
                let summary = format!("{key} {shown} cannot be read by {}: {why}.", shipper.name);
                let fix = owned.map_or_else(
                    || as_root_to_look(facts, &file.path).into(),
                    |_| facts.setup(),
                );
                return DoctorRow::red(id, summary, fix);
            }
            (None, Some(owned)) if !shipper.may(READ, *owned) => {
                let summary = format!(
                    "{key} {shown} cannot be read by {}, who ships (mode {:04o}).",
                    shipper.name,
                    owned.mode & 0o7777
                );
                return DoctorRow::red(id, summary, facts.setup());
            }
            (None, _) => {}
        }
    }
    if let Some(problem) = &facts.settings.credential_problem {
        return DoctorRow::red(id, sentence(problem), hands.configure("reload"));
    }
    if facts.settings.token_in_clear {
        let summary =
            "The token travels in clear text: receiver.url is neither https nor on this machine.";
        return DoctorRow::yellow(id, summary, hands.configure("reload"));
    }
    for file in files.iter().filter(|file| file.secret) {
        if let Ok(owned) = file.owned
            && owned.mode & LOOSE != 0
        {
            let summary = format!(
                "{} {} can be read or changed by others (mode {:04o}).",
                file.key,
                file.path.display(),
                owned.mode & 0o7777
            );
            return DoctorRow::yellow(id, summary, facts.setup());
        }
    }
    match files.len() {
        0 => DoctorRow::green(id, "No certificate and no token is set."),
        n => DoctorRow::green(
            id,
            format!("{n} files of certificates, keys and tokens can be read."),
        )
        .with(
            "files",
            files
                .iter()
                .map(|file| file.path.to_string_lossy())
                .collect::<Vec<_>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::operate::doctor::{
        facts::{NamedFile, Owned, Person},
        judge::healthy_host::sound,
        row::RowStatus,
    };

    fn of(facts: &Facts, id: Id) -> DoctorRow {
        rows(facts).into_iter().find(|row| row.id == id).unwrap()
    }

    fn stranger(facts: &mut Facts) {
        facts.hands.root = false;
        facts.people.us = Person {
            name: "op".to_owned(),
            uid: 7,
            gid: 7,
            groups: vec![7],
        };
    }

    #[test]
    fn a_configuration_that_is_wrong_is_red_and_one_that_we_may_not_read_only_yellow() {
        let mut facts = sound();
        assert_eq!(of(&facts, Id::Configuration).status, RowStatus::Green);
        for (problem, status, fix) in [
            (
                SettingsProblem::Missing,
                RowStatus::Red,
                "sealift setup --data /d",
            ),
            (
                SettingsProblem::Wrong("at line 3\n  |\nbad \u{1b}".to_owned()),
                RowStatus::Red,
                "/etc/sealift/sealift.toml",
            ),
            (
                SettingsProblem::NotPermitted("EACCES".to_owned()),
                RowStatus::Red,
                "sealift setup --data /d",
            ),
        ] {
            facts.settings.owned = Some(Owned {
                mode: 0o600,
                ..Owned::default()
            });
            facts.settings.problem = Some(problem);
            let row = of(&facts, Id::Configuration);
            assert_eq!(row.status, status, "{row:?}");
            assert!(row.fix.as_ref().unwrap().contains(fix), "{row:?}");
            assert!(
                !row.summary.contains('\n') && !row.summary.contains('\u{1b}'),
                "{row:?}"
            );
            assert_eq!(rows(&facts).len(), 1, "nothing is said of unknown files");
        }
        stranger(&mut facts);
        let row = of(&facts, Id::Configuration);
        assert_eq!(row.status, RowStatus::Yellow);
        assert_eq!(row.fix.unwrap(), "sudo -u sealift sealift doctor --data /d");
    }

    #[test]
    fn a_file_that_the_shipper_cannot_read_is_red_whoever_asks() {
        let mut facts = sound();
        let file = |mode: u32, unreadable: Option<(String, bool)>| NamedFile {
            key: "receiver.token_file",
            path: PathBuf::from("/etc/token"),
            secret: true,
            owned: Ok(Owned {
                uid: 0,
                gid: 20,
                mode,
                listed: false,
            }),
            way: Vec::new(),
            unreadable,
        };
        for (named, status, fix) in [
            (file(0o640, None), RowStatus::Green, ""),
            (
                file(0o644, None),
                RowStatus::Yellow,
                "sealift setup --data /d",
            ),
            (file(0o600, None), RowStatus::Red, "sealift setup --data /d"),
            (
                file(0o640, Some(("not there".to_owned(), false))),
                RowStatus::Red,
                "/etc/sealift/sealift.toml",
            ),
        ] {
            facts.settings.files = vec![named];
            let row = of(&facts, Id::Credentials);
            assert_eq!(row.status, status, "{row:?}");
            assert!(row.fix.clone().unwrap_or_default().contains(fix), "{row:?}");
        }
        facts.settings.files = vec![file(0o640, None)];
        facts.settings.credential_problem = Some("the key is another's".to_owned());
        assert_eq!(of(&facts, Id::Credentials).status, RowStatus::Red);
        facts.settings.files = vec![file(0o640, Some(("EACCES".to_owned(), true)))];
        stranger(&mut facts);
        assert_eq!(of(&facts, Id::Credentials).status, RowStatus::Yellow);
    }

    #[test]
    fn a_configuration_that_who_ships_cannot_read_is_red_though_whoever_asks_can() {
        let (root, closed) = (
            Owned {
                mode: 0o755,
                ..Owned::default()
            },
            Owned {
                mode: 0o700,
                ..Owned::default()
            },
        );
        for (folder, mode, status, fix) in [
            (root, 0o644, RowStatus::Green, ""),
            (root, 0o600, RowStatus::Red, "sealift setup --data /d"),
            (closed, 0o644, RowStatus::Red, "sealift setup --data /d"),
            (
                Owned {
                    listed: true,
                    ..closed
                },
                0o644,
                RowStatus::Green,
                "",
            ),
        ] {
            let mut facts = sound();
            facts.settings.owned = Some(Owned {
                mode,
                ..Owned::default()
            });
            facts.settings.way = vec![("/etc".into(), root), ("/etc/sealift".into(), folder)];
            let row = of(&facts, Id::Configuration);
            assert_eq!(
                (row.status, row.fix.as_deref().unwrap_or_default()),
                (status, fix),
                "{row:?}"
            );
            // The same way leads to its secrets.
            facts.settings.files = vec![NamedFile {
                key: "receiver.token_file",
                path: PathBuf::from("/etc/sealift/token"),
                secret: true,
                owned: Ok(Owned {
                    gid: 20,
                    mode: 0o640,
                    ..Owned::default()
                }),
                way: facts.settings.way.clone(),
                unreadable: None,
            }];
            let expected = if folder == closed {
                RowStatus::Red
            } else {
                RowStatus::Green
            };
            assert_eq!(of(&facts, Id::Credentials).status, expected);
        }
    }
}
