//! What there is of an episode's archive, what its next turn with a packer is for, and what is
//! written beside it.
//!
//! ```text
//!              ┌── no room in the outbox ──▶ OnDemand: packed anew into each upload
//!   Pack ──────┤
//!              └──▶ Scratch ──persisted──▶ Durable ──its episode changed──▶ (packed again)
//!                      └──failed under an upload──▶ Untrusted: no byte of it is believed
//! ```

use crate::model::episode::Digest;
use crate::ship::machine::destination::verdict::{Proof, Refusal};

/// What there is of an episode's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveState {
    /// Nothing under its final name: it is not packed yet, or what is packed has a scratch name,
    /// and is lost in a crash.
    Scratch,
    /// Under its final name, and flushed.
    Durable,
    /// Not staged: packed anew for each attempt.
    OnDemand,
    /// Flushing it failed while it was sent. A failed fsync is not tried again on the same file,
    /// and nothing read from it is believed.
    Untrusted,
}

/// What an episode's next turn with a packer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// It is packed.
    Pack,
    /// The outbox has no room for it: it is packed without staying there.
    PackOnDemand,
    /// An archive of it lies in the outbox, or was measured: does that still fit?
    Check,
    /// The same, and the archive's bytes are read: the receiver found them damaged.
    CheckBytes,
}

impl ArchiveState {
    /// Whether there is something to look at before it is packed again: its archive in the outbox,
    /// or what was measured.
    pub(super) fn can_be_checked(self) -> bool {
        matches!(self, Self::Durable | Self::OnDemand)
    }
}

impl Preparation {
    pub(crate) fn is_check(self) -> bool {
        matches!(self, Self::Check | Self::CheckBytes)
    }

    /// What is to be done next with an archive in this state. One that is being made durable may
    /// be there in a moment.
    pub(super) fn of_what_there_is(self, archive: ArchiveState, is_persisting: bool) -> Self {
        match self {
            Self::CheckBytes if archive.can_be_checked() || is_persisting => Self::CheckBytes,
            Self::CheckBytes => Self::Pack,
            _ if archive.can_be_checked() => Self::Check,
            other => other,
        }
    }
}

/// A conflict that a receiver has reported.
#[derive(Debug)]
pub(super) enum Conflict {
    None,
    /// The operator was told.
    Logged,
    /// The same, and it is not written beside the archive yet.
    Unwritten(Box<Refusal>),
}

impl Conflict {
    pub(super) fn unwritten(&self) -> Option<&Refusal> {
        match self {
            Self::Unwritten(refusal) => Some(refusal),
            Self::None | Self::Logged => None,
        }
    }

    /// There is nothing to write any more.
    pub(super) fn forget_unwritten(&mut self) {
        if matches!(self, Self::Unwritten(_)) {
            *self = Self::Logged;
        }
    }

    /// Whether it is to be logged, which it is from now on.
    pub(super) fn is_news(&mut self) -> bool {
        let is_news = matches!(self, Self::None);
        if is_news {
            *self = Self::Logged;
        }
        is_news
    }
}

/// Whether a sidecar says that its archive was sent in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TriedNote {
    No,
    /// It is to.
    Due,
    Written,
}

/// What a receiver holds of an episode that was found changed when it was to be moved.
#[derive(Debug)]
pub(super) struct Delivered {
    /// What it holds. Where the episode packs to the same again, nothing is sent.
    pub(super) content_sha256: Digest,
    pub(super) proof: Proof,
    /// How often the same was packed again and found changed again.
    pub(super) again: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_looked_at_and_what_was_found_damaged_is_read() {
        use {ArchiveState as A, Preparation as P};
        for (next, archive, is_persisting, expected) in [
            (P::Pack, A::Scratch, false, P::Pack),
            (P::Pack, A::Durable, false, P::Check),
            (P::Pack, A::OnDemand, false, P::Check),
            // It cannot be believed, so it is packed anew.
            (P::Pack, A::Untrusted, false, P::Pack),
            // A process before this one has left something under its name.
            (P::Check, A::Scratch, false, P::Check),
            (P::CheckBytes, A::Durable, false, P::CheckBytes),
            // It may be durable in a moment.
            (P::CheckBytes, A::Scratch, true, P::CheckBytes),
            (P::CheckBytes, A::Scratch, false, P::Pack),
            (P::PackOnDemand, A::Scratch, false, P::PackOnDemand),
        ] {
            let found = next.of_what_there_is(archive, is_persisting);
            assert_eq!(found, expected, "{next:?} {archive:?} {is_persisting}");
        }
    }
}
