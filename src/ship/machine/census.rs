//! How many episodes there are of each kind, for the reports that an operator reads.

use super::{
    queue::Machine,
    state::{Rest, State},
    window::LocalTime,
};

/// A count of all episodes, and what holds them up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Not sealed yet.
    pub open: usize,
    /// Sealed; wait for their turn.
    pub waiting: usize,
    /// Being packed, or compared with their archive.
    pub packing: usize,
    /// Being sent.
    pub uploading: usize,
    /// Wait for a time: the weather, our own disk, a recorder that still writes.
    pub resting: usize,
    /// Refused, and sent again later.
    pub refused: usize,
    /// In conflict: wait for a person.
    pub conflicts: usize,
    /// On their way to `shipped/` or `quarantine/`.
    pub moving: usize,
    /// Why the receiver is held, where it is.
    pub held: Option<String>,
    /// Until when nothing is sent, where the upload window is closed.
    pub outside_window_until: Option<LocalTime>,
    /// Watches cannot be had.
    pub blind: bool,
}

impl Machine {
    /// Counts them.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census {
            held: self.destination.hold().map(|hold| hold.why.detail.clone()),
            outside_window_until: self.gate.closed_until(),
            blind: self.blind,
            ..Census::default()
        };
        for episode in self.episodes.values() {
            let count = match &episode.state {
                State::Open => &mut census.open,
                State::Sealed | State::Ready(_) => &mut census.waiting,
                State::Checking | State::Packing => &mut census.packing,
                State::Sending(_) => &mut census.uploading,
                State::Resting(_, Rest::Weather | Rest::Local) => &mut census.resting,
                State::Resting(_, Rest::Refused) => &mut census.refused,
                State::Parked(_) => &mut census.conflicts,
                State::Retiring(..) | State::Quarantining(_) | State::Finishing => {
                    &mut census.moving
                }
            };
            *count += 1;
        }
        census
    }
}
