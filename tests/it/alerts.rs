//! The alerts and the dashboard in contrib/ ask for what a daemon and a receiver really give out.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

use crate::{
    authority::Authority,
    control::asked,
    support::{Sandbox, eventually},
};

fn contrib(path: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("contrib")
            .join(path),
    )
    .unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&contrib("grafana/sealift.json")).unwrap()
}

/// Every question of the dashboard.
fn questions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("sealift_"))
        .map(str::to_owned)
        .collect()
}

/// What may be asked for by a text of metrics: each family by the names of its samples.
fn given_out(metrics: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in metrics.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["#", "TYPE", name, "counter"] => {
                names.insert(format!("{}_total", name.trim_end_matches("_total")))
            }
            ["#", "TYPE", name, "histogram"] => {
                names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
                true
            }
            ["#", "TYPE", name, _] => names.insert(name.to_owned()),
            _ => false,
        };
    }
    names
}

fn of_the_daemon(sandbox: &Sandbox) -> String {
    let mut stream = UnixStream::connect(sandbox.layout.control_socket()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A daemon that has shipped and cleaned up, and a receiver with a certificate: what both give out.
fn all() -> String {
    let authority = Authority::new();
    let mut sandbox = Sandbox::new("");
    let (certificate, key) = authority.sign("localhost", |_| ());
    for (name, content) in [
        ("cert.pem", &certificate),
        ("key.pem", &key),
        ("ca.pem", &authority.pem()),
    ] {
        fs::write(sandbox.path(name), content).unwrap();
    }
    let (certificate, key, ca) = (
        sandbox.path("cert.pem"),
        sandbox.path("key.pem"),
        sandbox.path("ca.pem"),
    );
    sandbox.start_receiver_over_tls(&format!(
        "tls_cert_file = {certificate:?}\ntls_key_file = {key:?}\n"
    ));
    let config = format!("[receiver]\nca_file = {ca:?}\n");
    let mut ship = sandbox.command_with_config("ship", &config);
    // There is no clean-up by a clock that cannot be believed.
    ship.env("PATH", sandbox.clock_is_kept(true));
    let _daemon = asked(&sandbox, ship);
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    // Known once the first clean-up was.
    let mut metrics = String::new();
    eventually("everything is known", || {
        metrics = of_the_daemon(&sandbox);
        [
            "quarantine_deletions_ahead",
            "receiver_clock_ahead_seconds",
            "filesystem_free_bytes",
        ]
        .iter()
        .all(|name| metrics.contains(&format!("sealift_{name}")))
    });
    let port = sandbox.url().rsplit(':').next().unwrap().to_owned();
    let curl = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--cacert"])
        .arg(&ca)
        .arg(format!("https://localhost:{port}/metrics"))
        .output();
    let Ok(curl) = curl else {
        assert!(std::env::var_os("CI").is_none(), "CI has curl: .ci/install");
        println!("the receiver was not asked: curl is not here");
        return metrics;
    };
    assert!(
        curl.status.success(),
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    metrics + &String::from_utf8(curl.stdout).unwrap()
}

#[test]
fn every_metric_that_an_alert_or_the_dashboard_names_is_given_out() {
    let metrics = all();
    let given_out = given_out(&metrics);
    assert!(given_out.len() > 30, "{given_out:?}");
    let asks_a_receiver = given_out.contains("sealift_receiver_can_store");
    // What stands in words (a summary, say) names no metric.
    let rules = contrib("prometheus/sealift.rules.yml");
    let text = format!(
        "{rules}{}{}",
        questions(&dashboard()).join("\n"),
        contrib("prometheus/sealift.tests.yml")
    );
    let known = |name: &String| {
        given_out.contains(name) || (!asks_a_receiver && name.starts_with("sealift_receiver_"))
    };
    let unknown: Vec<_> = named(&text)
        .into_iter()
        .filter(|name| !known(name))
        .collect();
    assert!(unknown.is_empty(), "nobody gives these out: {unknown:?}");
    // And the other way round: what a person should know of has an alert or a panel.
    let shown = named(&text);
    let unused: Vec<_> = given_out
        .iter()
        .filter(|name| name.ends_with("_total") && !shown.contains(*name))
        .collect();
    assert!(unused.is_empty(), "counted, and shown nowhere: {unused:?}");
    for state in ["conflict", "refused"] {
        assert!(
            metrics.contains(&format!("sealift_episodes{{state=\"{state}\"}}")),
            "{state}"
        );
    }
}

#[test]
fn every_alert_says_how_grave_it_is_what_happened_and_what_to_do_and_is_explained() {
    let rules = contrib("prometheus/sealift.rules.yml");
    let metrics =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 20);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        assert!(
            metrics.contains(&format!("`{name}`")),
            "docs/metrics.md does not explain {name}"
        );
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_can_load() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: BTreeSet<_> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        variables,
        BTreeSet::from(["datasource", "host", "receiver"])
    );
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is taken"
        );
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(
            w > 0 && h > 0 && x + w <= 24,
            "{title} is outside of the grid"
        );
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(places.insert(place), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            ["stat", "timeseries"].contains(&panel["type"].as_str().unwrap()),
            "{title}"
        );
        let targets = panel["targets"].as_array().unwrap();
        let references: BTreeSet<_> = targets
            .iter()
            .map(|target| target["refId"].as_str().unwrap())
            .collect();
        assert!(
            !targets.is_empty() && references.len() == targets.len(),
            "{title}"
        );
        for source in targets
            .iter()
            .map(|target| &target["datasource"])
            .chain([&panel["datasource"]])
        {
            assert_eq!(source["uid"], "${datasource}", "{title}");
        }
    }
}
