//! When `episodes/` and the outbox are looked through, and whether watches can be had.

use std::time::Duration;

use super::{
    Effect,
    context::{Context, NEVER},
};

/// The reconcile interval where watches cannot be had. Promised in docs/configuration.md: "5 where
/// only reconcile passes find anything".
const BLIND_INTERVAL: Duration = Duration::from_secs(5);

/// The reconcile passes.
#[derive(Debug)]
pub(super) struct Reconcile {
    next: Duration,
    is_scanning: bool,
    again: bool,
    is_blind: bool,
}

impl Reconcile {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            next: now,
            is_scanning: false,
            again: false,
            is_blind: false,
        }
    }

    /// Watches cannot be had.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// How long between two passes, as things stand.
    pub(super) fn interval(&self, cx: &Context) -> Duration {
        let set = cx.settings().reconcile_interval;
        if self.is_blind {
            set.min(BLIND_INTERVAL)
        } else {
            set
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.is_scanning && self.next < NEVER).then_some(self.next)
    }

    /// Nothing is known of what stirred: everything is looked at.
    pub(super) fn look_everywhere(&mut self, cx: &Context) {
        if !cx.is_once() {
            self.next = cx.now();
            self.again = self.is_scanning;
        }
    }

    /// Whether watches can be had. Returns whether they can again.
    pub(super) fn watching(&mut self, can: bool, cx: &Context) -> bool {
        let is_news = can && self.is_blind;
        self.is_blind = !can;
        self.within_the_interval(cx);
        is_news
    }

    /// The interval is another one: nothing waits longer than that.
    pub(super) fn within_the_interval(&mut self, cx: &Context) {
        if !cx.is_once() {
            self.next = self.next.min(cx.now() + self.interval(cx));
        }
    }

    /// The operator has changed something, and may have mended a folder: it is looked at now, and
    /// watched again. A pass that is under way sets its own next time when it comes back.
    pub(super) fn configured(&mut self, cx: &Context) {
        if !self.is_scanning && !cx.is_once() {
            self.next = cx.now();
        }
    }

    /// Begins a pass that is due. Returns whether it did.
    pub(super) fn begin_if_due(&mut self, cx: &mut Context) -> bool {
        let due = !self.is_scanning && self.next <= cx.now();
        if due {
            self.is_scanning = true;
            self.next = NEVER;
            cx.perform(Effect::Scan);
        }
        due
    }

    pub(super) fn ended(&mut self, cx: &Context) {
        self.is_scanning = false;
        let again = std::mem::take(&mut self.again);
        self.next = match (cx.is_once(), again) {
            // One pass is one scan.
            (true, _) => NEVER,
            (false, true) => cx.now(),
            (false, false) => cx.now() + self.interval(cx),
        };
    }

    /// No pass is under way (and, in one pass, none would begin).
    pub(super) fn is_idle(&self, cx: &Context) -> bool {
        let to_begin = cx.is_once() && !cx.is_stopping() && self.next < NEVER;
        !(to_begin || self.is_scanning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::{context, effects};

    #[test]
    fn without_watches_it_looks_every_few_seconds_and_with_them_again_as_seldom_as_is_set() {
        let mut cx = context(|_| {});
        let mut reconcile = Reconcile::new(cx.now());
        assert!(!reconcile.watching(false, &cx));
        assert_eq!(reconcile.interval(&cx), BLIND_INTERVAL);
        assert!(reconcile.watching(true, &cx), "they can be had again");
        assert_eq!(reconcile.interval(&cx), cx.settings().reconcile_interval);
        assert!(reconcile.begin_if_due(&mut cx));
        assert_eq!(effects(&mut cx), ["scan "]);
    }

    #[test]
    fn what_stirs_during_a_pass_is_looked_at_by_another_one_right_behind_it() {
        let mut cx = context(|_| {});
        let mut reconcile = Reconcile::new(cx.now());
        reconcile.begin_if_due(&mut cx);
        assert_eq!(reconcile.deadline(), None);
        reconcile.look_everywhere(&cx);
        assert!(!reconcile.begin_if_due(&mut cx), "one at a time");
        reconcile.ended(&cx);
        assert_eq!(reconcile.deadline(), Some(cx.now()));
    }

    #[test]
    fn a_reload_looks_everywhere_at_once() {
        let mut cx = context(|_| {});
        let mut reconcile = Reconcile::new(cx.now());
        reconcile.begin_if_due(&mut cx);
        reconcile.ended(&cx);
        assert!(!reconcile.begin_if_due(&mut cx), "its time has not come");
        reconcile.configured(&cx);
        assert!(reconcile.begin_if_due(&mut cx));
    }

    #[test]
    fn one_pass_is_one_scan() {
        let mut cx = context(|settings| settings.once = true);
        let mut reconcile = Reconcile::new(cx.now());
        assert!(!reconcile.is_idle(&cx), "it is to begin");
        reconcile.begin_if_due(&mut cx);
        reconcile.look_everywhere(&cx);
        reconcile.ended(&cx);
        assert_eq!(reconcile.deadline(), None);
        assert!(reconcile.is_idle(&cx));
    }
}
