//! What waits for its next attempt is looked at before it: what was packed is sent only while it is
//! what stands in `episodes/`.

#![expect(clippy::disallowed_methods, reason = "recorders remove as they like")]

use std::{fs, path::PathBuf};

use serde_json::json;

use crate::{
    disks::{content_of, direct::NO_ROOM},
    support::{Reply, Sandbox, Scripted, Seen, eventually, json_of, sealift},
};

const OLD: &[u8] = b"sealed too early";
const NEW: &[u8] = b"corrected, and sealed again";

/// The bytes of the uploads of `run-1`, in their order.
fn uploads(server: &Scripted) -> Vec<Vec<u8>> {
    let puts = server
        .seen()
        .into_iter()
        .filter(|seen| seen.id == "run-1" && seen.head.starts_with("PUT"));
    puts.map(|seen| content_of(&seen.body, "data.bin"))
        .collect()
}

/// Does this to the episode while its first upload is answered with 503.
fn weather_and(
    meanwhile: impl Fn(&PathBuf) + Send + Sync + 'static,
) -> impl Fn(&Seen, usize, &PathBuf) -> Reply + Send + Sync + 'static {
    let first = std::sync::atomic::AtomicBool::new(true);
    move |seen, _, episode| {
        if seen.head.starts_with("HEAD") {
            return Reply::empty(404);
        }
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            meanwhile(episode);
            return Reply::empty(503);
        }
        Reply::stored(seen)
    }
}

/// A sandbox whose receiver does so. The sandbox is made first: the script has to know where the
/// episode is.
fn sandbox(
    script: impl Fn(&Seen, usize, &PathBuf) -> Reply + Send + Sync + 'static,
) -> (Sandbox, Scripted) {
    let folder = std::sync::Arc::new(std::sync::OnceLock::<PathBuf>::new());
    let of_script = std::sync::Arc::clone(&folder);
    let server = Scripted::new(move |seen, n| script(seen, n, of_script.get().unwrap()));
    let sandbox = Sandbox::new(server.url());
    folder.set(sandbox.layout.episodes.join("run-1")).unwrap();
    (sandbox, server)
}

#[test]
fn where_the_marker_was_taken_away_while_it_waits_for_its_next_attempt_no_byte_is_sent() {
    for config in ["", NO_ROOM] {
        let (sandbox, server) = sandbox(weather_and(|episode| {
            fs::remove_file(episode.join("done.marker")).unwrap();
        }));
        let _daemon = sandbox.start(sandbox.command_with_config("ship", config));
        sandbox.seal("run-1", &[("data.bin", OLD)]);
        eventually("it is open again", || {
            let (_, status) = json_of(
                sealift()
                    .args(["status", "--json", "--data"])
                    .arg(sandbox.data())
                    .output()
                    .unwrap(),
            );
            status["snapshot"]["counts"]["open"] == json!(1)
        });
        assert_eq!(uploads(&server), [OLD], "{config}");
        sandbox.seal("run-1", &[("data.bin", NEW)]);
        sandbox.wait_shipped("run-1");
        assert_eq!(uploads(&server), [OLD, NEW], "{config}");
    }
}

#[test]
fn what_was_edited_while_it_waits_for_its_next_attempt_is_packed_again_before_a_byte_is_sent() {
    let (sandbox, server) = sandbox(weather_and(|episode| {
        fs::write(episode.join("data.bin"), NEW).unwrap();
    }));
    let _daemon = sandbox.daemon();
    sandbox.seal("run-1", &[("data.bin", OLD)]);
    sandbox.wait_shipped("run-1");
    assert_eq!(uploads(&server), [OLD, NEW]);
}

#[test]
fn what_waits_behind_a_held_destination_is_looked_at_as_well() {
    // No weather: the destination is at fault, and nothing rests.
    let (sandbox, server) = sandbox({
        let weather = weather_and(|episode| fs::write(episode.join("data.bin"), NEW).unwrap());
        move |seen, n, episode| {
            let reply = weather(seen, n, episode);
            if n == 0 { Reply::empty(401) } else { reply }
        }
    });
    let _daemon = sandbox.daemon();
    sandbox.seal("run-1", &[("data.bin", OLD)]);
    sandbox.wait_shipped("run-1");
    assert_eq!(uploads(&server), [OLD, NEW]);
}
