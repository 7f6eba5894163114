//! File system devices: requests of the FUSE client on their way through a virtqueue.
//!
//! A request's buffers are borrowed from the caller, who does not return before the device is done with them: either
//! the reply came, or the device was reset. They may be the program's own pages ([`crate::mm::loans`]). Parts that the
//! device cannot reach where they are (on a stack), or that are too small to be worth a descriptor, travel through a
//! buffer of the request's own.
//!
//! A reply comes within tens of microseconds or not soon, so a caller first polls with interrupts off, then turns them
//! on and sleeps.

use super::hal::{KernelHal, map_window};
use crate::arch::trap::spin_until;
use crate::task::{WaitQueue, lock};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use diolkos_vfs::{Errno, MemBytes, Result};
use diolkos_virtio::fs::{FsOptions, VirtioFs};
use diolkos_virtio::{Device, DmaBuf, Error, Hal, PhysAddr, QueueError, Used};
use diolkos_virtiofs::{Lent, Transport, WindowMemory};
use spin::Mutex;

/// How long to poll for a reply before sleeping, and how much longer for each 8 bytes that it may carry: a host copies that
/// much in a nanosecond.
const POLL_NS: u64 = 60_000;
const BYTES_PER_NS: u64 = 8;
/// Parts up to this many bytes are copied into the request's own buffer.
const SMALL: usize = 512;

/// A request's state while the device has it: [`WAITING`], [`FAILED`], or the length of the reply.
struct Pending(AtomicU64);

const WAITING: u64 = u64::MAX;
const FAILED: u64 = u64::MAX - 1;

/// What a chain in the queue keeps alive.
enum Owner {
    Request(Arc<Pending>),
    Forget(#[allow(dead_code, reason = "held for the device, not read")] Vec<u8>),
}

/// A device in service.
pub struct FsDevice {
    device: Mutex<VirtioFs<KernelHal, Owner>>,
    tag: String,
    window: Option<WindowMemory>,
    replies: WaitQueue,
    /// Pieces of lent memory that fit into a request, beside the two that the rest of it takes, and the two that pieces too
    /// small for a descriptor may cut from it.
    most_pieces: usize,
    /// Callers that wait for an interrupt.
    sleepers: AtomicUsize,
}

static DEVICES: Mutex<Vec<Arc<FsDevice>>> = Mutex::new(Vec::new());

/// Takes a device into service.
pub(super) fn init(device: Device<KernelHal>) -> core::result::Result<(), Error> {
    let mut device = VirtioFs::new(device, FsOptions::default())?;
    let tag = device.tag().to_string();
    device.requests()[0].disable_interrupts();
    device.hiprio().disable_interrupts();
    let window = device.window().and_then(|range| {
        let start = map_window(range)?;
        // SAFETY: the direct map reaches the whole window for ever; it is no RAM, and a fault on it is recovered from.
        unsafe { WindowMemory::new(range.start().0, start, range.len()) }.ok()
    });
    let most_pieces = usize::from(device.requests()[0].max_buffers()).saturating_sub(4).max(1);
    let device = Mutex::new(device);
    DEVICES.lock().push(Arc::new(FsDevice {
        device,
        tag,
        window,
        replies: WaitQueue::new(),
        most_pieces,
        sleepers: AtomicUsize::new(0),
    }));
    Ok(())
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
        // Who polls has no use for more interrupts.
        if device.sleepers.load(Ordering::Relaxed) > 0 {
            device.collect(true);
        }
    }
}

/// A request's own buffer, and the list of what the device gets.
struct Gather {
    scratch: Vec<u8>,
    buffers: Vec<DmaBuf>,
}

impl Gather {
    fn new() -> Self {
        Self { scratch: Vec::new(), buffers: Vec::new() }
    }

    /// Where each part goes: a place in the scratch buffer, or its own descriptor.
    fn plan(parts: impl Iterator<Item = (NonNull<u8>, usize)>) -> (usize, Vec<Option<PhysAddr>>) {
        let mut scratch = 0;
        let direct = parts
            .map(|(start, len)| {
                let phys = if len > SMALL { KernelHal.phys_of(start, len) } else { None };
                if phys.is_none() {
                    scratch += len;
                }
                phys
            })
            .collect();
        (scratch, direct)
    }

    /// Builds descriptors for parts whose bytes are copied into (`fill`) or left in the scratch buffer.
    fn build(parts: &[(NonNull<u8>, usize)], fill: bool) -> Result<(Self, Vec<Option<PhysAddr>>)> {
        let (bytes, direct) = Self::plan(parts.iter().copied());
        let mut gather = Self::new();
        gather.scratch.resize(bytes, 0);
        let base = NonNull::new(gather.scratch.as_mut_ptr()).ok_or(Errno::EIO)?;
        let base = KernelHal.phys_of(base, bytes).map_or(0, |phys| phys.0);
        let mut at = 0;
        for ((start, len), phys) in parts.iter().zip(&direct) {
            let len32 = u32::try_from(*len).map_err(|_| Errno::EINVAL)?;
            let addr = match phys {
                Some(phys) => *phys,
                None => {
                    if fill {
                        // SAFETY: the part is a live slice of `len` bytes, the scratch has as many at `at`.
                        unsafe { start.copy_to_nonoverlapping(NonNull::from(&mut gather.scratch[at..]).cast(), *len) };
                    }
                    at += len;
                    PhysAddr(base + (at - len) as u64)
                }
            };
            gather.push(DmaBuf { addr, len: len32 });
        }
        Ok((gather, direct))
    }

