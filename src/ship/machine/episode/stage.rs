//! Where an episode is on its way.

use std::sync::Arc;

use crate::ship::machine::{
    destination::verdict::Proof,
    step_result::{Packed, Reason},
};

/// Where an episode is on its way. See the picture in `machine.rs`.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Watched, not sealed.
    Open,
    /// Waits for its turn to be checked or packed.
    Sealed,
    Checking,
    Packing,
    /// Packed; waits for its turn to be sent.
    Ready(Arc<Packed>),
    Sending(Arc<Packed>),
    /// Waits for a time; then goes on with [`AfterRest`].
    Resting(AfterRest, Rest),
    /// In conflict: waits for a change, or for the operator.
    Parked(Arc<Packed>),
    /// The receiver has it; the move to `shipped/` waits for the disk, or is under way.
    Retiring(Arc<Packed>, Proof),
    Quarantining(Box<Reason>),
    /// What is left of it where it stood is being removed.
    Finishing,
    /// Not here any more; forgotten as soon as the event is dealt with.
    Left,
}

/// What follows a rest.
#[derive(Debug)]
pub(crate) enum AfterRest {
    Pack,
    Send(Arc<Packed>),
    Retire(Arc<Packed>, Proof),
    Quarantine(Box<Reason>),
    Finish,
}

/// Why an episode rests; what `ship --once` counts it as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Transient,
    Refused,
    Local,
    /// What was packed before under its name is nowhere else, and cannot be put aside.
    NameTaken,
}
