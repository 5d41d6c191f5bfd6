//! Whether there is room for an upload: on the disk, beside those under way, within its host's
//! share, and beside what is kept of those that broke off.
//!
//! What is under way was promised room when its head came, and takes it byte by byte. So two large
//! uploads do not both fit into room for one, and a full disk is said before the first byte is
//! sent, not after the last.
//!
//! ```text
//!  a walk through the store ──▶ sums ◀── what this receiver has stored and kept since it began
//!   beside the work, one at a time  └──▶ every question, which waits for no walk
//! ```

mod part_room;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, interval_at, timeout},
};

pub(super) use self::part_room::PartRoom;

use self::part_room::PartSum;
use super::{
    store::{PartKey, Store, StoreError, StoreSpace, Usage},
    stored_episode::Key,
};
use crate::{
    config::ReceiveLimits,
    model::{
        episode::HostName,
        wire::{Problem, ProblemType},
    },
};

/// The store is walked again for what is asked when its sums are older than this, and so that walks
/// take a tenth of the time at most: cold, one over three hundred thousand episodes takes a minute
/// and a half.
const SUMS_AGE: Duration = Duration::from_secs(60);
const WALK_PAUSE: u32 = 9;

/// An upload makes some files: its part, what is noted of it, its receipt, and scratch of each.
const LEAST_FILES: u64 = 8;

/// So long an upload has all the room that it announced. From then on it has what it would fill in
/// the time below at its rate so far: one that trickles does not keep a disk for itself.
const PROMISE_GRACE: Duration = Duration::from_secs(30);
const PROMISE_AHEAD: Duration = Duration::from_secs(3600);

/// So long a question waits for what is free. A disk that hangs never says.
const SPACE_TIME: Duration = Duration::from_millis(800);

/// What is known of the room.
#[derive(Debug)]
pub(super) struct StoreRoom {
    min_free_bytes: u64,
    host_quota_bytes: Option<u64>,
    parts_max_bytes: Option<u64>,
    sums: Shared,
    /// They were asked for since the last walk.
    wanted: Notify,
    walked: Notify,
}

type Shared = Arc<Mutex<StoreSums>>;

#[derive(Debug, Default)]
struct StoreSums {
    /// When the last walk that has ended began; `None`: none has.
    walked_at: Option<Instant>,
    /// What is held, by that walk and what was stored since it began.
    held: Usage,
    /// What was stored since the walk that is under way began, and whose it is; `None`: there is
    /// none under way. By name, and not by time: a store may have a clock of its own.
    since: Option<BTreeMap<Key, (Option<HostName>, u64)>>,
    /// What is given its name just now.
    naming: BTreeMap<Key, usize>,
    /// How many walks have begun.
    walks: u64,
    parts: BTreeMap<PartKey, PartSum>,
    promises: BTreeMap<u64, Promised>,
    next_promise: u64,
}

/// Who asks for room, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) enum RoomFor<'a> {
    /// Whatever this host may bring.
    Host(Option<&'a HostName>),
    /// All of an archive, from its beginning: what is kept of it goes.
    Whole(&'a PartKey),
    /// The rest of an archive.
    Rest(&'a PartKey),
}

impl<'a> RoomFor<'a> {
    fn host(self) -> Option<&'a HostName> {
        match self {
            Self::Host(host) => host,
            Self::Whole(part) | Self::Rest(part) => part.owner.as_ref(),
        }
    }

    fn part(self) -> Option<&'a PartKey> {
        match self {
            Self::Host(_) => None,
            Self::Whole(part) | Self::Rest(part) => Some(part),
        }
    }

    fn is_replaced(self, part: &PartKey) -> bool {
        matches!(self, Self::Whole(own) if own == part)
    }
}

/// The bytes of an upload on their way.
#[derive(Debug)]
struct Coming {
    came_bytes: AtomicU64,
    left_bytes: AtomicU64,
    began: Instant,
}

impl Coming {
    fn left(&self) -> u64 {
        self.left_bytes.load(Ordering::Relaxed)
    }

    fn came(&self) -> u64 {
        self.came_bytes.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.came().saturating_add(self.left())
    }

