//! A shared, read-only mapping of a file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping; it ends with the value.
pub struct SharedMap {
    start: NonNull<u8>,
    len: usize,
}

impl SharedMap {
    /// Maps the first `len` bytes.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(file: &File, len: u64) -> io::Result<Self> {
        let len = len as usize;
        // SAFETY: a new mapping where the kernel likes; it takes the place of nothing.
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file.as_fd(), 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len })
    }

    /// Copies from byte `offset` on.
    ///
    /// # Panics
    /// When that leaves the mapping.
    pub fn copy(&self, offset: u64, to: &mut [u8]) {
        let offset = offset as usize;
        assert!(offset <= self.len && to.len() <= self.len - offset, "{offset} and {} of {}", to.len(), self.len);
        // SAFETY: the range was checked, and lies in a mapping that lives as long as we do; nobody changes the file.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(self.start.as_ptr().add(offset), to.len()) };
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
