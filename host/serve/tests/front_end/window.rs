//! The place for the DAX window: memory of the front-end's, into which it maps what the daemon asks it to.

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;
use vhost::vhost_user::message::{VhostUserMMap, VhostUserMMapFlags};
use vhost::vhost_user::{HandlerResult, VhostUserFrontendReqHandlerMut};

/// A mapping, as the daemon asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub len: u64,
    pub file_offset: u64,
    pub writable: bool,
    /// Whether the descriptor that came with it is open for writing.
    pub open_for_writing: bool,
}

pub struct Place {
    start: *mut c_void,
    len: usize,
    /// What lies in it, by offset.
    pub mappings: BTreeMap<u64, Mapping>,
    /// Say no to everything.
    pub refuse: bool,
    /// How many mappings are accepted.
    pub room: usize,
    /// Asked for so far.
    pub asked: usize,
}

// SAFETY: the address belongs to the value, not to a thread.
unsafe impl Send for Place {}

fn nothing() -> MapFlags {
    MapFlags::PRIVATE | MapFlags::NORESERVE
}

impl Place {
    pub fn new(len: usize) -> Self {
        // SAFETY: a new mapping where the kernel likes replaces nothing.
        let start = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), nothing()) }.unwrap();
        Self { start, len, mappings: BTreeMap::new(), refuse: false, room: usize::MAX, asked: 0 }
    }

    /// Checks a request as the specification wants it: known region, inside, in whole pages. Returns the place.
    fn check(&mut self, request: &VhostUserMMap) -> HandlerResult<*mut c_void> {
        self.asked += 1;
        let (offset, len) = (request.shm_offset, request.len);
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len as u64);
        if self.refuse || request.shmid != 0 || len == 0 || !inside || (offset | len) % 4096 != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.start.wrapping_byte_add(offset as usize))
    }

    /// Bytes of the window, as the guest sees them.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        self.covered(offset, len);
        let mut bytes = vec![0; len];
        // SAFETY: `covered` has found a mapping there, of a file that no test cuts short.
        unsafe { std::ptr::copy_nonoverlapping(self.start.cast::<u8>().add(offset as usize), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// A store of the guest's.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(self.covered(offset, bytes.len()).writable);
        // SAFETY: as in `read`, and it is mapped for writing.
        unsafe { self.start.cast::<u8>().add(offset as usize).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn covered(&self, offset: u64, len: usize) -> Mapping {
        let (start, mapping) = self.mappings.range(..=offset).next_back().expect("something is mapped there");
        assert!(offset + len as u64 <= start + mapping.len);
        *mapping
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: nobody has an address of it any more.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

impl VhostUserFrontendReqHandlerMut for Place {
    fn shmem_map(&mut self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        let at = self.check(request)?;
        let end = request.shm_offset + request.len;
        if self.mappings.range(..end).next_back().is_some_and(|(start, old)| start + old.len > request.shm_offset) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if self.mappings.len() >= self.room {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let writable = request.flags & VhostUserMMapFlags::WRITABLE.bits() != 0;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the message's receiver keeps the descriptor open during the call.
        let file = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: `check` has seen to it that only pages of the place are replaced.
        unsafe { mmap(at, request.len as usize, protection, flags, file, request.fd_offset) }?;
        let open_for_writing = fcntl_getfl(file)?.intersects(OFlags::WRONLY | OFlags::RDWR);
        let mapping = Mapping { len: request.len, file_offset: request.fd_offset, writable, open_for_writing };
        self.mappings.insert(request.shm_offset, mapping);
        Ok(0)
    }

    fn shmem_unmap(&mut self, request: &VhostUserMMap) -> HandlerResult<u64> {
        let at = self.check(request)?;
        // Copies: the structure is packed.
        let (offset, len) = (request.shm_offset, request.len);
        if self.mappings.get(&offset).is_none_or(|mapping| mapping.len != len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: as in `shmem_map`.
        unsafe { mmap_anonymous(at, len as usize, ProtFlags::empty(), nothing() | MapFlags::FIXED) }?;
        self.mappings.remove(&offset);
        Ok(0)
    }
}
