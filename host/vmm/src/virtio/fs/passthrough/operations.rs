//! Each request, as the message layer of fuse-backend-rs calls it.

use super::credentials::Acting;
use super::host::{Descriptors, Status};
use super::nodes::Node;
use super::{Created, Passthrough};
use crate::virtio::fs::guard::refuse;
use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::{
    Context, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::transport::FsCacheReqHandler;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fallocate, fchmod, fdatasync, fsync, ftruncate, futimens, getxattr,
    listxattr, mkdirat, mknodat, openat, readlinkat, removexattr, renameat_with, seek, setxattr, symlinkat, unlinkat,
    utimensat,
};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

type Opened = (Option<u64>, OpenOptions, Option<u32>);

impl FileSystem for Passthrough {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _capable: FsOptions) -> io::Result<FsOptions> {
        // A guest that crashed has sent no DESTROY.
        self.start_anew();
        Ok(FsOptions::DO_READDIRPLUS | FsOptions::READDIRPLUS_AUTO)
    }

    fn destroy(&self) {
        self.start_anew();
    }

    fn lookup(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.find(parent, name)
    }

    fn forget(&self, _ctx: &Context, inode: u64, count: u64) {
        self.nodes.forget(inode, count);
    }

    fn batch_forget(&self, _ctx: &Context, requests: Vec<(u64, u64)>) {
        for (inode, count) in requests {
            self.nodes.forget(inode, count);
        }
    }

    fn getattr(&self, _ctx: &Context, inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)> {
        if let Some(handle) = handle {
            self.handles.get(inode, handle)?;
        }
        // A handle is of the node's own file.
        let status = Status::of(&*self.nodes.get(inode)?)?;
        Ok((status.attributes(), self.belief.timeout))
    }

    fn setattr(
        &self,
        ctx: &Context,
        inode: u64,
        attr: stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        let node = self.nodes.get(inode)?;
        let handle = handle.map(|handle| self.handles.get(inode, handle)).transpose()?;
        let open = handle.as_ref().map(|handle| handle.file()).transpose()?;
        let (proc, name) = (self.proc.directory(), Descriptors::name(&*node));
        if valid.contains(SetattrValid::MODE) {
            let mode = Mode::from_raw_mode(attr.st_mode & 0o7777);
            match open {
                Some(file) => fchmod(file, mode)?,
                None => chmodat(proc, &name, mode, AtFlags::empty())?,
            }
        }
        if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
            let user = valid.contains(SetattrValid::UID).then(|| Uid::from_raw(attr.st_uid));
            let group = valid.contains(SetattrValid::GID).then(|| Gid::from_raw(attr.st_gid));
            if attr.st_uid == u32::MAX && user.is_some() || attr.st_gid == u32::MAX && group.is_some() {
                return Err(refuse(libc::EINVAL));
            }
            chownat(&*node, c"", user, group, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            let size = u64::try_from(attr.st_size).map_err(|_| refuse(libc::EINVAL))?;
            match open {
                Some(file) => ftruncate(file, size)?,
                None => ftruncate(self.open_node(inode, OFlags::RDWR)?, size)?,
            }
        }
        if let Some(times) = times(&attr, valid) {
            match open {
                Some(file) => futimens(file, &times)?,
                None => utimensat(proc, &name, &times, AtFlags::empty())?,
            }
        }
        self.getattr(ctx, inode, None)
    }

    fn readlink(&self, _ctx: &Context, inode: u64) -> io::Result<Vec<u8>> {
        let node = self.nodes.get(inode)?;
        if node.kind() != FileType::Symlink {
            return Err(refuse(libc::EINVAL));
        }
        Ok(readlinkat(&*node, c"", Vec::new())?.into_bytes())
    }

    fn symlink(&self, ctx: &Context, target: &CStr, parent: u64, name: &CStr) -> io::Result<Entry> {
        let directory = self.nodes.get(parent)?;
        self.nodes.room()?;
        {
            let _acting = Acting::as_user(ctx)?;
            symlinkat(target, &*directory, name)?;
        }
        self.find(parent, name)
    }

    fn mknod(&self, ctx: &Context, parent: u64, name: &CStr, mode: u32, _rdev: u32, umask: u32) -> io::Result<Entry> {
        let directory = self.nodes.get(parent)?;
        self.nodes.room()?;
        // Linux takes no type for a regular file.
        let kind = match mode & libc::S_IFMT {
            0 => FileType::RegularFile,
            kind => FileType::from_raw_mode(kind),
        };
        // A device would need a number, and is refused as one without.
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(refuse(libc::EPERM));
        }
        {
            let _acting = Acting::as_user(ctx)?;
            mknodat(&*directory, name, kind, permissions(mode, umask), 0)?;
        }
        self.find(parent, name)
    }

    fn mkdir(&self, ctx: &Context, parent: u64, name: &CStr, mode: u32, umask: u32) -> io::Result<Entry> {
        let directory = self.nodes.get(parent)?;
        self.nodes.room()?;
        {
            let _acting = Acting::as_user(ctx)?;
            mkdirat(&*directory, name, permissions(mode, umask))?;
        }
        self.find(parent, name)
    }

    fn unlink(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        let directory = self.nodes.get(parent)?;
        self.nodes.hold_name(&directory, name);
        Ok(unlinkat(&*directory, name, AtFlags::empty())?)
    }

    fn rmdir(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        Ok(unlinkat(&*self.nodes.get(parent)?, name, AtFlags::REMOVEDIR)?)
    }

    fn rename(&self, _ctx: &Context, from: u64, name: &CStr, to: u64, new: &CStr, flags: u32) -> io::Result<()> {
        let (from, to) = (self.nodes.get(from)?, self.nodes.get(to)?);
        self.nodes.hold_name(&from, name);
        self.nodes.hold_name(&to, new);
        Ok(renameat_with(&*from, name, &*to, new, RenameFlags::from_bits_retain(flags))?)
    }

    fn link(&self, _ctx: &Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.link_to(inode, parent, name)
    }

    fn create(&self, ctx: &Context, parent: u64, name: &CStr, args: CreateIn) -> io::Result<Created> {
        let flags = OFlags::from_bits_retain(args.flags);
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = permissions(args.mode, args.umask);
        let make = |directory: &Node| openat(directory, name, flags | new, mode);
        match self.create_with(ctx, parent, flags, make) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !flags.contains(OFlags::EXCL) => {}
            result => return result,
        }
        let entry = self.find(parent, name)?;
        let open = || {
            let token = self.handles.room()?;
            let _acting = Acting::as_user(ctx)?;
            Ok(self.handles.insert(entry.inode, self.open_node(entry.inode, flags)?, flags, token))
        };
        match open() {
            Ok(handle) => Ok((entry, Some(handle), self.opened(), None)),
            Err(error) => {
                // The guest never hears of this lookup.
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    fn open(&self, _ctx: &Context, inode: u64, flags: u32, _fuse_flags: u32) -> io::Result<Opened> {
        let token = self.handles.room()?;
        let flags = OFlags::from_bits_retain(flags);
        let file = self.open_node(inode, flags)?;
        Ok((Some(self.handles.insert(inode, file, flags, token)), self.opened(), None))
    }

    fn opendir(&self, _ctx: &Context, inode: u64, _flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        if self.nodes.get(inode)?.kind() != FileType::Directory {
            return Err(refuse(libc::ENOTDIR));
        }
        let token = self.handles.room()?;
        Ok((Some(self.handles.insert_directory(inode, token)), OpenOptions::empty()))
    }

    fn read(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _owner: Option<u64>,
        _flags: u32,
    ) -> io::Result<usize> {
        self.handles.get(inode, handle)?.with(|file| w.write_from(file, size as usize, offset))
    }

    fn write(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _owner: Option<u64>,
        _delayed: bool,
        flags: u32,
        _fuse_flags: u32,
    ) -> io::Result<usize> {
        let handle = self.handles.get(inode, handle)?;
        let append = OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
        handle.write(append, |file| r.read_to(file, size as usize, offset))
    }

    fn flush(&self, _ctx: &Context, inode: u64, handle: u64, _owner: u64) -> io::Result<()> {
        // A network file system writes when a descriptor is closed; so one is closed.
        self.handles.get(inode, handle)?.file()?.try_clone().map(drop)
    }

    fn fsync(&self, _ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()> {
        let handle = self.handles.get(inode, handle)?;
        let sync = if datasync { fdatasync } else { fsync };
        Ok(sync(handle.file()?)?)
    }

    fn fsyncdir(&self, _ctx: &Context, inode: u64, _datasync: bool, handle: u64) -> io::Result<()> {
        self.handles.get(inode, handle)?;
        Ok(fsync(self.open_node(inode, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
    }

    fn fallocate(&self, _: &Context, inode: u64, handle: u64, mode: u32, offset: u64, length: u64) -> io::Result<()> {
        let handle = self.handles.get(inode, handle)?;
        Ok(fallocate(handle.file()?, FallocateFlags::from_bits_retain(mode), offset, length)?)
    }

    fn lseek(&self, _ctx: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        let offset = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(refuse(libc::EINVAL)),
        };
        // It moves the descriptor's own position, which nobody uses.
        Ok(seek(self.handles.get(inode, handle)?.file()?, offset)?)
    }

    fn release(
        &self,
        _ctx: &Context,
        inode: u64,
        _flags: u32,
        handle: u64,
        _flush: bool,
        _flock: bool,
        _owner: Option<u64>,
    ) -> io::Result<()> {
        self.handles.remove(inode, handle)
    }

    fn releasedir(&self, _ctx: &Context, inode: u64, _flags: u32, handle: u64) -> io::Result<()> {
        self.handles.remove(inode, handle)
    }

    fn statfs(&self, _ctx: &Context, inode: u64) -> io::Result<statvfs64> {
        let node = self.nodes.get(inode)?;
        // SAFETY: `statvfs64` is plain integers, of which zero is a value.
        let mut out: statvfs64 = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and `out` is ours to be filled.
        match unsafe { libc::fstatvfs64(node.as_fd().as_raw_fd(), &mut out) } {
            0 => Ok(out),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn access(&self, ctx: &Context, inode: u64, mask: u32) -> io::Result<()> {
        let attributes = Status::of(&*self.nodes.get(inode)?)?.attributes();
        if permitted(&attributes, ctx, mask & 7) { Ok(()) } else { Err(refuse(libc::EACCES)) }
    }

    fn setxattr(&self, _ctx: &Context, inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        let node = self.nodes.get(inode)?;
        Ok(setxattr(Descriptors::path(&*node), name, value, XattrFlags::from_bits_retain(flags))?)
    }

    fn getxattr(&self, _ctx: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        let node = self.nodes.get(inode)?;
        let mut value = vec![0; room(size)];
        let len = getxattr(Descriptors::path(&*node), name, &mut value[..])?;
        if size == 0 {
            return Ok(GetxattrReply::Count(len as u32));
        }
        value.truncate(len);
        Ok(GetxattrReply::Value(value))
    }

    fn listxattr(&self, _ctx: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        let node = self.nodes.get(inode)?;
        let mut names = vec![0; room(size)];
        let len = listxattr(Descriptors::path(&*node), &mut names[..])?;
        if size == 0 {
            return Ok(ListxattrReply::Count(len as u32));
        }
        names.truncate(len);
        Ok(ListxattrReply::Names(names))
    }

    fn removexattr(&self, _ctx: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        let node = self.nodes.get(inode)?;
        Ok(removexattr(Descriptors::path(&*node), name)?)
    }

    fn setupmapping(
        &self,
        _ctx: &Context,
        inode: u64,
        _handle: u64,
        foffset: u64,
        len: u64,
        flags: u64,
        moffset: u64,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        let write = flags & SetupmappingFlags::WRITE.bits() != 0;
        let file = self.open_node(inode, if write { OFlags::RDWR } else { OFlags::RDONLY })?;
        window.map(foffset, moffset, len, flags, file.as_raw_fd())
    }

    fn removemapping(
        &self,
        _ctx: &Context,
        _inode: u64,
        requests: Vec<RemovemappingOne>,
        window: &mut dyn FsCacheReqHandler,
    ) -> io::Result<()> {
        window.unmap(requests)
    }
}

/// Bytes to reserve for an extended attribute or a list of them: a guest that offers none asks for the length, and Linux
/// has none longer (`XATTR_SIZE_MAX` and `XATTR_LIST_MAX` of linux/limits.h).
fn room(size: u32) -> usize {
    if size == 0 { 64 << 10 } else { size as usize }
}

/// The mode of a new file.
fn permissions(mode: u32, umask: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777 & !(umask & 0o777))
}

/// What SETATTR says of times; none if nothing.
fn times(attr: &stat64, valid: SetattrValid) -> Option<Timestamps> {
    let one = |set: SetattrValid, now: SetattrValid, seconds: i64, nanoseconds: i64| {
        if valid.contains(now) {
            Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }
        } else if valid.contains(set) {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
        } else {
            Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }
        }
    };
    use SetattrValid as Valid;
    valid.intersects(Valid::ATIME | Valid::MTIME | Valid::ATIME_NOW | Valid::MTIME_NOW).then(|| Timestamps {
        last_access: one(Valid::ATIME, Valid::ATIME_NOW, attr.st_atime, attr.st_atime_nsec),
        last_modification: one(Valid::MTIME, Valid::MTIME_NOW, attr.st_mtime, attr.st_mtime_nsec),
    })
}

/// Whether the mode of a file lets the user of `ctx` do what `mask` has bits for, as access(2) has them.
fn permitted(file: &stat64, ctx: &Context, mask: u32) -> bool {
    let execute = libc::X_OK as u32;
    if ctx.uid == 0 {
        // Root may all but execute what nobody may.
        return mask & execute == 0 || file.st_mode & 0o111 != 0 || file.st_mode & libc::S_IFMT == libc::S_IFDIR;
    }
    let class = match () {
        () if file.st_uid == ctx.uid => 6,
        () if file.st_gid == ctx.gid => 3,
        () => 0,
    };
    mask & !(file.st_mode >> class) == 0
}
