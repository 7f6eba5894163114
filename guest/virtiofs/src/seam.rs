//! The seams: what a file system needs of a device, of a machine and of a window's memory.
//!
//! The kernel implements the two traits over its driver, clock, scheduler and page tables; the tests implement
//! them over scripts and over a real server in the same process.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use diolkos_pages::{Frames, PAGE};
use diolkos_vfs::{Errno, MemBytes, MemBytesMut, Result};

/// Content of a file that goes with a message, in mapped memory that was lent for it.
#[derive(Debug, Clone, Copy)]
pub enum Lent<'a> {
    /// None.
    Nothing,
    /// It is the end of the request.
    Sent(&'a [MemBytes<'a>]),
    /// It is the end of the reply.
    Wanted(&'a [MemBytesMut<'a>]),
}

/// A request that nobody waits for, and where its reply goes. It belongs to the transport until that is there.
pub struct Parcel {
    /// The request, all of it.
    pub request: Vec<u8>,
    /// Room for the first bytes of the reply.
    pub header: Vec<u8>,
    /// Who has the memory for the rest.
    pub errand: Box<dyn Errand>,
}

/// What becomes of a [`Parcel`].
pub trait Errand: Send {
    /// Memory for the reply, behind its header: the same each time, and it stays where it is as long as the errand lives.
    fn memory(&mut self) -> &mut [u8];

    /// The reply is there, of which the first bytes are `header` and of which the device says that it wrote so many bytes; or
    /// there will be none. May be called from an interrupt handler that has interrupted no kernel code: it takes spin locks,
    /// but neither waits nor sends anything.
    fn done(self: Box<Self>, header: &[u8], wrote: Result<usize>);
}

/// A virtio-fs device, as far as a file system must know it.
pub trait Transport: Send + Sync {
    /// Sends one request, the concatenation of `request`, and sleeps until its reply is there. The reply fills
    /// the parts of `reply` in order. Returns the number of bytes the device says it wrote.
    ///
    /// The device gets the memory of `lent` itself, not a copy, and does not touch it after this has returned.
    ///
    /// May sleep; never called with a spin lock held.
    ///
    /// # Errors
    /// The device is gone or the message cannot be sent; an error in the reply is not an error here.
    fn request(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> Result<usize>;

    /// Sends requests and does not wait for their replies: one doorbell for all. Each is [done](Errand::done) once, by whoever
    /// looks at the device when its reply is there, perhaps before this returns. May sleep, for room in a queue.
    ///
    /// A transport that can do but one thing at a time does one after the other.
    fn post(&self, parcels: Vec<Parcel>) {
        for Parcel { request, mut header, mut errand } in parcels {
            let wrote = self.request(&[&request], &mut [&mut header, errand.memory()], Lent::Nothing);
            errand.done(&header, wrote);
        }
    }

    /// Sleeps until `over`, which replies to what was [posted](Transport::post), or other threads, make true. `over` takes
    /// spin locks at most.
    fn wait_for(&self, over: &dyn Fn() -> bool);

    /// How many pieces of memory the content of one message may have; at least 1.
    fn most_pieces(&self) -> usize;

    /// Sends a message that has no reply (FORGET, BATCH_FORGET) on the high-priority queue. Does not wait for
    /// the host to act on it.
    fn forget(&self, message: &[u8]);
}

/// The machine around the file system.
pub trait Platform: Send + Sync {
    /// Nanoseconds since some fixed moment; never goes back.
    fn now_ns(&self) -> u64;

    /// Removes every page-table entry that leads to the guest-physical range `phys..phys + len`, on every CPU,
    /// before it returns. Called before window memory that [`diolkos_vfs::File::map`] gave out gets other content,
    /// when the file behind it shrinks, and when that file is let go of. May sleep; never called with a spin lock of
    /// ours held.
    fn revoke(&self, phys: u64, len: u64);

    /// Goes up whenever window memory loses its content (see [`crate::Mount::lose`]), before anybody can read what it
    /// shows instead. Who has read from a window knows what was read to be true if this is still what
    /// [`Platform::heed_losses`] said before.
    /// A machine whose windows lose nothing need not count.
    fn losses(&self) -> u64 {
        0
    }

    /// Has [`crate::Mount::lose`] called for every loss so far, and says what [`Platform::losses`] was then. Called with no
    /// lock of ours held.
    fn heed_losses(&self) -> u64 {
        self.losses()
    }

    /// Memory for copies of file content; a machine without any reads by message each time.
    fn frames(&self) -> Option<&dyn Frames> {
        None
    }

    /// Lets other threads run and returns soon: called in a loop by a thread that needs what another one is
    /// asking the host for.
    fn pause(&self);
}

/// The memory of a DAX window, as the kernel sees it.
#[derive(Debug, Clone, Copy)]
pub struct WindowMemory {
    phys: u64,
    virt: NonNull<u8>,
    len: u64,
}

// SAFETY: it is a plain description of memory that is valid in every thread (the promise of `new`); whoever
// follows the pointer makes the access, and says there why it is sound.
unsafe impl Send for WindowMemory {}
// SAFETY: as for `Send`; there is no interior state.
unsafe impl Sync for WindowMemory {}

impl WindowMemory {
    /// Describes the window of `len` bytes at guest-physical address `phys`, which the kernel sees at `virt`.
    ///
    /// # Errors
    /// `EINVAL` when `phys` or `virt` is not page-aligned, or the range wraps around.
    ///
    /// # Safety
    /// While any file of the mount is in use, the whole range is mapped at `virt` for reading and writing, or
    /// a fault on it is one that the kernel's [`diolkos_vfs::Sink`]s and [`diolkos_vfs::Source`]s recover from.
    /// Nobody else hands out memory in it.
    pub unsafe fn new(phys: u64, virt: NonNull<u8>, len: u64) -> Result<Self> {
        let start = virt.as_ptr() as u64;
        let fits = phys.checked_add(len).is_some() && start.checked_add(len).is_some();
        if !fits || !phys.is_multiple_of(PAGE) || !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        Ok(Self { phys, virt, len })
    }

    /// Guest-physical address of the first byte.
    pub fn phys(&self) -> u64 {
        self.phys
    }

    /// Where the kernel sees the first byte.
    pub fn virt(&self) -> NonNull<u8> {
        self.virt
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
