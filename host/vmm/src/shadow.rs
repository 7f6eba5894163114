//! Memory the guest reads without leaving: configuration space and device registers.
//!
//! An exit costs tens of microseconds on a nested host, and a driver reads registers hundreds of times while it
//! starts. So the registers are kept as bytes in a read-only memory slot; only writes leave the guest, and
//! whoever handles one stores the new register values here before the guest goes on.

use crate::layout::{ECAM, READ_ONLY_SIZE};
use crate::memory::{HostMapping, MemoryError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pages behind the read-only slot.
#[derive(Debug)]
pub struct Shadow {
    mapping: Arc<HostMapping>,
}

impl Shadow {
    /// Maps them, all zero.
    ///
    /// # Errors
    /// [`MemoryError`] when the host has no address space left.
    pub fn new() -> Result<Arc<Self>, MemoryError> {
        let mapping = HostMapping::reserve("device registers", READ_ONLY_SIZE, true)?;
        mapping.prefer_large_pages();
        Ok(Arc::new(Self { mapping: Arc::new(mapping) }))
    }

    /// For KVM's slot.
    pub fn mapping(&self) -> &Arc<HostMapping> {
        &self.mapping
    }

    /// Stores `bytes` at guest-physical `address`. What lies outside the slot is dropped: an address is computed by
    /// the machine from a slot number and an offset, both checked where the guest names them.
    pub fn store(&self, address: u64, bytes: &[u8]) {
        let Some(offset) = self.offset(address, bytes.len()) else {
            debug_assert!(false, "register at {address:#x} is outside the slot");
            return;
        };
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: `offset` was checked to leave `bytes.len()` bytes inside the mapping. The guest only reads it;
            // volatile because it does so behind the compiler's back.
            unsafe { self.mapping.as_ptr().add(offset + i).write_volatile(*byte) };
        }
    }

    /// Stores a 64-bit word at guest-physical `address`, a multiple of 8, in one piece and after everything stored before.
    pub fn store_word(&self, address: u64, word: u64) {
        let Some(offset) = self.offset(address, 8).filter(|offset| offset.is_multiple_of(8)) else {
            debug_assert!(false, "word at {address:#x} is outside the slot");
            return;
        };
        // SAFETY: 1. `offset` was checked: eight aligned bytes inside the mapping, which outlives this call; 2. the guest
        // only reads them, and this process writes them in no other way.
        unsafe { AtomicU64::from_ptr(self.mapping.as_ptr().add(offset).cast()) }.store(word.to_le(), Ordering::Release);
    }

    /// Reads what the guest would read; all ones outside the slot.
    pub fn load(&self, address: u64, bytes: &mut [u8]) {
        let Some(offset) = self.offset(address, bytes.len()) else {
            bytes.fill(0xff);
            return;
        };
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: as in `store`.
            *byte = unsafe { self.mapping.as_ptr().add(offset + i).read_volatile() };
        }
    }

    fn offset(&self, address: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(ECAM)?).ok()?;
        (offset.checked_add(len)? <= self.mapping.len()).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_and_the_rest_is_ones() {
        let shadow = Shadow::new().unwrap();
        shadow.store(ECAM + 4, &[1, 2, 3]);
        let mut bytes = [9; 4];
        shadow.load(ECAM + 3, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3]);
        shadow.store_word(ECAM + 8, 0x0807_0605_0403_0201);
        shadow.load(ECAM + 10, &mut bytes);
        assert_eq!(bytes, [3, 4, 5, 6]);
        for address in [0, ECAM - 1, ECAM + READ_ONLY_SIZE - 3, u64::MAX] {
            shadow.load(address, &mut bytes);
            assert_eq!(bytes, [0xff; 4], "{address:#x}");
        }
    }
}
