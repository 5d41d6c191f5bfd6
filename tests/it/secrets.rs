//! A secret in the address's query is for the request alone.

use std::fs;

use crate::support::{Reply, Sandbox, Scripted, sealift};

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
    fs::write(&config, format!("[shipper]\ndata_dir = {:?}\n[receiver]\nurl = {url:?}\n", sandbox.data()))
        .unwrap();
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("good");
    daemon.wait_log("bad");
    let receipt = fs::read_to_string(sandbox.shipped("good").join("shipping_receipt.json")).unwrap();
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
    fs::write(&config, format!("[receiver]\nurl = {url}\n")).unwrap();
    let broken = sealift().args(["config", "check", "--config"]).arg(&config).output().unwrap();
    shown.push(("a broken file", String::from_utf8_lossy(&broken.stderr).into_owned()));
    shown.push(("the log", daemon.log()));
    for (what, text) in shown {
        assert!(!text.contains(SECRET), "{what}: {text}");
    }
}
