//! Places in the window. A range that exists lies inside the window: only checked arithmetic builds one.

use crate::WindowMemory;
use diolkos_vfs::{Errno, Result};

/// Bytes of a chunk, the unit of mapping: 2 MiB, as in the thesis, and a large page.
pub(crate) const CHUNK: u64 = 2 << 20;

/// A chunk of a file: whose, and which. The owner is an inode of ours, not the host's number, which may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChunkKey {
    /// Serial number of the inode.
    pub(crate) owner: u64,
    /// File offset divided by [`CHUNK`].
    pub(crate) index: u64,
}

/// The window cut into chunk-sized slots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    slots: usize,
}

impl Geometry {
    /// As many whole slots as fit into the window.
    ///
    /// # Errors
    /// `EINVAL` when not even one does.
    pub(crate) fn new(window_len: u64) -> Result<Self> {
        match usize::try_from(window_len / CHUNK) {
            Ok(slots) if slots > 0 => Ok(Self { slots }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Number of slots, at least 1.
    pub(crate) fn slots(self) -> usize {
        self.slots
    }

    /// The range of one slot, if there is such a slot.
    pub(crate) fn range(self, slot: usize) -> Option<WindowRange> {
        let offset = (slot as u64).checked_mul(CHUNK)?;
        (slot < self.slots).then_some(WindowRange { offset, len: CHUNK })
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
        let geometry = Geometry::new(3 * CHUNK + 4096).unwrap();
        assert_eq!(geometry.slots(), 3);
        assert_eq!(geometry.range(2).unwrap().offset(), 2 * CHUNK);
        assert_eq!((geometry.range(3), geometry.range(usize::MAX)), (None, None));
    }

    #[test]
    fn parts_stay_inside() {
        let range = Geometry::new(2 * CHUNK).unwrap().range(1).unwrap();
        assert_eq!(range.part(CHUNK, 0).unwrap().offset(), 2 * CHUNK);
        assert_eq!(range.part(1, CHUNK - 1).unwrap().len(), CHUNK - 1);
        assert_eq!(range.part(1, CHUNK), None);
        assert_eq!(range.part(u64::MAX, 2), None);
    }
}
