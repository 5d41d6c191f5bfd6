use std::fs;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::{model::episode::Digest, receive::window::SaidCommit};

struct Rig {
    folder: TempDir,
    config: ReceiveConfig,
}

impl Rig {
    /// A receiver of all four files, each good.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let plain = ReceiveConfig::at(([127, 0, 0, 1], 0).into(), &path("store"));
        let config = ReceiveConfig {
            tls: Some((path("cert"), path("key"))),
            client_ca_file: Some(path("ca")),
            tokens_file: Some(path("tokens")),
            commits_file: Some(path("commits")),
            ..plain
        };
        let rig = Self { folder, config };
        rig.certify(2040);
        rig.write("ca", &certificate(2041).0);
        rig.write("tokens", &tokens(&["lab-07"]));
        rig.write("commits", &commits(&['a']));
        rig
    }

    fn access(&self) -> Access {
        Access::read(&self.config).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Puts a certificate in place that is good until this year.
    fn certify(&self, until: i32) {
        let (certificate, key) = certificate(until);
        self.write("cert", &certificate);
        self.write("key", &key);
    }
}

fn certificate(until: i32) -> (String, String) {
    let mut params = CertificateParams::new(["receiver".to_owned()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn tokens(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("{name} = '{}'\n", Digest::of(name.as_bytes())))
        .collect()
}

fn commits(digits: &[char]) -> String {
    digits
        .iter()
        .map(|digit| digit.to_string().repeat(40) + "\n")
        .collect()
}

fn knows(access: &Access, token: &str) -> bool {
    access
        .current()
        .tokens
        .as_ref()
        .unwrap()
        .name_of(token.as_bytes())
        .is_some()
}

fn takes(access: &Access, digit: char) -> bool {
    let commit = crate::model::episode::Commit::parse(&digit.to_string().repeat(40)).unwrap();
    access
        .current()
        .window
        .as_ref()
        .unwrap()
        .admit(&SaidCommit::Commit(commit), "")
        .is_ok()
}

/// What is wrong with the file of this setting.
fn error(access: &Access, setting: &str) -> Option<String> {
    let reports = access.reports();
    assert_eq!(reports.len(), 4);
    reports
        .iter()
        .find(|report| report.setting == setting)
        .unwrap()
        .error
        .clone()
}

#[test]
fn a_good_new_file_is_in_force_and_a_bad_one_is_told_and_keeps_the_old() {
    let rig = Rig::new();
    let access = rig.access();
    assert!(access.current().certificates && knows(&access, "lab-07") && takes(&access, 'a'));
    rig.write("tokens", &tokens(&["lab-08"]));
    rig.write("commits", &commits(&['b', 'c']));
    access.look_now(ReadPolicy::Now);
    assert!(knows(&access, "lab-08") && !knows(&access, "lab-07"));
    assert!(takes(&access, 'c') && !takes(&access, 'a'));

    let line_2 = commits(&['b']) + "main\n";
    for (name, content, setting, words) in [
        ("tokens", "lab-08", TOKENS, "line 1"),
        ("tokens", "lab-08 = 'x'", TOKENS, "lab-08: not the SHA-256"),
        ("commits", "", COMMITS, "holds no commit"),
        ("commits", &line_2, COMMITS, "line 2"),
        ("ca", "", CLIENT_CA, "holds no certificate"),
        ("cert", "", CERT, "holds no certificate"),
        ("key", &certificate(2040).1, CERT, "does not go with"),
    ] {
        let path = rig.folder.path().join(name);
        let kept = fs::read_to_string(&path).unwrap();
        rig.write(name, content);
        access.look_now(ReadPolicy::Now);
        let told = error(&access, setting).unwrap();
        assert!(
            told.contains(words) && told.contains(&path.display().to_string()),
            "{told}"
        );
        assert!(knows(&access, "lab-08") && takes(&access, 'c'), "{name}");
        rig.write(name, &kept);
        access.look_now(ReadPolicy::Now);
        assert_eq!(error(&access, setting), None);
    }
}

#[test]
fn the_last_token_can_be_withdrawn_and_none_that_cannot_be_read_is() {
    let rig = Rig::new();
    let access = rig.access();
    rig.write("tokens", "# lab-07 has left\n");
    access.look_now(ReadPolicy::Now);
    assert!(!knows(&access, "lab-07"));
    assert_eq!(error(&access, TOKENS), None);
    // So it is at the next start, and hosts with certificates come in.
    assert!(!knows(&rig.access(), "lab-07"));
    rig.write("tokens", &tokens(&["lab-07"]));
    access.look_now(ReadPolicy::Now);
    assert!(knows(&access, "lab-07"));
    let path = rig.folder.path().join("tokens");
    #[expect(clippy::disallowed_methods, reason = "an operator slips")]
    fs::remove_file(path).unwrap();
    access.look_now(ReadPolicy::Now);
    assert!(knows(&access, "lab-07") && error(&access, TOKENS).is_some());
}

#[test]
fn a_file_that_changes_is_read_once_it_stands_still() {
    let rig = Rig::new();
    let access = rig.access();
    let first = access.current();
    access.look_now(ReadPolicy::Settled);
    assert!(
        Arc::ptr_eq(&first, &access.current()),
        "nothing has changed"
    );

    // Half of it, then all of it, as one who writes in place.
    rig.write("commits", &commits(&['b']));
    access.look_now(ReadPolicy::Settled);
    rig.write("commits", &commits(&['b', 'a']));
    access.look_now(ReadPolicy::Settled);
    assert!(takes(&access, 'a') && !takes(&access, 'b'));
    access.look_now(ReadPolicy::Settled);
    assert!(takes(&access, 'a') && takes(&access, 'b'));
    let second = access.current();
    access.look_now(ReadPolicy::Settled);
    assert!(Arc::ptr_eq(&second, &access.current()), "it is read once");
}

#[test]
fn a_file_that_is_gone_keeps_what_it_said_until_it_is_back() {
    let rig = Rig::new();
    let access = rig.access();
    crate::disk::durable::remove_file(&rig.folder.path().join("tokens")).unwrap();
    for _ in 0..2 {
        access.look_now(ReadPolicy::Settled);
    }
    assert!(error(&access, TOKENS).unwrap().contains("cannot be read"));
    assert!(knows(&access, "lab-07"));
    rig.write("tokens", &tokens(&["lab-08"]));
    for _ in 0..2 {
        access.look_now(ReadPolicy::Settled);
    }
    assert!(knows(&access, "lab-08") && error(&access, TOKENS).is_none());
}

#[test]
fn what_could_not_be_read_is_tried_again_though_it_has_not_changed() {
    let rig = Rig::new();
    let mut watched = WatchedFile {
        setting: TOKENS,
        paths: vec![rig.folder.path().join("tokens")],
        value: 0,
        read_at: wall_now(),
        error: None,
        read: Stamps(vec![None]),
        seen: Stamps::of(&[rig.folder.path().join("tokens")]),
        again: false,
    };
    let fails =
        |paths: &[PathBuf], _: &i32| key_files::read(TOKENS, &paths[0].join("below")).map(|_| 1);
    assert!(!watched.look(ReadPolicy::Settled, fails));
    assert!(watched.look(ReadPolicy::Settled, |_, _| Ok(2)));
    assert!(!watched.look(ReadPolicy::Settled, |_, _| Ok(3)));
    // What was read and is wrong stays wrong until it changes.
    let wrong =
        |paths: &[PathBuf], _: &i32| Err(FileError::unusable(TOKENS, &paths[0], "is wrong"));
    assert!(!watched.look(ReadPolicy::Now, wrong));
    assert!(!watched.look(ReadPolicy::Settled, |_, _| Ok(4)));
}

#[test]
fn an_expired_certificate_does_not_take_the_place_of_a_good_one() {
    let rig = Rig::new();
    let access = rig.access();
    let end = |year: i32| Some(format!("{year}-01-01T00:00:00Z"));
    let not_after = |access: &Access| access.certificate_not_after().map(|end| end.to_string());
    assert_eq!(not_after(&access), end(2040));
    rig.certify(2002);
    access.look_now(ReadPolicy::Now);
    assert_eq!(
        error(&access, CERT).unwrap().split_once(": ").unwrap().1,
        "expired at 2002-01-01T00:00:00Z"
    );
    assert_eq!(not_after(&access), end(2040));
    rig.certify(2042);
    access.look_now(ReadPolicy::Now);
    assert_eq!(not_after(&access), end(2042));
    // A receiver that starts with one starts: the clock may be wrong, and who connects is told.
    rig.certify(2002);
    let access = rig.access();
    assert_eq!(not_after(&access), end(2002));
    rig.certify(2003);
    access.look_now(ReadPolicy::Now);
    assert_eq!(not_after(&access), end(2003));
}

#[test]
fn a_look_that_does_not_come_back_keeps_nobody_waiting_who_asks_how_things_stand() {
    let rig = Rig::new();
    let access = rig.access();
    let _looking = access.files.lock();
    // Would wait for ever.
    assert!(access.certificate_not_after().is_some());
    assert_eq!(error(&access, COMMITS), None);
    assert!(takes(&access, 'a'));
}
