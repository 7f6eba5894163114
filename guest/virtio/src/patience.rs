//! How long to look for a reply before sleeping until the device interrupts.
//!
//! To sleep and be woken costs some tens of microseconds where interrupts are emulated, more than most replies take. So who
//! waits looks first, with interrupts off; but only for about as long as replies have taken lately, since looking for one
//! that is not coming soon is that much time lost. The device's side does the same for requests (`vmm::polling`).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest look, in nanoseconds: about what a sleep costs.
const MOST_NS: u64 = 60_000;
/// The longest look while another thread could use the processor: what an interrupt costs that thread.
const MOST_SHARED_NS: u64 = 20_000;
/// A host copies so many bytes in a nanosecond: large replies may take that much longer.
const BYTES_PER_NS: u64 = 8;
/// Of so many replies that are not looked for, one is all the same: how long it takes to be woken says little about how long
/// the reply took.
const PROBE: u64 = 16;
/// How much of what is known one reply changes.
const WEIGHT: u64 = 8;

/// What is known of one queue's replies.
#[derive(Debug, Default)]
pub struct Patience {
    /// How long a reply took lately, beyond what its bytes take.
    usual_ns: AtomicU64,
    /// Replies that were not looked for.
    skipped: AtomicU64,
}

/// How long to look for one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    alone_ns: u64,
    shared_ns: u64,
}

impl Look {
    /// Whether to give up after so many nanoseconds. `shared`: another thread could use the processor.
    pub fn is_over(self, elapsed_ns: u64, shared: bool) -> bool {
        elapsed_ns >= if shared { self.shared_ns } else { self.alone_ns }
    }
}

fn copying(bytes: u64) -> u64 {
    bytes / BYTES_PER_NS
}

impl Patience {
    /// How long to look for a reply to a request that carries so many bytes, there and back.
    pub fn look(&self, bytes: u64) -> Look {
        let usual = self.usual_ns.load(Relaxed);
        let expected = usual + copying(bytes);
        let hopeless = usual > MOST_NS && !self.skipped.fetch_add(1, Relaxed).is_multiple_of(PROBE);
        // Twice the usual finds all but the rare late ones; and something, since what is usual has to be found out.
        let alone_ns = if hopeless { 0 } else { (2 * usual).clamp(MOST_SHARED_NS, MOST_NS) + copying(bytes) };
        let shared_ns = if expected > MOST_SHARED_NS { 0 } else { MOST_SHARED_NS };
        Look { alone_ns, shared_ns: shared_ns.min(alone_ns) }
    }

    /// A reply to such a request took so long.
    pub fn took(&self, bytes: u64, ns: u64) {
        // One that took very long, perhaps because the host had other things to do, is not the rule.
        let beyond = ns.saturating_sub(copying(bytes)).min(4 * MOST_NS);
        let usual = self.usual_ns.load(Relaxed);
        // Two processors may do this at once; then one reply more or less counts.
        self.usual_ns.store((usual * (WEIGHT - 1) + beyond) / WEIGHT, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(replies: &[u64]) -> Patience {
        let patience = Patience::default();
        replies.iter().for_each(|ns| patience.took(0, *ns));
        patience
    }

    #[test]
    fn quick_replies_are_looked_for_and_not_much_longer_than_they_take() {
        let look = after(&[15_000; 40]).look(0);
        assert!(!look.is_over(25_000, false) && look.is_over(31_000, false), "{look:?}");
        let look = Patience::default().look(0);
        assert!(!look.is_over(MOST_SHARED_NS - 1, false), "{look:?}: nothing is known yet");
        assert!(after(&[u64::MAX]).look(0).is_over(MOST_NS, false), "never longer than a sleep costs");
    }

    #[test]
    fn slow_replies_are_slept_for_until_they_are_quick_again() {
        let patience = after(&[1_000_000; 40]);
        let looks = (0..2 * PROBE).filter(|_| !patience.look(0).is_over(0, false)).count();
        assert_eq!(looks, 2, "but for a few, to find out");
        (0..20).for_each(|_| patience.took(0, 5_000));
        assert!(!patience.look(0).is_over(10_000, false));
    }

    #[test]
    fn one_late_reply_changes_little() {
        let patience = after(&[4_000; 40]);
        patience.took(0, 10_000_000);
        assert!(!patience.look(0).is_over(30_000, false));
    }

    #[test]
    fn large_replies_may_take_the_time_of_their_bytes() {
        let patience = after(&[4_000; 40]);
        assert!(!patience.look(1 << 20).is_over(130_000, false));
        (0..40).for_each(|_| patience.took(1 << 20, 135_000));
        assert!(patience.look(0).is_over(40_000, false), "and say nothing of small ones");
    }

    #[test]
    fn where_another_thread_could_run_only_what_comes_at_once_is_looked_for() {
        let look = after(&[5_000; 40]).look(4096);
        assert!(!look.is_over(10_000, true) && look.is_over(MOST_SHARED_NS, true));
        assert!(after(&[5_000; 40]).look(1 << 20).is_over(0, true));
        assert!(after(&[30_000; 40]).look(0).is_over(0, true));
    }
}
