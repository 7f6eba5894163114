//! One queue of a device as those see it who wait for its replies.

use super::FsDevice;
use crate::task::{WaitQueue, lock, sched};
use crate::{stats, time};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use diolkos_virtio::Patience;

/// A queue.
pub(super) struct Lane {
    pub(super) replies: WaitQueue,
    /// Callers that wait for an interrupt.
    sleepers: AtomicUsize,
    patience: Patience,
    requests: AtomicU64,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            replies: WaitQueue::new(),
            sleepers: AtomicUsize::new(0),
            patience: Patience::default(),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that went this way.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Looks for a reply of so many bytes until `came`, if and as long as that is better than to sleep. Returns whether it is
    /// there.
    pub(super) fn look_for(&self, bytes: u64, mut came: impl FnMut() -> bool) -> bool {
        let look = self.patience.look(bytes);
        let began = time::monotonic_ns();
        let mut looks = 0_u64;
        loop {
            // Others may use the kernel meanwhile, as if this thread slept.
            lock::relax();
            if came() {
                return true;
            }
            if look.is_over(time::monotonic_ns().saturating_sub(began), sched::has_others()) {
                break;
            }
            looks += 1;
            core::hint::spin_loop();
        }
        if looks > 0 {
            stats::LOOKS_IN_VAIN.count();
        }
        false
    }

    /// A reply of so many bytes took so long, from when it was looked for on.
    pub(super) fn took(&self, bytes: u64, ns: u64) {
        self.patience.took(bytes, ns);
    }
}

/// A caller that waits for an interrupt; the last one to wake turns interrupts off.
pub(super) struct Sleeper<'a> {
    device: &'a FsDevice,
    lane: usize,
}

impl<'a> Sleeper<'a> {
    pub(super) fn new(device: &'a FsDevice, lane: usize) -> Self {
        device.lanes[lane].sleepers.fetch_add(1, Ordering::Relaxed);
        Self { device, lane }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if self.device.lanes[self.lane].sleepers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.device.device.lock().requests()[self.lane].disable_interrupts();
        }
    }
}
