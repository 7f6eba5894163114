//! Requests that nobody waits for, until somebody does for what they bring.

use super::lane::Sleeper;
use super::{FsDevice, Owner};
use crate::arch::percpu;
use crate::drivers::hal::KernelHal;
use crate::{stats, time};
use alloc::vec::Vec;
use core::ptr::NonNull;
use diolkos_vfs::Errno;
use diolkos_virtio::{DmaBuf, QueueError};
use diolkos_virtiofs::Parcel;

/// Bytes that what was posted carries, as far as is known to who waits for it.
const POSTED_BYTES: u64 = 1 << 20;
/// How long to sleep for what was posted before looking at it again.
const LOOK_AGAIN_NS: u64 = 1_000_000;

impl FsDevice {
    /// Sends requests with one doorbell ([`Transport::post`](diolkos_virtiofs::Transport::post)).
    pub(super) fn post_all(&self, parcels: Vec<Parcel>) {
        let lane = percpu::cpu() % self.lanes.len();
        for parcel in parcels {
            self.submit_parcel(lane, parcel);
        }
        self.kick(lane);
    }

    /// Puts a posted request into a queue, waiting for room if need be, without telling the device.
    fn submit_parcel(&self, lane: usize, mut parcel: Parcel) {
        let header = NonNull::from(&mut *parcel.header).cast();
        let memory = parcel.errand.memory();
        let (start, len) = (NonNull::from(&mut *memory).cast(), memory.len());
        let request = NonNull::from(&*parcel.request).cast();
        let buffers = [
            DmaBuf::new(&KernelHal, request, parcel.request.len()),
            DmaBuf::new(&KernelHal, header, parcel.header.len()),
            DmaBuf::new(&KernelHal, start, len),
        ];
        let mut owner = Owner::Parcel(parcel);
        if let [Some(request), Some(header), Some(content)] = buffers {
            loop {
                // SAFETY: all three are memory of the parcel's that stays where it is while that lives, and the queue holds
                // it until the chain came back or the device was reset.
                let result =
                    unsafe { self.device.lock().requests()[lane].submit(&[request], &[header, content], owner) };
                let refused = match result {
                    Ok(_) => {
                        stats::POSTED.count();
                        return self.lanes[lane].count_request();
                    }
                    Err(refused) => refused,
                };
                owner = refused.owner;
                if refused.reason != QueueError::Full {
                    break;
                }
                // What is in the queue already must not wait for what is not.
                self.kick(lane);
                if self.wait_for_room(lane).is_err() {
                    break;
                }
            }
        }
        if let Owner::Parcel(Parcel { header, errand, .. }) = owner {
            errand.done(&header, Err(Errno::EIO));
        }
    }

    /// Sleeps until `over`, which what was posted makes true ([`Transport::wait_for`](diolkos_virtiofs::Transport::wait_for)).
    pub(super) fn wait_for_posted(&self, over: &dyn Fn() -> bool) {
        let collect = |lane: usize| {
            if self.device.lock().requests()[lane].has_used() {
                self.collect(lane, false);
            }
        };
        let look = || {
            (0..self.lanes.len()).for_each(collect);
            over()
        };
        let lane = &self.lanes[percpu::cpu() % self.lanes.len()];
        if lane.look_for(POSTED_BYTES, look) {
            return;
        }
        let _sleepers: Vec<_> = (0..self.lanes.len()).map(|lane| Sleeper::new(self, lane)).collect();
        (0..self.lanes.len()).for_each(|lane| self.collect(lane, true));
        // What makes it true may be another thread, which wakes nobody here: hence the deadline.
        while !over() {
            let _ = self.landings.wait_until(&mut || over(), Some(time::monotonic_ns() + LOOK_AGAIN_NS), false);
        }
    }
}
