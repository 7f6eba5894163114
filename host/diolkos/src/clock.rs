//! The host's time stamp counter against its monotonic clock.
//!
//! The guest counts time in TSC ticks. Where no hypervisor tells the counter's frequency we measure it: two pairs of
//! readings, as far apart as the caller can afford.

use std::arch::x86_64::_rdtsc;
use std::thread;
use std::time::{Duration, Instant};

/// Apart by this much, the pairs give the frequency to about ten parts in a million.
const LEAST: Duration = Duration::from_millis(5);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    instant: Instant,
    tsc: u64,
}

impl Reading {
    /// Reads both clocks now.
    pub fn now() -> Self {
        // SAFETY: RDTSC exists on every x86-64 CPU and has no effect but its result.
        Self { instant: Instant::now(), tsc: unsafe { _rdtsc() } }
    }

    /// A reading so much later.
    #[cfg(test)]
    pub fn after(&self, time: Duration, ticks: u64) -> Self {
        Self { instant: self.instant + time, tsc: self.tsc + ticks }
    }

    /// When the reading was taken.
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// The counter's value.
    pub fn tsc(&self) -> u64 {
        self.tsc
    }

    /// The counter's frequency in kHz, measured from this reading to now; waits if that is too short a time.
    pub fn khz_since(&self) -> u64 {
        if let Some(rest) = LEAST.checked_sub(self.instant.elapsed()) {
            thread::sleep(rest);
        }
        let now = Self::now();
        let ticks = u128::from(now.tsc.wrapping_sub(self.tsc));
        let nanoseconds = (now.instant - self.instant).as_nanos().max(1);
        u64::try_from(ticks * 1_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (a, b) = (Reading::now().khz_since(), Reading::now().khz_since());
        assert!(a > 100_000 && a.abs_diff(b) < a / 100, "{a} kHz and {b} kHz");
    }
}
