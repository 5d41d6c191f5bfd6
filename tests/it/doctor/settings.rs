//! The configuration, and the files that it names.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::Host;
use crate::support::Sandbox;

#[test]
fn an_unknown_key_is_a_red_row_with_its_line_and_the_nearest_key() {
    let host = Host::sound();
    host.editor_writes("[receiver]\nconcurrency = 2\n");
    let row =
        host.breaks_and_is_mended("configuration", |host| host.configure("[receiver]\nconcurency = 2\n"));
    let summary = row["summary"].as_str().unwrap();
    assert!(summary.contains("line 2") && summary.contains("did you mean `concurrency`?"), "{summary}");
    assert_eq!(row["status"], "red");
}

#[test]
fn a_value_that_cannot_be_is_a_red_row_and_what_does_not_depend_on_it_is_checked_all_the_same() {
    let host = Host::sound();
    host.configure("[pack]\nlevel = 99\n");
    let told = host.doctor();
    assert_eq!(told.wrong(), ["configuration"]);
    assert!(told.row("configuration")["summary"].as_str().unwrap().contains("pack.level"));
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
    assert!(fix.contains("sealift config default | "), "{fix}");
    host.editor_writes("");
    assert!(host.type_in(fix).status.success());
    assert!(file.exists());
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn a_token_that_others_can_read_is_yellow_and_the_fix_closes_it() {
    let host = Host::sound();
    let token = host.sandbox.path("a token");
    fs::write(&token, "s3cret").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    host.configure(&format!("[receiver]\ntoken_file = '{}'\n", token.display()));
    let row = host.breaks_and_is_mended("credentials", |_| {
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert_eq!(row["status"], "yellow");
}

#[test]
fn a_file_that_is_not_there_is_red_and_named_by_its_key() {
    let host = Host::sound();
    host.editor_writes("");
    let row = host.breaks_and_is_mended("credentials", |host| {
        host.configure("[receiver]\ntoken_file = '/no/such/token'\n");
    });
    assert!(
        row["summary"].as_str().unwrap().starts_with("receiver.token_file /no/such/token cannot be read"),
        "{row}"
    );
}

#[test]
fn a_secret_that_who_ships_cannot_read_is_red_whoever_asks() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI is root");
        println!("skipped: only root has files of somebody else");
        return;
    }
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    let token = host.sandbox.path("token");
    fs::write(&token, "s3cret").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o640)).unwrap();
    host.configure(&format!("[receiver]\ntoken_file = '{}'\n", token.display()));
    let row = host.breaks_and_is_mended("credentials", |host| {
        // The folders are theirs, and the token is not.
        host.unit_is("User", "nobody");
        let data = host.sandbox.data();
        assert!(host.type_in(&format!("chown -R nobody '{}'", data.display())).status.success());
    });
    assert!(row["summary"].as_str().unwrap().contains("cannot be read by nobody"), "{row}");
}
