//! A split virtqueue (section 2.7): chains go out, and come back with what the device wrote.
//!
//! The hard idea: shared memory is write-only as far as our own state goes. Which descriptors are free, which
//! chain a head began, how much of it is writable, where the rings stand: all of that is kept in private
//! memory. From the device come three numbers, `used.idx` and an entry's `id` and `len`, and each is checked
//! before it means anything. A number that cannot be true breaks the queue for good.
//!
//! A chain in flight holds an *owner*, a value of the caller's choice that keeps its buffers alive. It comes
//! back when the chain is used, or when the queue is emptied after the device was reset.

#[cfg(test)]
mod tests;

use crate::ring::{DESC_SIZE, DescFlags, Ring, passes_event, write_desc};
use crate::{DmaBuf, DmaPages, Features, Hal, Registers};
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// Names a chain in flight. A token is used again once its chain has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(u16);

/// A chain that came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Used<T> {
    /// Which one.
    pub token: Token,
    /// Bytes the device says it wrote: at most what was writable. It may have written less, or elsewhere in it.
    pub len: u32,
    /// What was handed in with it.
    pub owner: T,
}

/// A claim of the device that cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// More chains came back than are out.
    IndexJumped {
        /// By how much `used.idx` moved.
        by: u16,
        /// How many chains were in flight.
        outstanding: u16,
    },
    /// A chain came back that is not out: no such head, or one that was returned before.
    NotOutstanding(u32),
    /// More bytes were written than there was room for.
    TooLong {
        /// The claim.
        len: u32,
        /// The room.
        writable: u32,
    },
}

/// Why a queue does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueError {
    /// Wait until something has come back.
    Full,
    /// The chain has more buffers than this queue takes in one.
    TooManyBuffers,
    /// The chain has no buffer with a byte in it.
    Empty,
    /// The chain is longer than 2^32 - 1 bytes.
    TooLong,
    /// The device lied; the queue is of no use until the device is reset.
    Broken(Fault),
    /// The device was reset; the queue is of no use any more.
    Stopped,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "the queue is full"),
            Self::TooManyBuffers => write!(f, "too many buffers for one chain"),
            Self::Empty => write!(f, "a chain without a byte"),
            Self::TooLong => write!(f, "a chain of 4 GiB or more"),
            Self::Stopped => write!(f, "the device was reset"),
            Self::Broken(Fault::IndexJumped { by, outstanding }) => {
                write!(f, "the device returned {by} chains of {outstanding} in flight")
            }
            Self::Broken(Fault::NotOutstanding(id)) => write!(f, "the device returned chain {id}, which is not out"),
            Self::Broken(Fault::TooLong { len, writable }) => {
                write!(f, "the device claims to have written {len} bytes into {writable}")
            }
        }
    }
}

impl core::error::Error for QueueError {}

/// A chain that was not taken, with its owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// Why.
    pub reason: QueueError,
    /// The owner, untouched.
    pub owner: T,
}

/// How a queue is to be set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuePlan {
    pub(crate) index: u16,
    /// Most chains in flight; the device may allow fewer.
    pub(crate) max_size: u16,
    /// Most buffers in a chain, where the device allows indirect descriptors and as many.
    pub(crate) max_buffers: u16,
    /// MSI-X vector; `None` for a queue that is polled.
    pub(crate) vector: Option<u16>,
}

/// The register that wakes the device for one queue (section 4.1.5.2).
#[derive(Debug)]
pub(crate) struct Doorbell<R> {
    pub(crate) registers: R,
    pub(crate) offset: usize,
}

/// What the driver remembers of a chain in flight.
#[derive(Debug)]
struct Chain<T> {
    owner: T,
    writable: u32,
    descriptors: u16,
}

/// What the driver remembers of a descriptor: the next one of the same chain, or of the free list.
#[derive(Debug)]
struct Slot<T> {
    next: u16,
    chain: Option<Chain<T>>,
}

