//! Physical memory, by the page frame: a buddy allocator over the RAM the machine reports.
//!
//! Blocks of 2^order frames, orders 0 to 10 (4 MiB). Free blocks form a list per order, linked through the free
//! memory itself. Memory that was never used is not in the lists at all: it lies above a frontier per region and is
//! taken from there in whole 4 MiB blocks, so that starting costs nothing per byte of RAM and the host is not made
//! to back what nobody uses. One byte a frame tells which blocks are free; a block's bytes are written when the
//! frontier passes it.

use super::{PAGE_SIZE, PHYS_BASE};
use spin::Mutex;

/// Largest order: 4 MiB.
pub const MAX_ORDER: usize = 10;
/// The order of a large page, 2 MiB.
pub const LARGE_ORDER: usize = 9;
const BLOCK: u64 = PAGE_SIZE << MAX_ORDER;
const MAX_REGIONS: usize = 8;
/// What the program may not take, in whole blocks: the kernel must be able to clean up after it, and its heap needs memory in
/// one piece.
pub const KERNEL_RESERVE: u64 = 8 << 20;
/// Marks in the map of frames.
const USED: u8 = 0;
const FREE: u8 = 1; // plus the order, in the first frame of a free block

#[derive(Clone, Copy)]
struct Region {
    /// Block-aligned bounds, in bytes.
    start: u64,
    end: u64,
    /// First byte never given out yet.
    frontier: u64,
    /// One byte a frame of the region, through the direct map.
    map: *mut u8,
}

struct Frames {
    regions: [Option<Region>; MAX_REGIONS],
    /// First free block of each order, by physical address; 0 ends a list (frame 0 is never given out).
    lists: [u64; MAX_ORDER + 1],
    /// Bytes in free blocks of the largest order, and in all.
    whole: u64,
    free: u64,
    total: u64,
}

// SAFETY: the map pointers lead to memory that only the allocator, behind its lock, touches.
unsafe impl Send for Frames {}

static FRAMES: Mutex<Frames> =
    Mutex::new(Frames { regions: [None; MAX_REGIONS], lists: [0; MAX_ORDER + 1], whole: 0, free: 0, total: 0 });

/// The links of a free block, in its first bytes.
#[repr(C)]
struct Links {
    next: u64,
    previous: u64,
}

/// The memory of a physical address, through the direct map.
pub fn pointer(phys: u64) -> *mut u8 {
    (PHYS_BASE + phys) as *mut u8
}

fn links(phys: u64) -> *mut Links {
    pointer(phys).cast()
}

impl Region {
    fn mark(&self, phys: u64) -> *mut u8 {
        self.map.wrapping_add(((phys - self.start) / PAGE_SIZE) as usize)
    }
}

impl Frames {
    fn region(&self, phys: u64) -> &Region {
        let holds = |r: &&Region| (r.start..r.end).contains(&phys);
        self.regions.iter().flatten().find(holds).expect("a frame lies in a region")
    }

    fn set_mark(&mut self, phys: u64, mark: u8) {
        // SAFETY: the frame lies in the region, so its byte lies in the map.
        unsafe { self.region(phys).mark(phys).write(mark) }
    }

    fn push(&mut self, phys: u64, order: usize) {
        let next = self.lists[order];
        // SAFETY: the block is free, so its memory is ours; so is the next one's.
        unsafe {
            links(phys).write(Links { next, previous: 0 });
            if next != 0 {
                (*links(next)).previous = phys;
            }
        }
        self.lists[order] = phys;
        self.whole += if order == MAX_ORDER { BLOCK } else { 0 };
        self.set_mark(phys, FREE + order as u8);
    }

    fn remove(&mut self, phys: u64, order: usize) {
        // SAFETY: the block is in the list, so its links and its neighbours' are ours.
        unsafe {
            let Links { next, previous } = links(phys).read();
            if next != 0 {
                (*links(next)).previous = previous;
            }
            if previous != 0 {
                (*links(previous)).next = next;
            } else {
                self.lists[order] = next;
            }
        }
        self.whole -= if order == MAX_ORDER { BLOCK } else { 0 };
        self.set_mark(phys, USED);
    }