    fn more(&self, bytes: u64) {
        self.left_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What it would bring at its rate so far; `None` for as long as it has what it announced.
    fn ahead(&self) -> Option<u64> {
        let elapsed = self.began.elapsed();
        if elapsed < PROMISE_GRACE {
            return None;
        }
        let ahead = u128::from(self.came()) * PROMISE_AHEAD.as_millis() / elapsed.as_millis();
        Some(u64::try_from(ahead).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Promised {
    host: Option<HostName>,
    part: Option<PartKey>,
    coming: Arc<Coming>,
}

impl Promised {
    /// What others must leave to it.
    fn counts(&self) -> u64 {
        let left = self.coming.left();
        self.coming.ahead().map_or(left, |ahead| left.min(ahead))
    }
}

/// Room for one upload, until it is written or given up.
#[derive(Debug)]
pub(super) struct Promise {
    sums: Shared,
    number: u64,
    coming: Arc<Coming>,
}

impl Promise {
    /// What of it is not written yet.
    pub(super) fn left_bytes(&self) -> u64 {
        self.coming.left()
    }

    /// So much of it is on the disk now, where the file system counts it.
    pub(super) fn took(&mut self, bytes: u64) {
        let taken = bytes.min(self.coming.left());
        self.coming.left_bytes.fetch_sub(taken, Ordering::Relaxed);
        self.coming.came_bytes.fetch_add(taken, Ordering::Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.sums.lock().promises.remove(&self.number);
    }
}

/// An archive that is given its name, until this is dropped.
#[derive(Debug)]
pub(super) struct NamedNow {
    sums: Shared,
    key: Key,
}

impl NamedNow {
    /// It is stored.
    pub(super) fn stored(self, owner: Option<&HostName>, bytes: u64) {
        let mut sums = self.sums.lock();
        sums.held.add_archive(owner.cloned(), bytes);
        if let Some(since) = &mut sums.since {
            since.insert(self.key.clone(), (owner.cloned(), bytes));
        }
    }
}

impl Drop for NamedNow {
    fn drop(&mut self) {
        let mut sums = self.sums.lock();
        match sums.naming.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                sums.naming.remove(&self.key);
            }
        }
    }
}

/// The sums of the store, for those who watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreTotals {
    pub(super) episodes: u64,
    pub(super) bytes: u64,
    pub(super) parts: usize,
    pub(super) parts_bytes: u64,
    /// How long ago the walk began that they go by.
    pub(super) age: Duration,
}

impl StoreSums {
    fn walk_begins(&mut self) {
        self.walks += 1;
        self.since = Some(BTreeMap::new());
    }

    /// Whether a walk is to leave an archive out, since it is counted when it has its name, or was.
    fn is_counted_here(&self, key: &Key) -> bool {
        let since = self.since.as_ref();
        self.naming.contains_key(key) || since.is_some_and(|since| since.contains_key(key))
    }

    /// What was found by a walk takes the place of what was known when it began.
    fn found(&mut self, mut found: Usage, at: Instant) {
        for (owner, bytes) in self.since.take().unwrap_or_default().into_values() {
            found.add_archive(owner, bytes);
        }
        self.parts_found(std::mem::take(&mut found.parts));
        self.held = found;
        self.walked_at = Some(at);
    }

    /// What is a host's, or promised to it. An upload of the same archive is not counted beside the
    /// one that is asked about, which takes its place.
    fn used_by(&self, host: &HostName, room_for: RoomFor<'_>) -> u64 {
        let stored = self.held.by_owner.get(&Some(host.clone()));
        let parts = self.parts.iter();
        let parts = parts
            .filter(|(part, _)| part.owner.as_ref() == Some(host) && !room_for.is_replaced(part));
        // One predecessor may be half open. More are as many uploads.
        let mut predecessor = room_for.part();
        let promises = self.promises.values();
        let promises = promises.filter(|promise| {
            let is_of_host = promise.host.as_ref() == Some(host);
            let is_same = predecessor.is_some() && promise.part.as_ref() == predecessor;
            if is_same {
                predecessor = None;
            }
            is_of_host && !is_same
        });
        stored
            .copied()
            .into_iter()
            .chain(parts.map(|(_, sum)| sum.beside_promise()))
            .chain(promises.map(|promise| promise.coming.bytes()))
            .fold(0, u64::saturating_add)
    }

    /// What this host must leave to uploads under way. However much another announces, and how
    /// often it comes anew, that is no more than half of what there is.
    fn promised_beside(&self, host: Option<&HostName>, there_is: u64) -> u64 {
        let mut of_hosts: BTreeMap<Option<&HostName>, u64> = BTreeMap::new();
        for promise in self.promises.values() {
            let sum = of_hosts.entry(promise.host.as_ref()).or_default();
            *sum = sum.saturating_add(promise.counts());
        }
        let counted = of_hosts.into_iter().map(|(of, sum)| {
            let is_own = host.is_some() && of == host;
            if is_own { sum } else { sum.min(there_is / 2) }
        });
        counted.fold(0, u64::saturating_add)
    }
}

/// What is free, for a question that is answered within a second.
///
/// # Errors
/// Those of the store, and that its disk does not answer.
pub(super) async fn space_soon<S: Store>(store: &S) -> Result<StoreSpace, StoreError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer").into();
    let asked = timeout(SPACE_TIME, store.space()).await;
    asked.unwrap_or_else(|_| Err(late()))
}

impl StoreRoom {
    pub(super) fn new(limits: &ReceiveLimits) -> Self {
        Self {
            min_free_bytes: limits.min_free_bytes,
            host_quota_bytes: limits.host_quota_bytes,
            parts_max_bytes: limits.parts_max_bytes,
            sums: Arc::default(),
            wanted: Notify::new(),
            walked: Notify::new(),
        }
    }

