//! A split ring from the device's side, straight from section 2.7; shares no code with the driver.

use super::memory::Memory;
use std::sync::atomic::{Ordering, fence};
use std::vec::Vec;

/// What the driver told of a queue, and where the device stands in it.
#[derive(Debug, Clone)]
pub(crate) struct FakeQueue {
    pub(crate) max_size: u16,
    pub(crate) size: u16,
    pub(crate) vector: u16,
    pub(crate) enabled: bool,
    /// Descriptor table, available ring, used ring.
    pub(crate) addresses: [u64; 3],
    seen: u16,
    used: u16,
}

/// A chain as the device sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FakeChain {
    pub(crate) head: u16,
    pub(crate) readable: Vec<Vec<u8>>,
    /// Addresses and lengths.
    pub(crate) writable: Vec<(u64, u32)>,
    pub(crate) indirect: bool,
}

impl FakeChain {
    /// Writes a reply over the writable buffers in turn.
    pub(super) fn fill(&self, memory: &mut Memory, mut reply: &[u8]) {
        for (address, len) in &self.writable {
            let (now, later) = reply.split_at(reply.len().min(*len as usize));
            memory.write(*address, now);
            reply = later;
        }
        assert!(reply.is_empty(), "the reply does not fit");
    }
}

impl FakeQueue {
    pub(super) fn new(max_size: u16) -> Self {
        let addresses = [0; 3];
        Self { max_size, size: max_size, vector: 0xffff, enabled: false, addresses, seen: 0, used: 0 }
    }

    fn avail_index(&self, memory: &Memory) -> u16 {
        memory.read16(self.addresses[1] + 2)
    }

    /// `used_event`, or the available ring's flags.
    pub(crate) fn used_event(&self, memory: &Memory) -> u16 {
        memory.read16(self.addresses[1] + 4 + 2 * u64::from(self.size))
    }

    pub(super) fn take(&mut self, memory: &mut Memory, event_idx: bool) -> Option<FakeChain> {
        assert!(self.enabled);
        fence(Ordering::SeqCst);
        let available = self.avail_index(memory).wrapping_sub(self.seen);
        assert!(available <= self.size, "more chains than descriptors");
        if available == 0 {
            return None;
        }
        fence(Ordering::Acquire);
        let entry = self.addresses[1] + 4 + 2 * u64::from(self.seen % self.size);
        let head = memory.read16(entry);
        self.seen = self.seen.wrapping_add(1);
        if event_idx {
            memory.write(self.addresses[2] + 4 + 8 * u64::from(self.size), &self.seen.to_le_bytes());
        }
        let mut chain = FakeChain { head, readable: Vec::new(), writable: Vec::new(), indirect: false };
        self.walk(memory, &mut chain);
        Some(chain)
    }

    fn walk(&self, memory: &Memory, chain: &mut FakeChain) {
        let (mut table, mut len, mut index) = (self.addresses[0], self.size, chain.head);
        for _ in 0..=self.size {
            assert!(index < len, "a descriptor beyond its table");
            let at = table + 16 * u64::from(index);
            let (address, bytes) = (memory.read64(at), memory.read32(at + 8));
            let (flags, next) = (memory.read16(at + 12), memory.read16(at + 14));
            if flags & 4 != 0 {
                assert!(!chain.indirect && flags == 4 && bytes % 16 == 0);
                chain.indirect = true;
                (table, len, index) = (address, (bytes / 16) as u16, 0);
                assert!(len <= self.size, "a table longer than the queue");
                continue;
            }
            assert!(bytes > 0, "a buffer without a byte");
            if flags & 2 != 0 {
                chain.writable.push((address, bytes));
            } else {
                assert!(chain.writable.is_empty(), "readable after writable");
                chain.readable.push(memory.read(address, bytes as usize));
            }
            if flags & 1 == 0 {
                return;
            }
            index = next;
        }
        panic!("a chain longer than the queue");
    }

    /// Puts an entry on the used ring; true if the driver wants an interrupt for it.
    pub(super) fn give(&mut self, memory: &mut Memory, event_idx: bool, id: u32, len: u32) -> bool {
        let entry = self.addresses[2] + 4 + 8 * u64::from(self.used % self.size);
        memory.write(entry, &id.to_le_bytes());
        memory.write(entry + 4, &len.to_le_bytes());
        let passed = self.used;
        self.jump(memory, 1);
        // As the driver, the device publishes first and then looks whether anybody wants to know.
        fence(Ordering::SeqCst);
        if event_idx {
            assert_eq!(memory.read16(self.addresses[1]), 0, "flags with event index (section 2.7.7.1)");
            self.used_event(memory) == passed
        } else {
            memory.read16(self.addresses[1]) & 1 == 0
        }
    }

    pub(super) fn jump(&mut self, memory: &mut Memory, by: u16) {
        fence(Ordering::Release);
        self.used = self.used.wrapping_add(by);
        memory.write(self.addresses[2] + 2, &self.used.to_le_bytes());
    }

    pub(super) fn set_no_notify(&mut self, memory: &mut Memory, on: bool) {
        memory.write(self.addresses[2], &u16::from(on).to_le_bytes());
    }
}
