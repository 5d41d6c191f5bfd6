//! A secret in the address's query is for the request alone.

use std::{fs, path::Path};

use serde_json::json;

use crate::support::{Reply, Sandbox, Scripted, Seen, names, sealift};

const SECRET: &str = "s3cr3tsig";

#[test]
fn a_secret_in_the_addresss_query_is_sent_and_shown_nowhere() {
    let server = Scripted::new(|seen, _| {
        assert!(seen.head.contains(SECRET), "{}", seen.head);
        match seen.head.split_whitespace().nth(1).unwrap() {
            path if path.contains("bad") => Reply::empty(503),
            _ => Reply::empty(201),
        }
    });
    let url = format!("{}/c/{{id}}.tar.zst?sv=1&sig={SECRET}", server.url());
    let sandbox = Sandbox::new(&url);
    sandbox.seal("good", &[("data.bin", b"recorded")]);
    sandbox.seal("bad", &[("data.bin", b"recorded")]);
    let config = sandbox.path("sealift.toml");
    fs::write(
        &config,
        format!(
            "[shipper]\ndata_dir = {:?}\n[receiver]\nurl = {url:?}\n",
            sandbox.data()
        ),
    )
    .unwrap();
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("good");
    daemon.wait_log("bad");
    let receipt =
        fs::read_to_string(sandbox.shipped("good").join("shipping_receipt.json")).unwrap();
    assert!(receipt.contains("/c/good.tar.zst\""), "{receipt}");
    let mut shown = vec![("the receipt", receipt)];
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["trace", "good"],
        &["verify", "--all"],
        &["config", "show"],
        &["config", "check"],
        &["fetch", "good", "--to", "/nonexistent/there"],
        &["requeue", "--all"],
    ] {
        for by_arguments in [false, true] {
            let mut command = sealift();
            command.args(arguments);
            if by_arguments {
                command.arg("--data").arg(sandbox.data());
                if !matches!(arguments[0], "status" | "trace") {
                    command.args(["--receiver", &url]);
                }
            } else {
                command.arg("--config").arg(&config);
            }
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            shown.push((arguments[0], String::from_utf8_lossy(&text).into_owned()));
        }
    }
    // A line of the file that cannot be read is shown without it, too.
    for line in [
        format!("url = {url}"),
        format!("token = \"{SECRET}\""),
        format!("headers = \"{SECRET}\""),
        format!("headers = {{ \"X-Key\" = [\"{SECRET}\"] }}"),
        format!("headers = {{ \"X-Key\" = '{SECRET} }}"),
        format!("token_file = [\"{SECRET}\"]"),
    ] {
        fs::write(&config, format!("[receiver]\n{line}\n")).unwrap();
        let broken = sealift()
            .args(["config", "check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert_eq!(broken.status.code(), Some(2), "{line}");
        shown.push((
            "a broken file",
            String::from_utf8_lossy(&broken.stderr).into_owned(),
        ));
    }
    shown.push(("the log", daemon.log()));
    for (what, text) in shown {
        assert!(!text.contains(SECRET), "{what}: {text}");
    }
}

#[test]
fn a_password_in_the_address_is_shown_by_no_command() {
    let sandbox = Sandbox::new("");
    let url = format!("http://user:{SECRET}@receiver.example/");
    let config = sandbox.path("sealift.toml");
    fs::write(
        &config,
        format!(
            "[shipper]\ndata_dir = {:?}\n[receiver]\nurl = {url:?}\n",
            sandbox.data()
        ),
    )
    .unwrap();
    for arguments in [
        &["ship", "--once"][..],
        &["status"],
        &["doctor"],
        &["doctor", "--json"],
        &["trace", "a"],
        &["verify", "--all"],
        &["config", "show"],
        &["config", "check"],
        &["fetch", "a"],
        &["requeue", "--all"],
    ] {
        for by_arguments in [false, true] {
            let mut command = sealift();
            command.args(arguments);
            match by_arguments && !matches!(arguments[0], "status" | "trace") {
                true => command
                    .arg("--data")
                    .arg(sandbox.data())
                    .args(["--receiver", &url]),
                false => command.arg("--config").arg(&config),
            };
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(SECRET), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn what_the_other_end_repeats_of_a_secret_in_the_query_is_neither_shown_nor_kept() {
    // As it is written, and as it reads once decoded.
    const WRITTEN: &str = "s3cr3t%2Bsig%3D%3D";
    const DECODED: &str = "s3cr3t+sig==";
    let server = Scripted::new(|seen, _| {
        let target = seen.head.split_whitespace().nth(1).unwrap().to_owned();
        assert!(target.contains(WRITTEN), "{target}");
        let url = format!("http://receiver.example{target}");
        if !seen.head.starts_with("PUT") {
            return Reply::text(404, "text/plain", &format!("Cannot GET {target}"));
        }
        match target.split(['/', '?']).nth(2).unwrap() {
            "good.tar.zst" => Reply::empty(201),
            "receipt.tar.zst" => {
                let mut receipt = Seen {
                    id: "receipt".to_owned(),
                    ..seen.clone()
                }
                .receipt();
                receipt["location"] = json!(url);
                receipt[&target] = json!([{"signature": DECODED}]);
                Reply::text(201, "application/json", &receipt.to_string())
            }
            "rejected.tar.zst" => Reply::json(
                413,
                &json!({"type": "urn:sealift:too-large", "detail": format!("bad {target}"), "url": url}),
            ),
            "conflict.tar.zst" => {
                let path = target.replace('&', "\\u0026");
                let body =
                    format!("{{\"type\":\"urn:sealift:conflict\",\"detail\":\"{path} exists\"}}");
                Reply::text(409, "application/problem+json", &body)
            }
            "page.tar.zst" => Reply::text(503, "text/plain", &format!("no backend for {target}")),
            _ => Reply::text(
                403,
                "application/xml",
                &format!(
                    "<?xml version=\"1.0\"?><Error><SignatureProvided>{DECODED}</SignatureProvided></Error>"
                ),
            ),
        }
    });
    let url = format!("{}/c/{{id}}.tar.zst?sv=1&sig={WRITTEN}", server.url());
    let sandbox = Sandbox::new(&url);
    let daemon = sandbox.daemon();
    let seal = |id: &str| sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    seal("good");
    sandbox.wait_shipped("good");
    for id in ["receipt", "rejected", "conflict", "page"] {
        seal(id);
    }
    sandbox.wait_shipped("receipt");
    sandbox.wait_quarantined("rejected");
    daemon.wait_log("conflict: the receiver holds other content");
    daemon.wait_log("no backend for");
    seal("denied");
    daemon.wait_log("answered 403");
    let mut shown = Vec::new();
    let mut ask = |arguments: &[&str], receiver: bool| {
        let mut command = sealift();
        command.args(arguments).arg("--data").arg(sandbox.data());
        if receiver {
            command.args(["--receiver", &url]);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        shown.push((
            arguments.join(" "),
            String::from_utf8_lossy(&text).into_owned(),
        ));
    };
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
    ] {
        ask(arguments, false);
    }
    for id in ["good", "receipt", "rejected", "conflict", "page", "denied"] {
        ask(&["trace", id], false);
    }
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["verify", "--all"],
        &["requeue", "--all", "--dry-run"],
    ] {
        ask(arguments, true);
    }
    // No daemon runs: then the fix is the command that starts one.
    shown.push(("the log".to_owned(), daemon.log()));
    drop(daemon);
    let mut command = sealift();
    command
        .args(["doctor", "--data"])
        .arg(sandbox.data())
        .args(["--receiver", &url]);
    shown.push((
        "doctor".to_owned(),
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned(),
    ));
    files(&sandbox.data(), &mut shown);
    for (what, text) in &shown {
        assert!(!text.contains("s3cr3t"), "{what}: {text}");
    }
    let receipt = shown
        .iter()
        .find(|(what, _)| what.ends_with("shipped/receipt/shipping_receipt.json"));
    assert!(
        receipt
            .unwrap()
            .1
            .contains("receiver.example/c/receipt.tar.zst?"),
        "the rest of it is kept"
    );
}

#[test]
fn what_the_other_end_repeats_of_the_token_or_of_a_headers_value_is_neither_shown_nor_kept() {
    const TOKEN: &str = "T0K/ENs3cr3t+value";
    const BASIC: &str = "dXNlcjpwNHNzdzByZA==";
    const DECODED: &str = "user:p4ssw0rd";
    const KEY: &str = "K3Ysecret";
    let echo = |seen: &Seen| {
        let lines = seen
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        let headers: serde_json::Map<_, _> = lines
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        json!({"message": format!("invalid {TOKEN}"), "headers": headers, "credential": BASIC, "decoded": DECODED})
    };
    let server = Scripted::new(move |seen, _| {
        assert!(
            seen.head.contains(&format!("Bearer {TOKEN}"))
                || seen.head.contains(&format!("bearer {TOKEN}"))
        );
        let echoed = echo(seen);
        let encoded = "T0K%2FENs3cr3t%2Bvalue T0K%2fENs3cr3t+value";
        let words = format!("no {TOKEN} {BASIC} {DECODED} {KEY} p4ssw0rd {encoded}");
        match seen.id.as_str() {
            "receipt" if seen.head.starts_with("PUT") => {
                let mut receipt = seen.receipt();
                receipt["echo"] = echoed;
                Reply::text(201, "application/json", &receipt.to_string())
            }
            "rejected" => Reply::json(
                413,
                &json!({"type": "urn:sealift:too-large", "detail": words, "echo": echoed, "episode_id": TOKEN}),
            ),
            "page" => Reply::text(503, "text/plain", &words),
            "cut" => Reply::text(
                503,
                "application/json",
                &format!("{{\"t\":\"T0K\\/ENs3cr3t\\u002Bvalue {KEY}"),
            ),
            _ => Reply::json(401, &echoed),
        }
    });
    for (id, said) in [
        ("receipt", "shipped receipt"),
        ("rejected", "quarantined rejected"),
        ("page", "answered 503 with no"),
        ("cut", "answered 503 with {"),
        ("denied", "answered 401"),
    ] {
        let sandbox = Sandbox::new(server.url());
        let (token_file, config) = (sandbox.path("token"), sandbox.path("sealift.toml"));
        fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let headers =
            format!("{{ \"X-Auth\" = \"Basic {BASIC}\", \"X-Key\" = \"{{host}}:{KEY}\" }}");
        let receiver = format!(
            "url = {:?}\ntoken_file = {token_file:?}\nheaders = {headers}",
            server.url()
        );
        let shipper = format!("[shipper]\ndata_dir = {:?}", sandbox.data());
        fs::write(&config, format!("{shipper}\n[receiver]\n{receiver}\n")).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = sealift();
            command.args(arguments).arg("--config").arg(&config);
            command
        };
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
        let daemon = sandbox.start(command(&["ship"]));
        daemon.wait_log(said);
        let mut shown = Vec::new();
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["doctor"],
            &["doctor", "--json"],
            &["trace", id],
            &["verify", "--all"],
            &["requeue", "--all", "--dry-run"],
            &["config", "show"],
        ] {
            let output = command(arguments).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            shown.push((
                arguments.join(" "),
                String::from_utf8_lossy(&text).into_owned(),
            ));
        }
        shown.push(("the log".to_owned(), daemon.log()));
        files(&sandbox.data(), &mut shown);
        for (what, text) in &shown {
            for secret in ["s3cr3t", "dXNlcjpwNHNzdzByZA", "p4ssw0rd", KEY] {
                assert!(!text.contains(secret), "{what} of {id}: {secret} in {text}");
            }
        }
        if id == "receipt" {
            let receipt = shown
                .iter()
                .find(|(what, _)| what.ends_with("shipping_receipt.json"))
                .unwrap();
            assert!(
                receipt.1.contains("\"message\": \"invalid \u{2026}\""),
                "the rest of it is kept"
            );
        }
    }
}

/// What lies there, outside of the archives.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for name in names(folder) {
        let path = folder.join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            files(&path, found);
        } else if metadata.is_file() {
            found.push((
                path.display().to_string(),
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into(),
            ));
        }
    }
}
