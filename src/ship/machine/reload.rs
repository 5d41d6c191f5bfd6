//! A person has changed something: what waited for that waits no longer.

use std::time::Duration;

use super::{
    Settings,
    queue::Machine,
    ramp::Ramp,
    state::{AfterRest, Rest, State},
};

impl Machine {
    /// Other settings from now on. `elsewhere`: the receiver is another one.
    pub(super) fn configured(&mut self, settings: Settings, elsewhere: bool, now: Duration) {
        let (once, seed) = (self.settings.once, self.settings.seed);
        let trusted = self.settings.trust();
        self.order_by(settings.order);
        self.settings = Settings {
            once,
            seed,
            ..settings
        };
        self.uploads_configured(now);
        // What is under way sets its own next time when it comes back.
        if !self.scanning && !once {
            self.next_scan = self.next_scan.min(now + self.reconcile_interval());
        }
        self.sweeps.within(self.settings.sweep_interval, now);
        self.destination.mended(now);
        if elsewhere {
            self.ramp = Ramp::default();
            self.destination.is_elsewhere();
            for episode in self.episodes.values_mut() {
                episode.fails_alone = false;
                episode.fails_alone_in_weather = false;
                episode.deliveries_at_failure = None;
                let of_the_first = episode.sent_elsewhere.unwrap_or(trusted);
                episode.sent_elsewhere = episode.sending().then_some(of_the_first);
                // What the other one holds says nothing of this one.
                episode.conflict = None;
                episode.conflict_told = false;
            }
        }
        // The weather of a receiver that stays the same, and what it asked for (Retry-After), are
        // as they were.
        let waits_for_a_person = |state: &State| match state {
            State::Resting(AfterRest::Send(_), Rest::Refused) => true,
            State::Resting(AfterRest::Send(_), Rest::Weather) | State::Parked(_) => elsewhere,
            State::Resting(..)
            | State::Open
            | State::Sealed
            | State::Checking
            | State::Packing
            | State::Ready(_)
            | State::Sending(_)
            | State::Retiring(..)
            | State::Quarantining(_)
            | State::Finishing => false,
        };
        let waiting = self
            .episodes
            .iter()
            .filter(|(_, episode)| waits_for_a_person(&episode.state));
        let mut waiting: Vec<_> = waiting.map(|(id, _)| id.clone()).collect();
        waiting.sort_unstable();
        for id in waiting {
            if let Some(episode) = self.episodes.get_mut(&id) {
                episode.failures.refused = 0;
                episode.failures.weather = 0;
            }
            self.sleep_until(&id, Some(now));
        }
    }
}
