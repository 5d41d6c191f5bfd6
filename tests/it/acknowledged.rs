//! Who is believed to have stored an archive, with the real program: addresses without a route,
//! servers that write pages, portals.

mod fronts;
mod lengths;

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Reply, Sandbox, Scripted, Seen, each, json_file, json_of, names};

/// One pass with one episode. PUT and HEAD are answered by their own scripts.
fn pass(
    config: &str,
    put: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    head: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Sandbox, i32, Value, String) {
    let server = Scripted::new(move |seen, _| {
        if seen.head.starts_with("HEAD") {
            head(seen)
        } else {
            put(seen)
        }
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut command = sandbox.command_with_config("ship", config);
    let output = command.args(["--once", "--json"]).output().unwrap();
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    let (code, tally) = json_of(output);
    (sandbox, code, tally, log)
}

#[track_caller]
fn stays_held(sandbox: &Sandbox, code: i32, tally: &Value, why: &str) {
    assert_eq!(
        (code, &tally["held"], &tally["shipped"]),
        (1, &json!(1), &json!(0)),
        "{why}: {tally}"
    );
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"], "{why}");
    assert_eq!(names(&sandbox.layout.shipped), [""; 0], "{why}");
}

#[test]
fn an_address_without_a_route_that_answers_an_empty_200_to_everything_gets_nothing() {
    let (sandbox, code, tally, log) = pass("", |_| Reply::empty(200), |_| Reply::empty(200));
    stays_held(&sandbox, code, &tally, "an unrouted address");
    assert!(
        log.contains("this is no receiver: is the host name or path right?"),
        "{log}"
    );
}

#[test]
fn a_bare_200_is_believed_where_a_head_shows_the_archive_or_it_has_a_strong_etag_or_the_operator_says_so()
 {
    let cases: [(&str, &str, &str); 3] = [
        ("shown", "", ""),
        ("named", "", "ETag: \"5d41\""),
        (
            "the operator's word",
            "[receiver]\nbelieve_bare_200 = true",
            "",
        ),
    ];
    each(&cases, |&(why, config, header)| {
        let length = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let heard = std::sync::Arc::clone(&length);
        let shows = why == "shown";
        let (sandbox, code, tally, _) = pass(
            config,
            move |seen| {
                *heard.lock().unwrap() = seen.header("content-length").unwrap().to_owned();
                if header.is_empty() {
                    Reply::empty(200)
                } else {
                    Reply::empty(200).header(header)
                }
            },
            move |_| {
                if shows {
                    Reply::text(
                        200,
                        "",
                        &"x".repeat(length.lock().unwrap().parse().unwrap()),
                    )
                    .without_body()
                } else {
                    Reply::empty(404)
                }
            },
        );
        assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{why}: {tally}");
        let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
        assert_eq!(
            (&receipt["status_code"], &receipt["receipt"]),
            (&json!(200), &Value::Null)
        );
    });
}

#[test]
fn a_201_with_a_page_is_an_acknowledgement_and_one_with_200_or_a_problem_is_none() {
    let (_, code, tally, _) = pass("", |_| Reply::html(201), |_| Reply::empty(404));
    assert_eq!(
        (code, &tally["shipped"]),
        (0, &json!(1)),
        "mod_dav and wsgidav write one: {tally}"
    );
    let pages = [
        "<script>location='/login'</script>",
        "<head>",
        "<!-- portal -->",
        "<?xml version='1.0'?><Error/>",
    ];
    each(&pages, |page| {
        let page = (*page).to_owned();
        let (sandbox, code, tally, _) = pass(
            "",
            move |_| Reply::text(200, "", &page),
            |_| Reply::empty(200),
        );
        stays_held(&sandbox, code, &tally, "markup under no media type");
    });
    let problem = json!({"type": "about:blank", "title": "Not Found", "status": 404});
    let (sandbox, code, tally, _) = pass(
        "",
        move |_| Reply::json(200, &problem),
        |_| Reply::empty(200),
    );
    stays_held(&sandbox, code, &tally, "a problem with 200");
}

#[test]
fn an_early_acknowledgement_without_a_receipt_is_no_receivers() {
    each(&[200, 201, 204], |&status| {
        let server = Scripted::new(move |seen, _| match seen.head.starts_with("PUT") {
            true => Reply::empty(status).early(),
            false => Reply::empty(200),
        });
        let sandbox = Sandbox::new(server.url());
        // More than the sockets between take: the answer comes before the last byte has gone.
        let noise: Vec<u8> = (0..9_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        sandbox.seal("run-1", &[("data.bin", &noise)]);
        let output = sandbox
            .command("ship")
            .args(["--once", "--json"])
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr.clone()).unwrap();
        let (code, tally) = json_of(output);
        stays_held(&sandbox, code, &tally, &status.to_string());
        assert!(
            log.contains("this is no receiver: is the host name or path right?"),
            "{log}"
        );
    });
}

#[test]
fn an_address_that_leads_our_own_receiver_astray_moves_nothing() {
    let paths = [
        "/v1/episodes/{id}/",
        "/v1/episodes/lab/{id}",
        "/v1/episodes?id={id}",
        "/v1/uploads/{id}",
        "//v1/episodes/{id}",
        "/v1/uploads/{id}/00",
    ];
    let mut sandbox = Sandbox::with_receiver();
    let receiver = sandbox.url().to_owned();
    for path in paths {
        let shipper = Sandbox::new(format!("{receiver}{path}"));
        shipper.seal("run-1", &[("data.bin", b"recorded")]);
        shipper.seal("run-2", &[("data.bin", b"recorded")]);
        let (code, tally) = shipper.ship_once();
        assert_eq!(
            (code, &tally["held"], &tally["fatal"]),
            (1, &json!(2), &json!(0)),
            "{path}: {tally}"
        );
        assert_eq!(
            names(&shipper.layout.episodes),
            ["run-1", "run-2"],
            "{path}"
        );
    }
    sandbox.kill_receiver();
}

#[test]
fn a_json_gateway_quarantines_nothing_whatever_it_is_asked() {
    each(
        &[400, 402, 406, 410, 413, 414, 415, 416, 417, 423, 431, 451],
        |&status| {
            for config in ["", "[receiver]\nrequire_receipt = true"] {
                let server = Scripted::new(move |_, _| {
                    Reply::text(
                        status,
                        "application/json",
                        r#"{"message":"Request Too Long"}"#,
                    )
                });
                let sandbox = Sandbox::new(server.url());
                for n in 0..6 {
                    sandbox.seal(&format!("run-{n}"), &[("data.bin", b"recorded")]);
                }
                let mut command = sandbox.command_with_config("ship", config);
                let (code, tally) = json_of(command.args(["--once", "--json"]).output().unwrap());
                assert_eq!((code, &tally["fatal"]), (1, &json!(0)), "{status}: {tally}");
                assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{status}");
                assert_eq!(
                    fs::read_dir(&sandbox.layout.episodes).unwrap().count(),
                    6,
                    "{status}"
                );
            }
        },
    );
}

#[test]
fn one_bad_episode_among_good_ones_is_quarantined_by_another_receiver_too() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::text(422, "application/json", r#"{"message":"not this one"}"#),
        _ => Reply::empty(201),
    });
    let sandbox = Sandbox::new(server.url());
    for id in ["bad", "good-1", "good-2"] {
        sandbox.seal(id, &[("data.bin", b"recorded")]);
    }
    let (code, tally) = sandbox.ship_once();
    assert_eq!(
        (code, &tally["shipped"], &tally["fatal"]),
        (1, &json!(2), &json!(1)),
        "{tally}"
    );
    assert_eq!(names(&sandbox.layout.quarantine), ["bad"]);
}

