//! Places in the window. A range that exists lies inside the window: only checked arithmetic builds one.

use crate::WindowMemory;
use diolkos_vfs::{Errno, Result};

/// Most bytes of a chunk, the unit of mapping: 2 MiB, as in the thesis, and a large page.
pub(crate) const CHUNK: u64 = 2 << 20;

/// Fewest chunks a window is cut into. One instruction may need six pages at once, each of another chunk (see the
/// manager's `KEPT_FOR_INSTRUCTION`), and there must be room beside them for who only passes through.
const MIN_SLOTS: u64 = 16;

/// A chunk of a file: whose, and which. The owner is an inode of ours, not the host's number, which may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChunkKey {
    /// Serial number of the inode.
    pub(crate) owner: u64,
    /// File offset divided by the chunk size.
    pub(crate) index: u64,
}

/// The window cut into slots of a chunk each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    slots: usize,
    chunk: u64,
}

impl Geometry {
    /// As many whole slots as fit into the window. A chunk is [`CHUNK`] long, and in a window that has no room for
    /// [`MIN_SLOTS`] of those the largest power of two of which it has.
    ///
    /// # Errors
    /// `EINVAL` for a window of less than 2 MiB.
    pub(crate) fn new(window_len: u64) -> Result<Self> {
        if window_len < CHUNK {
            return Err(Errno::EINVAL);
        }
        let chunk = CHUNK.min(1 << (window_len / MIN_SLOTS).ilog2());
        let slots = usize::try_from(window_len / chunk).map_err(|_| Errno::EINVAL)?;
        Ok(Self { slots, chunk })
    }

    /// Any geometry, for the tests of others.
    #[cfg(test)]
    pub(crate) fn of(slots: usize, chunk: u64) -> Self {
        Self { slots, chunk }
    }

    /// Number of slots, at least [`MIN_SLOTS`].
    pub(crate) fn slots(self) -> usize {
        self.slots
    }

    /// Bytes of a chunk: a power of two, and whole pages.
    pub(crate) fn chunk(self) -> u64 {
        self.chunk
    }

    /// The range of `count` slots from `slot` on, if there are so many, and at least one.
    pub(crate) fn range(self, slot: usize, count: usize) -> Option<WindowRange> {
        let end = slot.checked_add(count)?;
        let offset = (slot as u64).checked_mul(self.chunk)?;
        (count > 0 && end <= self.slots).then_some(WindowRange { offset, len: count as u64 * self.chunk })
    }
}

/// A range inside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowRange {
    offset: u64,
    len: u64,
}

impl WindowRange {
    /// Offset of its first byte in the window.
    pub(crate) fn offset(self) -> u64 {
        self.offset
    }

    /// Length in bytes.
    pub(crate) fn len(self) -> u64 {
        self.len
    }

    /// The part of `len` bytes from `start`, if it lies within.
    pub(crate) fn part(self, start: u64, len: u64) -> Option<Self> {
        (start.checked_add(len)? <= self.len).then_some(Self { offset: self.offset + start, len })
    }

    /// Guest-physical address of its first byte.
    pub(crate) fn phys(self, memory: &WindowMemory) -> u64 {
        memory.phys() + self.offset
    }

    /// Where the kernel sees its first byte. The range must be one of this window's.
    pub(crate) fn virt(self, memory: &WindowMemory) -> *mut u8 {
        memory.virt().as_ptr().wrapping_add(self.offset as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_slots_count() {
        assert_eq!(Geometry::new(CHUNK - 1).err(), Some(Errno::EINVAL));
        let geometry = Geometry::new(20 * CHUNK + 4096).unwrap();
        assert_eq!((geometry.slots(), geometry.chunk()), (20, CHUNK));
        assert_eq!(geometry.range(19, 1).unwrap().offset(), 19 * CHUNK);
        assert_eq!(geometry.range(3, 17).unwrap().len(), 17 * CHUNK);
        for (slot, count) in [(20, 1), (0, 21), (3, 18), (0, 0), (usize::MAX, 1), (1, usize::MAX)] {
            assert_eq!(geometry.range(slot, count), None);
        }
    }

    #[test]
    fn a_small_window_has_smaller_chunks() {
        for (window, slots, chunk) in [
            (CHUNK, 16, CHUNK / 16),
            (3 * CHUNK / 2, 24, CHUNK / 16),
            (7 * CHUNK, 28, CHUNK / 4),
            (15 * CHUNK, 30, CHUNK / 2),
            (16 * CHUNK, 16, CHUNK),
            (1 << 40, 1 << 19, CHUNK),
        ] {
            let geometry = Geometry::new(window).unwrap();
            assert_eq!((geometry.slots(), geometry.chunk()), (slots, chunk), "{window:#x}");
            let last = geometry.range(slots - 1, 1).unwrap();
            assert!(last.offset() + last.len() <= window && chunk % crate::PAGE == 0);
        }
    }

    #[test]
    fn parts_stay_inside() {
        let range = Geometry::new(16 * CHUNK).unwrap().range(1, 1).unwrap();
        assert_eq!(range.part(CHUNK, 0).unwrap().offset(), 2 * CHUNK);
        assert_eq!(range.part(1, CHUNK - 1).unwrap().len(), CHUNK - 1);
        assert_eq!(range.part(1, CHUNK), None);
        assert_eq!(range.part(u64::MAX, 2), None);
    }
}