    /// Takes a never-used block.
    fn advance(&mut self) -> Option<u64> {
        let region = self.regions.iter_mut().flatten().find(|r| r.frontier + BLOCK <= r.end)?;
        let block = region.frontier;
        region.frontier += BLOCK;
        self.whole -= BLOCK;
        let marks = region.mark(block);
        // SAFETY: the block's bytes lie in the map.
        unsafe { marks.write_bytes(USED, 1 << MAX_ORDER) };
        Some(block)
    }

    fn allocate(&mut self, order: usize) -> Option<u64> {
        let found = (order..=MAX_ORDER).find(|o| self.lists[*o] != 0);
        let (block, mut size) = match found {
            Some(o) => {
                let block = self.lists[o];
                self.remove(block, o);
                (block, o)
            }
            None => (self.advance()?, MAX_ORDER),
        };
        while size > order {
            size -= 1;
            self.push(block + (PAGE_SIZE << size), size);
        }
        self.free -= PAGE_SIZE << order;
        Some(block)
    }

    /// As [`allocate_for_program`].
    fn allocate_above_reserve(&mut self, order: usize) -> Option<u64> {
        let breaks_one = self.lists[order..MAX_ORDER].iter().all(|list| *list == 0);
        let spared = !breaks_one || self.whole >= KERNEL_RESERVE + BLOCK;
        let enough = self.free >= KERNEL_RESERVE + (PAGE_SIZE << order);
        if spared && enough { self.allocate(order) } else { None }
    }

    fn release(&mut self, mut phys: u64, mut order: usize) {
        self.free += PAGE_SIZE << order;
        let region = *self.region(phys);
        while order < MAX_ORDER {
            let buddy = region.start + ((phys - region.start) ^ (PAGE_SIZE << order));
            // Blocks are cut from whole MAX_ORDER blocks below the frontier, so the buddy's byte has been written.
            // SAFETY: the buddy lies in the same MAX_ORDER block, hence in the map.
            if unsafe { region.mark(buddy).read() } != FREE + order as u8 {
                break;
            }
            self.remove(buddy, order);
            phys = phys.min(buddy);
            order += 1;
        }
        self.push(phys, order);
    }
}

/// RAM as the machine reports it, used or not: devices must not claim it.
static RAM: Mutex<[(u64, u64); MAX_REGIONS]> = Mutex::new([(0, 0); MAX_REGIONS]);

/// Whether any byte of a guest-physical range is RAM.
pub fn is_ram(start: u64, end: u64) -> bool {
    RAM.lock().iter().any(|(from, to)| start < *to && *from < end)
}

/// The address after the highest RAM.
pub fn end_of_ram() -> u64 {
    RAM.lock().iter().map(|(_, to)| *to).max().unwrap_or(0)
}

/// Adds RAM. `reserved` lists ranges in it that must not be given out (the kernel, boot data), sorted.
pub fn add_region(start: u64, end: u64, reserved: &[(u64, u64)]) {
    if let Some(slot) = RAM.lock().iter_mut().find(|slot| slot.1 == 0) {
        *slot = (start, end);
    }
    let mut at = start;
    for (from, to) in reserved {
        if *to > start && *from < end {
            add_piece(at, (*from).min(end));
            at = at.max(*to);
        }
    }
    add_piece(at, end);
}

/// Adds RAM that was reserved when its region was added, and is not needed any more. Less than a block or two stays lost.
///
/// # Safety
/// Nobody uses the memory any more.
pub unsafe fn add_reserved(start: u64, end: u64) {
    let start = start.next_multiple_of(PAGE_SIZE);
    let frames = end.saturating_sub(start) / PAGE_SIZE;
    // Where the map will lie; fresh memory is zero, and this is not fresh.
    // SAFETY: it is mapped RAM, and by the caller's promise nobody's.
    unsafe { pointer(start).write_bytes(USED, frames as usize) };
    add_piece(start, end);
}

fn add_piece(start: u64, end: u64) {
    let start = start.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
    // The map lies at the region's start; blocks begin at the next block boundary.
    let Some(frames) = end.checked_sub(start).map(|bytes| bytes / PAGE_SIZE) else { return };
    let first = (start + frames).next_multiple_of(BLOCK);
    let last = end & !(BLOCK - 1);
    if first >= last {
        return;
    }
    let mut all = FRAMES.lock();
    let bytes = last - first;
    if let Some(slot) = all.regions.iter_mut().find(|r| r.is_none()) {
        *slot = Some(Region { start: first, end: last, frontier: first, map: pointer(start) });
        all.whole += bytes;
        all.free += bytes;
        all.total += bytes;
    }
}

