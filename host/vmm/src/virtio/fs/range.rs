//! Requests the library has no method for: COPY_FILE_RANGE, which lets the host copy between two files of a share without
//! the bytes ever entering the machine, and SYNCFS.
//!
//! Files are named by node here and opened anew: a handle tells nothing more, since the share decides what may be written.

use super::guard::{Guard, refuse};
use super::listing::Listings;
use super::passthrough::ROOT;
use super::passthrough::See;
use fuse_backend_rs::api::filesystem::FileSystem;
use rustix::fs::{copy_file_range, syncfs};
use std::io;
use std::os::fd::OwnedFd;

/// `FUSE_COPY_FILE_RANGE`.
pub const COPY_FILE_RANGE: u32 = 47;
/// `FUSE_SYNCFS`.
pub const SYNCFS: u32 = 50;

/// Bytes of `struct fuse_copy_file_range_in`.
pub const COPY_BODY: usize = 56;

/// Most bytes copied for one request. One thread serves a share: a longer copy would keep every other request waiting, and
/// the machine from ending. The guest asks again for the rest.
const MAX_COPY: u64 = 64 << 20;

/// Something that opens files by node.
pub trait Open: Send + Sync {
    /// Opens a regular file or a directory.
    ///
    /// # Errors
    /// `EBADF` for a node nobody knows, or another type; what the host says.
    fn open_node(&self, node: u64, writable: bool) -> io::Result<OwnedFd>;

    /// Forgets every node and closes every handle: whoever had them is gone.
    fn forget_all(&self);
}

impl<F: FileSystem<Inode = u64, Handle = u64> + See + Send + Sync> Open for Guard<Listings<F>> {
    fn open_node(&self, node: u64, writable: bool) -> io::Result<OwnedFd> {
        self.0.descriptor(node, writable)
    }

    fn forget_all(&self) {
        self.destroy();
    }
}

/// Copies as `body`, a `fuse_copy_file_range_in`, asks from the file `node`, and returns how many bytes that were.
///
/// # Errors
/// copy_file_range(2)'s, and [`Open::open_node`]'s. `EOPNOTSUPP` when the guest may do it by itself: a file whose mode lets
/// nobody open it again can still be open there.
pub fn copy(files: &dyn Open, node: u64, body: &[u8; COPY_BODY]) -> io::Result<u32> {
    let word = |index: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&body[index * 8..index * 8 + 8]);
        u64::from_le_bytes(bytes)
    };
    let (mut from_offset, to_node, mut to_offset, len, flags) = (word(1), word(2), word(4), word(5), word(6));
    if flags != 0 || i64::try_from(from_offset).is_err() || i64::try_from(to_offset).is_err() {
        return Err(refuse(libc::EINVAL));
    }
    let open = |node, writable| {
        files.open_node(node, writable).map_err(|error| match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => refuse(libc::EOPNOTSUPP),
            _ => error,
        })
    };
    let (from, to) = (open(node, false)?, open(to_node, true)?);
    let len = len.min(MAX_COPY) as usize;
    let copied = copy_file_range(&from, Some(&mut from_offset), &to, Some(&mut to_offset), len)?;
    u32::try_from(copied).map_err(|_| refuse(libc::EIO))
}

/// Makes what was written to the file system of `node` safe; of one that cannot be opened, the share's own.
///
/// # Errors
/// What the host says.
pub fn sync(files: &dyn Open, node: u64) -> io::Result<()> {
    let file = files.open_node(node, false).or_else(|_| files.open_node(ROOT, false))?;
    Ok(syncfs(file)?)
}
