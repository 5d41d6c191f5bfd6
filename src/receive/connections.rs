//! The places for connections, and who gives one up when they are all taken.
//!
//! ```text
//!  accept ──▶ a place is free ──────────────────────────────────────────────────────────▶ Place
//!         └─▶ all taken ─▶ one waits: idle, or its head has not come ──────▶ it is closed ─▶ Place
//!                       └▶ a request is under way on each ──▶ a spare place: `/healthz` is
//!                                                               answered there, all else refused
//! ```
//!
//! The spare places are given away by the same rule. So a monitor is answered however many
//! downloads there are, and none of those waits without a word.
//!
//! Of those that wait, one of the peer that has the most connections is closed, and of these the
//! one that has waited the longest: a peer that holds all the places makes room for the newcomer,
//! and not those that hold one. But a connection has time for its first head before it makes room
//! for another of its own peer: behind one address there may be a monitor and a whole laboratory.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// So long a connection has at least for its first head to come and to be read.
const HEAD_TIME: Duration = Duration::from_millis(100);

/// Whose address this is: a machine has any number of addresses of IPv6 in its network of 64 bits
/// (RFC 7421), so that they count as one, as those behind one address of IPv4 do.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

/// Places beside those that are asked for, in which nothing but `/healthz` is answered. So many
/// newcomers of one peer, in the time above, do not keep one another from being heard.
const SPARE: usize = 48;

/// All the places.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    taken: Mutex<Taken>,
    /// A place was given back, or a connection waits that did not.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// By the order in which they came.
    places: BTreeMap<u64, ConnectionSeen>,
    of_peer: BTreeMap<IpAddr, usize>,
    spare: usize,
    /// One more each time that a connection comes or begins to wait: it orders them without a
    /// clock.
    moment: u64,
}

#[derive(Debug)]
struct ConnectionSeen {
    peer: IpAddr,
    /// Requests whose answer has not wholly been handed to the connection.
    under_way: usize,
    /// Since when there is none.
    waits_since: u64,
    /// A request of its has come.
    has_asked: bool,
    since: Instant,
    leave: Arc<Notify>,
    is_spare: bool,
}

/// A connection's place. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    number: u64,
    leave: Arc<Notify>,
    /// More than three quarters of the places were taken when this one was.
    pub(super) crowded: bool,
    /// It is none of those that are asked for: only `/healthz` is answered.
    pub(super) is_spare: bool,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A place for a connection of this peer, as soon as there is one or one can be made.
    pub(super) async fn take(self: &Arc<Self>, peer: IpAddr) -> ConnectionSlot {
        loop {
            // One notification is remembered: none is missed between the look and the wait. Only
            // the listener waits here.
            if let Some(place) = self.try_take(peer) {
                return place;
            }
            // By then those that have places now have had their time.
            let _ = timeout(HEAD_TIME, self.changed.notified()).await;
        }
    }

    fn try_take(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionSlot> {
        let peer = network_of(peer);
        let mut taken = self.taken.lock();
        let all_taken = taken.places.len() - taken.spare >= self.most;
        let is_spare = all_taken && taken.close_one(false, peer).is_none();
        if is_spare && taken.spare >= SPARE {
            taken.close_one(true, peer)?;
        }
        let number = taken.next();
        let leave = Arc::new(Notify::new());
        let seen = ConnectionSeen {
            peer,
            under_way: 0,
            waits_since: number,
            has_asked: false,
            since: Instant::now(),
            leave: Arc::clone(&leave),
            is_spare,
        };
        taken.spare += usize::from(is_spare);
        taken.places.insert(number, seen);
        *taken.of_peer.entry(peer).or_default() += 1;
        let crowded = taken.places.len() * 4 > self.most * 3;
        Some(ConnectionSlot {
            connections: Arc::clone(self),
            number,
            leave,
            crowded,
            is_spare,
        })
    }
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Its place is free at once; the connection itself ends as soon as its task runs.
    fn close_one(&mut self, is_spare: bool, newcomer: IpAddr) -> Option<()> {
        let number = self.to_be_closed(is_spare, newcomer)?;
        if let Some(seen) = self.give_back(number) {
            tracing::debug!(peer = %seen.peer, "closed a connection of {}: all are taken, and it has no request under way", seen.peer);
            seen.leave.notify_one();
        }
        Some(())
    }

    fn to_be_closed(&self, is_spare: bool, newcomer: IpAddr) -> Option<u64> {
        let connections = |peer| self.of_peer.get(&peer).copied().unwrap_or_default();
        let waiting = || {
            let places = self.places.iter();
            places.filter(|(_, it)| it.under_way == 0 && it.is_spare == is_spare)
        };
        let order =
            |seen: &ConnectionSeen| (connections(seen.peer), std::cmp::Reverse(seen.waits_since));
        let had_its_time =
            |seen: &ConnectionSeen| seen.has_asked || seen.since.elapsed() >= HEAD_TIME;
        let has_more = |seen: &ConnectionSeen| connections(seen.peer) > connections(newcomer) + 1;
        let (number, first) = waiting().max_by_key(|(_, seen)| order(seen))?;
        if has_more(first) || had_its_time(first) {
            return Some(*number);
        }
        let others = waiting().filter(|(_, seen)| {
            had_its_time(seen) && connections(seen.peer) >= connections(newcomer)
        });
        let (number, _) = others.max_by_key(|(_, seen)| order(seen))?;
        Some(*number)
    }

    fn give_back(&mut self, number: u64) -> Option<ConnectionSeen> {
        let seen = self.places.remove(&number)?;
        self.spare -= usize::from(seen.is_spare);
        match self.of_peer.get_mut(&seen.peer) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                self.of_peer.remove(&seen.peer);
            }
        }
        Some(seen)
    }
}

