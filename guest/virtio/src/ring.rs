//! The split ring in memory (section 2.7): where its fields are, and nothing else.
//!
//! Descriptor table, available ring and used ring of a queue lie one after the other in one allocation.
//! Ordering between accesses is the queue's business; here each access is one volatile load or store.

use crate::{DmaBuf, DmaPages, Hal, PhysAddr};

/// Size of a descriptor (`struct virtq_desc`).
pub(crate) const DESC_SIZE: usize = 16;

bitflags::bitflags! {
    /// Flags of a descriptor (section 2.7.5).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct DescFlags: u16 {
        const NEXT = 1;
        const WRITE = 2;
        const INDIRECT = 4;
    }
}

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`: without event index, a hint that the driver polls.
const AVAIL_NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`: without event index, a hint that the device polls.
const USED_NO_NOTIFY: u16 = 1;

/// Writes a descriptor into a table, direct or indirect.
pub(crate) fn write_desc<H: Hal>(
    pages: &DmaPages<H>,
    table: usize,
    index: u16,
    buffer: DmaBuf,
    flags: DescFlags,
    next: u16,
) {
    let at = table + usize::from(index) * DESC_SIZE;
    pages.write(at, buffer.addr.0);
    pages.write(at + 8, buffer.len);
    pages.write(at + 12, flags.bits());
    pages.write(at + 14, next);
}

/// A ring of `size` entries, a power of two.
#[derive(Debug)]
pub(crate) struct Ring<H: Hal> {
    pages: DmaPages<H>,
    size: u16,
    avail: usize,
    used: usize,
}

impl<H: Hal> Ring<H> {
    /// An empty, zeroed ring.
    pub(crate) fn new(hal: &H, size: u16) -> Option<Self> {
        let n = usize::from(size);
        let avail = n * DESC_SIZE;
        // flags, idx, ring[n], used_event; then 4-byte alignment for the used ring.
        let used = (avail + 6 + 2 * n).next_multiple_of(4);
        let end = used + 6 + 8 * n;
        Some(Self { pages: DmaPages::new(hal, end)?, size, avail, used })
    }

    /// Physical addresses of the descriptor table, the available and the used ring.
    pub(crate) fn addresses(&self) -> [PhysAddr; 3] {
        [0, self.avail, self.used].map(|offset| self.pages.buffer(offset, 0).addr)
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }

    pub(crate) fn write_desc(&self, index: u16, buffer: DmaBuf, flags: DescFlags, next: u16) {
        write_desc(&self.pages, 0, index, buffer, flags, next);
    }

    pub(crate) fn write_avail_entry(&self, index: u16, head: u16) {
        self.pages.write(self.avail + 4 + 2 * self.slot(index), head);
    }

    pub(crate) fn write_avail_index(&self, index: u16) {
        self.pages.write(self.avail + 2, index);
    }

    pub(crate) fn write_no_interrupt(&self, on: bool) {
        self.pages.write(self.avail, if on { AVAIL_NO_INTERRUPT } else { 0 });
    }

    /// `used_event`: the driver wants an interrupt when the entry at this index has been used.
    pub(crate) fn write_used_event(&self, index: u16) {
        self.pages.write(self.avail + 4 + 2 * usize::from(self.size), index);
    }

    pub(crate) fn used_index(&self) -> u16 {
        self.pages.read(self.used + 2)
    }

    /// The claim at a used index: which chain, and how many bytes were written.
    pub(crate) fn used_entry(&self, index: u16) -> (u32, u32) {
        let at = self.used + 4 + 8 * self.slot(index);
        (self.pages.read(at), self.pages.read(at + 4))
    }

    pub(crate) fn no_notify(&self) -> bool {
        self.pages.read::<u16>(self.used) & USED_NO_NOTIFY != 0
    }

    /// `avail_event`: the device wants a notification when the entry at this index is available.
    pub(crate) fn avail_event(&self) -> u16 {
        self.pages.read(self.used + 4 + 8 * usize::from(self.size))
    }
}

/// Whether moving an index from `old` to `new` passes `event` (section 2.7.10, `vring_need_event`).
pub(crate) fn passes_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
