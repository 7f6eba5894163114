//! The host's side of guest memory: mappings this process owns, and RAM made of them.
//!
//! Nothing here ever forms a Rust reference to memory the guest can write; bytes are copied in and out.

use crate::layout::{LARGE_PAGE, RamRange};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use thiserror::Error;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// Why guest memory cannot be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The host gives no address space.
    #[error("cannot map {len} bytes for {what}: {source}")]
    Map {
        /// What it was for.
        what: &'static str,
        /// How much.
        len: u64,
        /// The host's reason.
        source: rustix::io::Errno,
    },
    /// vm-memory refused the ranges.
    #[error("cannot describe guest memory: {0}")]
    Describe(String),
}

/// A private anonymous mapping, unmapped when dropped.
#[derive(Debug)]
pub struct HostMapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value, not to a thread, and is reached only through raw copies and the kernel.
unsafe impl Send for HostMapping {}
// SAFETY: as above; concurrent copies may tear but every byte is a valid byte.
unsafe impl Sync for HostMapping {}

impl HostMapping {
    /// Reserves `len` bytes (a multiple of the page size, not zero), aligned to 2 MiB, backed when first touched.
    /// `accessible` memory can be read and written; the other kind only holds a place for later mappings.
    ///
    /// # Errors
    /// [`MemoryError::Map`] naming `what`.
    pub fn reserve(what: &'static str, len: u64, accessible: bool) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::Map { what, len, source };
        let size = usize::try_from(len).map_err(|_| failed(rustix::io::Errno::NOMEM))?;
        let align = LARGE_PAGE as usize;
        let whole = size.checked_add(align).ok_or_else(|| failed(rustix::io::Errno::NOMEM))?;
        let protection = if accessible { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::empty() };
        // SAFETY: a new anonymous mapping at an address the kernel chooses replaces nothing.
        let raw = unsafe { mmap_anonymous(null_mut(), whole, protection, MapFlags::PRIVATE | MapFlags::NORESERVE) }
            .map_err(failed)?
            .cast::<u8>();
        let head = raw.align_offset(align);
        let start = raw.wrapping_add(head);
        // SAFETY: both pieces lie inside the mapping just made, on page boundaries, and nothing refers to them:
        // `head` is under `align` and `head + size` under `whole`, because `whole` is `size + align`.
        unsafe {
            if head > 0 {
                let _ = munmap(raw.cast(), head);
            }
            let _ = munmap(start.wrapping_add(size).cast(), whole - head - size);
        }
        Ok(Self { start: NonNull::new(start).expect("the kernel maps nothing at address 0 unasked"), len: size })
    }

    /// Asks the host for large pages; a host without them just keeps to small ones.
    pub fn prefer_large_pages(&self) {
        // SAFETY: the range is exactly the mapping, and this advice changes no content.
        let _ = unsafe { madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxHugepage) };
    }

    /// Address of the first byte in this process.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for HostMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whoever could refer to it (RAM, a window, a slot) keeps the value alive.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The guest's RAM.
#[derive(Debug)]
pub struct Ram {
    // Declared first and so dropped first: it refers to the mappings.
    memory: GuestMemoryMmap,
    mappings: Vec<(RamRange, Arc<HostMapping>)>,
}

impl Ram {
    /// Maps RAM for `ranges`.
    ///
    /// # Errors
    /// [`MemoryError`] when the host has no address space left.
    pub fn new(ranges: &[RamRange]) -> Result<Self, MemoryError> {
        let mut mappings = Vec::with_capacity(ranges.len());
        let mut regions = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mapping = Arc::new(HostMapping::reserve("guest RAM", range.len, true)?);
            mapping.prefer_large_pages();
            // SAFETY: `mapping` covers exactly these bytes and, kept beside the region in `Ram`, outlives it.
            let region = unsafe {
                MmapRegionBuilder::new(mapping.len())
                    .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                    .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
                    .with_raw_mmap_pointer(mapping.as_ptr())
                    .build()
            }
            .map_err(|e| MemoryError::Describe(e.to_string()))?;
            let region = GuestRegionMmap::new(region, GuestAddress(range.base))
                .ok_or_else(|| MemoryError::Describe("RAM wraps the address space".into()))?;
            regions.push(region);
            mappings.push((*range, mapping));
        }
        let memory = GuestMemoryMmap::from_regions(regions).map_err(|e| MemoryError::Describe(e.to_string()))?;
        Ok(Self { memory, mappings })
    }

    /// RAM by guest-physical address. DAX windows are not in it: a device must never touch window memory, whose
    /// pages may be missing; a descriptor that points there is refused.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The ranges and the mappings behind them, for KVM's slots.
    pub fn mappings(&self) -> &[(RamRange, Arc<HostMapping>)] {
        &self.mappings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn ram_is_aligned_and_reachable_in_each_range() {
        let ranges = [RamRange { base: 0, len: 4 << 20 }, RamRange { base: 4 << 30, len: 2 << 20 }];
        let ram = Ram::new(&ranges).unwrap();
        for (range, mapping) in ram.mappings() {
            assert_eq!(mapping.as_ptr() as u64 % LARGE_PAGE, 0);
            let last = GuestAddress(range.base + range.len - 8);
            ram.memory().write_obj(0x0123_4567_89ab_cdefu64, last).unwrap();
            assert_eq!(ram.memory().read_obj::<u64>(last).unwrap(), 0x0123_4567_89ab_cdef);
        }
        assert!(ram.memory().read_obj::<u8>(GuestAddress(4 << 20)).is_err());
    }

    #[test]
    fn a_size_beyond_the_address_space_is_an_error() {
        let error = HostMapping::reserve("a test", u64::MAX - 4095, false).unwrap_err();
        assert!(error.to_string().contains("a test"), "{error}");
    }
}