/// Tables for indirect descriptors: one of fixed length for each head.
#[derive(Debug)]
struct Tables<H: Hal> {
    pages: DmaPages<H>,
    entries: u16,
}

impl<H: Hal> Tables<H> {
    fn offset(&self, head: u16) -> usize {
        usize::from(head) * usize::from(self.entries) * DESC_SIZE
    }
}

/// A queue of a device. `T` owns the buffers of a chain while the device has them.
#[derive(Debug)]
pub struct VirtQueue<H: Hal, T> {
    index: u16,
    ring: Ring<H>,
    tables: Option<Tables<H>>,
    doorbell: Doorbell<H::Registers>,
    event_idx: bool,
    slots: Box<[Slot<T>]>,
    free_head: u16,
    free: u16,
    outstanding: u16,
    /// Where the next available entry goes.
    avail: u16,
    /// `avail` when we last decided about a notification.
    decided: u16,
    /// The next used entry to look at.
    used: u16,
    interrupts: bool,
    /// Has no vector: interrupts stay off.
    polled: bool,
    /// Why it is of no use any more.
    dead: Option<QueueError>,
}

impl<H: Hal, T> VirtQueue<H, T> {
    /// A queue of `size` (a power of two) that the device does not know of yet.
    pub(crate) fn new(
        hal: &H,
        plan: QueuePlan,
        size: u16,
        features: Features,
        doorbell: Doorbell<H::Registers>,
    ) -> Option<Self> {
        // Section 2.7.5.3.1: a chain is never longer than the queue, indirect or not.
        let entries = plan.max_buffers.min(size);
        let tables = if features.contains(Features::INDIRECT_DESC) && entries > 1 {
            let pages = DmaPages::new(hal, usize::from(size) * usize::from(entries) * DESC_SIZE)?;
            Some(Tables { pages, entries })
        } else {
            None
        };
        let slots: Box<[_]> = (0..size).map(|i| Slot { next: (i + 1) % size, chain: None }).collect();
        let mut queue = Self {
            index: plan.index,
            ring: Ring::new(hal, size)?,
            tables,
            doorbell,
            event_idx: features.contains(Features::EVENT_IDX),
            slots,
            free_head: 0,
            free: size,
            outstanding: 0,
            avail: 0,
            decided: 0,
            used: 0,
            interrupts: true,
            polled: plan.vector.is_none(),
            dead: None,
        };
        if queue.polled {
            queue.disable_interrupts();
        }
        Some(queue)
    }

    pub(crate) fn ring(&self) -> &Ring<H> {
        &self.ring
    }

