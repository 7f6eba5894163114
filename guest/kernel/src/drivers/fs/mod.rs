//! File system devices: requests of the FUSE client on their way through a virtqueue.
//!
//! Requests whose reply the caller waits for are in [`requests`], those that nobody waits for in [`posted`]; here is the
//! device that both go to, and what comes back from it.
//!
//! A processor uses the queue of its number, as far as there are so many. Queues need no order among each other: whoever
//! does one thing after another waits for the reply to the first.

mod gather;
mod lane;
mod posted;
mod requests;

use super::hal::{KernelHal, map_window};
use crate::arch::processors;
use crate::stats;
use crate::task::WaitQueue;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use diolkos_vfs::{Errno, Result};
use diolkos_virtio::fs::{FsOptions, VirtioFs};
use diolkos_virtio::{Device, DmaBuf, Error, QueueError, Used, VirtQueue};
use diolkos_virtiofs::{Lent, Parcel, Transport, WindowMemory};
use lane::{Lane, Sleeper};
use requests::Pending;
use spin::Mutex;

/// Queues to use of a device at most, one a processor: each takes a thread of the host, and a dozen exits at the start.
const QUEUES: usize = 4;

/// What a chain in the queue keeps alive.
enum Owner {
    Request(Arc<Pending>),
    Parcel(Parcel),
    Forget(#[allow(dead_code, reason = "held for the device, not read")] Vec<u8>),
}

/// A device in service.
pub struct FsDevice {
    device: Mutex<VirtioFs<KernelHal, Owner>>,
    tag: String,
    window: Option<WindowMemory>,
    /// One for each queue for requests.
    lanes: Vec<Lane>,
    /// Who waits for what was posted.
    landings: WaitQueue,
    /// Pieces of lent memory that fit into a request, beside the two that the rest of it takes, and the two that pieces too
    /// small for a descriptor may cut from it.
    most_pieces: usize,
}

static DEVICES: Mutex<Vec<Arc<FsDevice>>> = Mutex::new(Vec::new());

/// Takes a device into service.
pub(super) fn init(device: Device<KernelHal>) -> core::result::Result<(), Error> {
    let request_queues = processors::count().min(QUEUES) as u16;
    let mut device = VirtioFs::new(device, FsOptions { request_queues, ..FsOptions::default() })?;
    let tag = device.tag().to_string();
    device.requests().iter_mut().for_each(|queue| queue.disable_interrupts());
    device.hiprio().disable_interrupts();
    let window = device.window().and_then(|range| {
        let start = map_window(range)?;
        // SAFETY: the direct map reaches the whole window for ever; it is no RAM, and a fault on it is recovered from.
        unsafe { WindowMemory::new(range.start().0, start, range.len()) }.ok()
    });
    let most = device.requests().iter().map(|queue| queue.max_buffers()).min().unwrap_or(0);
    let most_pieces = usize::from(most).saturating_sub(4).max(1);
    let lanes: Vec<_> = device.requests().iter().map(|_| Lane::new()).collect();
    crate::verbose!("share '{tag}': queues: {}", lanes.len());
    let device = Mutex::new(device);
    DEVICES.lock().push(Arc::new(FsDevice { device, tag, window, lanes, landings: WaitQueue::new(), most_pieces }));
    Ok(())
}

/// Adds what each queue carried, of all devices together.
pub fn write_counters(out: &mut String) {
    for queue in 0..QUEUES {
        let devices = DEVICES.lock();
        let requests = devices.iter().filter_map(|device| device.lanes.get(queue)).map(Lane::requests).sum();
        stats::line(out, &alloc::format!("messages.queue_{}", queue + 1), requests);
    }
}

/// The device with a tag.
pub fn by_tag(tag: &str) -> Option<Arc<FsDevice>> {
    DEVICES.lock().iter().find(|device| device.tag == tag).cloned()
}

/// Tags of all devices, for messages.
pub fn tags() -> Vec<String> {
    DEVICES.lock().iter().map(|device| device.tag.clone()).collect()
}

/// An interrupt, of whatever device.
pub(super) fn interrupt() {
    for device in DEVICES.lock().iter() {
        for (number, lane) in device.lanes.iter().enumerate() {
            // Who polls has no use for more interrupts.
            if lane.has_sleepers() {
                device.collect(number, true);
            }
        }
    }
}

impl FsDevice {
    /// Its DAX window.
    pub fn window(&self) -> Option<WindowMemory> {
        self.window
    }

