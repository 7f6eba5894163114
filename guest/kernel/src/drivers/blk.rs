//! Block devices: whole sectors on their way through a virtqueue, and any range of bytes made of them.
//!
//! A request's memory is the caller's, or a copy where the device cannot reach that (on a stack); the caller does not return
//! before the device is done with it. As with file system devices a caller first polls and then sleeps, but polls for a
//! shorter time: a disk may have to fetch what is asked for.
//!
//! Nothing is cached here. A file system has its own cache, and who reads the device itself wants what is on it.

use super::hal::KernelHal;
use crate::arch::percpu;
use crate::arch::trap::spin_until;
use crate::task::{Turn, WaitQueue, lock};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use diolkos_vfs::block::Block;
use diolkos_vfs::{Errno, Result};
use diolkos_virtio::blk::{Failed, Info, Ranges, Request, SECTOR, VirtioBlk};
use diolkos_virtio::{Device, DmaBuf, Error, QueueError};
use spin::Mutex;

/// How long to poll for an answer before sleeping.
const POLL_NS: u64 = 60_000;
/// Queues to use of a device at most, one a processor.
const QUEUES: u16 = 4;
/// Bytes in one request at most.
const MOST: usize = 1 << 20;
/// Devices at most: `vda` to `vdz`.
const MOST_DISKS: usize = 26;

/// How a request stands.
struct Pending(AtomicU8);

const WAITING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;
const UNSUPPORTED: u8 = 3;

/// A block device in service.
pub struct Disk {
    device: Mutex<VirtioBlk<KernelHal, Arc<Pending>>>,
    info: Info,
    queues: usize,
    number: usize,
    answers: WaitQueue,
    /// Callers that wait for an interrupt.
    sleepers: AtomicUsize,
    /// Who writes: a part of a sector is read, changed and written, and nobody may write the rest meanwhile.
    writing: Turn,
}

static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

/// Takes a device into service.
pub(super) fn init(device: Device<KernelHal>) -> core::result::Result<(), Error> {
    let number = DISKS.lock().len();
    if number >= MOST_DISKS {
        crate::report::warning(format_args!("there are more than {MOST_DISKS} disks; those behind them are not used"));
        return Ok(());
    }
    let mut device = VirtioBlk::new(device, QUEUES)?;
    let (info, queues) = (*device.info(), device.queues());
    (0..queues).for_each(|queue| device.disable_interrupts(queue));
    let disk = Disk {
        device: Mutex::new(device),
        info,
        queues,
        number,
        answers: WaitQueue::new(),
        sleepers: AtomicUsize::new(0),
        writing: Turn::new(),
    };
    let access = if info.read_only { "read-only" } else { "read-write" };
    crate::verbose!("disk {}: {} MiB, {access}, queues: {queues}", disk.name(), (info.sectors * SECTOR) >> 20);
    DISKS.lock().push(Arc::new(disk));
    Ok(())
}

/// All disks, in the order in which the machine has them.
pub fn all() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// An interrupt, of whatever device.
pub(super) fn interrupt() {
    for disk in DISKS.lock().iter() {
        // Who polls has no use for more interrupts.
        if disk.sleepers.load(Ordering::Relaxed) > 0 {
            disk.collect(true);
        }
    }
}

impl Disk {
    /// Its name in `/dev`.
    pub fn name(&self) -> String {
        format!("vd{}", (b'a' + self.number as u8) as char)
    }

