//! The numbers that could be others, each in this one place: what it is for, and what is worse with
//! a smaller or a larger one. What fell when a number was taken away is written in
//! docs/architecture.md.
//!
//! A number that a document promises stands where it is used and names the document and its words;
//! one that a format, a unit or a type fixes says what fixes it.

use std::time::Duration;

/// What is no longer than this is small, bytes: a fraction of a second to pack, and some seconds on
/// a slow line.
pub const SMALL_BYTES: u64 = 16 * 1024 * 1024;

/// What goes on by less than this hardly moves, bytes: of a limited line each upload needs so much
/// a second (receivers give up what comes too slowly; ours below a kibibyte a second), and an
/// attempt that gets no further than this could be followed by others all but for ever.
pub(super) const LEAST_BYTES: u64 = 16 * 1024;

/// No wait is shorter, so that a run of lucky draws is not a busy loop; and a pause that would be
/// is none.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// Between attempts of what moves, and between those that were not tried yet while the destination
/// is held: hardly more than an attempt takes by itself.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// How long an archive may be scratch while its upload runs. A small upload is acknowledged sooner,
/// and making its archive durable would only compete with the receiver for the disk.
pub(super) const PERSIST_AFTER: Duration = Duration::from_millis(250);

/// What has its slot for longer than this takes long, whatever its size; and the first pause where
/// the next attempt may well succeed.
pub(super) const BRIEF: Duration = Duration::from_secs(1);

/// The first pause where it hardly will, since something has to be mended; and between looks, or
/// attempts, that cost something.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// What was sent to its last byte, and is not answered for so long, hangs, for all that is known: a
/// receiver has nothing left to do but to hash and to flush.
pub(super) const SILENT: Duration = Duration::from_secs(10);

/// How often that is looked at again of which no event tells, and the longest pause where what is
/// wrong passes by itself.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Moves and what finishes them, orphans and flushes at once: enough to keep a disk busy beside
/// packing.
pub(super) const DISK_STEPS: usize = 4;

/// So many are few: that are tried at once while the destination may have too much to do.
pub(super) const FEW: u32 = 4;

/// So many are some: that are tried at once where they are refused, which is no sign of too much to
/// do, or in one pass, which has no other time; and that add hardly anything, one after another.
pub(super) const SOME: u32 = 16;

/// So many are many: that wait for their move before no further upload is begun, or that fail in a
/// row before it looks (more) like the destination.
pub(super) const MANY: u32 = 64;

/// While the destination is held, so many may be packed for probes, beyond what keeps the uploads
/// busy.
pub(super) const MOST_FRESH_AHEAD: usize = 256;

/// A queue that is no longer than this is no backlog: it is served in its order.
pub(super) const BACKLOG: usize = 8;

/// What comes so often in a row is hardly chance. Promised in docs/architecture.md: "held for it
/// after two episodes in a row".
pub(super) const TWICE: u32 = 2;

/// And so often it is none.
pub(super) const ENOUGH: u8 = 3;
