//! Space of a file in memory: reserving pages, punching and zeroing ranges, finding holes.

use super::content::{Content, Page, split};
use super::{PAGE, Shared};
use crate::{Allocation, Errno, Result, Sought};
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Content {
    /// Does what fallocate(2) asks for, up to byte `end`. Pages that go are given back, to be dropped by the caller when no
    /// lock is held.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EFBIG`, `ENOSPC`; nothing has changed then.
    pub(crate) fn allocate(
        &mut self,
        what: Allocation,
        offset: u64,
        end: u64,
        shared: &Arc<Shared>,
    ) -> Result<Vec<Arc<Page>>> {
        if end > Self::MAX {
            return Err(Errno::EFBIG);
        }
        let mut gone = Vec::new();
        match what {
            Allocation::Reserve { .. } => self.reserve(offset, end, shared)?,
            Allocation::Punch => gone = self.punch(offset, end),
            // tmpfs does not know these either.
            Allocation::Zero { .. } | Allocation::Unshare { .. } | Allocation::Collapse | Allocation::Insert => {
                return Err(Errno::EOPNOTSUPP);
            }
        }
        if what.grows() {
            self.size = self.size.max(end);
        }
        Ok(gone)
    }

    /// Fills the holes of a range with pages, all of them or none.
    fn reserve(&mut self, offset: u64, end: u64, shared: &Arc<Shared>) -> Result<()> {
        let pages = offset / PAGE as u64..end.div_ceil(PAGE as u64);
        let there = self.pages.range(pages.clone()).count() as u64;
        // Asked first, so that a range no memory can hold does not take all there is before it fails.
        if pages.end - pages.start - there > shared.free_pages() {
            return Err(Errno::ENOSPC);
        }
        let mut made = Vec::new();
        for number in pages {
            if self.pages.contains_key(&number) {
                continue;
            }
            if let Err(errno) = self.page_or_new(number, shared) {
                made.iter().for_each(|number| drop(self.pages.remove(number)));
                return Err(errno);
            }
            made.push(number);
        }
        Ok(())
    }

    /// Makes a range read as zeros. A page that somebody has mapped stays, zeroed: it is the file to them.
    fn punch(&mut self, offset: u64, end: u64) -> Vec<Arc<Page>> {
        let end = end.min(self.pages.keys().next_back().map_or(0, |last| (last + 1) * PAGE as u64));
        let mut gone = Vec::new();
        if offset >= end {
            return gone;
        }
        let ((first, from), (last, to)) = (split(offset), split(end));
        let touched: Vec<u64> = self.pages.range(first..=last).map(|(number, _)| *number).collect();
        for number in touched {
            let start = if number == first { from } else { 0 };
            let stop = if number == last { to } else { PAGE };
            let Some(page) = self.pages.get(&number) else { continue };
            if start == 0 && stop == PAGE && Arc::strong_count(page) == 1 {
                gone.extend(self.pages.remove(&number));
            } else if start < stop {
                page.zero(start, stop);
            }
        }
        gone
    }

    /// lseek(2)'s data and holes, by pages as tmpfs has them.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, and without data up to it.
    pub(crate) fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        if offset >= self.size {
            return Err(Errno::ENXIO);
        }
        let (number, _) = split(offset);
        let found = match what {
            Sought::Data => self.pages.range(number..).next().map(|(number, _)| number * PAGE as u64),
            Sought::Hole => {
                let mut hole = number;
                for (page, _) in self.pages.range(number..) {
                    if *page != hole {
                        break;
                    }
                    hole += 1;
                }
                Some((hole * PAGE as u64).min(self.size))
            }
        };
        found
            .filter(|found| what == Sought::Hole || *found < self.size)
            .map(|found| found.max(offset))
            .ok_or(Errno::ENXIO)
    }
}
