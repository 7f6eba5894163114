//! File system devices: requests of the FUSE client on their way through a virtqueue.
//!
//! A request's buffers are borrowed from the caller, who does not return before the device is done with them: either
//! the reply came, or the device was reset. They may be the program's own pages ([`crate::mm::loans`]). Parts that the
//! device cannot reach where they are (on a stack), or that are too small to be worth a descriptor, travel through a
//! buffer of the request's own.
//!
//! A processor uses the queue of its number, as far as there are so many. Queues need no order among each other: whoever
//! does one thing after another waits for the reply to the first.
//!
//! A reply comes within tens of microseconds or not soon, so a caller first looks for it with interrupts off, for as long as
//! that has paid lately, then turns them on and sleeps.

mod gather;
mod lane;

use super::hal::{KernelHal, map_window};
use crate::arch::{percpu, processors};
use crate::task::WaitQueue;
use crate::{stats, time};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::{Errno, MemBytes, Result};
use diolkos_virtio::fs::{FsOptions, VirtioFs};
use diolkos_virtio::{Device, DmaBuf, Error, QueueError, Used, VirtQueue};
use diolkos_virtiofs::{Lent, Parcel, Transport, WindowMemory};
use gather::Gather;
use lane::{Lane, Sleeper};
use spin::Mutex;

/// Queues to use of a device at most, one a processor: each takes a thread of the host, and a dozen exits at the start.
const QUEUES: usize = 4;

/// Bytes that what was posted carries, as far as is known to who waits for it.
const POSTED_BYTES: u64 = 1 << 20;
/// How long to sleep for what was posted before looking at it again.
const LOOK_AGAIN_NS: u64 = 1_000_000;

/// A request's state while the device has it: [`WAITING`], [`FAILED`], or the length of the reply.
struct Pending(AtomicU64);

const WAITING: u64 = u64::MAX;
const FAILED: u64 = u64::MAX - 1;

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
            Owner::Request(pending) => pending.0.store(len.into(), Ordering::Release),
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
                Owner::Request(pending) => pending.0.store(FAILED, Ordering::Release),
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

    /// Puts a request into a queue, waiting for room if need be.
    fn submit(&self, lane: usize, readable: &[DmaBuf], writable: &[DmaBuf], pending: &Arc<Pending>) -> Result<()> {
        loop {
            {
                let mut device = self.device.lock();
                let queue = &mut device.requests()[lane];
                // SAFETY: all buffers are borrowed by `request`, which returns only when the chain came back or the
                // device was reset.
                match unsafe { queue.submit(readable, writable, Owner::Request(pending.clone())) } {
                    Ok(_) => {
                        if queue.kick() {
                            stats::DOORBELLS.count();
                        }
                        self.lanes[lane].count_request();
                        return Ok(());
                    }
                    Err(refused) if refused.reason == QueueError::Full => {}
                    Err(_) => return Err(Errno::EIO),
                }
            }
            self.wait_for_room(lane)?;
        }
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

    fn kick(&self, lane: usize) {
        if self.device.lock().requests()[lane].kick() {
            stats::DOORBELLS.count();
        }
    }

    /// Waits for the reply to a request that carries so many bytes, there and back.
    fn wait(&self, lane: usize, pending: &Pending, bytes: u64) -> Result<usize> {
        let began = time::monotonic_ns();
        let done = || pending.0.load(Ordering::Acquire) != WAITING;
        let look = || {
            if self.device.lock().requests()[lane].has_used() {
                self.collect(lane, false);
            }
            done()
        };
        if self.lanes[lane].look_for(bytes, look) {
            stats::REPLIES_FOUND.count();
        } else {
            stats::REPLIES_SLEPT_FOR.count();
            self.sleep_until(lane, done)?;
        }
        self.lanes[lane].took(bytes, time::monotonic_ns().saturating_sub(began));
        match pending.0.load(Ordering::Acquire) {
            FAILED => Err(Errno::EIO),
            len => Ok(len as usize),
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
        let mut readable: Vec<_> = request.iter().map(|part| (NonNull::from(*part).cast(), part.len())).collect();
        let mut writable: Vec<_> =
            reply.iter_mut().map(|part| (NonNull::from(&mut **part).cast(), part.len())).collect();
        match lent {
            Lent::Nothing => {}
            Lent::Sent(pieces) => {
                let part = |piece: &MemBytes<'_>| Some((NonNull::new(piece.as_ptr().cast_mut())?, piece.len()));
                readable.extend(pieces.iter().filter_map(part));
            }
            Lent::Wanted(pieces) => writable.extend(pieces.iter().map(|piece| (piece.as_ptr(), piece.len()))),
        }
        let (question, _) = Gather::build(&readable, true)?;
        let (answer, direct) = Gather::build(&writable, false)?;
        let pending = Arc::new(Pending(AtomicU64::new(WAITING)));
        let lane = percpu::cpu() % self.lanes.len();
        self.submit(lane, &question.buffers, &answer.buffers, &pending)?;
        let bytes = readable.iter().chain(&writable).map(|(_, len)| *len as u64).sum();
        let len = self.wait(lane, &pending, bytes)?;
        let mut at = 0;
        for ((start, len), phys) in writable.iter().zip(direct) {
            if phys.is_none() {
                let from = &answer.scratch[at..at + len];
                // SAFETY: the part is borrowed from the caller for writing so many bytes, or lent for that.
                unsafe { start.copy_from_nonoverlapping(NonNull::from(from).cast(), *len) };
                at += len;
            }
        }
        Ok(len)
    }

    fn post(&self, parcels: Vec<Parcel>) {
        let lane = percpu::cpu() % self.lanes.len();
        for parcel in parcels {
            self.submit_parcel(lane, parcel);
        }
        self.kick(lane);
    }

    fn wait_for(&self, over: &dyn Fn() -> bool) {
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