    /// Which one it is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What it says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.info.sectors * SECTOR
    }

    /// Takes what the device is done with. `rearm`: ask for interrupts again.
    fn collect(&self, rearm: bool) {
        let mut device = self.device.lock();
        for queue in 0..self.queues {
            if let Err(error) = collect_queue(&mut device, queue, rearm) {
                self.give_up(&mut device, error);
                break;
            }
        }
        drop(device);
        self.answers.wake_all();
    }

    /// The device broke the rules: nothing it says counts any more, and every request fails.
    fn give_up(&self, device: &mut VirtioBlk<KernelHal, Arc<Pending>>, error: QueueError) {
        crate::report::warning(format_args!("disk {} is broken: {error}", self.name()));
        for pending in device.abort().unwrap_or_default() {
            pending.0.store(FAILED, Ordering::Release);
        }
    }

    /// Has the device do something, and waits until it is done.
    ///
    /// # Safety
    /// The request's buffers are valid until this returns, and nobody else uses them.
    unsafe fn request(&self, request: Request<'_>) -> Result<()> {
        let pending = Arc::new(Pending(AtomicU8::new(WAITING)));
        let queue = percpu::cpu() % self.queues;
        loop {
            // SAFETY: this function returns only when the request came back or the device was reset.
            match unsafe { self.device.lock().submit(queue, request, pending.clone()) } {
                Ok(()) => break,
                Err(refused) if refused.reason == QueueError::Full => self.wait(|| self.device.lock().has_room(queue)),
                Err(_) => return Err(Errno::EIO),
            }
        }
        self.wait(|| pending.0.load(Ordering::Acquire) != WAITING);
        match pending.0.load(Ordering::Acquire) {
            DONE => Ok(()),
            UNSUPPORTED => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EIO),
        }
    }

    /// Waits until answers of the device have made `over` true.
    fn wait(&self, over: impl Fn() -> bool) {
        let polled = spin_until(POLL_NS, || {
            // Others may use the kernel meanwhile, as if this thread slept.
            lock::relax();
            let answered = {
                let device = self.device.lock();
                (0..self.queues).any(|queue| device.has_done(queue))
            };
            if answered {
                self.collect(false);
            }
            over()
        });
        if polled {
            return;
        }
        let _sleeper = Sleeper::new(self);
        self.collect(true);
        // No signal ends it: the device has the memory until it answers.
        while !self.answers.wait_until(&mut || over(), None, false).unwrap_or(false) {}
    }

    /// Where `len` bytes from `offset` on are in sectors, if they are on the disk.
    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.bytes()) { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Moves whole sectors between the disk and `memory`, which may lie anywhere.
    fn transfer(&self, sector: u64, memory: Memory<'_>) -> Result<()> {
        let (start, len) = memory.range();
        match DmaBuf::new(&KernelHal, start, len) {
            // SAFETY: the memory is borrowed until we return, for writing if it is read into.
            Some(buffer) => unsafe {
                match memory {
                    Memory::Into(_) => self.request(Request::Read(sector, &[buffer])),
                    Memory::From(_) => self.request(Request::Write(sector, &[buffer])),
                }
            },
            None => match memory {
                Memory::Into(to) => {
                    let mut copy = vec![0; len];
                    self.transfer(sector, Memory::Into(&mut copy))?;
                    to.copy_from_slice(&copy);
                    Ok(())
                }
                Memory::From(from) => {
                    let copy = Vec::from(from);
                    self.transfer(sector, Memory::From(&copy))
                }
            },
        }
    }

    /// The next step of a transfer: how many whole sectors' bytes can be moved at once from here, or how much of one sector.
    fn step(&self, offset: u64, left: usize) -> Step {
        let within = (offset % SECTOR) as usize;
        let most = MOST.min(self.info.segment_bytes as usize);
        match left.min(most) / SECTOR as usize * SECTOR as usize {
            whole @ 1.. if within == 0 => Step::Whole(whole),
            _ => Step::Part(within, left.min(SECTOR as usize - within)),
        }
    }

    /// Writes all of `bytes` at byte `offset`; neither has to be aligned.
    ///
    /// # Errors
    /// `EPERM` when it is read-only; `EIO` when the range does not lie on the disk or the device fails.
    pub fn write(&self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        self.check(offset, bytes.len())?;
        let _turn = self.writing.take();
        while !bytes.is_empty() {
            let done = match self.step(offset, bytes.len()) {
                Step::Whole(len) => {
                    self.transfer(offset / SECTOR, Memory::From(&bytes[..len]))?;
                    len
                }
                Step::Part(within, len) => {
                    let mut sector = vec![0; SECTOR as usize];
                    self.transfer(offset / SECTOR, Memory::Into(&mut sector))?;
                    sector[within..within + len].copy_from_slice(&bytes[..len]);
                    self.transfer(offset / SECTOR, Memory::From(&sector))?;
                    len
                }
            };
            (offset, bytes) = (offset + done as u64, &bytes[done..]);
        }
        Ok(())
    }

    /// Makes safe what was written.
    ///
    /// # Errors
    /// `EIO`.
    pub fn flush(&self) -> Result<()> {
        if !self.info.flush || self.info.read_only {
            return Ok(());
        }
        // SAFETY: it has no buffers.
        unsafe { self.request(Request::Flush) }
    }

    /// Gives the space of a range back; what it holds then is not said.
    ///
    /// # Errors
    /// `EPERM` when the disk is read-only, `EOPNOTSUPP` when it cannot, `EINVAL` for a range that is not whole sectors of it.
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let ranges = self.info.discard;
        self.each_range(ranges, offset, len, Request::Discard)
    }

    /// Makes a range read as zeroes; its space may be given back, or must not.
    ///
    /// # Errors
    /// As [`Disk::discard`].
    pub fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> Result<()> {
        let ranges = self.info.write_zeroes;
        self.each_range(ranges, offset, len, |sector, count| Request::WriteZeroes(sector, count, may_unmap))
    }

    fn each_range(
        &self,
        ranges: Option<Ranges>,
        offset: u64,
        len: u64,
        request: impl Fn(u64, u32) -> Request<'static>,
    ) -> Result<()> {
        self.check_writable()?;
        let most = ranges.ok_or(Errno::EOPNOTSUPP)?.most;
        let whole = offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR);
        if !whole || offset.checked_add(len).is_none_or(|end| end > self.bytes()) {
            return Err(Errno::EINVAL);
        }
        let _turn = self.writing.take();
        let (mut sector, mut left) = (offset / SECTOR, len / SECTOR);
        while left > 0 {
            let now = left.min(most.into()) as u32;
            // SAFETY: it has no buffers.
            unsafe { self.request(request(sector, now)) }?;
            (sector, left) = (sector + u64::from(now), left - u64::from(now));
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<()> {
        if self.info.read_only { Err(Errno::EPERM) } else { Ok(()) }
    }
}

