//! Marks that a program sets on ranges of its memory, which change nothing but how areas are cut and joined, and little else:
//! advice that is remembered (madvise(2)), and locks (mlock(2)).

use super::space::AddressSpace;
use super::vma::{Backing, Marks, Vma};
use diolkos_vfs::{Errno, Result};

/// What to do with the marks of areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marking {
    /// To be set.
    pub set: Marks,
    /// To be taken away first.
    pub clear: Marks,
}

impl Marking {
    /// The marks of an area after it; the kernel's own areas have none.
    fn of(self, vma: &Vma) -> Marks {
        if vma.is_special() { vma.marks } else { (vma.marks - self.clear) | self.set }
    }
}

impl AddressSpace {
    /// Marks what is mapped of a range of whole pages.
    ///
    /// # Errors
    /// `ENOMEM` for holes, after all else was marked, and when there would be too many areas.
    pub fn mark(&self, start: u64, end: u64, marking: Marking) -> Result<()> {
        let mut inner = self.inner.lock();
        let whole = inner.areas.covers(start, end);
        // One at a time: areas that are as they should be are not touched, since cutting them would be for nothing.
        let mut at = start;
        loop {
            let differs = |vma: &&Vma| marking.of(vma) != vma.marks;
            let next = inner.areas.overlapping(at, end).find(differs).map(|vma| (vma.start.max(at), vma.end.min(end)));
            let Some((from, to)) = next else { break };
            if inner.areas.are_many() {
                return Err(Errno::ENOMEM);
            }
            inner.version += 1;
            inner.areas.change(from, to, |vma| vma.marks = marking.of(vma));
            at = to;
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Whether all that is mapped of a range is private memory with no file behind it.
    pub fn is_private_anonymous(&self, start: u64, end: u64) -> bool {
        let inner = self.inner.lock();
        inner.areas.overlapping(start, end).all(|vma| !vma.shared && matches!(vma.backing, Backing::Anonymous))
    }

    /// Marks areas that are mapped from now on, too (mlockall(2)).
    pub fn mark_future(&self, marks: Marks) {
        self.inner.lock().future = marks;
    }
}