/// Takes 2^`order` contiguous frames, aligned to their size, for the kernel. Their content is anything.
pub fn allocate(order: usize) -> Option<u64> {
    FRAMES.lock().allocate(order)
}

/// The same for the program: refused when it would leave the kernel too little.
pub fn allocate_for_program(order: usize) -> Option<u64> {
    FRAMES.lock().allocate_above_reserve(order)
}

/// Gives frames back. A block may be given back in pieces.
pub fn release(phys: u64, order: usize) {
    FRAMES.lock().release(phys, order);
}

/// Free and total bytes.
pub fn usage() -> (u64, u64) {
    let frames = FRAMES.lock();
    (frames.free, frames.total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    /// Memory where the direct map would have it, so that the allocator's own links work.
    fn machine(start: u64, len: u64) -> Frames {
        let at = pointer(start).cast();
        // SAFETY: the range belongs to this test alone; NOREPLACE makes sure.
        let mapped = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE;
            mmap_anonymous(at, len as usize, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
        assert_eq!(mapped.unwrap(), at);
        let mut frames =
            Frames { regions: [None; MAX_REGIONS], lists: [0; MAX_ORDER + 1], whole: 0, free: 0, total: 0 };
        let first = (start + len / PAGE_SIZE).next_multiple_of(BLOCK);
        let region = Region { start: first, end: start + len, frontier: first, map: pointer(start) };
        frames.free = region.end - region.start;
        frames.whole = frames.free;
        frames.regions[0] = Some(region);
        frames
    }

    #[test]
    fn blocks_are_aligned_and_never_overlap() {
        let mut frames = machine(0x10_0000_0000, 64 << 20);
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for i in 0.. {
            let order = i % 11;
            let Some(block) = frames.allocate(order) else { break };
            let size = PAGE_SIZE << order;
            assert_eq!(block % size, 0);
            assert!(taken.iter().all(|(start, end)| block + size <= *start || *end <= block));
            taken.push((block, block + size));
        }
        assert!(taken.len() > 20);
    }

    #[test]
    fn what_is_given_back_in_pieces_grows_together_again() {
        let mut frames = machine(0x20_0000_0000, 32 << 20);
        let all = frames.free;
        let blocks: Vec<u64> = core::iter::from_fn(|| frames.allocate(LARGE_ORDER)).collect();
        assert_eq!(frames.free, 0);
        for block in &blocks {
            for page in (0..1 << LARGE_ORDER).rev() {
                frames.release(block + page * PAGE_SIZE, 0);
            }
        }
        assert_eq!(frames.free, all);
        let whole = core::iter::from_fn(|| frames.allocate(MAX_ORDER)).count() as u64;
        assert_eq!(whole * BLOCK, all);
    }

    #[test]
    fn the_program_leaves_the_kernel_memory_in_one_piece() {
        let mut frames = machine(0x30_0000_0000, 32 << 20);
        let mut taken: Vec<u64> = core::iter::from_fn(|| frames.allocate_above_reserve(0)).collect();
        assert_eq!((frames.free, frames.whole), (KERNEL_RESERVE, KERNEL_RESERVE));
        // What comes back in single pages is the program's again, and does not break up what is whole.
        for page in taken.iter().step_by(2) {
            frames.release(*page, 0);
        }
        taken = core::iter::from_fn(|| frames.allocate_above_reserve(0)).collect();
        assert!(taken.len() > 2500 && frames.allocate_above_reserve(1).is_none());
        assert_eq!(frames.whole, KERNEL_RESERVE);
        assert!(frames.allocate(MAX_ORDER).is_some() && frames.allocate(MAX_ORDER).is_some());
        assert_eq!((frames.free, frames.whole), (0, 0));
    }

    #[test]
    fn an_allocator_without_memory_says_so() {
        let mut frames =
            Frames { regions: [None; MAX_REGIONS], lists: [0; MAX_ORDER + 1], whole: 0, free: 0, total: 0 };
        assert_eq!(frames.allocate(0), None);
    }
}
