//! A share nobody can change: every operation that would is refused with `EROFS`, the rest passed on.
//!
//! A wrapper and not a mount option of the server, so that the one question "is it read-only?" is asked in one
//! place, for every operation, before the server sees it. The match is on the whole trait: what it gains later falls
//! to the trait's own default, which refuses with `ENOSYS`.

use super::guard::{forward, refuse};
use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileLock, FileSystem, GetxattrReply, IoctlData, ListxattrReply, ZeroCopyReader,
    ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use std::ffi::CStr;
use std::io;
use std::time::Duration;

/// `inner`, read-only.
pub struct ReadOnly<F>(pub F);

/// Whether open(2) flags ask for nothing but reading.
fn reads_only(flags: u32) -> bool {
    let flags = flags as i32;
    flags & libc::O_ACCMODE == libc::O_RDONLY && flags & (libc::O_TRUNC | libc::O_CREAT) == 0
}

type Opened = (Option<u64>, OpenOptions, Option<u32>);

impl<F: FileSystem<Inode = u64, Handle = u64>> FileSystem for ReadOnly<F> {
    type Inode = u64;
    type Handle = u64;

    fn open(&self, ctx: &Context, inode: u64, flags: u32, fuse_flags: u32) -> io::Result<Opened> {
        if reads_only(flags) { self.0.open(ctx, inode, flags, fuse_flags) } else { Err(refuse(libc::EROFS)) }
    }

    fn opendir(&self, ctx: &Context, inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        // With O_TMPFILE among the flags an opendir would make a file.
        if reads_only(flags) { self.0.opendir(ctx, inode, flags) } else { Err(refuse(libc::EROFS)) }
    }

    fn access(&self, ctx: &Context, inode: u64, mask: u32) -> io::Result<()> {
        // What is behind a fifo or a socket is not in the share.
        let stored = |mode| matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK);
        if mask as i32 & libc::W_OK != 0 && stored(self.0.getattr(ctx, inode, None)?.0.st_mode) {
            return Err(refuse(libc::EROFS));
        }
        self.0.access(ctx, inode, mask)
    }

    fn setupmapping(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        foffset: u64,
        len: u64,
        flags: u64,
        moffset: u64,
        vu_req: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        if flags & SetupmappingFlags::WRITE.bits() != 0 {
            return Err(refuse(libc::EROFS));
        }
        self.0.setupmapping(ctx, inode, handle, foffset, len, flags, moffset, vu_req)
    }

    forward! { 0:
        init(capable: FsOptions) -> io::Result<FsOptions>;
        destroy() -> ();
        lookup(ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry>;
        forget(ctx: &Context, inode: u64, count: u64) -> ();
        batch_forget(ctx: &Context, requests: Vec<(u64, u64)>) -> ();
        getattr(ctx: &Context, inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
        readlink(ctx: &Context, inode: u64) -> io::Result<Vec<u8>>;
        read(ctx: &Context, inode: u64, handle: u64, w: &mut dyn ZeroCopyWriter, size: u32, offset: u64,
            owner: Option<u64>, flags: u32) -> io::Result<usize>;
        flush(ctx: &Context, inode: u64, handle: u64, owner: u64) -> io::Result<()>;
        fsync(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        release(ctx: &Context, inode: u64, flags: u32, handle: u64, flush: bool, flock: bool, owner: Option<u64>)
            -> io::Result<()>;
        statfs(ctx: &Context, inode: u64) -> io::Result<statvfs64>;
        getxattr(ctx: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply>;
        listxattr(ctx: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply>;
        readdir(ctx: &Context, inode: u64, handle: u64, size: u32, offset: u64,
            add: &mut dyn FnMut(DirEntry) -> io::Result<usize>) -> io::Result<()>;
        readdirplus(ctx: &Context, inode: u64, handle: u64, size: u32, offset: u64,
            add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>) -> io::Result<()>;
        fsyncdir(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        releasedir(ctx: &Context, inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        removemapping(ctx: &Context, inode: u64, requests: Vec<RemovemappingOne>, window: &mut dyn FsCacheReqHandler)
            -> io::Result<()>;
        lseek(ctx: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
        getlk(ctx: &Context, inode: u64, handle: u64, owner: u64, lock: FileLock, flags: u32) -> io::Result<FileLock>;
        setlk(ctx: &Context, inode: u64, handle: u64, owner: u64, lock: FileLock, flags: u32) -> io::Result<()>;
        setlkw(ctx: &Context, inode: u64, handle: u64, owner: u64, lock: FileLock, flags: u32) -> io::Result<()>;
        id_remap(ctx: &mut Context) -> io::Result<()>;
    }

    fn setattr(
        &self,
        _: &Context,
        _: u64,
        _: stat64,
        _: Option<u64>,
        _: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        Err(refuse(libc::EROFS))
    }
    fn symlink(&self, _: &Context, _: &CStr, _: u64, _: &CStr) -> io::Result<Entry> {
        Err(refuse(libc::EROFS))
    }
    fn mknod(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32, _: u32) -> io::Result<Entry> {
        Err(refuse(libc::EROFS))
    }
    fn mkdir(&self, _: &Context, _: u64, _: &CStr, _: u32, _: u32) -> io::Result<Entry> {
        Err(refuse(libc::EROFS))
    }
    fn unlink(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn rmdir(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn rename(&self, _: &Context, _: u64, _: &CStr, _: u64, _: &CStr, _: u32) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn link(&self, _: &Context, _: u64, _: u64, _: &CStr) -> io::Result<Entry> {
        Err(refuse(libc::EROFS))
    }
    fn create(
        &self,
        _: &Context,
        _: u64,
        _: &CStr,
        _: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        Err(refuse(libc::EROFS))
    }
    fn write(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        _: &mut dyn ZeroCopyReader,
        _: u32,
        _: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        Err(refuse(libc::EROFS))
    }
    fn fallocate(&self, _: &Context, _: u64, _: u64, _: u32, _: u64, _: u64) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn setxattr(&self, _: &Context, _: u64, _: &CStr, _: &[u8], _: u32) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn removexattr(&self, _: &Context, _: u64, _: &CStr) -> io::Result<()> {
        Err(refuse(libc::EROFS))
    }
    fn ioctl(
        &self,
        _: &Context,
        _: u64,
        _: u64,
        _: u32,
        _: u32,
        _: IoctlData<'_>,
        _: u32,
    ) -> io::Result<IoctlData<'_>> {
        Err(refuse(libc::EROFS))
    }
}
