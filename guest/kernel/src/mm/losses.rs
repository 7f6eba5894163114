//! Window memory that has lost its content: the host cut a file short, and shows zeros where its pages were.
//!
//! The machine keeps a record ([`diolkos_common::losses`]) and interrupts when it adds to it: all processors, since others
//! than the one that touched the page may be about to touch it. The interrupt comes before the instruction that touched the
//! page can go on, so a program never sees the zeros: [`heed`] takes the page out of its page tables first, the access
//! faults, and asking for the file's size shows that there is no such page.
//!
//! The kernel itself runs with interrupts masked, and does see zeros. So whoever copies out of a window, or out of the
//! program's memory, which may be one, asks for [`heeded`] before and compares [`sequence`] after. It is not enough to
//! compare two of the latter: the interrupt of a loss that the kernel met a moment ago may not have been served yet, and the
//! zeros still be where file content was.

use super::{PAGE_SIZE, paging};
use crate::arch::trap;
use crate::task::lock;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use diolkos_common::losses::{News, Reader, SEQUENCE, SIZE};
use diolkos_vfs::{Errno, Result};
use spin::{Mutex, Once};

/// Tells whoever manages windows about a range of guest-physical memory.
type Tell = fn(phys: u64, len: u64);

/// The record; null when the machine keeps none.
static RECORD: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static READER: Mutex<Reader> = Mutex::new(Reader::new());
static TELL: Once<Tell> = Once::new();
/// The losses that have been acted upon.
static HEEDED: AtomicU64 = AtomicU64::new(0);

/// Watches the record at guest-physical `address`, if there is one. `tell` may be called from an interrupt.
///
/// # Errors
/// `EINVAL` for an address that cannot be one, `ENOMEM`.
pub fn init(address: Option<u64>, tell: Tell) -> Result<()> {
    let Some(address) = address else { return Ok(()) };
    if !address.is_multiple_of(PAGE_SIZE) || super::frames::is_ram(address, address.saturating_add(SIZE as u64)) {
        return Err(Errno::EINVAL);
    }
    TELL.call_once(|| tell);
    RECORD.store(paging::map_physical(address, SIZE as u64)?, Ordering::Release);
    trap::on_interrupt(heed);
    Ok(())
}

fn load(record: *mut u8, at: usize) -> u64 {
    debug_assert!(at + 8 <= SIZE);
    // SAFETY: the record is mapped for ever, `at` is inside it and aligned (common's tests), and only the machine writes
    // it. Volatile reads keep their order, and so do loads on this processor.
    u64::from_le(unsafe { record.add(at).cast::<u64>().read_volatile() })
}

/// Goes up with every loss, before the first zero can be read.
pub fn sequence() -> u64 {
    let record = RECORD.load(Ordering::Acquire);
    if record.is_null() { 0 } else { load(record, SEQUENCE) }
}

/// Whether there are losses that nobody has acted upon. Needs no lock.
pub fn has_news() -> bool {
    sequence() != HEEDED.load(Ordering::Acquire)
}

/// Acts on all losses so far. Neither sleeps nor allocates for long; no lock may be held.
pub fn heed() {
    let record = RECORD.load(Ordering::Acquire);
    let Some(tell) = TELL.get().filter(|_| !record.is_null()) else { return };
    let so_far = sequence();
    loop {
        let news = READER.lock().next(|at| load(record, at));
        match news {
            None => break,
            Some(News::Lost(loss)) => tell(loss.address, loss.len),
            Some(News::Everything) => tell(0, u64::MAX),
        }
    }
    HEEDED.fetch_max(so_far, Ordering::AcqRel);
}

/// [`sequence`], once all losses up to it have been acted upon. No lock may be held but the kernel's, and that need not be.
pub fn heeded() -> u64 {
    loop {
        let so_far = sequence();
        if HEEDED.load(Ordering::Acquire) == so_far {
            return so_far;
        }
        lock::with(heed);
    }
}
