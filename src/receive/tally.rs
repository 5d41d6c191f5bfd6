//! What is counted, for those who watch the receiver. Counts begin at nothing when it starts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Method;
use parking_lot::Mutex;

use super::room::UsedUp;
use crate::{
    clock,
    model::{episode::HostName, exposition::Exposition, records::WallTime},
};

/// So many hosts are counted each by itself; further ones are counted together, under no name. The
/// authority that signs certificates could sign any number of names.
const MAX_NAMES: usize = 10_000;
/// From a millisecond to a quarter of an hour, each bucket four times the one before.
const BUCKETS: usize = 11;

/// How many requests of each host are under way.
type Guests = Arc<Mutex<BTreeMap<HostName, usize>>>;

/// The counts.
#[derive(Debug, Default)]
pub struct ReceiveCounts {
    /// By method and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// By method.
    seconds: Mutex<BTreeMap<&'static str, Seconds>>,
    received_bytes: AtomicU64,
    requests_in_flight: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    handshakes_failed: AtomicU64,
    heads_refused: AtomicU64,
    panics: AtomicU64,
    store_full: Mutex<BTreeMap<&'static str, u64>>,
    window_rejections: Mutex<BTreeMap<Option<HostName>, WindowRejections>>,
    guests: Guests,
}

/// Uploads turned away for their commit.
#[derive(Debug, Clone, Copy)]
struct WindowRejections {
    count: u64,
    last: WallTime,
}

#[derive(Debug, Default)]
struct Seconds {
    buckets: [u64; BUCKETS],
    sum: f64,
    count: u64,
}

/// What is told from the start, as 0: who watches sees how a number grows, and of one that comes
/// into being as 1 sees no growth.
const UPLOADS: [&str; 3] = ["PATCH", "POST", "PUT"];
const UPLOAD_STATUSES: [u16; 13] = [
    0, 200, 201, 400, 401, 403, 408, 409, 411, 412, 413, 500, 503,
];
const FULL: u16 = 507;

/// Up to how many seconds each bucket counts.
fn limits() -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.001), |limit| Some(limit * 4.0)).take(BUCKETS)
}

/// A place among the requests of a host, and among all of them. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    _all: GaugeGuard,
    of_host: Option<(Guests, HostName)>,
}

/// One more on a gauge, until it is dropped.
#[derive(Debug)]
pub(super) struct GaugeGuard(Arc<AtomicU64>);

impl GaugeGuard {
    fn of(gauge: &Arc<AtomicU64>) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some((guests, name)) = &self.of_host else {
            return;
        };
        let mut guests = guests.lock();
        match guests.get_mut(name) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                guests.remove(name);
            }
        }
    }
}

impl ReceiveCounts {
    /// Adds what is counted here to the exposition.
    pub(super) fn tell(&self, text: &mut Exposition) {
        let mut requests = self.requests.lock().clone();
        for method in UPLOADS {
            for status in UPLOAD_STATUSES.into_iter().chain([FULL]) {
                requests.entry((method, status)).or_default();
            }
        }
        let requests = requests.into_iter().map(|((method, status), count)| {
            let method = ("method", method.to_owned());
            ([method, ("status", status.to_string())], count)
        });
        text.labelled("requests_total", requests);
        text.family("request_seconds");
        for (method, seconds) in &*self.seconds.lock() {
            let mut within = 0;
            let buckets = limits().zip(seconds.buckets).map(|(limit, count)| {
                within += count;
                (limit, within)
            });
            let method = Some(("method", (*method).to_owned()));
            let sums = (seconds.sum, seconds.count);
            text.histogram("request_seconds", method, buckets, sums);
        }
        for (name, count) in [
            ("received_bytes_total", &self.received_bytes),
            ("requests_in_flight", &self.requests_in_flight),
            ("connections", &self.connections),
            ("handshakes_failed_total", &self.handshakes_failed),
            ("heads_refused_total", &self.heads_refused),
            ("panics_total", &self.panics),
        ] {
            text.value(name, count.load(Relaxed));
        }
        let full = self.store_full.lock();
        let full = UsedUp::ALL.map(UsedUp::name).map(|name| {
            let count = full.get(name).copied().unwrap_or_default();
            ([("used_up", name.to_owned())], count)
        });
        text.labelled("store_full_total", full);
        let rejections = self.window_rejections.lock();
        let by_host = |host: &Option<HostName>| {
            let host = host.as_ref().map(ToString::to_string);
            [("host", host.unwrap_or_default())]
        };
        let counts = rejections
            .iter()
            .map(|(host, rejected)| (by_host(host), rejected.count));
        let unnamed = (!rejections.contains_key(&None)).then(|| (by_host(&None), 0));
        text.labelled("window_rejections_total", unnamed.into_iter().chain(counts));
        let last = rejections.iter();
        let last = last.map(|(host, rejected)| (by_host(host), rejected.last.unix_seconds()));
        text.labelled("window_rejection_timestamp_seconds", last);
    }