    /// Takes what the device is done with of one queue. `rearm`: ask for interrupts again.
    fn collect(&self, lane: usize, rearm: bool) {
        let mut landed = Vec::new();
        let mut device = self.device.lock();
        let mut each = |Used { owner, len, .. }: Used<Owner>| match owner {
            Owner::Request(pending) => pending.answered(len),
            Owner::Parcel(parcel) => landed.push((parcel, Ok(len as usize))),
            Owner::Forget(_) => {}
        };
        let queue = &mut device.requests()[lane];
        let result = if rearm { queue.drain(&mut each) } else { take_used(queue, &mut each) };
        if let Err(error) = result {
            landed.extend(self.give_up(&mut device, error).into_iter().map(|parcel| (parcel, Err(Errno::EIO))));
            self.lanes.iter().for_each(|lane| lane.replies.wake_all());
        }
        drop(device);
        self.lanes[lane].replies.wake_all();
        if landed.is_empty() {
            return;
        }
        for (Parcel { header, errand, .. }, wrote) in landed {
            errand.done(&header, wrote);
        }
        self.landings.wake_all();
    }

    /// The device broke the rules: nothing it says counts any more, and every request fails. Returns what was posted.
    fn give_up(&self, device: &mut VirtioFs<KernelHal, Owner>, error: QueueError) -> Vec<Parcel> {
        crate::report::warning(format_args!("file system device '{}' is broken: {error}", self.tag));
        let mut parcels = Vec::new();
        for owner in device.abort().unwrap_or_default() {
            match owner {
                Owner::Request(pending) => pending.fail(),
                Owner::Parcel(parcel) => parcels.push(parcel),
                Owner::Forget(_) => {}
            }
        }
        parcels
    }

    /// Sleeps until a queue has room.
    fn wait_for_room(&self, lane: usize) -> Result<()> {
        self.sleep_until(lane, || {
            let mut device = self.device.lock();
            let queue = &mut device.requests()[lane];
            queue.outstanding() < queue.size()
        })
    }

    fn kick(&self, lane: usize) {
        if self.device.lock().requests()[lane].kick() {
            stats::DOORBELLS.count();
        }
    }

    /// Sleeps until replies of a queue have made `over` true.
    fn sleep_until(&self, lane: usize, over: impl Fn() -> bool) -> Result<()> {
        let _sleeper = Sleeper::new(self, lane);
        self.collect(lane, true);
        self.lanes[lane].replies.wait_until(&mut || over(), None, false).map(|_| ())
    }
}

/// Takes what a queue's device is done with, and leaves interrupts as they are.
fn take_used(
    queue: &mut VirtQueue<KernelHal, Owner>,
    mut each: impl FnMut(Used<Owner>),
) -> core::result::Result<(), QueueError> {
    while let Some(used) = queue.pop_used()? {
        each(used);
    }
    Ok(())
}

impl Transport for FsDevice {
    fn request(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> Result<usize> {
        self.exchange(request, reply, lent)
    }

    fn post(&self, parcels: Vec<Parcel>) {
        self.post_all(parcels);
    }

    fn wait_for(&self, over: &dyn Fn() -> bool) {
        self.wait_for_posted(over);
    }

    fn most_pieces(&self) -> usize {
        self.most_pieces
    }

    fn forget(&self, message: &[u8]) {
        let message = message.to_vec();
        let Some(start) = NonNull::new(message.as_ptr().cast_mut()) else { return };
        let Some(buffer) = DmaBuf::new(&KernelHal, start, message.len()) else { return };
        let mut device = self.device.lock();
        let mut owner = Owner::Forget(message);
        let queue = device.hiprio();
        // Room comes back within microseconds: the device only reads. If it does not come, a FORGET is lost, which
        // costs the host a table entry and nothing else.
        for _ in 0..100_000 {
            while let Ok(Some(_)) = queue.pop_used() {}
            // SAFETY: the buffer belongs to the message, which the owner holds until the chain comes back.
            match unsafe { queue.submit(&[buffer], &[], owner) } {
                Ok(_) => {
                    queue.kick();
                    return;
                }
                Err(refused) if refused.reason == QueueError::Full => owner = refused.owner,
                Err(_) => return,
            }
        }
    }
}