    /// Which of the device's queues it is.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Number of descriptors, a power of two.
    pub fn size(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Most buffers that one chain may have.
    pub fn max_buffers(&self) -> u16 {
        self.tables.as_ref().map_or(self.size(), |tables| tables.entries)
    }

    /// Chains the device has.
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// The error that ended the queue, if one did.
    pub(crate) fn check_alive(&self) -> Result<(), QueueError> {
        self.dead.map_or(Ok(()), Err)
    }

    fn admit(&self, readable: &[DmaBuf], writable: &[DmaBuf]) -> Result<(u16, u32), QueueError> {
        self.check_alive()?;
        let total = |buffers: &[DmaBuf]| buffers.iter().map(|b| u64::from(b.len)).sum::<u64>();
        let room = total(writable);
        let bytes = total(readable) + room;
        let count = readable.iter().chain(writable).filter(|b| b.len > 0).count();
        if count == 0 {
            return Err(QueueError::Empty);
        }
        if bytes > u64::from(u32::MAX) {
            return Err(QueueError::TooLong);
        }
        let count = u16::try_from(count).map_err(|_| QueueError::TooManyBuffers)?;
        if count > self.max_buffers() {
            return Err(QueueError::TooManyBuffers);
        }
        let needed = if self.tables.is_some() { 1 } else { count };
        if needed > self.free {
            return Err(QueueError::Full);
        }
        Ok((count, room as u32))
    }

    /// Makes a chain available to the device: first what it reads, then what it writes. Buffers of no length
    /// are left out. The device need not look before it is notified: see [`VirtQueue::kick`].
    /// Interrupt-safe.
    ///
    /// # Safety
    /// Until the chain has come back, or the device was reset, every buffer stays valid memory that nobody
    /// frees or reuses; of the writable ones nobody holds a reference, and nobody else writes the readable ones. `owner` may
    /// be what guarantees it.
    ///
    /// # Errors
    /// See [`QueueError`]; the owner comes back.
    pub unsafe fn submit(&mut self, readable: &[DmaBuf], writable: &[DmaBuf], owner: T) -> Result<Token, Refused<T>> {
        let (count, room) = match self.admit(readable, writable) {
            Ok(admitted) => admitted,
            Err(reason) => return Err(Refused { reason, owner }),
        };
        let buffers = readable
            .iter()
            .map(|b| (*b, DescFlags::empty()))
            .chain(writable.iter().map(|b| (*b, DescFlags::WRITE)))
            .filter(|(b, _)| b.len > 0);
        let head = self.free_head;
        let descriptors = match &self.tables {
            Some(tables) if count > 1 => {
                let table = tables.offset(head);
                for (i, (buffer, flags)) in (0..count).zip(buffers) {
                    let more = if i + 1 < count { DescFlags::NEXT } else { DescFlags::empty() };
                    write_desc(&tables.pages, table, i, buffer, flags | more, i + 1);
                }
                let whole = tables.pages.buffer(table, usize::from(count) * DESC_SIZE);
                self.ring.write_desc(head, whole, DescFlags::INDIRECT, 0);
                1
            }
            _ => {
                let mut at = head;
                for (i, (buffer, flags)) in (0..count).zip(buffers) {
                    let next = self.slots[usize::from(at)].next;
                    let more = if i + 1 < count { DescFlags::NEXT } else { DescFlags::empty() };
                    self.ring.write_desc(at, buffer, flags | more, next);
                    at = next;
                }
                count
            }
        };
        self.take_slots(head, descriptors);
        self.slots[usize::from(head)].chain = Some(Chain { owner, writable: room, descriptors });
        self.outstanding += 1;

        self.ring.write_avail_entry(self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        // Section 2.7.13.3: the device must not see the index before descriptors and entry.
        fence(Ordering::Release);
        self.ring.write_avail_index(self.avail);
        Ok(Token(head))
    }

    /// Takes the first `n` slots off the free list, which begins at `head`.
    fn take_slots(&mut self, head: u16, n: u16) {
        self.free_head = (0..n).fold(head, |at, _| self.slots[usize::from(at)].next);
        self.free -= n;
    }

    /// Puts the `n` slots of the chain at `head` back.
    fn return_slots(&mut self, head: u16, n: u16) {
        let last = (1..n).fold(head, |at, _| self.slots[usize::from(at)].next);
        self.slots[usize::from(last)].next = self.free_head;
        self.free_head = head;
        self.free += n;
    }

    /// Whether the device wants to hear of what was submitted since the last time this was asked.
    /// Interrupt-safe.
    pub fn should_notify(&mut self) -> bool {
        let old = core::mem::replace(&mut self.decided, self.avail);
        if old == self.avail {
            return false;
        }
        // Section 2.7.13.4.1: our index must be visible before we read whether the device still looks.
        fence(Ordering::SeqCst);
        if self.event_idx { passes_event(self.ring.avail_event(), self.avail, old) } else { !self.ring.no_notify() }
    }

    /// Tells the device to look: one register write, an exit. Interrupt-safe.
    pub fn notify(&self) {
        self.doorbell.registers.write16(self.doorbell.offset, self.index);
    }

    /// Tells the device to look if it wants to be told, and says whether it did. Interrupt-safe.
    pub fn kick(&mut self) -> bool {
        let wanted = self.should_notify();
        if wanted {
            self.notify();
        }
        wanted
    }

    fn fail(&mut self, fault: Fault) -> QueueError {
        *self.dead.insert(QueueError::Broken(fault))
    }

    /// Whether the device says that a chain is back. Interrupt-safe.
    pub fn has_used(&self) -> bool {
        self.dead.is_none() && self.ring.used_index() != self.used
    }

    /// The next chain that the device is done with, if there is one. Interrupt-safe.
    ///
    /// # Errors
    /// [`QueueError::Broken`] when the device's claims cannot be true, now or earlier.
    pub fn pop_used(&mut self) -> Result<Option<Used<T>>, QueueError> {
        self.check_alive()?;
        let by = self.ring.used_index().wrapping_sub(self.used);
        if by == 0 {
            return Ok(None);
        }
        if by > self.outstanding {
            return Err(self.fail(Fault::IndexJumped { by, outstanding: self.outstanding }));
        }
        // The entry, and the buffers' content, must not be read before the index.
        fence(Ordering::Acquire);
        let (id, len) = self.ring.used_entry(self.used);
        let slot = usize::try_from(id).ok().and_then(|id| self.slots.get_mut(id));
        let Some((slot, writable)) = slot.and_then(|s| s.chain.as_ref().map(|c| c.writable).map(|w| (s, w))) else {
            return Err(self.fail(Fault::NotOutstanding(id)));
        };
        if len > writable {
            return Err(self.fail(Fault::TooLong { len, writable }));
        }
        let Chain { owner, descriptors, .. } = slot.chain.take().expect("it was there a line ago");
        let head = id as u16; // `slots` has at most 2^15 entries
        self.return_slots(head, descriptors);
        self.outstanding -= 1;
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { token: Token(head), len, owner }))
    }

