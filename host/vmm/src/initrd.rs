//! The initrd: a file that the kernel finds in memory when it starts, as a PVH module.

use crate::boot::BootError;
use std::fs::File;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const PAGE: u64 = 4096;

/// Where it lies in guest-physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// The first byte, at the beginning of a page.
    pub start: u64,
    /// Length in bytes, not zero.
    pub len: u64,
}

/// Reads the file at `path` to the end of the memory between `floor` and `ceiling`, in pages of its own.
///
/// # Errors
/// [`BootError`] names the file.
pub fn load(memory: &GuestMemoryMmap, floor: u64, ceiling: u64, path: &Path) -> Result<Initrd, BootError> {
    let unreadable = |source| BootError::Initrd { path: path.into(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let place = place(len, floor, ceiling).ok_or_else(|| BootError::InitrdSize { path: path.into(), len })?;
    let read = memory.read_exact_volatile_from(GuestAddress(place.start), &mut file, len as usize);
    read.map_err(|error| unreadable(std::io::Error::other(error)))?;
    Ok(place)
}

fn place(len: u64, floor: u64, ceiling: u64) -> Option<Initrd> {
    let start = ceiling.checked_sub(len)? / PAGE * PAGE;
    (len > 0 && start >= floor).then_some(Initrd { start, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MIB, RamRange};
    use crate::memory::Ram;

    #[test]
    fn it_lies_at_the_end_of_memory() {
        assert_eq!(place(1, 0, 8192), Some(Initrd { start: 4096, len: 1 }));
        assert_eq!(place(4097, 0, 8192), Some(Initrd { start: 0, len: 4097 }));
        for (len, floor) in [(0, 0), (1, 4097), (8193, 0), (u64::MAX, 0)] {
            assert_eq!(place(len, floor, 8192), None);
        }
    }

    #[test]
    fn a_file_is_read_to_its_place() {
        let ram = Ram::new(&[RamRange { base: 0, len: 4 * MIB }]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 5000]).unwrap();
        let found = load(ram.memory(), MIB, 4 * MIB, file.path()).unwrap();
        assert_eq!(found, Initrd { start: 4 * MIB - 8192, len: 5000 });
        let byte = |at| ram.memory().read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!((byte(found.start), byte(found.start + 4999), byte(found.start + 5000)), (7, 7, 0));
        let error = load(ram.memory(), 4 * MIB - 4096, 4 * MIB, file.path()).unwrap_err();
        assert!(matches!(error, BootError::InitrdSize { len: 5000, .. }), "{error}");
        let error = load(ram.memory(), 0, MIB, Path::new("/no/such")).unwrap_err().to_string();
        assert!(error.contains("initrd /no/such") && error.contains("No such file"), "{error}");
    }
}