    /// One more request of this host; `None` where it has `most` under way already. A caller
    /// without a name is not limited here.
    pub(super) fn enter(&self, host: Option<&HostName>, most: usize) -> Option<Guest> {
        let all = GaugeGuard::of(&self.requests_in_flight);
        let Some(host) = host else {
            return Some(Guest {
                _all: all,
                of_host: None,
            });
        };
        let mut guests = self.guests.lock();
        let count = guests.entry(host.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(guests);
        Some(Guest {
            _all: all,
            of_host: Some((Arc::clone(&self.guests), host.clone())),
        })
    }

    /// A connection, as long as what is returned lives.
    pub(super) fn connected(&self) -> GaugeGuard {
        GaugeGuard::of(&self.connections)
    }

    /// A connection that never became one.
    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// A request that hyper has refused by itself.
    pub(super) fn head_refused(&self) {
        self.heads_refused.fetch_add(1, Relaxed);
    }

    /// A fault of ours has ended a request, or a connection.
    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// A request was answered, or dropped (status 0).
    pub(super) fn answered(
        &self,
        method: &Method,
        status: u16,
        received_bytes: u64,
        elapsed: Duration,
    ) {
        let method = name_of(method);
        *self.requests.lock().entry((method, status)).or_default() += 1;
        let mut seconds = self.seconds.lock();
        let seconds = seconds.entry(method).or_default();
        (seconds.sum, seconds.count) = (seconds.sum + elapsed.as_secs_f64(), seconds.count + 1);
        if let Some(at) = limits().position(|limit| elapsed.as_secs_f64() <= limit) {
            seconds.buckets[at] += 1;
        }
        self.received_bytes.fetch_add(received_bytes, Relaxed);
    }

    /// Something could not be stored, since there are no more of these: bytes, inodes, quota.
    pub(super) fn store_was_full(&self, of_which: &'static str) {
        *self.store_full.lock().entry(of_which).or_default() += 1;
    }

    /// An upload was turned away for its commit, or for saying none.
    pub(super) fn rejected_by_window(&self, host: Option<&HostName>) {
        let mut counts = self.window_rejections.lock();
        let name = host
            .cloned()
            .filter(|_| counts.len() < MAX_NAMES || counts.contains_key(&host.cloned()));
        let last = clock::wall_now();
        let none = WindowRejections { count: 0, last };
        let rejected = counts.entry(name).or_insert(none);
        *rejected = WindowRejections {
            count: rejected.count + 1,
            last,
        };
    }

    /// How many uploads were turned away for their commit, by authenticated name.
    pub fn window_rejections(&self) -> BTreeMap<Option<HostName>, u64> {
        let counts = self.window_rejections.lock();
        let counts = counts.iter();
        counts
            .map(|(host, rejected)| (host.clone(), rejected.count))
            .collect()
    }
}

/// The methods that are known, each by its name; any number of others, by one.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::exposition::ExpositionFormat;

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    #[test]
    fn names_without_end_are_counted_without_end_of_memory() {
        let tally = ReceiveCounts::default();
        let name = |n: usize| host(&format!("host-{n}"));
        for n in 0..MAX_NAMES + 5 {
            tally.rejected_by_window(Some(&name(n)));
        }
        tally.rejected_by_window(Some(&name(0)));
        let counts = tally.window_rejections();
        assert_eq!(
            (counts.len(), counts[&None], counts[&Some(name(0))]),
            (MAX_NAMES + 1, 5, 2)
        );
    }