    /// Asks for no more interrupts; the device may still send one. Interrupt-safe.
    pub fn disable_interrupts(&mut self) {
        if !self.interrupts {
            return;
        }
        self.interrupts = false;
        if self.event_idx {
            // The index just passed comes round again only after 2^16 - 1 more chains.
            self.ring.write_used_event(self.used.wrapping_sub(1));
        } else {
            self.ring.write_no_interrupt(true);
        }
    }

    /// Asks for an interrupt at the next chain that comes back, and tells whether that will do: `false` means
    /// that a chain came back meanwhile, for which there may be no interrupt, and the caller has to pop again.
    /// With event index an interrupt is asked for once: call this after every round of popping.
    /// Interrupt-safe.
    #[must_use = "a chain that came back unnoticed is lost for good"]
    pub fn enable_interrupts(&mut self) -> bool {
        if self.polled {
            return !self.has_used();
        }
        self.interrupts = true;
        if self.event_idx {
            self.ring.write_used_event(self.used);
        } else {
            self.ring.write_no_interrupt(false);
        }
        // The wish must be visible before we look once more (section 2.7.14).
        fence(Ordering::SeqCst);
        self.ring.used_index() == self.used
    }

    /// Hands every chain that is back to `each`, and returns when the queue is empty and interrupts are on:
    /// what an interrupt handler does. Interrupt-safe, if `each` is.
    ///
    /// # Errors
    /// As [`VirtQueue::pop_used`].
    pub fn drain(&mut self, mut each: impl FnMut(Used<T>)) -> Result<(), QueueError> {
        loop {
            while let Some(used) = self.pop_used()? {
                each(used);
            }
            if self.enable_interrupts() {
                return Ok(());
            }
        }
    }

    /// Takes the owners of all chains in flight. Only for a device that was reset.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = T> {
        self.dead.get_or_insert(QueueError::Stopped);
        self.outstanding = 0;
        self.slots.iter_mut().filter_map(|slot| slot.chain.take()).map(|chain| chain.owner)
    }
}
