//! Chance, all of it out of one seed.

use std::time::Duration;

use crate::ship::machine::destination::backoff::Jitter;

/// A stream of decisions that its seed determines.
#[derive(Debug)]
pub(super) struct Dice(Jitter);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Jitter::new(seed))
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number from 0 up to, and without, `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[usize::try_from(self.below(among.len() as u64)).unwrap()]
    }

    /// Between the two, in milliseconds.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
