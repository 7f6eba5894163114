//! When a run passed which point: what the waterfall of `--stats` is drawn from.

use std::time::Instant;

/// Points of a run, each with the moment at which it was passed.
#[derive(Debug, Clone, Default)]
pub struct Moments(Vec<(&'static str, Instant)>);

impl Moments {
    /// Passes `point` now.
    pub fn pass(&mut self, point: &'static str) {
        self.passed(point, Instant::now());
    }

    /// `point` was passed at `at`.
    pub fn passed(&mut self, point: &'static str, at: Instant) {
        self.0.push((point, at));
    }

    /// Those of `other`, too.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// All, in the order in which they were noted.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Instant)> {
        self.0.iter().copied()
    }
}
