//! The receiver under clients that lean on it: archives that expand without end, uploads that break
//! off together, a store too large to be walked through in time.

use rustix::fs::{CWD, FileType, Mode, mknodat};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uploads_that_break_off_at_once_no_more_is_kept_than_may_be() {
    const SIZE: usize = 3_000_000;
    let rig = rig_of_three(|config| config.limits.parts_max_bytes = Some(10_000_000)).await;
    let mut uploads = Vec::new();
    for n in 0..12 {
        let archive = noise(SIZE + n);
        let bearer = format!("Bearer {}", HOSTS[n % 3]);
        let mut client = rig.connect().await;
        let put = put_with(&format!("a{n}"), &archive, &[("Authorization", &bearer)]);
        client.send(put.as_bytes()).await;
        client.send(&archive[..SIZE - 1]).await;
        uploads.push(client);
    }
    let came = async || rig.files_in("incoming") == 12;
    until("not all have come", came).await;
    drop(uploads);
    let ended = async || in_flight(&rig).await == 0 && rig.files_in("incoming") == 6;
    until("more than three, or fewer, are kept", ended).await;
}

/// An archive whose receipt cannot be read: a walk through the store waits for it until this is
/// dropped.
struct HangingReceipt(PathBuf);

impl HangingReceipt {
    fn in_store(store: &Path) -> Self {
        for folder in ["episodes", "receipts"] {
            std::fs::create_dir_all(store.join(folder)).unwrap();
        }
        std::fs::write(store.join("episodes/hangs.tar.zst"), b"12345").unwrap();
        let receipt = store.join("receipts/hangs.json");
        mknodat(CWD, &receipt, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        Self(receipt)
    }
}

impl Drop for HangingReceipt {
    /// To read and write it does not wait for the other end, and whatever waits has one.
    fn drop(&mut self) {
        let mut options = std::fs::OpenOptions::new();
        drop(options.read(true).write(true).open(&self.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_through_the_store_keeps_neither_a_scrape_nor_an_upload_waiting() {
    let mut hangs = None;
    let rig = Rig::with(|config, rig| {
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
        config.limits.host_quota_bytes = Some(1000);
        hangs = Some(HangingReceipt::in_store(&config.store));
    })
    .await;
    let metrics = async || {
        let scraped = rig.request(&head("GET", "/metrics", &[]), b"").await;
        String::from_utf8(scraped.body).unwrap()
    };
    for _ in 0..20 {
        assert!(
            !metrics().await.contains("store_episodes"),
            "not known is not nothing"
        );
    }
    let bearer = [("Authorization", "Bearer alpha")];
    let mut put = async |id: &str, size| {
        let archive = noise(size);
        let put = put_with(id, &archive, &bearer);
        rig.request(&put, &archive).await.status
    };
    assert_eq!(put("a", 600).await, 201);
    assert_eq!(put("b", 401).await, 507, "what came since is known");
    drop(hangs);
    let known = async || {
        let text = metrics().await;
        text.contains("store_episodes 2\n")
            && text.contains("store_bytes 605\n")
            && text.contains("store_sums_age_seconds ")
    };
    until("the sums are not known", known).await;
}
