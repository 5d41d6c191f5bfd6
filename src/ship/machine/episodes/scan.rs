//! What a reconcile pass found, and what that makes of each episode.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::Episodes;
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        Scanned,
        context::{AT_ONCE, Context},
    },
};

impl Episodes {
    pub(crate) fn scan_begins(&mut self) {
        self.left_since_scan = Some(HashSet::new());
    }

    /// [`Effect::Scan`](crate::ship::machine::Effect::Scan) came back; `None` where `episodes/`
    /// could not be read.
    pub(crate) fn scanned(&mut self, found: Option<Scanned>, is_blind: bool, cx: &mut Context) {
        let left = self.left_since_scan.take().unwrap_or_default();
        // While episodes/ cannot be read, nothing is concluded from what is not there.
        let Some(found) = found else {
            if cx.is_once() {
                cx.count_unseen(1);
            }
            return;
        };
        if cx.is_once() {
            cx.count_unseen(found.mistaken + found.stranded);
        }
        let mut here: BTreeMap<_, _> = found.episodes.into_iter().collect();
        here.retain(|id, _| !left.contains(id));
        // What is not there may be younger than the scan: only a look of its own says that it is
        // gone.
        let mut missing: Vec<_> = self.known.keys().cloned().collect();
        missing.retain(|id| !here.contains_key(id));
        missing.sort_unstable();
        for id in missing {
            self.hint(&id, cx);
        }
        let noted: HashSet<_> = found.noted.iter().cloned().collect();
        for id in found.archives.into_iter().chain(found.noted) {
            if here.contains_key(&id) {
                self.known_or_new(&id);
            }
            // An archive that this process is at work on is known already.
            let known = self.step(&id, cx, |episode, _| episode.note_archive_in_outbox());
            if known.is_none() && !left.contains(&id) {
                cx.settle_orphan(&id, false);
            }
        }
        self.were_tried(found.tried, cx);
        for (id, look) in here {
            self.known_or_new(&id);
            self.step(&id, cx, |episode, cx| {
                episode.looked_from_afar(&id, look, is_blind, cx);
            });
        }
        let taken_away = self.iter().filter(|(id, episode)| {
            episode.is_on_demand_without_unwritten_conflict() && !noted.contains(*id)
        });
        let mut taken_away: Vec<_> = taken_away.map(|(id, _)| id.clone()).collect();
        taken_away.sort_unstable();
        for id in found.unlabelled.into_iter().chain(taken_away) {
            self.step(&id, cx, |episode, _| episode.reconsider());
        }
    }

    /// What a process before this one has tried in vain goes behind what it has not. In one pass
    /// after another that is all there is to go by: the longer ago, the sooner.
    fn were_tried(&mut self, tried: Vec<(EpisodeId, u64)>, cx: &mut Context) {
        for (id, at_s) in tried {
            let at = if cx.is_once() {
                Duration::from_secs(at_s)
            } else {
                cx.now()
            };
            self.step(&id, cx, |episode, _| episode.note_tried(at.max(AT_ONCE)));
        }
    }
}