    /// Walks through the store, at once and then whenever its sums are asked for and no longer
    /// young, and says what each has found. Never ends.
    pub(super) async fn keep_sums<S: Store>(&self, store: &S, tell: impl Fn(&Usage)) {
        loop {
            let began = Instant::now();
            self.sums.lock().walk_begins();
            match store.usage(self.counted_here()).await {
                Ok(found) => {
                    tell(&found);
                    self.sums.lock().found(found, began);
                }
                Err(error) => tracing::warn!(%error, "cannot sum up what the store holds: {error}"),
            }
            self.walked.notify_one();
            let pause = SUMS_AGE.max(began.elapsed() * WALK_PAUSE);
            interval_at(Instant::now() + pause, pause).tick().await;
            self.wanted.notified().await;
        }
    }

    /// Which archives a walk is to leave out.
    fn counted_here(&self) -> impl Fn(&Key) -> bool + Send + 'static {
        let sums = Arc::clone(&self.sums);
        move |key| sums.lock().is_counted_here(key)
    }

    /// Says so where nothing can ever be taken.
    pub(super) async fn look_at<S: Store>(&self, store: &S) {
        let Ok(space) = space_soon(store).await else {
            return;
        };
        if let Some(why) = never_fits(space, self.min_free_bytes) {
            tracing::error!("every upload is refused (507): {why}");
        }
    }

    /// Ends after a walk.
    pub(super) async fn walked(&self) {
        self.walked.notified().await;
    }

    /// The sums as they are known; `None` until the first walk has ended.
    pub(super) fn totals(&self) -> Option<StoreTotals> {
        self.wanted.notify_one();
        let sums = self.sums.lock();
        let walked_at = sums.walked_at?;
        let kept = sums.parts.values().map(|sum| sum.kept_bytes);
        let kept = kept.filter(|bytes| *bytes > 0);
        Some(StoreTotals {
            episodes: sums.held.episodes,
            bytes: sums.held.bytes,
            parts: kept.clone().count(),
            parts_bytes: kept.sum(),
            age: walked_at.elapsed(),
        })
    }

    /// Promises room for so many bytes more. Compared and taken at once: of many that ask together,
    /// no more are promised than there is.
    ///
    /// # Errors
    /// In the outer result, those of the store. In the inner one `no-space`, and `quota-exceeded`
    /// with `quota_bytes` and `used_bytes`.
    pub(super) async fn promise<S: Store>(
        &self,
        store: &S,
        room_for: RoomFor<'_>,
        bytes: u64,
    ) -> Result<Result<Promise, Problem>, StoreError> {
        let space = store.space().await?;
        let mut sums = self.sums.lock();
        if let Err(problem) = self.fits(&sums, space, room_for, bytes) {
            return Ok(Err(problem));
        }
        Ok(Ok(self.enter(&mut sums, room_for, bytes)))
    }

    /// Promises an upload more than it was promised.
    ///
    /// # Errors
    /// As [`Self::promise`].
    pub(super) async fn extend<S: Store>(
        &self,
        store: &S,
        room_for: RoomFor<'_>,
        promise: &Promise,
        bytes: u64,
    ) -> Result<Result<(), Problem>, StoreError> {
        let space = store.space().await?;
        let sums = self.sums.lock();
        if let Err(problem) = self.fits(&sums, space, room_for, bytes) {
            return Ok(Err(problem));
        }
        promise.coming.more(bytes);
        Ok(Ok(()))
    }

    fn enter(&self, sums: &mut StoreSums, room_for: RoomFor<'_>, bytes: u64) -> Promise {
        let number = sums.next_promise;
        sums.next_promise += 1;
        let coming = Arc::new(Coming {
            came_bytes: AtomicU64::new(0),
            left_bytes: AtomicU64::new(bytes),
            began: Instant::now(),
        });
        let promised = Promised {
            host: room_for.host().cloned(),
            part: room_for.part().cloned(),
            coming: Arc::clone(&coming),
        };
        sums.promises.insert(number, promised);
        Promise {
            sums: Arc::clone(&self.sums),
            number,
            coming,
        }
    }

