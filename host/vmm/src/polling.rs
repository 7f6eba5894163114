//! How long to look for the next request before going to sleep.
//!
//! To sleep and be woken costs some tens of microseconds where the guest's doorbell is emulated, more than most requests.
//! A guest that waits for each reply sends its next request some microseconds after it. So after a request a server looks
//! for the next one for a while, without asking for the doorbell; but only if that would have helped lately, as KVM does
//! for a halted processor (Documentation/virt/kvm/halt-polling.rst).
//!
//! A guest that starts sends a request whenever it has come a bit further, and somebody is waiting for it. So at first the looks
//! are longer.
//!
//! Where others want the processor, looking is worse than sleeping: who uses up its share waits for a whole slice of
//! somebody else's, while who sleeps is let in as soon as it is woken, and the guest itself may be the one that is kept waiting.
//! The host counts how often it took the processor from this thread; when that has happened, there is no looking for a
//! while.

use std::time::{Duration, Instant};

/// The longest look: about what a sleep costs.
const MOST: Duration = Duration::from_micros(50);

/// The longest look of a server that is younger than [`YOUTH`]: more than most steps of a guest's start take.
const MOST_AT_FIRST: Duration = Duration::from_micros(500);
const YOUTH: Duration = Duration::from_millis(20);

/// Looks between two readings of the clock.
const LOOKS: usize = 16;

/// How often to ask whether others want the processor, and for how long to leave it to them.
const ASK: Duration = Duration::from_millis(1);
const YIELD: Duration = Duration::from_millis(20);

/// What one server thread knows about its guest and its host.
#[derive(Debug)]
pub struct Polling {
    /// The last sleep was too short to be worth it.
    pays: bool,
    young_until: Instant,
    /// No looking before this.
    not_before: Instant,
    asked: Instant,
    preempted: libc::c_long,
}

impl Default for Polling {
    fn default() -> Self {
        let now = Instant::now();
        Self { pays: false, young_until: now + YOUTH, not_before: now, asked: now, preempted: preempted() }
    }
}

impl Polling {
    /// Looks until `ready`, if it seems worth it. Returns whether it is.
    pub fn spin(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        if !self.pays {
            return false;
        }
        let began = Instant::now();
        if self.is_wanted_elsewhere(began) {
            return false;
        }
        let most = if began < self.young_until { MOST_AT_FIRST } else { MOST };
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= most {
                return false;
            }
        }
    }

    /// The next request came after a sleep of so long.
    pub fn slept(&mut self, time: Duration) {
        // The sleep, and being woken from it.
        self.pays = time < 3 * MOST || Instant::now() < self.young_until;
    }

    fn is_wanted_elsewhere(&mut self, now: Instant) -> bool {
        if now.duration_since(self.asked) >= ASK {
            self.asked = now;
            let preempted = preempted();
            if std::mem::replace(&mut self.preempted, preempted) != preempted {
                self.not_before = now + YIELD;
            }
        }
        now < self.not_before
    }
}

/// How often the host took the processor from this thread for somebody else (getrusage(2), `ru_nivcsw`).
fn preempted() -> libc::c_long {
    // SAFETY: `rusage` is plain integers, of which zero is a value; the call fills it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_nivcsw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is no longer young, and whose host leaves it the processor.
    fn polling() -> Polling {
        let now = Instant::now();
        Polling { asked: now + Duration::from_secs(3600), young_until: now, ..Polling::default() }
    }

    /// How often it looks when there is something at the look of that number.
    fn looks(polling: &mut Polling, ready_at: usize) -> (bool, usize) {
        let mut looks = 0;
        let found = polling.spin(|| {
            looks += 1;
            looks >= ready_at
        });
        (found, looks)
    }

    #[test]
    fn it_looks_as_long_as_that_would_have_helped_the_last_time() {
        let mut polling = polling();
        assert_eq!(looks(&mut polling, 3), (false, 1), "nothing is known yet");
        polling.slept(Duration::from_micros(40));
        assert_eq!(looks(&mut polling, 3), (true, 3));
        assert_eq!(looks(&mut polling, 1), (true, 1));
        let (found, many) = looks(&mut polling, usize::MAX);
        assert!(!found && many > LOOKS, "it ends, after {many} looks");
        polling.slept(Duration::from_millis(1));
        assert_eq!(looks(&mut polling, 3), (false, 1));
    }

    #[test]
    fn at_first_it_looks_longer_whatever_it_slept() {
        let mut polling = Polling { young_until: Instant::now() + Duration::from_secs(3600), ..polling() };
        assert_eq!(looks(&mut polling, 3), (false, 1), "before the first request there is no hurry");
        polling.slept(Duration::from_millis(9));
        let began = Instant::now();
        assert!(!looks(&mut polling, usize::MAX).0 && began.elapsed() >= MOST_AT_FIRST);
    }

    #[test]
    fn it_leaves_the_processor_to_others_who_want_it() {
        let mut polling = Polling::default();
        polling.slept(Duration::ZERO);
        polling.preempted -= 1;
        polling.asked -= ASK;
        assert_eq!(looks(&mut polling, 3), (false, 1), "it was taken away");
        assert_eq!(looks(&mut polling, 3), (false, 1), "not long ago");
        polling.not_before = Instant::now();
        polling.asked = Instant::now();
        assert_eq!(looks(&mut polling, 3), (true, 3));
    }
}
