//! Memory in the place of a window, and the server's way to it.

use fuse_backend_rs::abi::virtio_fs::RemovemappingOne;
use fuse_backend_rs::transport::FsCacheReqHandler;
use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

/// Memory that stands for the window. The guest-physical address is made up.
pub struct Window {
    pub start: NonNull<u8>,
    pub len: usize,
}

pub const PHYS: u64 = 1 << 40;

// SAFETY: plain memory that lives as long as the process; all accesses go through raw copies.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    pub fn new(len: usize) -> Self {
        // SAFETY: a fresh anonymous mapping, never unmapped.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: NonNull::new(start.cast()).unwrap(), len }
    }

    fn place(&self, offset: u64, len: u64) -> std::io::Result<*mut libc::c_void> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len as u64) && offset.is_multiple_of(4096);
        if !fits || len == 0 || !len.is_multiple_of(4096) {
            return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(self.start.as_ptr().wrapping_add(offset as usize).cast())
    }
}

/// What the server does with the window: real mmap calls.
#[derive(Clone)]
pub struct Mapper {
    pub window: Arc<Window>,
    /// The error that mapping fails with, for files that cannot be mapped.
    pub refuse: Arc<Mutex<Option<i32>>>,
    /// Window offsets of the pages mapped now.
    pub mapped: Arc<Mutex<BTreeSet<u64>>>,
}

impl Mapper {
    /// Stores bytes into the window, as a program with a writable mapping does.
    pub fn poke(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.window.len);
        let to = self.window.start.as_ptr().wrapping_add(at);
        // SAFETY: inside the window, and the test has had it mapped writable.
        unsafe { to.copy_from(bytes.as_ptr(), bytes.len()) };
    }
}

impl FsCacheReqHandler for Mapper {
    fn map(&mut self, foffset: u64, moffset: u64, len: u64, flags: u64, fd: RawFd) -> std::io::Result<()> {
        if let Some(errno) = *self.refuse.lock().unwrap() {
            return Err(std::io::Error::from_raw_os_error(errno));
        }
        let place = self.window.place(moffset, len)?;
        let prot = if flags & 1 != 0 { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: the range is inside our own reservation, which only tests look into.
        let got =
            unsafe { libc::mmap(place, len as usize, prot, libc::MAP_SHARED | libc::MAP_FIXED, fd, foffset as i64) };
        if got == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        self.mapped.lock().unwrap().extend((moffset..moffset + len).step_by(4096));
        Ok(())
    }

    fn unmap(&mut self, requests: Vec<RemovemappingOne>) -> std::io::Result<()> {
        for one in requests {
            let place = self.window.place(one.moffset, one.len)?;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            // SAFETY: the range is inside our own reservation.
            let got = unsafe { libc::mmap(place, one.len as usize, libc::PROT_NONE, flags, -1, 0) };
            assert_ne!(got, libc::MAP_FAILED);
            self.mapped.lock().unwrap().retain(|page| !(one.moffset..one.moffset + one.len).contains(page));
        }
        Ok(())
    }
}
