//! A file's pages in page tables: how they are taken out when the file has other pages from now on.

use super::LARGE_PAGE;
use super::paging::{self, OWNED};
use super::space::{self, Inner};
use super::vma::{Backing, Vma};
use diolkos_vfs::InodeId;

/// Removes every page-table entry that shows a byte of a file from `from` up to `to`, but for private copies. Programs fault
/// the pages in again, and a fault that has found one and not yet entered it starts over.
pub fn forget(file: InodeId, from: u64, to: u64) {
    for space in space::all() {
        let any = {
            let mut inner = space.inner.lock();
            inner.version += 1;
            inner.forget(file, from, to)
        };
        if any {
            paging::flush_all_everywhere();
        }
    }
}

/// The addresses in an area at which it shows bytes of `file` from `from` up to `to`, and what lies in the same large pages:
/// those need not be cut then, for which there might be no memory.
fn shown(vma: &Vma, file: InodeId, from: u64, to: u64) -> Option<(u64, u64)> {
    let Backing::File { file: mapped, offset, .. } = &vma.backing else { return None };
    if mapped.inode().id() != file {
        return None;
    }
    let address = |at: u64| vma.start.saturating_add(at.saturating_sub(*offset)).min(vma.end);
    let (first, last) = (address(from), address(to));
    (first < last).then_some((first & !(LARGE_PAGE - 1), last.next_multiple_of(LARGE_PAGE)))
}

impl Inner {
    /// Clears those entries. Returns whether there were any.
    fn forget(&mut self, file: InodeId, from: u64, to: u64) -> bool {
        let mut any = false;
        for (start, end) in self.areas.iter().filter_map(|vma| shown(vma, file, from, to)) {
            let visited = self.tables.for_each(start, end, |_, entry, _| {
                if entry.get() & OWNED == 0 {
                    entry.set(0);
                    any = true;
                }
            });
            debug_assert!(visited.is_ok(), "no large page reaches over an end of the range");
        }
        any
    }
}
