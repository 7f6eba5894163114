//! What the file server is never asked to do, whoever asks: the wrapper between a hostile guest and the passthrough
//! file system, for read-only and writable shares alike.
//!
//! * A name is one component: no `/`, no `..` that could climb out of a directory moved elsewhere meanwhile.
//! * Flags of open(2) are those of ordinary files: nothing that makes files (`O_TMPFILE`), opens without opening
//!   (`O_PATH`), sends signals (`O_ASYNC`) or goes round the page cache the window shows (`O_DIRECT`).
//! * No device nodes: a guest must not make the host's devices reachable.
//! * No extended attributes that mean something to the host itself: they can be read, not changed.
//! * Sizes of replies are bounded before a buffer of that size is reserved.
//! * A server without privileges acts as itself, whatever user the guest names.

use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use std::ffi::CStr;
use std::io;
use std::time::Duration;

/// Largest reply a request may ask for, in bytes: what fuse-backend-rs accepts as a message.
pub const MAX_REPLY: u32 = 1 << 20;

/// The open(2) flags passed on.
const OPEN_FLAGS: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_TRUNC
    | libc::O_EXCL
    | libc::O_NONBLOCK
    | libc::O_DSYNC
    | libc::O_SYNC
    | libc::O_NOATIME;

/// The FUSE features offered beside those the passthrough file system asks for: they concern the message layer, opening
/// with truncation, which it does by passing the flag on, and locks, which [`super::locks`] has.
const OFFERED: FsOptions = FsOptions::from_bits_truncate(
    FsOptions::ASYNC_READ.bits()
        | FsOptions::BIG_WRITES.bits()
        | FsOptions::MAX_PAGES.bits()
        | FsOptions::PARALLEL_DIROPS.bits()
        | FsOptions::ATOMIC_O_TRUNC.bits()
        | FsOptions::POSIX_LOCKS.bits()
        | FsOptions::FLOCK_LOCKS.bits()
        | FsOptions::INIT_EXT.bits(),
);

/// An error with this number.
pub(super) fn refuse(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Methods of `FileSystem` passed on to a field as they are.
macro_rules! forward {
    ($field:tt: $($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> $result {
            self.$field.$name($($arg),*)
        })*
    };
}
pub(super) use forward;

/// `inner`, guarded.
pub struct Guard<F>(pub F, pub Privilege);

/// As whom the server acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The server is root: new files belong to whom the guest says.
    Root,
    /// The server is this user and group, and cannot be anyone else.
    User(u32, u32),
}

impl Privilege {
    /// What this process has.
    pub fn current() -> Self {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if user.is_root() { Self::Root } else { Self::User(user.as_raw(), group.as_raw()) }
    }
}

fn component(name: &CStr) -> io::Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(refuse(libc::EINVAL)),
        name if name.contains(&b'/') => Err(refuse(libc::EINVAL)),
        _ => Ok(()),
    }
}

/// Those of a guest's open(2) flags that are passed on.
pub(super) fn flags(flags: u32) -> u32 {
    flags & OPEN_FLAGS as u32
}

fn bounded(size: u32) -> io::Result<()> {
    if size > MAX_REPLY { Err(refuse(libc::EINVAL)) } else { Ok(()) }
}

/// Whether a guest may change an attribute of this name. Not `security.` (capabilities of programs, labels) and
/// `trusted.` (what the host's file systems keep there for themselves, overlayfs among them).
fn changeable(name: &CStr) -> io::Result<()> {
    let reserved = [&b"security."[..], b"trusted."].iter().any(|space| name.to_bytes().starts_with(space));
    if reserved { Err(refuse(libc::EPERM)) } else { Ok(()) }
}

type Opened = (Option<u64>, OpenOptions, Option<u32>);

