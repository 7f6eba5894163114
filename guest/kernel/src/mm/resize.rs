//! Areas that change their size or place: brk(2) and mremap(2).

use super::paging::{self, ADDRESS, OWNED, Slot};
use super::space::{Inner, MMAP_TOP, Place};
use super::vma::{Backing, Marks, Prot, Vma};
use super::{LARGE_PAGE, PAGE_SIZE, USER_TOP, frames, page_up};
use diolkos_vfs::{Errno, Result};

impl Inner {
    /// Maps or unmaps what a new end of the heap takes.
    pub(super) fn move_brk(&mut self, end: u64) -> Result<()> {
        let (start, now) = self.brk;
        let old_top = page_up(now).ok_or(Errno::ENOMEM)?;
        let new_top = page_up(end).filter(|top| *top <= MMAP_TOP).ok_or(Errno::ENOMEM)?;
        if end < start {
            return Err(Errno::EINVAL);
        }
        if new_top <= old_top {
            return self.unmap(new_top, old_top);
        }
        // As with mmap, more at once than there is memory: malloc asks here for what mmap refused.
        if new_top - old_top > frames::usage().1 || !self.areas.is_free(old_top, new_top) {
            return Err(Errno::ENOMEM);
        }
        self.version += 1;
        let area = Vma::anonymous(old_top, new_top, Prot::READ | Prot::WRITE);
        self.areas.insert(Vma { marks: area.marks | self.future, ..area });
        Ok(())
    }

    /// The one area that holds all of a range.
    fn only(&self, (start, end): (u64, u64)) -> Result<Vma> {
        self.areas.find(start).filter(|vma| end <= vma.end).cloned().ok_or(Errno::EFAULT)
    }

    /// Gives the mapping at `old` another length where it is; `Ok(false)` if something is in the way.
    pub(super) fn resize(&mut self, old: (u64, u64), new_len: u64) -> Result<bool> {
        let vma = self.only(old)?;
        let end = old.0.checked_add(new_len).filter(|end| *end <= USER_TOP).ok_or(Errno::ENOMEM)?;
        if end <= old.1 {
            self.unmap(end, old.1)?;
            return Ok(true);
        }
        if vma.end != old.1 || !self.areas.is_free(old.1, end) {
            return Ok(false);
        }
        self.version += 1;
        self.areas.remove(vma.start, vma.end);
        self.areas.insert(Vma { end, ..vma });
        Ok(true)
    }

    /// Shows the shared memory at `old` a second time.
    pub(super) fn view_again(&mut self, old: u64, place: Place, new_len: u64) -> Result<u64> {
        let vma = self.areas.find(old).cloned().ok_or(Errno::EFAULT)?;
        // Shared anonymous memory belongs to its page-table entries, so there can be one of each only.
        let Backing::File { file, offset, held } = vma.backing else { return Err(Errno::EINVAL) };
        if !vma.shared {
            return Err(Errno::EINVAL);
        }
        let backing = Backing::File { file, offset: offset + (old - vma.start), held };
        let new = self.place(place, new_len)?;
        self.version += 1;
        self.areas.insert(Vma { start: new, end: new + new_len, backing, ..vma });
        Ok(new)
    }

    /// Moves the mapping at `old` elsewhere, with its pages; with `keep_old` the old place stays mapped without any.
    pub(super) fn relocate(&mut self, old: (u64, u64), place: Place, new_len: u64, keep_old: bool) -> Result<u64> {
        self.only(old)?;
        self.unpatch(old.0, old.1);
        let new = self.place(place, new_len)?;
        self.version += 1;
        let old_len = old.1 - old.0;
        self.move_pages(old.0, new, old_len.min(new_len))?;
        if old_len > new_len {
            self.hide(old.0 + new_len, old.1)?;
            self.zap(old.0 + new_len, old.1)?;
        }
        let piece = self.areas.remove(old.0, old.1).pop().ok_or(Errno::EFAULT)?;
        if keep_old {
            // What pages it gets now are new ones, and nobody has locked them.
            let owner = piece.owner.filter(|_| piece.shared);
            let marks = piece.marks - Marks::LOCKED - Marks::ON_FAULT;
            self.areas.insert(Vma { owner, marks, ..piece.clone() });
        }
        // Private memory without pages belongs where it is.
        let moved = piece.owner.map_or(0, |_| piece.moved.wrapping_add(new.wrapping_sub(old.0)));
        self.areas.insert(Vma { start: new, end: new + new_len, moved, ..piece });
        self.tidy_reverse();
        paging::flush_all_everywhere();
        Ok(new)
    }

    /// Moves page-table entries; the target has none.
    fn move_pages(&mut self, old: u64, new: u64, len: u64) -> Result<()> {
        let tables = self.tables;
        let mut at = 0;
        while at < len {
            let aligned = (old + at).is_multiple_of(LARGE_PAGE)
                && (new + at).is_multiple_of(LARGE_PAGE)
                && len - at >= LARGE_PAGE;
            at += match tables.find(old + at) {
                Slot::Nothing(bytes) => bytes,
                Slot::Large(entry) if aligned && tables.large(new + at)?.is_some_and(|to| to.get() == 0) => {
                    if let Some(to) = tables.large(new + at)? {
                        let value = entry.get();
                        if value & OWNED == 0 {
                            self.reverse.note_large(value & ADDRESS, new + at);
                        }
                        to.set(value);
                        entry.set(0);
                    }
                    LARGE_PAGE
                }
                Slot::Large(_) => {
                    tables.small(old + at)?;
                    continue;
                }
                Slot::Small(entry) => {
                    let value = entry.get();
                    if value != 0 {
                        let (to, frame) = (tables.small(new + at)?, value & ADDRESS);
                        if value & OWNED == 0 {
                            self.reverse.note(frame, new + at);
                        }
                        to.set(value);
                        entry.set(0);
                    }
                    PAGE_SIZE
                }
            };
        }
        Ok(())
    }
}
