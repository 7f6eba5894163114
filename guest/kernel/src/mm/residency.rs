//! Which pages of a range are in memory: bringing them in (madvise(2), mlock(2), `MAP_POPULATE`), throwing them away, and
//! telling (mincore(2)).

use super::paging::{self, PRESENT, Slot};
use super::space::{AddressSpace, Advice, FaultError, Touch, range};
use super::vma::{Backing, Prot, Vma};
use super::{LARGE_PAGE, PAGE_SIZE, fault};
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};

impl AddressSpace {
    /// madvise(2), as far as it does anything.
    ///
    /// # Errors
    /// `ENOMEM` for holes and without memory, `EFAULT` for a file's pages that cannot be had, `EINVAL` where it does not
    /// apply.
    pub fn advise(&self, start: u64, len: u64, advice: Advice) -> Result<()> {
        let (start, end) = range(start, len)?;
        match advice {
            Advice::DontNeed => self.discard(start, end, false),
            Advice::Free => self.discard(start, end, true),
            Advice::Populate(write) => {
                if !self.inner.lock().areas.covers(start, end) {
                    return Err(Errno::ENOMEM);
                }
                self.populate(start, end, write).map_err(FaultError::errno)
            }
        }
    }

    /// Throws pages away that can be had again, or are the program's own; shared anonymous memory is neither.
    fn discard(&self, start: u64, end: u64, own_only: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        let whole = inner.areas.covers(start, end);
        let is_own = |vma: &Vma| !vma.shared && matches!(vma.backing, Backing::Anonymous);
        if own_only && !inner.areas.overlapping(start, end).all(is_own) {
            return Err(Errno::EINVAL);
        }
        let can_go = |vma: &&Vma| !vma.shared || matches!(vma.backing, Backing::File { .. });
        let hit: Vec<_> = inner
            .areas
            .overlapping(start, end)
            .filter(can_go)
            .map(|vma| (vma.start.max(start), vma.end.min(end)))
            .collect();
        inner.unpatch(start, end);
        let mut any = false;
        for (from, to) in hit {
            inner.hide(from, to)?;
            any |= inner.zap(from, to)?;
        }
        if any {
            paging::flush(start, (end - start) / PAGE_SIZE);
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Brings the pages of a range in, to be written where they may be (mlock(2)).
    ///
    /// # Errors
    /// `ENOMEM` for holes, and for pages that cannot be had.
    pub fn fill(&self, start: u64, end: u64) -> Result<()> {
        let areas: Vec<_> = {
            let inner = self.inner.lock();
            if !inner.areas.covers(start, end) {
                return Err(Errno::ENOMEM);
            }
            let part = |vma: &Vma| (vma.start.max(start), vma.end.min(end), vma.prot.contains(Prot::WRITE));
            inner.areas.overlapping(start, end).map(part).collect()
        };
        let mut fill = |(from, to, write)| self.populate(from, to, write).map_err(|_| Errno::ENOMEM);
        areas.into_iter().try_for_each(&mut fill)
    }

    /// Fills page tables as far as it goes.
    pub(super) fn populate(&self, start: u64, end: u64, write: bool) -> core::result::Result<(), FaultError> {
        let touch = if write { Touch::Write } else { Touch::Read };
        let mut at = start;
        while at < end {
            fault::resolve(self, at, touch)?;
            at += match self.inner.lock().tables.find(at) {
                Slot::Large(_) => LARGE_PAGE - at % LARGE_PAGE,
                _ => PAGE_SIZE,
            };
        }
        Ok(())
    }

    /// mincore(2): for each page of the range whether it is in memory.
    ///
    /// # Errors
    /// `ENOMEM` for holes.
    pub fn resident(&self, start: u64, len: u64) -> Result<Vec<bool>> {
        let (start, end) = range(start, len)?;
        let inner = self.inner.lock();
        if !inner.areas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let mut pages = alloc::vec![false; ((end - start) / PAGE_SIZE) as usize];
        let mut at = start;
        while at < end {
            let (step, present) = match inner.tables.find(at) {
                Slot::Nothing(bytes) => (bytes, false),
                Slot::Large(_) => (LARGE_PAGE - at % LARGE_PAGE, true),
                Slot::Small(entry) => (PAGE_SIZE, entry.get() & PRESENT != 0),
            };
            let to = (at + step).min(end);
            pages[((at - start) / PAGE_SIZE) as usize..((to - start) / PAGE_SIZE) as usize].fill(present);
            at = to;
        }
        Ok(pages)
    }
}