impl ConnectionSlot {
    /// Ends when the place is needed for another connection.
    pub(super) async fn needed(&self) {
        self.leave.notified().await;
    }

    /// A request is under way, until what is returned is dropped.
    pub(super) fn request(&self) -> RequestUnderWay {
        if let Some(seen) = self.connections.taken.lock().places.get_mut(&self.number) {
            seen.under_way += 1;
            seen.has_asked = true;
        }
        RequestUnderWay {
            connections: Arc::clone(&self.connections),
            number: self.number,
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.taken.lock().give_back(self.number);
        self.connections.changed.notify_one();
    }
}

/// A request of a connection.
#[derive(Debug)]
pub(super) struct RequestUnderWay {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        let mut taken = self.connections.taken.lock();
        let now = taken.next();
        if let Some(seen) = taken.places.get_mut(&self.number) {
            seen.under_way -= 1;
            seen.waits_since = now;
        }
        drop(taken);
        self.connections.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn told(place: &ConnectionSlot) -> bool {
        let mut needed = std::pin::pin!(place.needed());
        needed
            .as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_addresses_of_a_network_of_64_bits_are_one_peer() {
        let network = |text: &str| network_of(text.parse().unwrap());
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
        let connections = Connections::new(3);
        let take = |text: &str| connections.try_take(text.parse().unwrap()).unwrap();
        let places = ["192.0.2.1", "2001:db8::1", "2001:db8::2"].map(take);
        let _newcomer = take("192.0.2.3");
        assert_eq!(places.each_ref().map(told), [false, true, false]);
    }

    #[test]
    fn whoever_holds_most_gives_up_what_has_waited_longest() {
        let connections = Connections::new(4);
        let take = |last| connections.try_take(peer(last)).unwrap();
        let (oldest, first, second, third) = (take(1), take(2), take(2), take(2));
        assert_eq!(
            [&oldest, &first, &second, &third].map(|place| place.crowded),
            [false, false, false, true]
        );
        // It waits since now, and no longer the longest.
        drop(first.request());
        let newcomer = take(3);
        assert_eq!(
            [&oldest, &first, &second, &third].map(told),
            [false, false, true, false]
        );
        // What was closed gives back nothing twice.
        drop(second);
        let _another = take(4);
        assert_eq!(
            [&oldest, &first, &third, &newcomer].map(told),
            [false, false, true, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_many_behind_an_address_is_heard_before_it_makes_room_for_its_neighbours() {
        let connections = Connections::new(1);
        let under_way = connections.try_take(peer(1)).unwrap();
        let _download = under_way.request();
        let neighbours: Vec<_> = (0..SPARE)
            .map(|_| connections.try_take(peer(1)).unwrap())
            .collect();
        assert!(connections.try_take(peer(1)).is_none());
        // Another address waits for none of them.
        let other = connections.try_take(peer(2)).unwrap();
        assert!(told(&neighbours[0]) && other.is_spare);
        // What has been answered makes room at once, and has no need to be there.
        drop(neighbours[7].request());
        let newcomer = connections.try_take(peer(1)).unwrap();
        assert!(told(&neighbours[7]) && newcomer.is_spare);
        // And any that has said nothing in its time.
        let waiting = Instant::now();
        let _next = connections.take(peer(1)).await;
        assert!(told(&neighbours[1]) && waiting.elapsed() < HEAD_TIME * 2);
        assert!(!told(&newcomer));
    }

    #[tokio::test]
    async fn requests_under_way_are_not_closed_and_a_newcomer_waits_once_the_spare_are_taken() {
        let connections = Connections::new(2);
        let places = [
            connections.try_take(peer(1)).unwrap(),
            connections.try_take(peer(1)).unwrap(),
        ];
        let bodies = places.each_ref().map(ConnectionSlot::request);
        let mut spare: Vec<_> = (0..SPARE)
            .map(|_| connections.try_take(peer(1)).unwrap())
            .collect();
        assert!(spare.iter().all(|place| place.is_spare));
        // Of those that wait in a spare place one makes room, and of no others.
        let _asking: Vec<_> = spare[1..].iter().map(ConnectionSlot::request).collect();
        let answered = connections.try_take(peer(2)).unwrap();
        assert!(answered.is_spare && told(&spare[0]));
        let _asked = answered.request();
        assert!(connections.try_take(peer(2)).is_none());
        let taking = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.take(peer(2)).await }
        });
        tokio::task::yield_now().await;
        assert!(!taking.is_finished());
        let [first, second] = bodies;
        drop(second);
        let newcomer = taking.await.unwrap();
        assert!(!newcomer.is_spare);
        assert_eq!(places.each_ref().map(told), [false, true]);
        spare.clear();
        drop((first, places));
        assert_eq!(connections.taken.lock().spare, 1);
        drop(answered);
        assert_eq!(connections.taken.lock().of_peer.len(), 1);
    }
}
