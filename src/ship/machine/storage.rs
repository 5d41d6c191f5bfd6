//! The disk on this side: whether the outbox has room and can be written, and whether something is
//! to be removed from `shipped/` for want of room.

mod disk_pressure;
pub mod folder_check;
pub mod outbox_space;

use std::{collections::BTreeSet, time::Duration};

use self::disk_pressure::DiskPressure;
use super::{Notice, context::Context, destination::backoff::LOCAL, step_result::PackFailure};
use crate::model::episode::EpisodeId;

/// The disk on this side.
#[derive(Debug, Default)]
pub(super) struct Storage {
    full: Fullness,
    /// The last one whose archive could not be written, since one could.
    failed_last: Option<EpisodeId>,
    failures: u32,
    paused_until: Option<Duration>,
    /// Why packing paused last.
    why: String,
    pressure: DiskPressure,
}

/// Whether the outbox has turned out to be full.
#[derive(Debug, Default)]
struct Fullness {
    until: Option<Duration>,
    failures: u32,
}

impl Storage {
    /// Whether an archive may be written to the outbox, for all that is known.
    pub(super) fn has_room(&self, now: Duration) -> bool {
        self.full.until.is_none_or(|until| until <= now)
    }

    /// Until when nothing is packed, where the outbox cannot be written.
    pub(super) fn paused_until(&self, now: Duration) -> Option<Duration> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Why packing paused last.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Packing has failed, and may have for want of something here.
    pub(super) fn pack_failed(&mut self, id: &EpisodeId, failure: &PackFailure, cx: &mut Context) {
        match failure {
            PackFailure::Short(_) => self.pressure.felt(cx),
            PackFailure::Full(why) => self.is_full(why, cx),
            PackFailure::Outbox(why) => self.is_at_fault(id, why, cx),
            PackFailure::Changed(_)
            | PackFailure::UnfinishedManifest(..)
            | PackFailure::Fault(..)
            | PackFailure::OpenForWriting { .. }
            | PackFailure::Gone
            | PackFailure::Unreadable(_)
            | PackFailure::Large
            | PackFailure::Cancelled => {}
        }
    }

    /// Room was reserved, and was not there: another process took it, or there is a quota. No other
    /// episode needs to run into that.
    fn is_full(&mut self, why: &str, cx: &mut Context) {
        self.pressure.felt(cx);
        self.full.failures = self.full.failures.saturating_add(1);
        let wait = cx.wait(LOCAL, self.full.failures);
        if self.has_room(cx.now()) {
            cx.log(Notice::OutboxFull(why.to_owned(), wait));
        }
        self.full.until = self.full.until.max(Some(cx.now() + wait));
    }

    /// The outbox itself is at fault, it seems. It may be one file in it: only two different ones
    /// in a row speak for the folder.
    fn is_at_fault(&mut self, id: &EpisodeId, why: &str, cx: &mut Context) {
        let before = self.failed_last.replace(id.clone());
        if before.is_some_and(|other| other != *id) {
            self.failures += 1;
            let wait = cx.wait(LOCAL, self.failures);
            self.paused_until = Some(cx.now() + wait);
            why.clone_into(&mut self.why);
            cx.log(Notice::PackingPaused(why.to_owned(), wait));
        }
    }

    /// An archive was written: there is room.
    pub(super) fn archive_written(&mut self) {
        self.full = Fullness::default();
        self.failed_last = None;
        self.failures = 0;
    }

    /// A reconcile pass looks at the disk too.
    pub(super) fn look(&mut self, cx: &mut Context) {
        self.pressure.felt(cx);
    }

    /// A clean-up begins: there may be something to remove after all.
    pub(super) fn clean_up_begins(&mut self) {
        self.pressure.hope();
    }

    /// One more lies in `shipped/`, which may be removed.
    pub(super) fn shipped(&mut self, cx: &mut Context) {
        self.pressure.hope();
        self.pressure.felt(cx);
    }

    /// One that is delivered has no room there. However much is wanted to stay free, it needs that.
    /// `is_first`: it has waited for nothing yet.
    pub(super) fn needs(
        &mut self,
        id: &EpisodeId,
        need_bytes: u64,
        is_first: bool,
        cx: &mut Context,
    ) {
        self.pressure.needs(id, need_bytes, is_first, cx);
    }

    /// [`Effect::FreeSpace`](super::Effect::FreeSpace) came back. Returns those that may be
    /// moved now.
    pub(super) fn relieved(&mut self, enough: bool, cx: &mut Context) -> BTreeSet<EpisodeId> {
        self.pressure.relieved(enough, cx)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.pressure.is_under_way()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::{context, effects, of};

    #[test]
    fn one_file_that_cannot_be_written_pauses_nothing_and_two_different_ones_do() {
        let (mut storage, mut cx) = (Storage::default(), context(|_| {}));
        let failure = PackFailure::Outbox("read-only".to_owned());
        storage.pack_failed(&of("a"), &failure, &mut cx);
        storage.pack_failed(&of("a"), &failure, &mut cx);
        assert_eq!(storage.paused_until(cx.now()), None);
        storage.pack_failed(&of("b"), &failure, &mut cx);
        assert!(storage.paused_until(cx.now()).is_some());
        assert_eq!(storage.why(), "read-only");
        // An archive that could be written between says that the folder is well.
        let mut storage = Storage::default();
        storage.pack_failed(&of("a"), &failure, &mut cx);
        storage.archive_written();
        storage.pack_failed(&of("b"), &failure, &mut cx);
        assert_eq!(storage.paused_until(cx.now()), None);
    }

    #[test]
    fn an_outbox_that_was_full_has_room_again_after_a_while_or_once_an_archive_was_written() {
        let (mut storage, mut cx) = (Storage::default(), context(|_| {}));
        storage.pack_failed(&of("a"), &PackFailure::Full("quota".to_owned()), &mut cx);
        assert!(!storage.has_room(cx.now()));
        assert!(storage.has_room(cx.now() + LOCAL.cap));
        storage.archive_written();
        assert!(storage.has_room(cx.now()));
    }

    #[test]
    fn pressure_that_found_nothing_to_remove_is_felt_again_only_when_something_was_shipped() {
        let (mut storage, mut cx) = (
            Storage::default(),
            context(|settings| settings.relieve = true),
        );
        storage.look(&mut cx);
        assert_eq!(effects(&mut cx), ["relieve "]);
        assert!(!storage.is_idle());
        storage.relieved(false, &mut cx);
        storage.look(&mut cx);
        assert!(effects(&mut cx).is_empty());
        storage.shipped(&mut cx);
        assert_eq!(effects(&mut cx), ["relieve "]);
    }

    #[test]
    fn what_had_no_room_is_moved_once_some_was_made_and_waits_its_time_the_second_time() {
        let (mut storage, mut cx) = (
            Storage::default(),
            context(|settings| settings.relieve = true),
        );
        storage.needs(&of("a"), 7, true, &mut cx);
        assert_eq!(storage.relieved(true, &mut cx), BTreeSet::from([of("a")]));
        storage.needs(&of("a"), 7, false, &mut cx);
        assert!(storage.relieved(true, &mut cx).is_empty());
    }
}