    /// Whether an upload of so many bytes could be taken, as far as room goes. None is promised.
    ///
    /// # Errors
    /// As [`Self::promise`].
    pub(super) async fn is_there<S: Store>(
        &self,
        store: &S,
        host: Option<&HostName>,
        bytes: u64,
    ) -> Result<Result<(), Problem>, StoreError> {
        let space = space_soon(store).await?;
        let room_for = RoomFor::Host(host);
        Ok(self.fits(&self.sums.lock(), space, room_for, bytes))
    }

    fn fits(
        &self,
        sums: &StoreSums,
        mut space: StoreSpace,
        room_for: RoomFor<'_>,
        bytes: u64,
    ) -> Result<(), Problem> {
        let host = room_for.host();
        if let (Some(quota), Some(host)) = (self.host_quota_bytes, host) {
            self.wanted.notify_one();
            within_quota(bytes.max(1), sums.used_by(host, room_for), quota)?;
        }
        space.free_bytes = space.free_bytes.saturating_add(sums.replaced_by(room_for));
        let there_is = space.free_bytes.saturating_sub(self.min_free_bytes);
        let promised = sums.promised_beside(host, there_is);
        fits(bytes, space, promised, self.min_free_bytes)
            .map_err(|problem| UsedUp::by(space).said_in(problem))
    }

    /// An archive is about to be given its name.
    pub(super) fn names(&self, key: &Key) -> NamedNow {
        *self.sums.lock().naming.entry(key.clone()).or_default() += 1;
        NamedNow {
            sums: Arc::clone(&self.sums),
            key: key.clone(),
        }
    }
}

/// What of the store's disk is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsedUp {
    Bytes,
    Inodes,
    Quota,
}

impl UsedUp {
    pub(super) const ALL: [Self; 3] = [Self::Bytes, Self::Inodes, Self::Quota];

    fn by(space: StoreSpace) -> Self {
        if space.free_files.is_some_and(|free| free < LEAST_FILES) {
            Self::Inodes
        } else {
            Self::Bytes
        }
    }

    /// What an error of a full disk was about: ENOSPC is said of bytes and of inodes alike.
    pub(super) fn of(error: &io::Error, space: Option<StoreSpace>) -> Self {
        if error.kind() == io::ErrorKind::QuotaExceeded {
            return Self::Quota;
        }
        space.map_or(Self::Bytes, Self::by)
    }

    /// As the metrics and a problem's member `used_up` have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Inodes => "inodes",
            Self::Quota => "quota",
        }
    }

    /// The same problem, with what it is about.
    pub(super) fn said_in(self, problem: Problem) -> Problem {
        problem.with("used_up", self.name())
    }
}

fn fits(bytes: u64, space: StoreSpace, promised: u64, min_free_bytes: u64) -> Result<(), Problem> {
    if let Some(free_files @ ..LEAST_FILES) = space.free_files {
        let detail = format!(
            "The inodes of the store's file system are used up: {free_files} more files can be made there, however many bytes are free."
        );
        return Err(Problem::new(ProblemType::NoSpace, detail));
    }
    let wanted = bytes
        .saturating_add(promised)
        .saturating_add(min_free_bytes);
    if wanted <= space.free_bytes {
        return Ok(());
    }
    let detail = never_fits(space, min_free_bytes).unwrap_or_else(|| {
        format!(
            "{} bytes are free, {promised} of them promised to uploads under way, and {min_free_bytes} are kept free.",
            space.free_bytes
        )
    });
    Err(Problem::new(ProblemType::NoSpace, detail))
}

/// Why no upload ever fits, where that is so however much is free.
fn never_fits(space: StoreSpace, min_free_bytes: u64) -> Option<String> {
    let total_bytes = space.total_bytes;
    (min_free_bytes >= total_bytes).then(|| {
        format!(
            "receive.min_free_bytes = {min_free_bytes} leaves nothing of the store's file system, which has {total_bytes} bytes: set it lower."
        )
    })
}

fn within_quota(bytes: u64, used: u64, quota: u64) -> Result<(), Problem> {
    if used.saturating_add(bytes) <= quota {
        return Ok(());
    }
    let detail =
        format!("This host has {used} bytes here and may have {quota}; {bytes} more do not fit.");
    Err(Problem::new(ProblemType::QuotaExceeded, detail)
        .with("quota_bytes", quota)
        .with("used_bytes", used))
}

#[cfg(test)]
mod tests;
