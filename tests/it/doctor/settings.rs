//! The configuration, and the files that it names.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Host, is_root};
use crate::support::Sandbox;

/// A host whose unit runs as nobody, to whom the folders are given.
fn as_nobody() -> Host {
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.can_be_found_by_everybody();
    host.unit_is("User", "nobody");
    let data = host.sandbox.data();
    assert!(
        host.type_in(&format!("chown -R nobody '{}'", data.display()))
            .status
            .success()
    );
    host
}

#[test]
fn an_unknown_key_is_a_red_row_with_its_line_and_the_nearest_key() {
    let host = Host::sound();
    host.editor_writes("[receiver]\nconcurrency = 2\n");
    let row = host.breaks_and_is_mended("configuration", |host| {
        host.configure("[receiver]\nconcurency = 2\n");
    });
    let summary = row["summary"].as_str().unwrap();
    assert!(
        summary.contains("line 2") && summary.contains("did you mean `concurrency`?"),
        "{summary}"
    );
    assert_eq!(row["status"], "red");
}

#[test]
fn a_value_that_cannot_be_is_a_red_row_and_what_does_not_depend_on_it_is_checked_all_the_same() {
    let host = Host::sound();
    host.configure("[pack]\nlevel = 99\n");
    let told = host.doctor();
    assert_eq!(told.wrong(), ["configuration"]);
    assert!(
        told.row("configuration")["summary"]
            .as_str()
            .unwrap()
            .contains("pack.level")
    );
    assert_eq!(told.row("receiver-reachable")["status"], "green");
    assert_eq!(told.code, 2);
}

#[test]
fn a_configuration_that_is_not_there_is_made_by_the_fix() {
    let host = Host::sound();
    let file = host.config_file();
    super::forget(&file);
    let told = host.doctor();
    let row = told.first_red().unwrap();
    assert_eq!(row["id"], "configuration");
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.starts_with("sealift setup --config "), "{fix}");
    // Without a terminal it waits for no answer.
    assert_eq!(host.type_in(fix).status.code(), Some(2));
    let answer = format!("--receiver '{}'", host.sandbox.url());
    assert!(host.type_in(&format!("{fix} {answer}")).status.success());
    assert!(file.exists());
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn a_token_that_others_can_read_is_yellow_and_the_fix_closes_it_with_who_ships_inside() {
    if !is_root() {
        return;
    }
    let host = as_nobody();
    let token = host.sandbox.path("a token");
    fs::write(&token, "s3cret").unwrap();
    host.configure(&format!("[receiver]\ntoken_file = '{}'\n", token.display()));
    let set = |owner: &str, mode: u32| {
        let set = format!(
            "chown {owner} '{0}' && chmod {mode:o} '{0}'",
            token.display()
        );
        assert!(host.type_in(&set).status.success());
    };
    for owner in ["nobody:root", "root:nogroup", "root:root"] {
        set(owner, 0o640);
        set("root:nogroup", 0o640);
        let row = host.breaks_and_is_mended("credentials", |_| set(owner, 0o644));
        assert_eq!(row["status"], "yellow");
        let read = format!(
            "setpriv --reuid=nobody --regid=65534 --clear-groups cat '{}'",
            token.display()
        );
        assert_eq!(host.type_in(&read).stdout, b"s3cret", "{row}");
    }
}

#[test]
fn a_file_that_is_not_there_is_red_and_named_by_its_key() {
    let host = Host::sound();
    host.editor_writes("");
    let row = host.breaks_and_is_mended("credentials", |host| {
        host.configure("[receiver]\ntoken_file = '/no/such/token'\n");
    });
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .starts_with("receiver.token_file /no/such/token cannot be read"),
        "{row}"
    );
}

#[test]
fn a_secret_that_who_ships_cannot_read_is_red_whoever_asks() {
    if !is_root() {
        return;
    }
    let host = as_nobody();
    fs::create_dir(host.sandbox.path("secrets")).unwrap();
    let token = host.sandbox.path("secrets/token");
    fs::write(&token, "s3cret").unwrap();
    host.configure(&format!("[receiver]\ntoken_file = '{}'\n", token.display()));
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(host.sandbox.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(
        host.type_in(&format!("chgrp nogroup '{}'", token.display()))
            .status
            .success()
    );
    mode("secrets/token", 0o640);
    let row = host.breaks_and_is_mended("credentials", |_| mode("secrets/token", 0o600));
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("cannot be read by nobody"),
        "{row}"
    );
    let row = host.breaks_and_is_mended("credentials", |_| mode("secrets", 0o700));
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("nobody, who ships, may not pass"),
        "{row}"
    );
}

#[test]
fn a_configuration_that_who_ships_cannot_read_is_the_first_red_row_and_its_fix_lets_the_daemon_start()
 {
    if !is_root() {
        return;
    }
    for (path, mode) in [("etc/sealift.toml", 0o600), ("etc", 0o700)] {
        let host = as_nobody();
        let file = host.sandbox.path("etc/sealift.toml");
        fs::create_dir(host.sandbox.path("etc")).unwrap();
        fs::write(&file, "").unwrap();
        // In its own words: what the daemon of the unit says of it.
        let as_who_ships = || {
            let command = format!(
                "setpriv --reuid=nobody --regid=65534 --clear-groups cat '{}'",
                file.display()
            );
            host.type_in(&command).status.success()
        };
        let doctor = || {
            let mut command = host.sandbox.command("doctor");
            command.arg("--config").arg(&file).arg("--json");
            host.at_home(&mut command);
            super::told(&command.output().unwrap())
        };
        assert_eq!(doctor().row("configuration")["status"], "green");
        fs::set_permissions(host.sandbox.path(path), fs::Permissions::from_mode(mode)).unwrap();
        assert!(!as_who_ships());
        let told = doctor();
        let row = told.first_red().unwrap();
        assert_eq!(row["id"], "configuration", "{:#}", told.document);
        assert!(
            row["summary"]
                .as_str()
                .unwrap()
                .contains("nobody, who ships, may not"),
            "{row}"
        );
        assert!(host.type_fix(row).1.status.success());
        assert_eq!(doctor().row("configuration")["status"], "green", "{row}");
        assert!(as_who_ships());
    }
}
