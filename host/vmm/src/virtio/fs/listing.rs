//! Directory listings that do not fail for one entry's sake.
//!
//! The passthrough file system looks every entry up, and ends the listing with an error when one cannot be: a name
//! deleted a moment ago, or a mount point that refuses even a stat(2), would hide a whole directory. So we read
//! directories ourselves. READDIR needs no lookup at all; READDIRPLUS looks without opening ([`See`]), and gives
//! an entry that cannot be looked up node 0, which in FUSE says "ask for it by name". So it does for `.` and `..`, which a guest knows; they are listed because Linux
//! shows its programs what the server lists, and nothing more.

use super::guard::{forward, refuse};
use super::passthrough::See;
use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of a directory read from the host at once: at least room for one entry, at most what is of use.
const MIN_PIECE: usize = 1024;
const MAX_PIECE: usize = 64 * 1024;

/// An open directory. The lock keeps its position while a piece is read.
struct Directory {
    inode: u64,
    fd: Mutex<OwnedFd>,
}

/// `inner`, with listings of our own.
pub struct Listings<F> {
    inner: F,
    open: Mutex<BTreeMap<u64, Arc<Directory>>>,
}

/// Takes the descriptor with which the file system would map a file: its one way to open an inode for somebody else.
#[derive(Default)]
struct Capture(Option<OwnedFd>);

impl FsCacheReqHandler for Capture {
    fn map(&mut self, _: u64, _: u64, _: u64, _: u64, fd: RawFd) -> io::Result<()> {
        // SAFETY: the file system opened `fd` for this call and keeps it open during it.
        self.0 = Some(unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?);
        Ok(())
    }
    fn unmap(&mut self, _: Vec<RemovemappingOne>) -> io::Result<()> {
        Err(refuse(libc::ENOSYS))
    }
}

impl<F> Listings<F> {
    /// What is wrapped.
    pub fn inner(&self) -> &F {
        &self.inner
    }
}

impl<F: FileSystem<Inode = u64, Handle = u64>> Listings<F> {
    /// Wraps `inner`.
    pub fn new(inner: F) -> Self {
        Self { inner, open: Mutex::default() }
    }

    /// Opens a regular file or a directory by its node.
    ///
    /// # Errors
    /// `EBADF` for a node nobody knows and for other types; what the host says.
    pub fn descriptor(&self, inode: u64, writable: bool) -> io::Result<OwnedFd> {
        let read = SetupmappingFlags::READ.bits();
        let flags = if writable { read | SetupmappingFlags::WRITE.bits() } else { read };
        let mut capture = Capture::default();
        self.inner.setupmapping(&Context::new(), inode, 0, 0, 0, flags, 0, &mut capture)?;
        capture.0.ok_or_else(|| refuse(libc::EIO))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Directory>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, inode: u64, handle: u64) -> io::Result<Arc<Directory>> {
        let directory = self.open().get(&handle).cloned();
        directory.filter(|directory| directory.inode == inode).ok_or_else(|| refuse(libc::EBADF))
    }

