//! Memory whose physical addresses have nothing to do with where it is, so that mixing them up shows.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::vec;
use std::vec::Vec;

const PAGE: usize = 4096;
/// Above 4 GiB, so that the upper halves of addresses matter.
const FIRST: u64 = 0x1_2340_0000;

#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: a block is owned by the `Memory` it stands in, which is behind a lock.
unsafe impl Send for Block {}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    blocks: BTreeMap<u64, Block>,
    next: u64,
    /// Pages until memory runs out.
    pub(super) left: Option<usize>,
}

impl Memory {
    pub(super) fn alloc(&mut self, pages: usize) -> Option<(u64, NonNull<u8>)> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(pages)?;
        }
        // SAFETY: the layout has a size.
        let start = NonNull::new(unsafe { alloc_zeroed(layout(pages)) }).unwrap();
        let phys = FIRST + self.next;
        // A page between any two, so that running over the end is seen.
        self.next += (pages * PAGE + PAGE) as u64;
        self.blocks.insert(phys, Block { start, pages });
        Some((phys, start))
    }

    pub(super) fn free(&mut self, phys: u64, start: NonNull<u8>, pages: usize) {
        let block = self.blocks.remove(&phys).expect("freed what is not allocated");
        assert_eq!((block.start, block.pages), (start, pages));
        // SAFETY: the block was allocated with this layout, and is freed once as it was in the map.
        unsafe { dealloc(start.as_ptr(), layout(pages)) }
    }

    pub(super) fn pages(&self) -> usize {
        self.blocks.values().map(|block| block.pages).sum()
    }

    pub(super) fn find(&self, start: NonNull<u8>, len: usize) -> Option<u64> {
        self.blocks.iter().find_map(|(phys, block)| {
            let offset = start.addr().get().checked_sub(block.start.addr().get())?;
            (offset + len <= block.pages * PAGE).then_some(phys + offset as u64)
        })
    }

    /// Where the device finds `len` bytes; a wild address fails the test.
    fn at(&self, phys: u64, len: usize) -> *mut u8 {
        let (base, block) = self.blocks.range(..=phys).next_back().expect("the device was sent to no memory");
        let offset = (phys - base) as usize;
        assert!(offset + len <= block.pages * PAGE, "the device was sent beyond a block");
        // SAFETY: the offset lies in the block, as just checked.
        unsafe { block.start.as_ptr().add(offset) }
    }

    pub(super) fn read(&self, phys: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: `at` checked the range; `bytes` is a fresh allocation.
        unsafe { self.at(phys, len).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    pub(super) fn write(&mut self, phys: u64, bytes: &[u8]) {
        // SAFETY: as in `read`; nobody holds a Rust reference into a block.
        unsafe { self.at(phys, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    pub(super) fn read16(&self, phys: u64) -> u16 {
        u16::from_le_bytes(self.read(phys, 2).try_into().unwrap())
    }

    pub(super) fn read32(&self, phys: u64) -> u32 {
        u32::from_le_bytes(self.read(phys, 4).try_into().unwrap())
    }

    pub(super) fn read64(&self, phys: u64) -> u64 {
        u64::from_le_bytes(self.read(phys, 8).try_into().unwrap())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for block in self.blocks.values() {
            // SAFETY: whatever is left in the map was not freed.
            unsafe { dealloc(block.start.as_ptr(), layout(block.pages)) }
        }
    }
}

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE, PAGE).unwrap()
}