impl<F: FileSystem<Inode = u64, Handle = u64>> FileSystem for Guard<F> {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        Ok(self.0.init(capable)? | OFFERED)
    }

    fn id_remap(&self, ctx: &mut Context) -> io::Result<()> {
        // The passthrough file system changes its credentials for a user that is not 0.
        if let Privilege::User(..) = self.1 {
            (ctx.uid, ctx.gid) = (0, 0);
        }
        Ok(())
    }

    fn access(&self, ctx: &Context, inode: u64, mask: u32) -> io::Result<()> {
        let mut ctx = *ctx;
        if let Privilege::User(uid, gid) = self.1 {
            (ctx.uid, ctx.gid) = (uid, gid);
        }
        self.0.access(&ctx, inode, mask)
    }

    fn lookup(&self, ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        component(name)?;
        self.0.lookup(ctx, parent, name)
    }

    fn symlink(&self, ctx: &Context, target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry> {
        component(name)?;
        self.0.symlink(ctx, target, parent, name)
    }

    fn mknod(&self, ctx: &Context, parent: u64, name: &CStr, mode: u32, rdev: u32, umask: u32) -> io::Result<Entry> {
        component(name)?;
        match mode & libc::S_IFMT {
            0 | libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK => self.0.mknod(ctx, parent, name, mode, rdev, umask),
            _ => Err(refuse(libc::EPERM)),
        }
    }

    fn mkdir(&self, ctx: &Context, parent: u64, name: &CStr, mode: u32, umask: u32) -> io::Result<Entry> {
        component(name)?;
        self.0.mkdir(ctx, parent, name, mode, umask)
    }

    fn unlink(&self, ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        component(name)?;
        self.0.unlink(ctx, parent, name)
    }

    fn rmdir(&self, ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        component(name)?;
        self.0.rmdir(ctx, parent, name)
    }

    fn rename(&self, ctx: &Context, from: u64, name: &CStr, to: u64, new: &CStr, flags: u32) -> io::Result<()> {
        component(name)?;
        component(new)?;
        // RENAME_WHITEOUT makes a device node.
        if flags & libc::RENAME_WHITEOUT != 0 {
            return Err(refuse(libc::EINVAL));
        }
        self.0.rename(ctx, from, name, to, new, flags)
    }

    fn link(&self, ctx: &Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        component(name)?;
        self.0.link(ctx, inode, parent, name)
    }

    fn create(
        &self,
        ctx: &Context,
        parent: u64,
        name: &CStr,
        mut args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        component(name)?;
        args.flags = flags(args.flags) | libc::O_CLOEXEC as u32;
        self.0.create(ctx, parent, name, args)
    }

    fn open(&self, ctx: &Context, inode: u64, open_flags: u32, fuse_flags: u32) -> io::Result<Opened> {
        self.0.open(ctx, inode, flags(open_flags), fuse_flags)
    }

    fn opendir(&self, ctx: &Context, inode: u64, _flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        self.0.opendir(ctx, inode, libc::O_RDONLY as u32)
    }

    fn read(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        open_flags: u32,
    ) -> io::Result<usize> {
        self.0.read(ctx, inode, handle, w, size, offset, owner, flags(open_flags))
    }

    fn write(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        delayed: bool,
        open_flags: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        self.0.write(ctx, inode, handle, r, size, offset, owner, delayed, flags(open_flags), fuse_flags)
    }

    fn setxattr(&self, ctx: &Context, inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        changeable(name)?;
        self.0.setxattr(ctx, inode, name, value, flags)
    }

    fn removexattr(&self, ctx: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        changeable(name)?;
        self.0.removexattr(ctx, inode, name)
    }

    fn getxattr(&self, ctx: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        bounded(size)?;
        self.0.getxattr(ctx, inode, name, size)
    }

    fn listxattr(&self, ctx: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        bounded(size)?;
        self.0.listxattr(ctx, inode, size)
    }

    fn readdir(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        bounded(size)?;
        self.0.readdir(ctx, inode, handle, size, offset, add)
    }

    fn readdirplus(
        &self,
        ctx: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        bounded(size)?;
        self.0.readdirplus(ctx, inode, handle, size, offset, add)
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
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        if SetupmappingFlags::from_bits(flags).is_none() {
            return Err(refuse(libc::EINVAL));
        }
        self.0.setupmapping(ctx, inode, handle, foffset, len, flags, moffset, window)
    }

    forward! { 0:
        destroy() -> ();
        forget(ctx: &Context, inode: u64, count: u64) -> ();
        batch_forget(ctx: &Context, requests: Vec<(u64, u64)>) -> ();
        getattr(ctx: &Context, inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
        setattr(ctx: &Context, inode: u64, attr: stat64, handle: Option<u64>, valid: SetattrValid)
            -> io::Result<(stat64, Duration)>;
        readlink(ctx: &Context, inode: u64) -> io::Result<Vec<u8>>;
        flush(ctx: &Context, inode: u64, handle: u64, owner: u64) -> io::Result<()>;
        fsync(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        fallocate(ctx: &Context, inode: u64, handle: u64, mode: u32, offset: u64, length: u64) -> io::Result<()>;
        release(ctx: &Context, inode: u64, flags: u32, handle: u64, flush: bool, flock: bool, owner: Option<u64>)
            -> io::Result<()>;
        statfs(ctx: &Context, inode: u64) -> io::Result<statvfs64>;
        fsyncdir(ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()>;
        releasedir(ctx: &Context, inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        removemapping(ctx: &Context, inode: u64, requests: Vec<RemovemappingOne>, window: &mut dyn FsCacheReqHandler)
            -> io::Result<()>;
        lseek(ctx: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
    }
}