/// Takes what one queue is done with.
fn collect_queue(
    device: &mut VirtioBlk<KernelHal, Arc<Pending>>,
    queue: usize,
    rearm: bool,
) -> core::result::Result<(), QueueError> {
    loop {
        while let Some(done) = device.take_done(queue)? {
            let state = match done.result {
                Ok(()) => DONE,
                Err(Failed::Unsupported) => UNSUPPORTED,
                Err(Failed::Io) => FAILED,
            };
            done.owner.0.store(state, Ordering::Release);
        }
        if !rearm || device.enable_interrupts(queue) {
            return Ok(());
        }
    }
}

/// Memory of a transfer.
enum Memory<'a> {
    /// Filled from the disk.
    Into(&'a mut [u8]),
    /// Written to it.
    From(&'a [u8]),
}

impl Memory<'_> {
    fn range(&self) -> (NonNull<u8>, usize) {
        match self {
            Self::Into(to) => (NonNull::from(&**to).cast(), to.len()),
            Self::From(from) => (NonNull::from(*from).cast(), from.len()),
        }
    }
}

/// What can be done at once.
enum Step {
    /// So many bytes, whole sectors.
    Whole(usize),
    /// A part of a sector: where in it, and how much.
    Part(usize, usize),
}

/// A caller that waits for an interrupt; the last one to wake turns interrupts off.
struct Sleeper<'a>(&'a Disk);

impl<'a> Sleeper<'a> {
    fn new(disk: &'a Disk) -> Self {
        disk.sleepers.fetch_add(1, Ordering::Relaxed);
        Self(disk)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if self.0.sleepers.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut device = self.0.device.lock();
            (0..self.0.queues).for_each(|queue| device.disable_interrupts(queue));
        }
    }
}

impl Block for Disk {
    fn len(&self) -> u64 {
        self.bytes()
    }

    fn read(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len())?;
        while !buffer.is_empty() {
            let done = match self.step(offset, buffer.len()) {
                Step::Whole(len) => {
                    self.transfer(offset / SECTOR, Memory::Into(&mut buffer[..len]))?;
                    len
                }
                Step::Part(within, len) => {
                    let mut sector = vec![0; SECTOR as usize];
                    self.transfer(offset / SECTOR, Memory::Into(&mut sector))?;
                    buffer[..len].copy_from_slice(&sector[within..within + len]);
                    len
                }
            };
            offset += done as u64;
            buffer = &mut buffer[done..];
        }
        Ok(())
    }
}
