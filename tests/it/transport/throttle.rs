//! How fast uploads go: one bucket for all of them, against a real socket that counts what comes
//! and when.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sealift::ship::{
    machine::destination::upload_window::{LocalTime, Pace},
    transport::throttle::Throttle,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{LARGE, SHORT, Sandbox, answer, delivery, fault, until, within};
use sealift::{
    model::progress::Progress,
    ship::{outcome::Fault, transport::Delivery},
};

const S: Duration = Duration::from_secs(1);

/// When how many bytes of a body came, and on which connection.
type Came = Arc<Mutex<Vec<(Instant, usize, usize)>>>;

async fn counting_server() -> (String, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let came = Came::default();
    let counts = Arc::clone(&came);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let counts = Arc::clone(&counts);
            // A client that hangs up ends its task with an error: nobody's concern.
            tokio::spawn(async move { count(stream, connection, counts).await });
        }
    });
    (url, came)
}

async fn count(mut stream: TcpStream, connection: usize, came: Came) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut left: usize = length.parse().unwrap();
    if head.contains("100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut buffer = vec![0; 256 * 1024];
    while left > 0 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        left -= read;
        came.lock()
            .unwrap()
            .push((Instant::now(), read, connection));
    }
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .await
}

/// What is measured over a span of time needs one.
async fn passes(span: Duration) {
    let _ = tokio::time::timeout(span, std::future::pending::<()>()).await;
}

fn at_most(bytes_per_s: u64) -> Pace {
    Pace::AtMost(NonZeroU64::new(bytes_per_s).unwrap())
}

fn closed() -> Pace {
    Pace::Closed(LocalTime::from_seconds(0))
}

