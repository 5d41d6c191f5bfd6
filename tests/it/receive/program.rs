//! The program itself: what it refuses to start with, SIGHUP, and a shipper that comes in by
//! certificate or by token.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use crate::{
    authority::Authority,
    crash_sweep::strace_is_there,
    disks::failing::Fault,
    support::{Sandbox, eventually, names, sealift},
};
use sealift::model::episode::Digest;

/// The `[receive]` table of a receiver with all four files, and what a shipper needs to come in.
struct House {
    sandbox: Sandbox,
    hosts: Authority,
    receive: String,
}

impl House {
    fn new() -> Self {
        let sandbox = Sandbox::new("");
        let (authority, hosts) = (Authority::new(), Authority::new());
        let (certificate, key) = authority.sign("localhost", |_| {});
        let mut receive = String::new();
        for (setting, content) in [
            ("tls_cert_file", certificate.as_str()),
            ("tls_key_file", &key),
            ("client_ca_file", &hosts.pem()),
            ("tokens_file", &tokens(&["lab-07"])),
        ] {
            let path = sandbox.path(setting);
            fs::write(&path, content).unwrap();
            receive += &format!("{setting} = {path:?}\n");
        }
        fs::write(sandbox.path("ca"), authority.pem()).unwrap();
        Self {
            sandbox,
            hosts,
            receive,
        }
    }

    fn start(&mut self) {
        self.sandbox.start_receiver_over_tls(&self.receive);
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.sandbox.path(name);
        fs::write(&path, content).unwrap();
        format!("{path:?}")
    }

    /// One pass of a shipper with these further settings; its exit code.
    fn ship(&self, settings: &str) -> i32 {
        let toml = format!(
            "[receiver]\nca_file = {:?}\n{settings}",
            self.sandbox.path("ca")
        );
        let mut command = self.sandbox.command_with_config("ship", &toml);
        command
            .arg("--once")
            .output()
            .unwrap()
            .status
            .code()
            .unwrap()
    }

    fn by_token(&self) -> String {
        format!("token_file = {}", self.write("token", "token-of-lab-07\n"))
    }

    fn by_certificate(&self) -> String {
        let (certificate, key) = self.hosts.sign("lab-08", |_| {});
        let (certificate, key) = (
            self.write("host.pem", &certificate),
            self.write("host.key", &key),
        );
        format!("client_cert_file = {certificate}\nclient_key_file = {key}")
    }
}

fn tokens(names: &[&str]) -> String {
    let line = |name: &&str| {
        format!(
            "{name} = '{}'\n",
            Digest::of(format!("token-of-{name}").as_bytes())
        )
    };
    names.iter().map(line).collect()
}

