//! What the receiver has lost is sent again, and nothing else is.

use super::*;

/// A receiver that takes everything, and answers HEAD by script.
fn holding(head: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |seen, _| if seen.head.starts_with("HEAD") { head(seen) } else { Reply::stored(seen) })
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
    told(sandbox.command("requeue").args(["--from", "shipped"]).args(args))
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
    assert!(told.contains("left      held  ") && told.contains("the receiver holds it"), "{told}");
    assert!(told.contains("requeued  lost  from shipped (201)"), "{told}");
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
        .args(["requeue", "--from", "shipped", "a", "--receiver", &other.url(), "--data"])
        .arg(sandbox.data());
    let (code, told) = told(&mut command);
    assert_eq!(code, 1);
    assert!(told.contains("another receiver was asked") && told.contains("mv -nT"), "{told}");
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
    assert!(told.contains("sealift requeue --folder --from shipped 'a~1'"), "{told}");
    let (code, told) = from_shipped(&sandbox, &["--folder", "a~1"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(fs::read(sandbox.layout.episodes.join("a/data.bin")).unwrap(), b"another");
    assert_eq!(names(&sandbox.layout.shipped), ["a"]);
    // Nobody takes the receipt that stayed for one of what is shipped now.
    assert_eq!(sandbox.ship_once().1["shipped"], 1);
    assert_eq!(names(&sandbox.layout.shipped), ["a", "a~1"]);
}
