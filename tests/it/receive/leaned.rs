//! The receiver under clients that lean on it: archives that expand without end, uploads that break
//! off together, a store too large to be walked through in time.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::{crash_sweep::strace_is_there, support::Sandbox};

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
async fn what_is_proven_takes_longer_than_its_client_waits_and_is_proven_for_the_next_try() {
    let rig = rig_of_three(|_| {}).await;
    let content = vec![0; 16 << 20];
    let held = zstd::encode_all(&*content, 1).unwrap().repeat(8);
    let claim = Digest::of(&content.repeat(8)).to_header();
    let headers = [("Authorization", "Bearer alpha"), (CONTENT_DIGEST, &*claim)];
    rig.request(&put_with("a", &held, &headers), &held)
        .await
        .receipt();
    let is_proven = || {
        let receipt = rig.folder.path().join("store/receipts/a.json");
        std::fs::read_to_string(receipt).is_ok_and(|said| said.contains("verified"))
    };
    let mut client = rig.connect().await;
    let expecting = [headers[0], headers[1], ("Expect", "100-continue")];
    let again = put_with("a", &noise(2000), &expecting);
    client.send(again.as_bytes()).await;
    until("it is not asked", async || in_flight(&rig).await > 0).await;
    assert!(!is_proven(), "it went too fast to tell anything");
    drop(client);
    until("it is given up", async || is_proven()).await;
    let again = put_with("a", &noise(2000), &headers);
    assert_eq!(rig.request(&again, &noise(2000)).await.status, 200);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_that_announces_all_the_room_for_parts_and_trickles_shuts_no_other_out() {
    let rig = rig_of_three(|config| config.limits.parts_max_bytes = Some(10_000_000)).await;
    let announce = |host: &str, size: usize, body: usize| {
        let (bearer, digest) = (
            format!("Bearer {host}"),
            Digest::of(&noise(size)).to_header(),
        );
        let headers = [
            ("Authorization", &*bearer),
            ("Repr-Digest", &digest),
            ("Upload-Complete", "?0"),
            ("Upload-Length", &size.to_string()),
            ("Content-Length", &body.to_string()),
        ];
        head("POST", &format!("/v1/episodes/of-{host}"), &headers)
    };
    let mut trickles = rig.connect().await;
    trickles
        .send(announce("alpha", 9_990_000, 9_000_000).as_bytes())
        .await;
    trickles.send(b"a few bytes").await;
    until("it is not asked", async || in_flight(&rig).await == 1).await;
    let announced = rig.request(&announce("beta", 2_000_000, 0), b"").await;
    assert_eq!(announced.status, 201);
    let (archive, bearer) = (noise(2_500_000), ("Authorization", "Bearer gamma"));
    let mut breaks_off = rig.connect().await;
    breaks_off
        .send(put_with("c", &archive, &[bearer]).as_bytes())
        .await;
    breaks_off.send(&archive[..2_000_000]).await;
    drop(breaks_off);
    let upload = format!("/v1/uploads/c/{}", Digest::of(&archive));
    let asked = head("HEAD", &upload, &[bearer]);
    let is_kept = async || {
        let answer = rig.request(&asked, b"").await;
        answer.headers.get("upload-offset").map(String::as_str) == Some("2000000")
    };
    until("it is not kept", is_kept).await;
}

/// An archive whose receipt cannot be read: a walk through the store waits for it, at most until
/// this is dropped.
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

impl HangingReceipt {
    /// To read and write, it is opened without another end; and what waits for one has it then.
    fn is_empty_now(&self) {
        let mut options = std::fs::OpenOptions::new();
        drop(options.read(true).write(true).open(&self.0));
    }
}

impl Drop for HangingReceipt {
    fn drop(&mut self) {
        self.is_empty_now();
    }
}

/// Fails each flush of a process, until it is dropped.
struct FlushesFail(std::process::Child);

impl FlushesFail {
    fn of(sandbox: &Sandbox) -> Self {
        let log = sandbox.path("strace.log");
        let strace = std::process::Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=fsync,fdatasync"])
            .args(["-e", "inject=fsync,fdatasync:error=EIO"])
            .args(["-p", &sandbox.receiver().pid().to_string()])
            .stderr(std::fs::File::create(log).unwrap())
            .spawn()
            .unwrap();
        Self(strace)
    }
}

impl Drop for FlushesFail {
    /// It lets go of what it traces.
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
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
    // Goes before the folder that it lies in.
    let hangs = hangs.unwrap();
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
    let put = async |id: &str, size| {
        let archive = noise(size);
        let put = put_with(id, &archive, &bearer);
        rig.request(&put, &archive).await.status
    };
    assert_eq!(put("a", 600).await, 201);
    assert_eq!(put("b", 401).await, 507, "what came since is known");
    let known = async || {
        hangs.is_empty_now();
        let text = metrics().await;
        text.contains("store_episodes 2\n")
            && text.contains("store_bytes 605\n")
            && text.contains("store_sums_age_seconds ")
    };
    until("the sums are not known", known).await;
}

/// A process of its own, with a store of two thousand archives; `tests/rigs/leaned` has the sizes
/// that users have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthz_tells_the_truth_within_a_second_whatever_leans_on_the_receiver() {
    let mut sandbox = Sandbox::new("");
    let line = |name: &str| format!("{name} = \"{}\"\n", Digest::of(name.as_bytes()));
    std::fs::write(sandbox.path("tokens"), HOSTS.map(line).concat()).unwrap();
    let (tokens, toml) = (sandbox.path("tokens"), sandbox.path("receiver.toml"));
    let receive = format!(
        "[receive]\ntokens_file = {tokens:?}\nmax_connections = 60\nhost_quota_bytes = 1000000000\n"
    );
    std::fs::write(&toml, receive).unwrap();
    let episodes = sandbox.store().join("episodes");
    std::fs::create_dir_all(&episodes).unwrap();
    for n in 0..2000 {
        std::fs::write(episodes.join(format!("old-{n}.tar.zst")), b"12345").unwrap();
    }
    sandbox.start_receiver_with("127.0.0.1:0", toml.to_str().unwrap());
    let address = sandbox.url().trim_start_matches("http://").parse().unwrap();
    let rig = Rig {
        folder: tempfile::tempdir().unwrap(),
        config: ReceiveConfig::at(address, &sandbox.store()),
        receivers: vec![address],
        behind: None,
    };
    let (archive, bearer) = (noise(24 << 20), ("Authorization", "Bearer gamma"));
    let put = put_with("large", &archive, &[bearer]);
    assert_eq!(rig.request(&put, &archive).await.status, 201);
    let _bombs = [
        ask_about_a_bomb(&rig, "alpha", "a").await,
        ask_about_a_bomb(&rig, "beta", "b").await,
    ];
    let (mut downloads, mut under_way) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut client = rig.connect().await;
        let get = head("GET", "/v1/episodes/large", &[bearer]);
        client.send(get.as_bytes()).await;
        let mut line = String::new();
        let answer = tokio::time::timeout(DEADLINE, client.0.read_line(&mut line));
        answer.await.expect("no answer").unwrap();
        under_way += usize::from(line.contains(" 200 "));
        downloads.push(client);
    }
    assert_eq!(under_way, 58, "but for those who ask about the others");
    let health = async |expected| {
        let begun = tokio::time::Instant::now();
        let healthy = rig.request(&head("GET", "/healthz", &[]), b"").await;
        (healthy.status == expected).then(|| begun.elapsed())
    };
    // On a busy machine one of them may wait for the processor.
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        fastest = fastest.min(health(200).await.expect("it could store"));
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    if !strace_is_there() {
        return;
    }
    let mut flushes_fail = FlushesFail::of(&sandbox);
    let (mut fastest, mut may_trace) = (Duration::MAX, true);
    until("it is not said that flushes fail", async || {
        fastest = health(500).await.unwrap_or(fastest);
        may_trace = flushes_fail.0.try_wait().unwrap().is_none();
        fastest < Duration::from_secs(1) || !may_trace
    })
    .await;
    if !may_trace {
        println!("skipped: strace may not look at a process that is not its child");
    }
    drop(flushes_fail);
    until("it stays false", async || health(200).await.is_some()).await;
}