#[test]
fn what_is_no_json_in_meta_json_does_not_keep_the_commit_from_being_sent_or_is_named() {
    let digits = "0123456789abcdef0123456789abcdef01234567";
    let refuse = |seen: &Seen| match seen.header("x-cis490-code-commit") {
        Some(_) => Reply::stored(seen),
        None => Reply::json(
            400,
            &json!({"type": "urn:sealift:commit-missing", "title": "No commit"}),
        ),
    };
    let server = Scripted::new(move |seen, _| refuse(seen));
    let sandbox = Sandbox::new(server.url());
    let meta =
        format!("\u{feff}{{\"gain\": NaN, \"code_version\": {{\"commit\": \"{digits}\"}}}}\0\0");
    sandbox.seal("read", &[("meta.json", meta.as_bytes())]);
    sandbox.seal("broken", &[("meta.json", b"{\n  'gain': 1}")]);
    sandbox.seal(
        "list",
        &[(
            "meta.json",
            format!("[{}]", meta.trim_matches(['\u{feff}', '\0'])).as_bytes(),
        )],
    );
    let output = sandbox
        .command("ship")
        .args(["--once", "--json"])
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(sandbox.shipped("read").exists(), "{log}");
    for (id, place) in [
        ("broken", "meta.json is not JSON: line 2, column 3"),
        ("list", "meta.json is not a JSON object"),
    ] {
        let reason = json_file(&sandbox.quarantined(id).join("quarantine_reason.json"));
        assert!(
            reason["error"].as_str().unwrap().contains(place),
            "{reason}"
        );
        assert!(log.contains(place), "{log}");
    }
}

