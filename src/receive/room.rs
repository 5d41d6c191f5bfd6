//! Whether there is room for an upload: on the disk, beside those under way, and within its host's
//! share.
//!
//! What is under way was promised room when its head came, and takes it byte by byte. So two large
//! uploads do not both fit into room for one, and a full disk is said before the first byte is
//! sent, not after the last.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::store::{Store, StoreError, StoreSpace, Usage};
use crate::{
    config::ReceiveLimits,
    model::{
        episode::HostName,
        wire::{Problem, ProblemType},
    },
};

/// How old the sums of the store may be. A walk over a hundred thousand episodes takes a third of a
/// second.
const CENSUS_AGE: Duration = Duration::from_secs(60);

/// An upload makes some files: its part, what is noted of it, its receipt, and scratch of each.
const LEAST_FILES: u64 = 8;

/// What a part takes at least: two files, whatever is in them.
const LEAST_PART_BYTES: u64 = 8192;

/// What is known of the room.
#[derive(Debug)]
pub(super) struct StoreRoom {
    min_free_bytes: u64,
    host_quota_bytes: Option<u64>,
    parts_max_bytes: Option<u64>,
    promised: Arc<AtomicU64>,
    census: Mutex<Option<StoreSums>>,
    since: Shared,
}

/// The sums of the store as last walked.
#[derive(Debug)]
struct StoreSums {
    at: Instant,
    usage: Usage,
}

/// What the last walk could not see.
#[derive(Debug, Default)]
struct Since {
    shares: BTreeMap<HostName, Share>,
    parts_bytes: u64,
}

/// Of one host.
#[derive(Debug, Default)]
struct Share {
    /// Promised to its uploads under way, bytes.
    promised_bytes: u64,
    /// Stored or kept since the last walk, bytes.
    stored_bytes: u64,
}

type Shared = Arc<parking_lot::Mutex<Since>>;

/// Room for one upload, until it is written or given up.
#[derive(Debug)]
pub(super) struct Promise {
    promised: Arc<AtomicU64>,
    left_bytes: u64,
    /// Of its host's share, to the end: the walk sees nothing of it before.
    share: Option<(Shared, HostName, u64)>,
}

impl Promise {
    /// So much of it is on the disk now, where the file system counts it.
    pub(super) fn took(&mut self, bytes: u64) {
        let taken = bytes.min(self.left_bytes);
        self.left_bytes -= taken;
        self.promised.fetch_sub(taken, Ordering::Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.left_bytes, Ordering::Relaxed);
        if let Some((since, host, bytes)) = &self.share
            && let Some(share) = since.lock().shares.get_mut(host)
        {
            share.promised_bytes = share.promised_bytes.saturating_sub(*bytes);
        }
    }
}

impl StoreRoom {
    pub(super) fn new(limits: &ReceiveLimits) -> Self {
        Self {
            min_free_bytes: limits.min_free_bytes,
            host_quota_bytes: limits.host_quota_bytes,
            parts_max_bytes: limits.parts_max_bytes,
            promised: Arc::default(),
            census: Mutex::default(),
            since: Arc::default(),
        }
    }

    /// Promises room for so many bytes more.
    ///
    /// # Errors
    /// In the outer result, those of the store. In the inner one `no-space`, and `quota-exceeded`
    /// with `quota_bytes` and `used_bytes`.
    pub(super) async fn promise<S: Store>(
        &self,
        store: &S,
        host: Option<&HostName>,
        bytes: u64,
    ) -> Result<Result<Promise, Problem>, StoreError> {
        let share = match self.share(store, host, bytes).await? {
            Ok(share) => share,
            Err(problem) => return Ok(Err(problem)),
        };
        let space = store.space().await?;
        let promised = self.promised.fetch_add(bytes, Ordering::Relaxed);
        // From here on it is given back, whatever is decided.
        let promise = Promise {
            promised: Arc::clone(&self.promised),
            left_bytes: bytes,
            share,
        };
        let fits = fits(bytes, space, promised, self.min_free_bytes);
        Ok(fits
            .map(|()| promise)
            .map_err(|problem| UsedUp::by(space).said_in(problem)))
    }

    /// So much more of a host's share, where it has one. Compared and taken at once: of many that
    /// ask together, no more are promised than there is.
    async fn share<S: Store>(
        &self,
        store: &S,
        host: Option<&HostName>,
        bytes: u64,
    ) -> Result<Result<Option<(Shared, HostName, u64)>, Problem>, StoreError> {
        let (Some(quota), Some(host)) = (self.host_quota_bytes, host) else {
            return Ok(Ok(None));
        };
        let usage = self.usage(store).await?;
        let walked = usage
            .by_owner
            .get(&Some(host.clone()))
            .copied()
            .unwrap_or_default();
        let mut since = self.since.lock();
        let share = since.shares.entry(host.clone()).or_default();
        let used = walked
            .saturating_add(share.promised_bytes)
            .saturating_add(share.stored_bytes);
        Ok(within_quota(bytes, used, quota).map(|()| {
            share.promised_bytes += bytes;
            Some((Arc::clone(&self.since), host.clone(), bytes))
        }))
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
        if let Err(problem) = self.share(store, host, bytes.max(1)).await?.map(|share| {
            drop(Promise {
                promised: Arc::default(),
                left_bytes: 0,
                share,
            });
        }) {
            return Ok(Err(problem));
        }
        let space = store.space().await?;
        let fits = fits(
            bytes,
            space,
            self.promised.load(Ordering::Relaxed),
            self.min_free_bytes,
        );
        Ok(fits.map_err(|problem| UsedUp::by(space).said_in(problem)))
    }

