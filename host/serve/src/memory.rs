//! The guest's memory as the front-end lends it: files to map, and two addresses for each piece.
//!
//! The guest names memory by guest-physical addresses, the front-end by addresses of its own process: the queues are told
//! to us that way.

use std::fs::{File, Metadata};
use thiserror::Error;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Why lent memory cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A size this process cannot map.
    #[error("a memory region of {0:#x} bytes does not fit this process")]
    Size(u64),
    /// The host refuses.
    #[error("cannot map a memory region: {0}")]
    Map(#[from] MmapRegionError),
    /// Mapped memory past the end of its file ends the process that touches it.
    #[error("a memory region is {1:#x} bytes from {0:#x} on of something that is no file of that length")]
    Short(u64, u64),
    /// A region that wraps round the address space.
    #[error("a memory region at {0:#x} leaves the guest's address space")]
    Wraps(u64),
    /// Regions that overlap, or none.
    #[error("the memory regions make no sense together: {0}")]
    Collection(#[from] vm_memory::GuestRegionCollectionError),
}

/// Where a piece lies for the front-end and for the guest.
#[derive(Debug, Clone, Copy)]
struct Piece {
    front_end: u64,
    guest: u64,
    len: u64,
}

/// The guest's memory.
#[derive(Debug)]
pub struct Memory {
    guest: GuestMemoryMmap,
    pieces: Vec<Piece>,
}

impl Memory {
    /// Maps `files` as `regions` say.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn new(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self, MemoryError> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut pieces = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            // Copies: the structure is packed.
            let piece = Piece { front_end: region.user_addr, guest: region.guest_phys_addr, len: region.memory_size };
            let size = usize::try_from(piece.len).map_err(|_| MemoryError::Size(piece.len))?;
            let offset = region.mmap_offset;
            let stat = file.metadata().ok().filter(|stat| stat.is_file());
            let fits = |stat: Metadata| offset.checked_add(piece.len).is_some_and(|end| end <= stat.len());
            if !stat.is_some_and(fits) {
                return Err(MemoryError::Short(offset, piece.len));
            }
            let mapping = MmapRegion::from_file(FileOffset::new(file, offset), size)?;
            let base = GuestAddress(piece.guest);
            mapped.push(GuestRegionMmap::new(mapping, base).ok_or(MemoryError::Wraps(piece.guest))?);
            pieces.push(piece);
        }
        mapped.sort_by_key(vm_memory::GuestMemoryRegion::start_addr);
        Ok(Self { guest: GuestMemoryMmap::from_regions(mapped)?, pieces })
    }

    /// The memory by guest-physical address.
    pub fn guest(&self) -> &GuestMemoryMmap {
        &self.guest
    }

    /// The guest-physical address of what the front-end has at `address`.
    pub fn translate(&self, address: u64) -> Option<GuestAddress> {
        self.pieces.iter().find_map(|piece| {
            let offset = address.checked_sub(piece.front_end).filter(|offset| *offset < piece.len)?;
            // Within the guest's address space: `new` has checked the whole region.
            Some(GuestAddress(piece.guest + offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn both_kinds_of_address_lead_to_the_file() {
        // Given in the wrong order, as a front-end may.
        let regions = [
            VhostUserMemoryRegion::new(1 << 32, 0x2000, 0x7000_0000, 0x1000),
            VhostUserMemoryRegion::new(0, 0x1000, 0x5000_0000, 0),
        ];
        let memory = Memory::new(&regions, vec![file(0x3000), file(0x1000)]).unwrap();
        assert_eq!(memory.translate(0x5000_0fff), Some(GuestAddress(0xfff)));
        assert_eq!(memory.translate(0x5000_1000), None);
        assert_eq!(memory.translate(0x7000_1004), Some(GuestAddress((1 << 32) + 0x1004)));
        assert_eq!(memory.translate(u64::MAX), None);
        memory.guest().write_obj(7u32, GuestAddress((1 << 32) + 0x1ffc)).unwrap();
        assert!(memory.guest().write_obj(7u32, GuestAddress(0x1000)).is_err());
    }

    #[test]
    fn memory_that_makes_no_sense_is_refused() {
        let region = VhostUserMemoryRegion::new;
        let try_one = |one| Memory::new(&[one], vec![file(0x2000)]).map(|_| ());
        assert!(try_one(region(0, 0x2000, 0, 0)).is_ok());
        // Past the file's end, with and without a sum that wraps; beyond every address space; round the guest's.
        for bad in [
            region(0, 0x2000, 0, 0x1000),
            region(0, 0x1000, 0, u64::MAX - 0xfff),
            region(0, 1 << 62, 0, 0),
            region(0, u64::MAX, 0, 0),
            region(u64::MAX - 0xfff, 0x2000, 0, 0),
            region(0, 0, 0, 0),
            region(0, 0x1000, 0, 5),
        ] {
            assert!(try_one(bad).is_err(), "{:?}", (bad.guest_phys_addr, bad.memory_size, bad.mmap_offset));
        }
        let zero = File::options().read(true).write(true).open("/dev/zero").unwrap();
        assert!(Memory::new(&[region(0, 0x2000, 0, 0)], vec![zero]).is_err());
        let both = [region(0, 0x2000, 0, 0), region(0x1000, 0x2000, 0x10_0000, 0)];
        assert!(Memory::new(&both, vec![file(0x2000), file(0x2000)]).is_err(), "they overlap");
        assert!(Memory::new(&[], vec![]).is_err());
    }
}
