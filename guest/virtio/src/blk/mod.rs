//! The block device (section 5.2): reading and writing sectors, flushing, discarding.
//!
//! A request is a header, the caller's buffers and a status byte. Header and status lie in a slot of the driver's own memory,
//! one for each request that a queue can have in flight; what comes back says whose request it was and how it went. Requests
//! of one queue or of several are done in any order: who wants one after another waits for the first.

mod info;
#[cfg(test)]
mod tests;

pub use info::{Info, Ranges};

use crate::live::LiveDevice;
use crate::pci::device_type;
use crate::queue::QueuePlan;
use crate::{Device, DmaBuf, DmaPages, Error, Hal, QueueError, Refused};
use alloc::vec::Vec;

/// The unit of the protocol in bytes, whatever the device's block size is.
pub const SECTOR: u64 = 512;

/// Feature bits (section 5.2.3).
pub(crate) mod feature {
    use crate::Features;

    const fn bit(number: u32) -> Features {
        Features::from_bits_retain(1 << number)
    }
    pub(crate) const SIZE_MAX: Features = bit(1);
    pub(crate) const SEG_MAX: Features = bit(2);
    pub(crate) const RO: Features = bit(5);
    pub(crate) const BLK_SIZE: Features = bit(6);
    pub(crate) const FLUSH: Features = bit(9);
    pub(crate) const MQ: Features = bit(12);
    pub(crate) const DISCARD: Features = bit(13);
    pub(crate) const WRITE_ZEROES: Features = bit(14);
    pub(super) const WANTED: Features =
        SIZE_MAX.union(SEG_MAX).union(RO).union(BLK_SIZE).union(FLUSH).union(MQ).union(DISCARD).union(WRITE_ZEROES);
}

/// Request types (section 5.2.6).
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// Requests in flight in each queue at most.
const QUEUE_SIZE: u16 = 64;
/// Buffers of one request at most, whatever the device could do.
const MAX_SEGMENTS: u32 = 16;

/// A slot: the header, a range to discard, and the status on a line of its own, since the device writes it.
const SLOT: usize = 128;
const RANGE: usize = 16;
const STATUS: usize = 64;
const HEADER_LEN: usize = 16;
const RANGE_LEN: usize = 16;
/// What the status is before the device has said anything.
const UNANSWERED: u8 = 0xff;
/// The flag of a write-zeroes range whose space may be given back.
const UNMAP: u32 = 1;

/// What is asked of a device. Sectors are of 512 bytes.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Fill the buffers, whole sectors together, from a sector on.
    Read(u64, &'a [DmaBuf]),
    /// Write them.
    Write(u64, &'a [DmaBuf]),
    /// Make everything safe whose write has come back.
    Flush,
    /// The content of so many sectors from one on is of no use any more.
    Discard(u64, u32),
    /// So many sectors from one on are to read as zeroes; their space may be given back, or must not.
    WriteZeroes(u64, u32, bool),
}

/// How the device says that a request went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// `VIRTIO_BLK_S_IOERR`, or no answer that means anything.
    Io,
    /// `VIRTIO_BLK_S_UNSUPP`.
    Unsupported,
}

/// A request that came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// What was handed in with it.
    pub owner: T,
    /// How it went.
    pub result: Result<(), Failed>,
}

/// Whose request is in a chain, and where its header is.
#[derive(Debug)]
struct InFlight<T> {
    slot: u16,
    owner: T,
}

/// A block device in service. `T` owns the buffers of a request in flight.
///
/// Dropping it resets the device, and only then drops the owners of what was in flight.
#[derive(Debug)]
pub struct VirtioBlk<H: Hal, T> {
    live: LiveDevice<H, InFlight<T>>,
    info: Info,
    /// For each queue, its slots that are not in use. Pool n holds the slots of queue n.
    free: Vec<Vec<u16>>,
}

impl<H: Hal, T> VirtioBlk<H, T> {
    /// Starts the device with up to `queues` (at least 1) of its queues. Each costs about a dozen exits.
    ///
    /// # Errors
    /// Says at which step it failed; the device is then marked as failed.
    pub fn new(device: Device<H>, queues: u16) -> Result<Self, Error> {
        let mut info = None;
        let mut live = LiveDevice::start(device, device_type::BLOCK, feature::WANTED, |device, features| {
            let found = info.insert(Info::read(device, features)?);
            let plan =
                |index| QueuePlan { index, max_size: QUEUE_SIZE, max_buffers: found.segments as u16 + 2, vector: None };
            Ok((0..found.queues.clamp(1, queues.max(1))).map(plan).collect())
        })?;
        let info = info.ok_or(Error::ShortConfig)?;
        let sizes: Vec<u16> = live.queues.iter().map(|queue| queue.size()).collect();
        for size in &sizes {
            live.add_pool(usize::from(*size) * SLOT)?;
        }
        let free = sizes.into_iter().map(|size| (0..size).collect()).collect();
        Ok(Self { live, info, free })
    }

    /// What it says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Number of queues in service, at least one.
    pub fn queues(&self) -> usize {
        self.live.queues.len()
    }