#[test]
fn a_conflict_is_tried_at_another_receiver_after_a_restart() {
    let holding_another = Scripted::new(|_, _| {
        Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "title": "Held"}),
        )
    });
    let sandbox = Sandbox::new(holding_another.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    for _ in 0..2 {
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["conflicts"]), (1, &json!(1)), "{tally}");
    }
    assert_eq!(
        holding_another.count("run-1"),
        1,
        "that one has said it, and is not asked again"
    );
    let sidecar = json_file(&sandbox.layout.outbox.join("run-1.json"));
    assert_eq!(sidecar["verdict"]["receiver"], holding_another.url());

    let other = Scripted::new(|seen, _| Reply::stored(seen));
    let mut command = crate::support::sealift();
    command
        .args(["ship", "--once", "--json", "--data"])
        .arg(sandbox.data())
        .args(["--receiver", &other.url()]);
    let (code, tally) = json_of(command.output().unwrap());
    assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{tally}");
    assert_eq!(other.count("run-1"), 1);
}

#[test]
fn a_conflict_is_tried_again_where_only_the_query_or_a_header_leads_elsewhere() {
    let server = Scripted::new(|seen, _| {
        let is_held = seen.head.contains("c=a") || seen.header("x-tenant") == Some("a");
        let conflict = json!({"type": "urn:sealift:conflict", "title": "Held"});
        if is_held {
            Reply::json(409, &conflict)
        } else {
            Reply::empty(201)
        }
    });
    let sandbox = Sandbox::new(server.url());
    let write = |config: &Path, (query, tenant): (&str, &str)| {
        let url = format!("{}/c/{{id}}{query}", server.url());
        let text = format!(
            "[shipper]\ndata_dir = {:?}\n[receiver]\nurl = {url:?}\nheaders = {{ \"X-Tenant\" = {tenant:?} }}\n",
            sandbox.data()
        );
        fs::write(config, text).unwrap();
    };
    let config = sandbox.path("sealift.toml");
    let ship = |arguments: &[&str]| {
        let mut command = crate::support::sealift();
        command
            .arg("ship")
            .args(arguments)
            .arg("--config")
            .arg(&config);
        command
    };
    for (id, first, then) in [
        ("query", ("?c=a", "b"), ("?c=b", "b")),
        ("header", ("", "a"), ("", "b")),
    ] {
        // By a restart.
        sandbox.seal(id, &[("data.bin", b"recorded")]);
        write(&config, first);
        for _ in 0..2 {
            let (code, tally) = json_of(ship(&["--once", "--json"]).output().unwrap());
            assert_eq!((code, &tally["conflicts"]), (1, &json!(1)), "{id}: {tally}");
        }
        let count = |id: &str| {
            server
                .seen()
                .iter()
                .filter(|seen| seen.head.contains(&format!("/c/{id}")))
                .count()
        };
        assert_eq!(count(id), 1, "who has said it is not asked again");
        write(&config, then);
        let (code, tally) = json_of(ship(&["--once", "--json"]).output().unwrap());
        assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{id}: {tally}");

        // By a reload.
        let id = format!("{id}-reloaded");
        write(&config, first);
        let daemon = sandbox.start(ship(&[]));
        sandbox.seal(&id, &[("data.bin", b"recorded")]);
        daemon.wait_log(&format!("{id}: the receiver holds other content"));
        write(&config, then);
        daemon.signal("HUP");
        sandbox.wait_shipped(&id);
        assert_eq!(count(&id), 2);
    }
}

