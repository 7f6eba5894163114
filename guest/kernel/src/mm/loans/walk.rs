//! Finding the frames behind a range of the program's memory, and lending them.

use super::super::paging::{ADDRESS, OWNED, PRESENT, Slot, WRITE};
use super::super::space::{AddressSpace, Inner, Touch};
use super::super::{LARGE_PAGE, PAGE_SIZE, fault, page_down};
use super::{LENT, LOANS, frames};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Memory on loan, from the borrower's side. Dropping it ends the loan.
pub struct Loan {
    /// Ranges of physical memory, in the order of the program's addresses.
    ranges: Vec<(u64, u64)>,
}

impl Loan {
    /// Its ranges of physical memory, from the first byte to the one after the last, in the order of the program's addresses.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(start, end)| (end - start) as usize).sum()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let free = LOANS.lock().end(&self.ranges);
        LENT.fetch_sub(self.ranges.len(), Ordering::Relaxed);
        for (phys, order) in free {
            frames::release(phys, order);
        }
    }
}

/// Lends the memory from `address` on, `len` bytes and as far as it can be lent in `most` ranges, for a device to fill or,
/// unless `writable`, to read. Pages that are not there yet are brought in, which may sleep. An empty loan: not even the
/// first byte can be lent.
pub fn lend(space: &AddressSpace, address: u64, len: usize, most: usize, writable: bool) -> Loan {
    let end = address.saturating_add(len as u64);
    let touch = if writable { Touch::Write } else { Touch::Read };
    let mut resolved = None;
    loop {
        let reached = {
            let inner = space.inner.lock();
            let mut ranges = Vec::new();
            let reached = collect(&inner, (address, end), most, writable, &mut ranges);
            if reached == end || ranges.len() == most || resolved == Some(reached) {
                // Under the space's lock: none of it can be taken away between finding and lending it.
                LENT.fetch_add(ranges.len(), Ordering::Relaxed);
                LOANS.lock().begin(&ranges);
                return Loan { ranges };
            }
            reached
        };
        // What cannot be had, or not as memory of its own, is left to be copied, and its fault to be told of then.
        let _ = fault::resolve(space, page_down(reached), touch);
        resolved = Some(reached);
    }
}

/// Collects ranges of physical memory from `start` up to `end`; the address it got to.
fn collect(inner: &Inner, (start, end): (u64, u64), most: usize, writable: bool, ranges: &mut Vec<(u64, u64)>) -> u64 {
    let needed = PRESENT | OWNED | if writable { WRITE } else { 0 };
    let mut at = start;
    while at < end {
        let (entry, size) = match inner.tables.find(at) {
            Slot::Nothing(_) => break,
            Slot::Large(entry) => (entry.get(), LARGE_PAGE),
            Slot::Small(entry) => (entry.get(), PAGE_SIZE),
        };
        if entry & needed != needed {
            break;
        }
        let phys = (entry & ADDRESS & !(size - 1)) + at % size;
        let bytes = (size - at % size).min(end - at);
        let pieces = ranges.len();
        match ranges.last_mut() {
            Some(last) if last.1 == phys => last.1 += bytes,
            _ if pieces == most => break,
            _ => ranges.push((phys, phys + bytes)),
        }
        at += bytes;
    }
    at
}