    /// Offers the entries after `cookie` until `offer` returns 0, which is how it says that the reply is full.
    fn list(
        &self,
        directory: &Directory,
        piece: usize,
        cookie: u64,
        mut offer: impl FnMut(DirEntry<'_>, &CStr) -> io::Result<usize>,
    ) -> io::Result<()> {
        let fd = directory.fd.lock().unwrap_or_else(PoisonError::into_inner);
        seek(&*fd, SeekFrom::Start(cookie))?;
        let mut buffer = Vec::with_capacity(piece.clamp(MIN_PIECE, MAX_PIECE));
        let mut entries = RawDir::new(&*fd, buffer.spare_capacity_mut());
        let mut offered = false;
        while let Some(entry) = entries.next() {
            let result = entry.map_err(io::Error::from).and_then(|entry| {
                let name = entry.file_name();
                let type_ = match entry.file_type() {
                    FileType::Unknown => 0,
                    // DT_ values are the type bits of a mode, shifted (readdir(3)).
                    known => known.as_raw_mode() >> 12,
                };
                let found =
                    DirEntry { ino: entry.ino(), offset: entry.next_entry_cookie(), type_, name: name.to_bytes() };
                let taken = offer(found, name)?;
                offered |= taken > 0;
                Ok(taken)
            });
            match result {
                Ok(0) => break,
                Ok(_) => {}
                // What the guest has counts; it meets the error when it comes back for more.
                Err(_) if offered => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// An entry without a node. All else in it means nothing.
fn nameless() -> Entry {
    // SAFETY: `stat64` is plain integers, of which zero is a value.
    let attr = unsafe { std::mem::zeroed() };
    Entry { inode: 0, generation: 0, attr, attr_flags: 0, attr_timeout: Duration::ZERO, entry_timeout: Duration::ZERO }
}

type Opened = (Option<u64>, OpenOptions, Option<u32>);

impl<F: FileSystem<Inode = u64, Handle = u64> + See> FileSystem for Listings<F> {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        // A guest that crashed has closed nothing.
        self.open().clear();
        self.inner.init(capable)
    }

    fn destroy(&self) {
        self.open().clear();
        self.inner.destroy();
    }

    fn opendir(&self, ctx: &Context, inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        let (handle, options) = self.inner.opendir(ctx, inode, flags)?;
        let handle = handle.ok_or_else(|| refuse(libc::ENOSYS))?;
        match self.descriptor(inode, false) {
            Ok(fd) => {
                self.open().insert(handle, Arc::new(Directory { inode, fd: Mutex::new(fd) }));
                Ok((Some(handle), options))
            }
            Err(error) => {
                self.inner.releasedir(ctx, inode, 0, handle)?;
                Err(error)
            }
        }
    }

    fn releasedir(&self, ctx: &Context, inode: u64, flags: u32, handle: u64) -> io::Result<()> {
        self.inner.releasedir(ctx, inode, flags, handle)?;
        self.open().remove(&handle);
        Ok(())
    }

    fn readdir(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let directory = self.directory(inode, handle)?;
        self.list(&directory, size as usize, cookie, |entry, _| add(entry))
    }

    fn readdirplus(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let directory = self.directory(inode, handle)?;
        // An entry of the reply is some four times as long as one of the host's.
        self.list(&directory, size as usize / 4, cookie, |found, name| {
            let entry = match name.to_bytes() {
                b"." | b".." => nameless(),
                _ => self.inner.see(ctx, inode, name).unwrap_or_else(|_| nameless()),
            };
            let node = entry.inode;
            let result = add(found, entry);
            if node != 0 && !matches!(result, Ok(1..)) {
                // The guest never hears of this lookup.
                self.inner.forget(ctx, node, 1);
            }
            result
        })
    }

    forward! { inner:
        lookup(ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry>;
        forget(ctx: &Context, inode: u64, count: u64) -> ();
        batch_forget(ctx: &Context, requests: Vec<(u64, u64)>) -> ();
        getattr(ctx: &Context, inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
        setattr(ctx: &Context, inode: u64, attr: stat64, handle: Option<u64>, valid: SetattrValid)
            -> io::Result<(stat64, Duration)>;
        readlink(ctx: &Context, inode: u64) -> io::Result<Vec<u8>>;
        symlink(ctx: &Context, target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry>;
        mknod(ctx: &Context, parent: u64, name: &CStr, mode: u32, rdev: u32, umask: u32) -> io::Result<Entry>;
        mkdir(ctx: &Context, parent: u64, name: &CStr, mode: u32, umask: u32) -> io::Result<Entry>;
        unlink(ctx: &Context, parent: u64, name: &CStr) -> io::Result<()>;
        rmdir(ctx: &Context, parent: u64, name: &CStr) -> io::Result<()>;
        rename(ctx: &Context, from: u64, name: &CStr, to: u64, new: &CStr, flags: u32) -> io::Result<()>;
        link(ctx: &Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry>;
        create(ctx: &Context, parent: u64, name: &CStr, args: CreateIn)
            -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)>;
        open(ctx: &Context, inode: u64, flags: u32, fuse_flags: u32) -> io::Result<Opened>;
        read(ctx: &Context, inode: u64, handle: u64, w: &mut dyn ZeroCopyWriter, size: u32, offset: u64,
            owner: Option<u64>, flags: u32) -> io::Result<usize>;
        write(ctx: &Context, inode: u64, handle: u64, r: &mut dyn ZeroCopyReader, size: u32, offset: u64,
            owner: Option<u64>, delayed: bool, flags: u32, fuse_flags: u32) -> io::Result<usize>;
        flush(ctx: &Context, inode: u64, handle: u64, owner: u64) -> io::Result<()>;
        fsync(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        fallocate(ctx: &Context, inode: u64, handle: u64, mode: u32, offset: u64, length: u64) -> io::Result<()>;
        release(ctx: &Context, inode: u64, flags: u32, handle: u64, flush: bool, flock: bool, owner: Option<u64>)
            -> io::Result<()>;
        statfs(ctx: &Context, inode: u64) -> io::Result<statvfs64>;
        setxattr(ctx: &Context, inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()>;
        getxattr(ctx: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply>;
        listxattr(ctx: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply>;
        removexattr(ctx: &Context, inode: u64, name: &CStr) -> io::Result<()>;
        fsyncdir(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        setupmapping(ctx: &Context, inode: u64, handle: u64, foffset: u64, len: u64, flags: u64, moffset: u64,
            window: &mut dyn FsCacheReqHandler) -> io::Result<()>;
        removemapping(ctx: &Context, inode: u64, requests: Vec<RemovemappingOne>, window: &mut dyn FsCacheReqHandler)
            -> io::Result<()>;
        access(ctx: &Context, inode: u64, mask: u32) -> io::Result<()>;
        lseek(ctx: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
    }
}
