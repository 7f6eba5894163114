//! The seam to block devices: what a file system in an image needs of whatever holds the image.
//!
//! The kernel implements it over a virtio-blk device, the host's tools over a file, tests over memory. Reading only: the file
//! systems of images are read-only.

use crate::{Errno, Result};
use alloc::vec::Vec;

/// A sequence of bytes that can be read at any place. Its length does not change.
pub trait Block: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from byte `offset` on; neither has to be aligned. May sleep: no spin lock may be held.
    ///
    /// # Errors
    /// `EIO` when the range does not lie within the device or the device fails; `buffer` may hold anything then.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// An image in memory.
impl Block for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Errno::EIO)?;
        let end = start.checked_add(buffer.len()).ok_or(Errno::EIO)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(Errno::EIO)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_within_its_bounds_only() {
        let device = b"abcdef".to_vec();
        let read = |offset| {
            let mut buffer = [0; 3];
            Block::read(&device, offset, &mut buffer).map(|()| buffer)
        };
        assert_eq!((Block::len(&device), device.is_empty()), (6, false));
        assert_eq!(read(0), Ok(*b"abc"));
        assert_eq!(read(3), Ok(*b"def"));
        for outside in [4, 6, 7, u64::MAX - 1, u64::MAX] {
            assert_eq!(read(outside), Err(Errno::EIO));
        }
    }
}