#[test]
fn a_commit_that_is_there_is_sent_or_what_is_wrong_with_it_is_told() {
    let digits = "0123456789abcdef0123456789abcdef01234567";
    let server = Scripted::new(move |seen, _| match seen.header("x-cis490-code-commit") {
        Some(sent) if sent == digits => Reply::stored(seen),
        _ => Reply::json(
            400,
            &json!({"type": "urn:sealift:commit-missing", "title": "No commit"}),
        ),
    });
    let sandbox = Sandbox::new(server.url());
    let named = |commit: &str| format!("{{\"code_version\": {{\"commit\": {commit}}}}}");
    let beside =
        |member: &str| format!("{{{member}, \"code_version\": {{\"commit\": \"{digits}\"}}}}");
    let taken = [
        ("blanks", named(&format!("\" {digits}\\n\""))),
        ("half-a-pair", beside(r#""file": "\udc80""#)),
        ("large", beside("\"gain\": [1e999, -1E+400]")),
        (
            "deep",
            beside(&format!("\"a\": {}{}", "[".repeat(5000), "]".repeat(5000))),
        ),
    ];
    let refused = [
        (
            "dirty",
            named(&format!("\"{digits}-dirty\"")),
            "code_version.commit is \"0123456789abcdef0123456789abcdef01234567-dirty\"",
        ),
        (
            "short",
            named("\"0123456789ab\""),
            "code_version.commit is \"0123456789ab\"",
        ),
        ("number", named("123"), "code_version.commit is 123"),
    ];
    let daemon = sandbox.daemon();
    for (id, meta) in &taken {
        sandbox.seal(id, &[("meta.json", meta.as_bytes())]);
        sandbox.wait_shipped(id);
    }
    let told = |id: &str, why: &str| {
        sandbox.wait_quarantined(id);
        let reason = json_file(&sandbox.quarantined(id).join("quarantine_reason.json"));
        assert!(
            reason["error"].as_str().unwrap().contains(why),
            "{id}: {reason}"
        );
        daemon.wait_log(&format!("{id}: {why}"));
        // Three that are refused alike with none taken between are no fault of theirs.
        let next = format!("behind-{id}");
        sandbox.seal(
            &next,
            &[("meta.json", named(&format!("\"{digits}\"")).as_bytes())],
        );
        sandbox.wait_shipped(&next);
    };
    for (id, meta, why) in &refused {
        sandbox.seal(id, &[("meta.json", meta.as_bytes())]);
        told(id, &format!("in meta.json, {why}"));
    }
    let linked = sandbox.record(
        "linked",
        &[("other.json", named(&format!("\"{digits}\"")).as_bytes())],
    );
    std::os::unix::fs::symlink("other.json", linked.join("meta.json")).unwrap();
    fs::write(linked.join("done.marker"), b"").unwrap();
    told("linked", "meta.json is no regular file");
    sandbox.seal(
        "cased",
        &[("META.JSON", named(&format!("\"{digits}\"")).as_bytes())],
    );
    told("cased", "META.JSON is not called meta.json");
}
