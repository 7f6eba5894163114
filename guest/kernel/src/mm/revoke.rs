//! Pages that others may want back, in page tables: how they are taken out again before a window shows something else there,
//! or a page cache gives the memory away or must know of the next store.

use super::paging::{self, ADDRESS, Entry, OWNED, Tables};
use super::reverse::GRAIN;
use super::space::{self, Inner};
use super::{LARGE_PAGE, PAGE_SIZE};
use crate::stats;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Removes every page-table entry that leads into a range of guest-physical memory that is not ours (a DAX window):
/// what was mapped there is about to be replaced. Programs fault it in again.
pub fn revoke(phys: u64, len: u64) {
    revoke_all(&[(phys, phys.saturating_add(len))]);
}

/// The same for frames of a page cache, which are sorted.
pub fn revoke_frames(frames: &[u64]) {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for frame in frames {
        match ranges.last_mut() {
            Some((_, end)) if *end == *frame => *end += PAGE_SIZE,
            _ => ranges.push((*frame, *frame + PAGE_SIZE)),
        }
    }
    revoke_all(&ranges);
}

/// Ranges are sorted and do not meet.
fn revoke_all(ranges: &[(u64, u64)]) {
    for space in space::all() {
        let any = space.inner.lock().revoke(ranges);
        if any {
            paging::flush_all_everywhere();
        }
    }
}

impl Inner {
    /// Forgets where entries led that are gone, if that may be much. For who has noted some and made the entries.
    pub(super) fn tidy_reverse(&mut self) {
        if self.reverse.is_full() {
            let tables = self.tables;
            self.reverse.tidy(|virt, seen| {
                each_lent(tables, virt, |_, phys, len| (phys..phys + len).step_by(GRAIN as usize).for_each(&mut *seen));
            });
        }
    }

    /// Clears the entries that lead into the ranges. Returns whether there were any.
    fn revoke(&mut self, ranges: &[(u64, u64)]) -> bool {
        let led_from: BTreeSet<u64> = ranges.iter().flat_map(|(phys, end)| self.reverse.take(*phys, *end)).collect();
        let mut any = false;
        for virt in led_from {
            stats::REVOKE_LOOKS.add(LARGE_PAGE / PAGE_SIZE);
            // A large page goes as a whole, whatever part of it is to go: cutting it would need memory.
            each_lent(self.tables, virt, |entry, frame, len| {
                let before = ranges.partition_point(|(phys, _)| *phys < frame + len);
                if before > 0 && frame < ranges[before - 1].1 {
                    entry.set(0);
                    any = true;
                }
            });
        }
        any
    }
}

/// Visits the entries of the table for the addresses from `virt` on, or that of the large page there, that do not own where
/// they lead, with where that is and how long it is.
fn each_lent(tables: Tables, virt: u64, mut visit: impl FnMut(Entry, u64, u64)) {
    let visited = tables.for_each(virt, virt + LARGE_PAGE, |_, entry, len| {
        let value = entry.get();
        if value & OWNED == 0 {
            visit(entry, value & ADDRESS, len);
        }
    });
    debug_assert!(visited.is_ok(), "only a large page that reaches over an end of the range could need memory");
}
