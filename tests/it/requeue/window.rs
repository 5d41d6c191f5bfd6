//! What was refused for its commit comes back once the receiver admits that commit.

use super::*;

fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn seal(sandbox: &Sandbox, id: &str, commit: &str) {
    let meta = json!({"code_version": {"commit": commit}}).to_string();
    sandbox.seal(id, &[("meta.json", meta.as_bytes())]);
}

/// Our receiver, with these commits in its window.
fn admitting(commits: &[char]) -> Sandbox {
    let mut sandbox = Sandbox::new("");
    admit(&sandbox, commits);
    let config = sandbox.path("receiver.toml");
    let commits = sandbox.path("commits");
    fs::write(
        &config,
        format!("[receive]\ncommits_file = {commits:?}\nremediation = \"run the update\"\n"),
    )
    .unwrap();
    sandbox.start_receiver_with("127.0.0.1:0", config.to_str().unwrap());
    sandbox
}

fn admit(sandbox: &Sandbox, commits: &[char]) {
    let lines: Vec<_> = commits.iter().map(|digit| commit(*digit)).collect();
    fs::write(sandbox.path("commits"), lines.join("\n") + "\n").unwrap();
}

#[test]
fn all_that_was_refused_for_its_commit_comes_back_where_that_is_admitted_by_now() {
    let sandbox = admitting(&['a']);
    for (id, digit) in [("b-1", 'b'), ("b-2", 'b'), ("c", 'c')] {
        seal(&sandbox, id, &commit(digit));
    }
    sandbox.seal("none", &[]);
    assert_eq!(sandbox.ship_once().1["fatal"], 4);
    admit(&sandbox, &['a', 'b']);
    sandbox
        .receiver()
        .wait_log("read again, and in use from now on");
    let mut all = sandbox.command("requeue");
    let (code, told) = told(all.args(["--all", "--status", "412"]));
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("requeued  b-1  ") && told.contains("requeued  b-2  "),
        "{told}"
    );
    assert!(
        told.contains("left      c  ") && told.contains("still does not take its commit (412"),
        "{told}"
    );
    assert!(told.contains("run the update"), "{told}");
    assert_eq!(names(&sandbox.layout.episodes), ["b-1", "b-2"]);
    // One without a commit was answered 400, and is asked about as well.
    let (code, told) = super::told(sandbox.command("requeue").arg("--all"));
    assert_eq!(code, 1);
    assert!(
        told.contains("left      none  ") && told.contains("(400"),
        "{told}"
    );
    assert_eq!(sandbox.ship_once().1["shipped"], 2);
}

#[test]
fn where_the_receiver_cannot_be_asked_it_is_said_and_a_word_more_or_the_name_is_enough() {
    let answers = [
        ("no path to ask at (404", Reply::html(404)),
        ("the receiver answers 503", Reply::empty(503)),
        ("the receiver does not answer", Reply::hang_up()),
    ];
    for (expected, answer) in answers {
        let server = Scripted::new(move |seen, _| {
            if seen.id == "admission" {
                answer.clone()
            } else {
                rejected(412)
            }
        });
        let sandbox = Sandbox::new(server.url());
        seal(&sandbox, "a", &commit('a'));
        seal(&sandbox, "b", &commit('a'));
        assert_eq!(sandbox.ship_once().1["fatal"], 2);
        let (code, all) = told(
            sandbox
                .command("requeue")
                .args(["--all", "--status", "412"]),
        );
        assert_eq!((code, all.lines().count()), (1, 2), "{all}");
        assert!(
            all.contains(expected)
                && all.contains("sealift requeue 'a' --data ")
                && all.contains("or add --unasked"),
            "{all}"
        );
        assert_eq!(
            server.count("admission"),
            1,
            "one question a commit: {expected}"
        );
        assert_eq!(requeue(&sandbox, &["a"]).0, 0, "named");
        assert_eq!(requeue(&sandbox, &["--all", "--unasked"]).0, 0);
        assert_eq!(names(&sandbox.layout.episodes), ["a", "b"]);
    }
    // Without a receiver nobody can be asked.
    let sandbox = Sandbox::new("");
    quarantined(&sandbox, "a", &reason("a", 412));
    let (code, told) = requeue(&sandbox, &["--all"]);
    assert_eq!(code, 1);
    assert!(told.contains("no receiver is configured"), "{told}");
}

#[test]
fn what_was_rejected_for_something_else_is_not_asked_about() {
    let server = rejecting(1);
    let sandbox = Sandbox::new(server.url());
    seal(&sandbox, "a", &commit('a'));
    assert_eq!(sandbox.ship_once().1["fatal"], 1);
    assert_eq!(told(sandbox.command("requeue").arg("--all")).0, 0);
    assert_eq!(server.count("admission"), 0);
}