    /// Hands a request to the device by a queue, and rings. Allocates; not for interrupt handlers.
    ///
    /// # Safety
    /// As [`crate::VirtQueue::submit`]: until the owner comes back, the buffers stay valid memory that nobody frees or
    /// reuses; of those read into nobody holds a reference, and nobody else writes those written from.
    ///
    /// # Errors
    /// See [`QueueError`]; the owner comes back.
    pub unsafe fn submit(&mut self, queue: usize, request: Request<'_>, owner: T) -> Result<(), Refused<T>> {
        let Some(slot) = self.free[queue].pop() else { return Err(Refused { reason: QueueError::Full, owner }) };
        let pool = &mut self.live.pools[queue];
        let at = usize::from(slot) * SLOT;
        let (kind, sector, range) = match request {
            Request::Read(sector, _) => (kind::IN, sector, None),
            Request::Write(sector, _) => (kind::OUT, sector, None),
            Request::Flush => (kind::FLUSH, 0, None),
            Request::Discard(sector, count) => (kind::DISCARD, 0, Some((sector, count, 0))),
            Request::WriteZeroes(sector, count, unmap) => {
                (kind::WRITE_ZEROES, 0, Some((sector, count, if unmap { UNMAP } else { 0 })))
            }
        };
        write_header(pool, at, kind, sector);
        let (mut readable, mut writable) = (Vec::with_capacity(2), Vec::with_capacity(2));
        readable.push(pool.buffer(at, HEADER_LEN));
        match request {
            Request::Read(_, buffers) => writable.extend_from_slice(buffers),
            Request::Write(_, buffers) => readable.extend_from_slice(buffers),
            _ => {}
        }
        if let Some((first, count, flags)) = range {
            pool.write(at + RANGE, first);
            pool.write(at + RANGE + 8, count);
            pool.write(at + RANGE + 12, flags);
            readable.push(pool.buffer(at + RANGE, RANGE_LEN));
        }
        pool.copy_in(at + STATUS, &[UNANSWERED]);
        writable.push(pool.buffer(at + STATUS, 1));
        let queue_in_use = &mut self.live.queues[queue];
        // SAFETY: the caller answers for its buffers; the slot is this request's alone until its chain comes back, and
        // the pool lives until the device was reset.
        match unsafe { queue_in_use.submit(&readable, &writable, InFlight { slot, owner }) } {
            Ok(_) => {
                queue_in_use.kick();
                Ok(())
            }
            Err(refused) => {
                self.free[queue].push(slot);
                Err(Refused { reason: refused.reason, owner: refused.owner.owner })
            }
        }
    }

    /// Whether the device says that a request of this queue is done. Interrupt-safe.
    pub fn has_done(&self, queue: usize) -> bool {
        self.live.queues[queue].has_used()
    }

    /// Whether the queue has room for a request. Interrupt-safe.
    pub fn has_room(&self, queue: usize) -> bool {
        !self.free[queue].is_empty() && self.live.queues[queue].outstanding() < self.live.queues[queue].size()
    }

    /// Takes the next request that is done. Interrupt-safe.
    ///
    /// # Errors
    /// When the device broke the queue.
    pub fn take_done(&mut self, queue: usize) -> Result<Option<Done<T>>, QueueError> {
        let Some(used) = self.live.queues[queue].pop_used()? else { return Ok(None) };
        let InFlight { slot, owner } = used.owner;
        self.free[queue].push(slot);
        let mut status = [UNANSWERED];
        self.live.pools[queue].copy_out(usize::from(slot) * SLOT + STATUS, &mut status);
        let result = match status[0] {
            0 => Ok(()),
            2 => Err(Failed::Unsupported),
            _ => Err(Failed::Io),
        };
        Ok(Some(Done { owner, result }))
    }

    /// Asks for an interrupt at the next request of this queue that is done; `false` when one was done meanwhile, for
    /// which there may be none. Interrupt-safe.
    #[must_use = "a request done unnoticed is waited for for ever"]
    pub fn enable_interrupts(&mut self, queue: usize) -> bool {
        self.live.queues[queue].enable_interrupts()
    }

    /// Asks for no more interrupts of this queue. Interrupt-safe.
    pub fn disable_interrupts(&mut self, queue: usize) {
        self.live.queues[queue].disable_interrupts();
    }

    /// Resets the device and hands back the owners of all requests in flight, which are not done and never will be. The
    /// way out when a queue is broken. Allocates; not for interrupt handlers.
    ///
    /// # Errors
    /// [`Error::ResetTimeout`]: the device may still write to the buffers, so their owners stay where they are.
    pub fn abort(&mut self) -> Result<Vec<T>, Error> {
        let in_flight = self.live.stop()?;
        // Who waits for room is to hear that there will be no answers.
        for (free, queue) in self.free.iter_mut().zip(&self.live.queues) {
            *free = (0..queue.size()).collect();
        }
        Ok(in_flight.into_iter().map(|in_flight| in_flight.owner).collect())
    }
}

/// `struct virtio_blk_req` up to its data.
fn write_header<H: Hal>(pool: &DmaPages<H>, at: usize, kind: u32, sector: u64) {
    pool.write(at, kind);
    pool.write(at + 4, 0u32);
    pool.write(at + 8, sector);
}
