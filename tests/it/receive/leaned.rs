//! The receiver under clients that lean on it: archives that expand without end.

use super::*;

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Three hosts have a token each.
async fn rig_of_three(configure: impl FnOnce(&mut ReceiveConfig)) -> Rig {
    Rig::with(|config, rig| {
        let line = |name: &str| format!("{name} = \"{}\"\n", Digest::of(name.as_bytes()));
        config.tokens_file = Some(rig.file("tokens", &HOSTS.map(line).concat()));
        configure(config);
    })
    .await
}

/// Some megabytes that expand to 32 GiB, which takes minutes to hash.
fn bomb() -> Vec<u8> {
    zstd::encode_all(&*vec![0; 16 << 20], 1)
        .unwrap()
        .repeat(2048)
}

/// An archive that expands without end is stored, and another that claims the same content asks
/// whether it is held. What is returned waits for the answer.
async fn ask_about_a_bomb(rig: &Rig, host: &str, id: &str) -> Client {
    let (bomb, bearer) = (bomb(), format!("Bearer {host}"));
    let claim = Digest::of(b"what is in it").to_header();
    let headers = [("Authorization", &*bearer), (CONTENT_DIGEST, &*claim)];
    let put = put_with(id, &bomb, &headers);
    assert_eq!(rig.request(&put, &bomb).await.status, 201);
    let before = in_flight(rig).await;
    let mut client = rig.connect().await;
    let expecting = [headers[0], headers[1], ("Expect", "100-continue")];
    let put = put_with(id, &noise(2000), &expecting);
    client.send(put.as_bytes()).await;
    until("it is not asked", async || in_flight(rig).await > before).await;
    client
}

/// How many requests are under way.
async fn in_flight(rig: &Rig) -> u64 {
    let metrics = rig.request(&head("GET", "/metrics", &[]), b"").await;
    let text = String::from_utf8(metrics.body).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("sealift_receiver_requests_in_flight "));
    line.unwrap().parse().unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let so = async {
        while !is_so().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, so).await.expect(what);
}

/// The store reads an archive of this host again, as it is asked to.
async fn is_read_again(rig: &Rig, host: &str) {
    let bearer = format!("Bearer {host}");
    let headers = [("Authorization", &*bearer), ("Sealift-Reread", "?1")];
    let put = put_with(&format!("of-{host}"), b"small", &headers[..1]);
    rig.request(&put, b"small").await.receipt();
    let reread = head("HEAD", &format!("/v1/episodes/of-{host}"), &headers);
    assert_eq!(rig.request(&reread, b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expands_without_end_takes_one_place_of_its_host_and_none_once_its_client_has_gone() {
    let rig = rig_of_three(|_| {}).await;
    let mut waiting = Vec::new();
    for id in ["a", "b", "c"] {
        waiting.push(ask_about_a_bomb(&rig, "alpha", id).await);
    }
    is_read_again(&rig, "gamma").await;
    // With another host that does the same all places are taken.
    waiting.push(ask_about_a_bomb(&rig, "beta", "d").await);
    drop(waiting);
    is_read_again(&rig, "gamma").await;
    until("they are not given up", async || in_flight(&rig).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expands_without_end_does_not_keep_the_receiver_from_ending() {
    let mut rig = rig_of_three(|_| {}).await;
    let server = rig.server().await;
    rig.receivers[0] = server.local_addr();
    let (stop, stopping) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopping.await;
    }));
    let mut asking = ask_about_a_bomb(&rig, "alpha", "a").await;
    drop(stop);
    // Less than what is in flight has to end.
    let ended = tokio::time::timeout(Duration::from_secs(9), running).await;
    ended.expect("it does not end").unwrap();
    let answer = asking.answer(false).await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (503, "upload-busy")
    );
}