    #[test]
    fn a_host_that_has_its_share_under_way_waits_and_the_others_do_not() {
        let tally = ReceiveCounts::default();
        let (a, b) = (host("a"), host("b"));
        let first = tally.enter(Some(&a), 2).unwrap();
        let _second = tally.enter(Some(&a), 2).unwrap();
        assert!(tally.enter(Some(&a), 2).is_none());
        assert!(tally.enter(Some(&b), 2).is_some());
        assert!((0..9).all(|_| tally.enter(None, 2).is_some()));
        drop(first);
        assert!(tally.enter(Some(&a), 2).is_some());
        assert_eq!(
            tally.guests.lock().len(),
            1,
            "nothing is remembered of those that have gone"
        );
        assert_eq!(tally.requests_in_flight.load(Relaxed), 1);
    }

    fn told(tally: &ReceiveCounts) -> String {
        let families = crate::receive::metrics::FAMILIES;
        let mut text = Exposition::new("p", families, ExpositionFormat::Text);
        tally.tell(&mut text);
        text.into_text()
    }

    #[test]
    fn what_is_counted_is_told_from_the_start_so_that_the_first_of_it_is_seen() {
        let tally = ReceiveCounts::default();
        let lines = [
            "p_requests_total{method=\"PUT\",status=\"507\"}",
            "p_requests_total{method=\"PATCH\",status=\"412\"}",
            "p_store_full_total{used_up=\"inodes\"}",
            "p_window_rejections_total{host=\"\"}",
            "p_heads_refused_total",
            "p_panics_total",
        ];
        let expect = |count: u64| {
            let text = told(&tally);
            for line in lines {
                let line = format!("{line} {count}");
                assert!(text.lines().any(|has| has == line), "{line}: {text}");
            }
            text
        };
        let text = expect(0);
        assert!(
            !text.contains("p_window_rejection_timestamp_seconds{"),
            "{text}"
        );
        tally.answered(&Method::PUT, 507, 0, Duration::ZERO);
        tally.answered(&Method::PATCH, 412, 0, Duration::ZERO);
        tally.store_was_full("inodes");
        tally.rejected_by_window(None);
        tally.head_refused();
        tally.panicked();
        let text = expect(1);
        assert!(
            text.contains("p_window_rejection_timestamp_seconds{host=\"\"} "),
            "{text}"
        );
    }

    #[test]
    fn a_bucket_counts_what_took_no_longer_than_its_limit() {
        let tally = ReceiveCounts::default();
        for ms in [1, 3, 2_000_000] {
            tally.answered(&Method::PUT, 201, 5, Duration::from_millis(ms));
        }
        let text = told(&tally);
        for line in [
            "p_requests_total{method=\"PUT\",status=\"201\"} 3",
            "p_request_seconds_bucket{method=\"PUT\",le=\"0.001\"} 1",
            "p_request_seconds_bucket{method=\"PUT\",le=\"0.004\"} 2",
            "p_request_seconds_bucket{method=\"PUT\",le=\"1048.576\"} 2",
            "p_request_seconds_bucket{method=\"PUT\",le=\"+Inf\"} 3",
            "p_request_seconds_sum{method=\"PUT\"} 2000.004",
            "p_received_bytes_total 15",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}: {text}");
        }
    }
}