#[test]
fn a_shipper_comes_in_by_certificate_or_by_token_and_by_nothing_else() {
    let mut house = House::new();
    house.start();
    for (id, settings, host) in [
        ("run-1", house.by_certificate(), "lab-08"),
        ("run-2", house.by_token(), "lab-07"),
    ] {
        house
            .sandbox
            .seal(id, &[("data.bin", &super::noise(2_000_000))]);
        assert_eq!(
            house.ship(&settings),
            0,
            "{id}: {}",
            house.sandbox.receiver().log()
        );
        house.sandbox.wait_shipped(id);
        assert!(house.sandbox.stored(id).exists());
        // It logs a request behind its answer.
        let receiver = house.sandbox.receiver();
        receiver.wait_log(&format!("episode={id}"));
        let log = receiver.log();
        let line = log
            .lines()
            .find(|line| line.contains(&format!("episode={id}")))
            .unwrap();
        assert!(line.contains(&format!("host={host}")), "{line}");
    }
    house.sandbox.seal("run-3", &[]);
    assert_eq!(house.ship(""), 1);
    house.write("token", "wrong-token");
    assert_eq!(
        house.ship(&format!("token_file = {:?}", house.sandbox.path("token"))),
        1
    );
    assert!(house.sandbox.layout.episodes.join("run-3").exists());
    let receiver = house.sandbox.receiver();
    receiver.wait_log("problem=\"urn:sealift:unauthenticated\"");
    let log = receiver.log();
    for secret in ["token-of", "wrong-token", "Bearer", "PRIVATE KEY"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn at_sighup_a_bad_file_keeps_the_old_one_and_a_good_one_counts() {
    let mut house = House::new();
    house.start();
    let settings = house.by_token();
    // What has not changed is read all the same, which looking once a second would not do.
    house.sandbox.receiver().signal("HUP");
    eventually("all is read again", || {
        house
            .sandbox
            .receiver()
            .log()
            .matches("in use from now on")
            .count()
            == 3
    });

    house.write("tokens_file", "lab-07 = 's3cret'");
    house.sandbox.receiver().signal("HUP");
    house.sandbox.receiver().wait_log("lab-07: not the SHA-256");
    house
        .sandbox
        .receiver()
        .wait_log("what was read before stays in use");
    house.sandbox.seal("run-1", &[]);
    assert_eq!(house.ship(&settings), 0);

    house.write("tokens_file", &tokens(&["lab-09"]));
    house.sandbox.receiver().signal("HUP");
    eventually("the tokens are read again", || {
        let log = house.sandbox.receiver().log();
        let read =
            |line: &&str| line.contains("tokens_file") && line.contains("in use from now on");
        log.lines().filter(read).count() > 1
    });
    house.sandbox.seal("run-2", &[]);
    assert_eq!(house.ship(&settings), 1);
    let log = house.sandbox.receiver().log();
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an operator removes as they like"
)]
fn a_bad_file_is_told_once_and_not_every_second() {
    let mut house = House::new();
    house.receive += &format!(
        "commits_file = {}\n",
        house.write("commits_file", &"a".repeat(40))
    );
    house.start();
    house.write("commits_file", "");
    house.sandbox.receiver().wait_log("holds no commit");
    // One that is not there is tried at every look.
    fs::remove_file(house.sandbox.path("client_ca_file")).unwrap();
    house.sandbox.receiver().wait_log("cannot be read");
    // Each of these is read two looks later.
    for names in [&["lab-07", "lab-08"][..], &["lab-07"]] {
        let read = || {
            house
                .sandbox
                .receiver()
                .log()
                .matches("in use from now on")
                .count()
        };
        let before = read();
        house.write("tokens_file", &tokens(names));
        eventually("the tokens are read again", || read() > before);
    }
    let log = house.sandbox.receiver().log();
    assert_eq!(log.matches("holds no commit").count(), 1, "{log}");
    assert_eq!(log.matches("cannot be read").count(), 1, "{log}");
}

#[test]
fn where_others_come_in_it_says_what_is_missing_and_touches_nothing() {
    let sandbox = Sandbox::new("");
    let receive = |args: &[&str]| {
        let mut command = sealift();
        command
            .args(["receive", "--listen", "0.0.0.0:0", "--store"])
            .arg(sandbox.store())
            .args(args);
        command
    };
    let output = receive(&[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in [
        "receive.listen",
        "client_ca_file",
        "tokens_file",
        "tls_cert_file",
        "--anyone-may-store",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(!sandbox.store().exists());
    let process = sandbox.start(receive(&["--anyone-may-store"]));
    process.wait_log("listening where others come in");
}

#[test]
fn a_receiver_does_not_start_with_a_file_it_cannot_use_and_check_says_so_before() {
    for (setting, words) in [
        ("tls_cert_file", "holds no certificate"),
        ("tls_key_file", "holds no private key"),
        ("client_ca_file", "holds no certificate"),
        ("tokens_file", "line 1"),
        ("commits_file", "holds no commit"),
    ] {
        let mut house = House::new();
        let commits = house.write("commits_file", &"a".repeat(40));
        house.receive += &format!("commits_file = {commits}\n");
        let config = house.write("receiver.toml", &format!("[receive]\n{}", house.receive));
        let run = |command: &mut Command| {
            let output = command
                .arg("--config")
                .arg(config.trim_matches('"'))
                .output()
                .unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, stderr) = run(sealift().args(["config", "check"]));
        // The test's files can be read by everybody, which is warned of.
        assert!(
            code == 0 && stderr.lines().all(|line| line.contains("chmod 0640")),
            "{stderr}"
        );
        house.write(setting, if setting == "tokens_file" { "x" } else { "" });
        let store = house.sandbox.store();
        for (code, stderr) in [
            run(sealift().args(["config", "check"])),
            run(sealift()
                .args(["receive", "--listen", "127.0.0.1:0", "--store"])
                .arg(&store)),
        ] {
            assert!(
                code == 2 && stderr.contains(words),
                "{setting}: {code} {stderr}"
            );
            assert!(
                stderr.contains(&house.sandbox.path(setting).display().to_string()),
                "{stderr}"
            );
        }
        assert!(!store.exists());
    }
}

/// The status and the body of a GET.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[test]
fn while_flushes_fail_nothing_says_that_it_can_store() {
    if !strace_is_there() {
        return;
    }
    let mut sandbox = Sandbox::new("");
    sandbox.start_receiver("127.0.0.1:0");
    let address = sandbox.url().trim_start_matches("http://").to_owned();
    let says = |status: [u16; 2], can_store: u8| {
        let line = format!("\nsealift_receiver_can_store {can_store}\n");
        ["/healthz", "/v1/admission"].map(|path| get(&address, path).0) == status
            && get(&address, "/metrics").1.contains(&line)
    };
    assert!(says([200, 204], 1));
    let Some(fault) = Fault::of(sandbox.receiver(), None, "fsync,fdatasync", "EIO") else {
        return;
    };
    eventually("everything says so", || says([500, 500], 0));
    drop(fault);
    eventually("everything says that it can again", || says([200, 204], 1));
    assert_eq!(names(&sandbox.store().join("incoming")), [""; 0]);
}

#[test]
fn a_disk_smaller_than_what_is_to_stay_free_is_told_at_the_start_and_by_healthz() {
    let mut sandbox = Sandbox::new("");
    let toml = sandbox.path("receiver.toml");
    fs::write(&toml, "[receive]\nmin_free_bytes = 9000000000000000000\n").unwrap();
    sandbox.start_receiver_with("127.0.0.1:0", toml.to_str().unwrap());
    let why =
        "receive.min_free_bytes = 9000000000000000000 leaves nothing of the store's file system";
    sandbox.receiver().wait_log(why);
    let address = sandbox.url().trim_start_matches("http://").to_owned();
    let (status, answer) = get(&address, "/healthz");
    assert_eq!(status, 507);
    assert!(answer.contains(why), "{answer}");
}

#[test]
fn a_store_without_locks_is_refused_and_nothing_is_left_in_it() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::new("");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock"])
        .args(["-e", "inject=flock:error=ENOLCK"])
        .arg(sealift().get_program())
        .args(["receive", "--listen", "127.0.0.1:0", "--store"])
        .arg(sandbox.store())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No locks available"), "{said}");
    assert_eq!(names(&sandbox.store().join("incoming")), [""; 0]);
}

#[test]
fn a_configuration_whose_own_certificate_is_not_good_is_not_called_right() {
    type Change = fn(&mut rcgen::CertificateParams);
    let house = House::new();
    let expired: Change = |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let early: Change = |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    let of_a_server: Change = |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    for (change, why) in [
        (Some(expired), "the certificate expired on 2002-01-01T"),
        (Some(early), "it is not valid before 2090-01-01T"),
        (Some(of_a_server), "it is not for clients"),
        (None, ""),
    ] {
        let (certificate, key) = house.hosts.sign("lab-08", |params| {
            if let Some(change) = change {
                change(params);
            }
        });
        let (certificate, key) = (
            house.write("host.pem", &certificate),
            house.write("host.key", &key),
        );
        house.write(
            "shipper.toml",
            &format!(
                "[shipper]\ndata_dir = {:?}\n[receiver]\nurl = 'https://localhost:1'\nclient_cert_file = {certificate}\n\
                 client_key_file = {key}\n",
                house.sandbox.data()
            ),
        );
        let checked = sealift()
            .args(["config", "check", "--config"])
            .arg(house.sandbox.path("shipper.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned()
            + &String::from_utf8_lossy(&checked.stderr);
        let code = i32::from(change.is_some());
        assert_eq!(checked.status.code(), Some(code), "{said}");
        let is_right = said.contains("the configuration is right");
        assert_eq!(is_right, change.is_none(), "{said}");
        let key = "receiver.client_cert_file";
        let is_told = said.contains(key) && said.contains(why);
        assert_eq!(is_told, change.is_some(), "{said}");
    }
}

#[test]
fn an_id_cannot_forge_a_field_or_a_line_of_the_log() {
    let sandbox = Sandbox::with_receiver();
    let mut client = TcpStream::connect(sandbox.url().trim_start_matches("http://")).unwrap();
    let id = "a%20host=lab-01%20status_code=201%0Aforged%20\"%E2%80%AE";
    let id = id.replace('"', "%22%20host=lab-02%20%22");
    write!(
        client,
        "GET /v1/episodes/{id} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    client.read_to_string(&mut String::new()).unwrap();
    sandbox.receiver().wait_log("status_code=4");
    let log = sandbox.receiver().log();
    let of_request: Vec<_> = log.lines().filter(|line| line.contains("lab-01")).collect();
    let [line] = of_request[..] else {
        panic!("{log}")
    };
    assert!(
        line.contains("forged") || line.contains("%0Aforged"),
        "{line}"
    );
    assert!(!line.contains('\u{202e}'), "{line}");
    // What stands in quotes taken away, no field is left that nobody logged.
    let (mut outside, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if !quoted => outside.push(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    assert!(!quoted, "{line}");
    for (forged, times) in [(" host=", 0), (" status_code=", 1)] {
        assert_eq!(outside.matches(forged).count(), times, "{line}");
    }
}

#[test]
fn as_many_descriptors_as_it_may_have_are_taken_and_too_few_are_told() {
    let sandbox = Sandbox::new("");
    let limited = |soft: u32, hard: u32| {
        let mut command = Command::new("sh");
        let limit = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        command.args(["-c", &limit]).arg(sealift().get_program());
        command
            .args(["receive", "--listen", "127.0.0.1:0", "--store"])
            .arg(sandbox.store());
        sandbox.start(command)
    };
    let poor = limited(256, 300);
    poor.wait_log("receiving");
    assert!(
        poor.log()
            .contains("needs 1088 file descriptors, and this process may have 300"),
        "{}",
        poor.log()
    );
    drop(poor);
    let raised = limited(256, 2000);
    raised.wait_log("receiving");
    assert!(
        !raised.log().contains("file descriptors"),
        "{}",
        raised.log()
    );
}