    /// Adds a buffer, as part of the last one if it follows it in memory.
    fn push(&mut self, buffer: DmaBuf) {
        if buffer.len == 0 {
            return;
        }
        if let Some(last) = self.buffers.last_mut()
            && last.addr.0 + last.len as u64 == buffer.addr.0
            && let Some(len) = last.len.checked_add(buffer.len)
        {
            last.len = len;
            return;
        }
        self.buffers.push(buffer);
    }
}

impl FsDevice {
    /// Its DAX window.
    pub fn window(&self) -> Option<WindowMemory> {
        self.window
    }

    fn complete(used: Used<Owner>) {
        if let Owner::Request(pending) = used.owner {
            pending.0.store(used.len as u64, Ordering::Release);
        }
    }

    /// Takes what the device is done with. `rearm`: ask for interrupts again.
    fn collect(&self, rearm: bool) {
        let mut device = self.device.lock();
        let queue = &mut device.requests()[0];
        let mut result = Ok(());
        if rearm {
            result = queue.drain(Self::complete);
        } else {
            loop {
                match queue.pop_used() {
                    Ok(Some(used)) => Self::complete(used),
                    Ok(None) => break,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
        }
        if let Err(error) = result {
            self.give_up(&mut device, error);
        }
        drop(device);
        self.replies.wake_all();
    }

    /// The device broke the rules: nothing it says counts any more, and every request fails.
    fn give_up(&self, device: &mut VirtioFs<KernelHal, Owner>, error: QueueError) {
        crate::report::warning(format_args!("file system device '{}' is broken: {error}", self.tag));
        for owner in device.abort().unwrap_or_default() {
            if let Owner::Request(pending) = owner {
                pending.0.store(FAILED, Ordering::Release);
            }
        }
    }

    /// Puts a request into the queue, waiting for room if need be.
    fn submit(&self, readable: &[DmaBuf], writable: &[DmaBuf], pending: &Arc<Pending>) -> Result<()> {
        loop {
            {
                let mut device = self.device.lock();
                let queue = &mut device.requests()[0];
                // SAFETY: all buffers are borrowed by `request`, which returns only when the chain came back or the
                // device was reset.
                match unsafe { queue.submit(readable, writable, Owner::Request(pending.clone())) } {
                    Ok(_) => {
                        queue.kick();
                        return Ok(());
                    }
                    Err(refused) if refused.reason == QueueError::Full => {}
                    Err(_) => return Err(Errno::EIO),
                }
            }
            let _sleeper = Sleeper::new(self);
            let room = &mut || {
                self.collect(true);
                let mut device = self.device.lock();
                let queue = &mut device.requests()[0];
                queue.outstanding() < queue.size()
            };
            self.replies.wait_until(room, None, false)?;
        }
    }

    /// Waits for the reply to a request that carries so many bytes, there and back.
    fn wait(&self, pending: &Pending, bytes: u64) -> Result<usize> {
        let done = || pending.0.load(Ordering::Acquire) != WAITING;
        let polled = spin_until(POLL_NS + bytes / BYTES_PER_NS, || {
            // Others may use the kernel meanwhile, as if this thread slept.
            lock::relax();
            if self.device.lock().requests()[0].has_used() {
                self.collect(false);
            }
            done()
        });
        if !polled {
            let _sleeper = Sleeper::new(self);
            self.collect(true);
            self.replies.wait_until(&mut || done(), None, false)?;
        }
        match pending.0.load(Ordering::Acquire) {
            FAILED => Err(Errno::EIO),
            len => Ok(len as usize),
        }
    }
}

/// A caller that waits for an interrupt; the last one to wake turns interrupts off.
struct Sleeper<'a>(&'a FsDevice);

impl<'a> Sleeper<'a> {
    fn new(device: &'a FsDevice) -> Self {
        device.sleepers.fetch_add(1, Ordering::Relaxed);
        Self(device)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if self.0.sleepers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.device.lock().requests()[0].disable_interrupts();
        }
    }
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
        self.submit(&question.buffers, &answer.buffers, &pending)?;
        let bytes = readable.iter().chain(&writable).map(|(_, len)| *len as u64).sum();
        let len = self.wait(&pending, bytes)?;
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
                Ok(_) => return queue.kick(),
                Err(refused) if refused.reason == QueueError::Full => owner = refused.owner,
                Err(_) => return,
            }
        }
    }
}
