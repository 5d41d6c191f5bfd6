//! What is counted, for those who watch the receiver. Counts begin at nothing when it starts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Method;
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::model::episode::HostName;

/// So many hosts are counted each by itself; further ones are counted together, under no name. The
/// authority that signs certificates could sign any number of names.
const MAX_NAMES: usize = 10_000;
/// From a millisecond to a quarter of an hour, each bucket four times the one before.
const BUCKETS: (f64, f64, u16) = (0.001, 4.0, 11);

type Labels = [(&'static str, String); 2];
/// How many requests of each host are under way.
type Guests = Arc<Mutex<BTreeMap<HostName, usize>>>;
type Label = [(&'static str, &'static str); 1];

/// The counts.
#[derive(Debug)]
pub struct ReceiveCounts {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Family<Label, Histogram>,
    received_bytes: Counter,
    requests_in_flight: Gauge,
    connections: Gauge,
    handshakes_failed: Counter,
    store_full: Family<Label, Counter>,
    window_rejections: Mutex<BTreeMap<Option<HostName>, u64>>,
    guests: Guests,
}

impl Default for ReceiveCounts {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(BUCKETS.0, BUCKETS.1, BUCKETS.2));
        let mut tally = Self {
            registry: Registry::with_prefix("sealift_receiver"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            received_bytes: Counter::default(),
            requests_in_flight: Gauge::default(),
            connections: Gauge::default(),
            handshakes_failed: Counter::default(),
            store_full: Family::default(),
            window_rejections: Mutex::default(),
            guests: Arc::default(),
        };
        let registry = &mut tally.registry;
        registry.register(
            "requests",
            "Requests answered, by method and status (0: dropped)",
            tally.requests.clone(),
        );
        registry.register(
            "request_seconds",
            "From a request's head to its answer",
            tally.seconds.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of bodies that came in",
            tally.received_bytes.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests under way",
            tally.requests_in_flight.clone(),
        );
        registry.register("connections", "Connections open", tally.connections.clone());
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed",
            tally.handshakes_failed.clone(),
        );
        registry.register(
            "store_full",
            "Times that the store's disk had no more bytes, inodes or quota",
            tally.store_full.clone(),
        );
        tally
    }
}

/// A place among the requests of a host, and among all of them. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    _all: GaugeGuard,
    of_host: Option<(Guests, HostName)>,
}

/// One more on a gauge, until it is dropped.
#[derive(Debug)]
pub(super) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
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
    /// What is counted here, for the exposition.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
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
        self.handshakes_failed.inc();
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
        self.requests
            .get_or_create(&[
                ("method", method.to_owned()),
                ("status", status.to_string()),
            ])
            .inc();
        self.seconds
            .get_or_create(&[("method", method)])
            .observe(elapsed.as_secs_f64());
        self.received_bytes.inc_by(received_bytes);
    }

    /// Something could not be stored, since there are no more of these: bytes, inodes, quota.
    pub(super) fn store_was_full(&self, of_which: &'static str) {
        self.store_full
            .get_or_create(&[("used_up", of_which)])
            .inc();
    }

    /// An upload was turned away for its commit, or for saying none.
    pub(super) fn rejected_by_window(&self, host: Option<&HostName>) {
        let mut counts = self.window_rejections.lock();
        let name = host
            .cloned()
            .filter(|_| counts.len() < MAX_NAMES || counts.contains_key(&host.cloned()));
        *counts.entry(name).or_default() += 1;
    }

    /// How many uploads were turned away for their commit, by authenticated name.
    #[must_use]
    pub fn window_rejections(&self) -> BTreeMap<Option<HostName>, u64> {
        self.window_rejections.lock().clone()
    }
}

/// The methods that are known, each by its name; any number of others, by one.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(tally.requests_in_flight.get(), 1);
    }
}