fn bytes(came: &Came) -> usize {
    came.lock().unwrap().iter().map(|(_, bytes, _)| bytes).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_uploads_together_keep_to_the_limit_within_five_percent_and_without_bursts() {
    for limit in [8_000_000, 300_000].map(|limit| tokio::spawn(keeps_to(limit))) {
        limit.await.unwrap();
    }
}

/// A thread that is to be woken twenty times a second: how late it was, altogether.
struct Lateness {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Lateness {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !ends.load(Ordering::SeqCst) {
                let since = Instant::now();
                std::thread::park_timeout(S / 20);
                late += since.elapsed().saturating_sub(S / 20);
            }
            late
        });
        Self { over, thread }
    }

    fn ended(self) -> Duration {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Measured again where it is not so: on a busy machine the server's own thread, which looks at the
/// clock, may have to wait.
async fn keeps_to(limit: u64) {
    let mut wrong = Vec::new();
    while wrong.len() < 5 {
        match measured(limit).await {
            Ok(()) => return,
            Err(what) => wrong.push(what),
        }
    }
    panic!("{limit}: {wrong:?}");
}

async fn measured(limit: u64) -> Result<(), String> {
    let (url, came) = counting_server().await;
    let sandbox = Sandbox::to(url);
    let throttle = Throttle::default();
    throttle.set(at_most(limit));
    let transport = sandbox.transport().throttled_by(throttle);
    let stop = Progress::default();
    let uploads: Vec<_> = (0..4)
        .map(|n| {
            let of_length = sandbox.of_length(&format!("run-{n}"), LARGE);
            let (transport, progress) = (transport.clone(), stop.clone());
            tokio::spawn(async move {
                transport
                    .deliver(Delivery {
                        progress,
                        ..of_length
                    })
                    .await
            })
        })
        .collect();
    until(|| bytes(&came) > 0).await;
    let lateness = Lateness::new();
    passes(11 * S).await;
    let late = lateness.ended();
    stop.cancel();
    for upload in uploads {
        assert_eq!(fault(within(upload).await.unwrap()), Fault::Cancelled);
    }
    let came = came.lock().unwrap();
    let begin = came[0].0 + S / 2;
    let between = |from: Instant, to: Instant| {
        let sum: usize = came
            .iter()
            .filter(|(at, ..)| from <= *at && *at < to)
            .map(|(_, bytes, _)| bytes)
            .sum();
        sum as f64 / limit as f64
    };
    let ten_seconds = between(begin, begin + 10 * S);
    // Of a machine that wakes its threads late for more than five percent of the time no upload can
    // have so much; more than that it has nowhere.
    let is_idle = late < S / 2;
    if ten_seconds > 10.5 || (is_idle && ten_seconds < 9.5) {
        return Err(format!(
            "{ten_seconds} seconds' worth in ten, {late:?} late"
        ));
    }
    for tenth in 0..90 {
        let from = begin + tenth * S / 10;
        let burst = between(from, from + S);
        if burst >= 1.5 {
            return Err(format!("{burst} seconds' worth in one"));
        }
    }
    for connection in 0..4 {
        let its_own: usize = came
            .iter()
            .filter(|(.., of)| *of == connection)
            .map(|(_, bytes, _)| bytes)
            .sum();
        let share = its_own as f64 / came.iter().map(|(_, bytes, _)| *bytes as f64).sum::<f64>();
        if is_idle && share <= 0.15 {
            return Err(format!("each has a turn, and one of four has {share}"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_limit_counts_for_what_is_under_way() {
    let (url, came) = counting_server().await;
    let sandbox = Sandbox::to(url);
    let throttle = Throttle::default();
    throttle.set(at_most(10_000));
    let transport = sandbox.transport().throttled_by(throttle.clone());
    // Both the large one, which comes in chunks, and one that would go as a whole.
    let large = tokio::spawn({
        let (transport, delivery) = (transport.clone(), sandbox.of_length("large", LARGE));
        async move { transport.deliver(delivery).await }
    });
    let small = tokio::spawn({
        let (transport, delivery) = (transport, sandbox.of_length("small", 100_000));
        async move { transport.deliver(delivery).await }
    });
    until(|| bytes(&came) > 2_000).await;
    assert!(bytes(&came) < 50_000, "{}", bytes(&came));
    throttle.set(Pace::Free);
    assert_eq!(answer(within(small).await.unwrap()).status, 204);
    assert_eq!(answer(within(large).await.unwrap()).status, 204);
    assert_eq!(bytes(&came), 100_000 + usize::try_from(LARGE).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_no_stall_and_a_stop_ends_it_at_once() {
    let (url, came) = counting_server().await;
    let mut sandbox = Sandbox::to(url);
    sandbox.config.idle_timeout = SHORT;
    let throttle = Throttle::default();
    throttle.set(at_most(1_000_000));
    let transport = sandbox.transport().throttled_by(throttle.clone());
    let uploads: Vec<_> = ["goes-on", "waits", "is-stopped"]
        .map(|id| {
            let delivery = sandbox.of_length(id, 4_000_000);
            let (transport, progress) = (transport.clone(), delivery.progress.clone());
            (
                progress,
                tokio::spawn(async move { transport.deliver(delivery).await }),
            )
        })
        .into();
    until(|| bytes(&came) > 200_000).await;
    throttle.set(closed());
    let steps = || -> Vec<_> {
        uploads
            .iter()
            .map(|(progress, _)| progress.steps())
            .collect()
    };
    // What was in buffers has left by then; the idle time-out is a fifth of a second.
    passes(S).await;
    let (before, shown) = (bytes(&came), steps());
    passes(6 * S).await;
    assert_eq!(bytes(&came), before, "nothing leaves");
    let moved = steps().iter().zip(&shown).all(|(now, before)| now > before);
    assert!(
        moved,
        "each shows that it waits, and no more: {shown:?} {:?}",
        steps()
    );
    let mut uploads = uploads.into_iter();
    let (progress, stopped) = uploads.next_back().unwrap();
    let asked_at = Instant::now();
    progress.cancel();
    assert_eq!(fault(within(stopped).await.unwrap()), Fault::Cancelled);
    assert!(asked_at.elapsed() < S, "{:?}", asked_at.elapsed());
    throttle.set(Pace::Free);
    for (_, upload) in uploads {
        assert_eq!(answer(within(upload).await.unwrap()).status, 204);
    }
}

#[tokio::test]
async fn a_slow_limit_is_no_stall_either() {
    let (url, _) = counting_server().await;
    let mut sandbox = Sandbox::to(url);
    sandbox.config.idle_timeout = SHORT;
    let throttle = Throttle::default();
    // A piece of a kibibyte every third of a second and more.
    throttle.set(at_most(3_000));
    let transport = sandbox.transport().throttled_by(throttle);
    let delivery = delivery_of(&sandbox, 5_000);
    assert_eq!(
        answer(within(transport.deliver(delivery)).await).status,
        204
    );
}

fn delivery_of(sandbox: &Sandbox, len: u64) -> Delivery {
    let Delivery {
        id, archive, facts, ..
    } = sandbox.of_length("slow", len);
    delivery(id.as_str(), archive, facts)
}
