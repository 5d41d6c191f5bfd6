//! What the receiver has lost is sent again, and nothing else is.

use super::*;

/// A receiver that takes everything, and answers HEAD by script.
fn holding(head: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |seen, _| {
        if seen.head.starts_with("HEAD") {
            head(seen)
        } else {
            Reply::stored(seen)
        }
    })
}

fn shipped(server: &Scripted, ids: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new(server.url());
    for id in ids {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    assert_eq!(sandbox.ship_once().0, 0);
    sandbox
}

fn from_shipped(sandbox: &Sandbox, args: &[&str]) -> (i32, String) {
    told(
        sandbox
            .command("requeue")
            .args(["--from", "shipped"])
            .args(args),
    )
}

#[test]
fn only_what_the_receiver_is_shown_to_have_lost_goes_back_and_is_shipped_anew() {
    let sandbox = Sandbox::with_receiver();
    for id in ["held", "lost", "lost-too"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    assert_eq!(sandbox.ship_once().1["shipped"], 3);
    let delivered = fs::read(sandbox.stored("lost")).unwrap();
    let before = fingerprint(&sandbox.shipped("lost"));
    for id in ["lost", "lost-too"] {
        fs::remove_file(sandbox.stored(id)).unwrap();
    }
    let (code, told) = from_shipped(&sandbox, &["held", "lost"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("left      held  ") && told.contains("the receiver holds it"),
        "{told}"
    );
    assert!(
        told.contains("requeued  lost  from shipped (201)"),
        "{told}"
    );
    let episode = sandbox.layout.episodes.join("lost");
    assert_eq!(names(&episode), ["data.bin", "done.marker"]);
    assert_eq!(fingerprint(&episode), before);
    assert_eq!(names(&sandbox.layout.shipped), ["held", "lost-too"]);

    let (code, told) = from_shipped(&sandbox, &["--all"]);
    assert_eq!((code, told.lines().count()), (0, 1), "{told}");
    assert_eq!(sandbox.ship_once().1["shipped"], 2);
    assert_eq!(fs::read(sandbox.stored("lost")).unwrap(), delivered);
    assert_eq!(names(&sandbox.layout.shipped), ["held", "lost", "lost-too"]);
    let receipt = json_file(&sandbox.shipped("lost").join("shipping_receipt.json"));
    assert_eq!(receipt["status_code"], 201);
}

#[test]
fn a_receiver_that_holds_nothing_at_all_is_doubted_until_the_episodes_are_named() {
    let server = holding(|_| Reply::html(404));
    let sandbox = shipped(&server, &["a", "b"]);
    let (code, told) = from_shipped(&sandbox, &["--all"]);
    assert_eq!((code, told.lines().count()), (1, 2), "{told}");
    assert!(told.contains("is this its address?"), "{told}");
    assert_eq!(names(&sandbox.layout.shipped), ["a", "b"]);
    assert_eq!(from_shipped(&sandbox, &["a"]).0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
}

#[test]
fn whatever_else_a_receiver_says_leaves_it_in_shipped() {
    for (answer, expected) in [
        (Reply::empty(503), "it answers 503"),
        (Reply::empty(403), "credential"),
        (Reply::empty(200), "gives no digest"),
        (Reply::hang_up(), "no answer from the receiver"),
    ] {
        let server = holding(move |_| answer.clone());
        let sandbox = shipped(&server, &["a"]);
        let (code, told) = from_shipped(&sandbox, &["a"]);
        assert_eq!(code, 1);
        assert!(told.contains(expected), "{expected}: {told}");
        assert_eq!(names(&sandbox.layout.shipped), ["a"]);
    }
    // Another receiver than the one that it was delivered to has nothing to lose.
    let sandbox = shipped(&holding(|_| Reply::empty(503)), &["a"]);
    let other = holding(|_| Reply::empty(404));
    let mut command = sealift();
    command
        .args([
            "requeue",
            "--from",
            "shipped",
            "a",
            "--receiver",
            &other.url(),
            "--data",
        ])
        .arg(sandbox.data());
    let (code, told) = told(&mut command);
    assert_eq!(code, 1);
    assert!(
        told.contains("another receiver was asked")
            && told.contains("sealift requeue --from shipped --unasked 'a' --data "),
        "{told}"
    );
}

#[test]
fn of_two_shipped_under_one_name_the_one_that_is_named_by_its_folder_goes_back() {
    let server = holding(|_| Reply::empty(404));
    let sandbox = shipped(&server, &["a"]);
    sandbox.seal("a", &[("data.bin", b"another")]);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(names(&sandbox.layout.shipped), ["a", "a~1"]);
    let (code, told) = from_shipped(&sandbox, &["a"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("sealift requeue --folder --from shipped 'a~1'"),
        "{told}"
    );
    let (code, told) = from_shipped(&sandbox, &["--folder", "a~1"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        fs::read(sandbox.layout.episodes.join("a/data.bin")).unwrap(),
        b"another"
    );
    assert_eq!(names(&sandbox.layout.shipped), ["a"]);
    // Nobody takes the receipt that stayed for one of what is shipped now.
    assert_eq!(sandbox.ship_once().1["shipped"], 1);
    assert_eq!(names(&sandbox.layout.shipped), ["a", "a~1"]);
}

#[test]
fn what_a_pass_told_of_as_written_to_since_goes_back_when_it_is_named_whatever_the_receiver_answers_or_not()
 {
    each(
        &[
            Reply::empty(200),
            Reply::text(200, "", "x").without_body(),
            Reply::empty(200).header("etag: \"1\""),
            Reply::empty(403),
            Reply::empty(404),
            Reply::empty(405),
            Reply::empty(503),
            Reply::html(200),
            Reply::hang_up(),
        ],
        |answer| {
            let answer = answer.clone();
            let server = holding(move |_| answer.clone());
            let sandbox = shipped(&server, &["a", "b"]);
            append(&sandbox.shipped("a"), b"tail");
            assert_eq!(sandbox.ship_once().0, 1, "it is told");
            assert_eq!(from_shipped(&sandbox, &["a", "--dry-run"]).0, 0);
            let (code, told) = from_shipped(&sandbox, &["a"]);
            assert_eq!(code, 0, "{told}");
            assert_eq!(names(&sandbox.layout.shipped), ["b"]);
            let (code, tally) = sandbox.ship_once();
            assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{tally}");
            let sent = server.seen().pop().unwrap();
            assert_eq!(sent.id, "a");
            assert_eq!(crate::disks::content_of(&sent.body, "data.bin"), b"atail");
            // It is an episode like any other from then on.
            assert_eq!(sandbox.ship_once().0, 0);
            let receipt = json_file(&sandbox.shipped("a").join("shipping_receipt.json"));
            assert_eq!(receipt.get("written_to_since"), None);
            assert_eq!(
                names(&sandbox.shipped("a")),
                ["data.bin", "done.marker", "shipping_receipt.json"]
            );
        },
    );
}

/// A recorder that kept its file open.
fn append(episode: &Path, tail: &[u8]) {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(episode.join("data.bin"))
        .unwrap();
    std::io::Write::write_all(&mut file, tail).unwrap();
}

#[test]
fn of_what_an_operator_has_changed_no_half_takes_the_place_of_the_whole_at_a_server_that_overwrites()
 {
    let server = holding(|_| Reply::empty(200));
    let sandbox = shipped(&server, &["a"]);
    fs::remove_file(sandbox.shipped("a").join("data.bin")).unwrap();
    let (code, told) = from_shipped(&sandbox, &["a"]);
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("gives no digest") && told.contains("nothing is missing of it"),
        "{told}"
    );
    // And what it says to type does it.
    let typed = told.trim_end().rsplit_once("type: ").unwrap().1;
    assert!(
        typed.starts_with("sealift requeue --from shipped --unasked 'a' --data "),
        "{typed}"
    );
    assert_eq!(from_shipped(&sandbox, &["--unasked", "a"]).0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
    assert_eq!(from_shipped(&sandbox, &["--all"]).0, 0, "nothing is there");
}

#[test]
fn what_was_written_to_since_is_not_taken_with_all_where_it_is_not_shown_to_be_lost() {
    let server = holding(|_| Reply::empty(200));
    let sandbox = shipped(&server, &["a"]);
    append(&sandbox.shipped("a"), b"tail");
    assert_eq!(sandbox.ship_once().0, 1, "it is told");
    let (code, told) = from_shipped(&sandbox, &["--all"]);
    assert_eq!(code, 1, "{told}");
    assert_eq!(names(&sandbox.layout.shipped), ["a"]);
}
