//! Pages of DAX windows in page tables: how they are taken out again before the window shows something else.

use super::paging::{self, ADDRESS, Entry, OWNED, Tables};
use super::space::{self, Inner};
use super::{LARGE_PAGE, PAGE_SIZE};
use crate::stats;

/// Removes every page-table entry that leads into a range of guest-physical memory that is not ours (a DAX window):
/// what was mapped there is about to be replaced. Programs fault it in again.
pub fn revoke(phys: u64, len: u64) {
    for space in space::all() {
        let any = space.inner.lock().revoke(phys, phys.saturating_add(len));
        if any {
            paging::flush_all();
        }
    }
}

impl Inner {
    /// Forgets where entries led that are gone, if that may be much. For who has noted some and made the entries.
    pub(super) fn tidy_reverse(&mut self) {
        if self.reverse.is_full() {
            let tables = self.tables;
            self.reverse.tidy(|virt, seen| each_lent(tables, virt, |_, phys| seen(phys)));
        }
    }

    /// Clears the entries that lead to `phys..end`. Returns whether there were any.
    fn revoke(&mut self, phys: u64, end: u64) -> bool {
        let mut any = false;
        for virt in self.reverse.take(phys, end) {
            stats::REVOKE_LOOKS.add(LARGE_PAGE / PAGE_SIZE);
            each_lent(self.tables, virt, |entry, frame| {
                if (phys..end).contains(&frame) {
                    entry.set(0);
                    any = true;
                }
            });
        }
        any
    }
}

/// Visits the entries of the table for the addresses from `virt` on that do not own where they lead.
fn each_lent(tables: Tables, virt: u64, mut visit: impl FnMut(Entry, u64)) {
    let visited = tables.for_each(virt, virt + LARGE_PAGE, |_, entry, _| {
        let value = entry.get();
        if value & OWNED == 0 {
            visit(entry, value & ADDRESS);
        }
    });
    debug_assert!(visited.is_ok(), "only a large page that reaches over an end of the range could need memory");
}