    /// Whether what broke off may be kept beside what is kept already.
    pub(super) async fn keeps_parts<S: Store>(&self, store: &S, bytes: u64) -> bool {
        let Some(max) = self.parts_max_bytes else {
            return true;
        };
        let usage = self.usage(store).await;
        let since = self.since.lock().parts_bytes;
        usage.is_ok_and(|usage| {
            let kept = usage
                .parts_bytes
                .saturating_add(usage.parts * LEAST_PART_BYTES)
                .saturating_add(since);
            kept.saturating_add(bytes.max(LEAST_PART_BYTES)) <= max
        })
    }

    /// The sums of the store, at most a minute old.
    pub(super) async fn usage<S: Store>(&self, store: &S) -> Result<Usage, StoreError> {
        let mut census = self.census.lock().await;
        match &*census {
            Some(known) if known.at.elapsed() < CENSUS_AGE => Ok(known.usage.clone()),
            Some(_) | None => {
                let at = Instant::now();
                let usage = store.usage().await?;
                *census = Some(StoreSums {
                    at,
                    usage: usage.clone(),
                });
                let mut since = self.since.lock();
                since.parts_bytes = 0;
                since
                    .shares
                    .values_mut()
                    .for_each(|share| share.stored_bytes = 0);
                since.shares.retain(|_, share| share.promised_bytes > 0);
                Ok(usage)
            }
        }
    }

    /// A host has stored, or left a part of, so much more.
    pub(super) fn stored(&self, host: Option<&HostName>, bytes: u64, is_part: bool) {
        let mut since = self.since.lock();
        if is_part {
            since.parts_bytes = since
                .parts_bytes
                .saturating_add(bytes.max(LEAST_PART_BYTES));
        }
        if let (Some(_), Some(host)) = (self.host_quota_bytes, host) {
            let share = since.shares.entry(host.clone()).or_default();
            share.stored_bytes = share.stored_bytes.saturating_add(bytes);
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
    let detail = format!(
        "{} bytes are free, {promised} of them promised to uploads under way, and {min_free_bytes} are kept free.",
        space.free_bytes
    );
    Err(Problem::new(ProblemType::NoSpace, detail))
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
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_and_what_is_kept_free_is_not_free() {
        let space = StoreSpace {
            free_bytes: 1000,
            total_bytes: 5000,
            free_files: Some(LEAST_FILES),
        };
        for (bytes, promised, min_free, fit) in [
            (1000, 0, 0, true),
            (1001, 0, 0, false),
            (400, 300, 300, true),
            (401, 300, 300, false),
            (0, 0, 1001, false),
            (u64::MAX, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(
                fits(bytes, space, promised, min_free).is_ok(),
                fit,
                "{bytes} {promised} {min_free}"
            );
        }
    }

    #[test]
    fn inodes_that_are_used_up_are_named_as_such_whatever_room_there_is() {
        for (free_files, fit) in [
            (None, true),
            (Some(LEAST_FILES), true),
            (Some(LEAST_FILES - 1), false),
            (Some(0), false),
        ] {
            let found = fits(
                1,
                StoreSpace {
                    free_bytes: 1000,
                    total_bytes: 5000,
                    free_files,
                },
                0,
                0,
            );
            assert_eq!(found.is_ok(), fit, "{free_files:?}");
            if let Err(problem) = found {
                assert_eq!(problem.kind.status(), 507);
                assert!(problem.detail.contains("inodes"), "{}", problem.detail);
            }
        }
    }

    #[test]
    fn of_what_there_is_no_more_is_told_from_the_error_and_the_space() {
        let space = |files| {
            Some(StoreSpace {
                free_bytes: 1000,
                total_bytes: 5000,
                free_files: files,
            })
        };
        let (full, quota) = (
            io::ErrorKind::StorageFull.into(),
            io::ErrorKind::QuotaExceeded.into(),
        );
        for (error, space, expected) in [
            (&full, None, UsedUp::Bytes),
            (&full, space(None), UsedUp::Bytes),
            (&full, space(Some(LEAST_FILES)), UsedUp::Bytes),
            (&full, space(Some(0)), UsedUp::Inodes),
            (&quota, space(Some(0)), UsedUp::Quota),
        ] {
            assert_eq!(UsedUp::of(error, space), expected);
        }
    }

    #[test]
    fn a_share_is_used_up_to_its_last_byte() {
        assert!(within_quota(10, 90, 100).is_ok());
        let problem = within_quota(11, 90, 100).unwrap_err();
        assert_eq!(problem.kind.status(), 507);
        assert_eq!(
            (&problem.extra["used_bytes"], &problem.extra["quota_bytes"]),
            (&90.into(), &100.into())
        );
    }

    #[test]
    fn a_promise_is_given_back_as_it_is_written_and_the_rest_at_its_end() {
        let promised = Arc::new(AtomicU64::new(100));
        let mut promise = Promise {
            promised: Arc::clone(&promised),
            left_bytes: 100,
            share: None,
        };
        promise.took(30);
        assert_eq!(promised.load(Ordering::Relaxed), 70);
        promise.took(1000);
        assert_eq!(promised.load(Ordering::Relaxed), 0);
        let again = Promise {
            promised: Arc::clone(&promised),
            left_bytes: 0,
            share: None,
        };
        drop((promise, again));
        assert_eq!(promised.load(Ordering::Relaxed), 0);
    }
}
