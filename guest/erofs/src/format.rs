//! EROFS as one of the formats that can be mounted.

use crate::{Entry, Erofs, Inode, Result, Xattr};
use alloc::vec::Vec;
use diolkos_images::Format;
use diolkos_vfs::{Metadata, Name, StatFs};

/// `EROFS_SUPER_MAGIC_V1` of statfs(2).
const MAGIC: u64 = 0xe0f5_e1e2;

impl Format for Erofs {
    type Inode = Inode;

    fn root(&self) -> u64 {
        self.root()
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        self.inode(number)
    }

    fn metadata(&self, inode: &Inode) -> Metadata {
        Metadata {
            ino: inode.nid,
            dev: 0,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            blksize: self.block_size(),
            atime: inode.mtime,
            mtime: inode.mtime,
            ctime: inode.mtime,
        }
    }

    fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        self.lookup(directory, name)
    }

    fn list(&self, directory: &Inode, cookie: u64, each: &mut dyn FnMut(Entry<'_>, u64) -> bool) -> Result<()> {
        self.list(directory, cookie, each)
    }

    fn read(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read(inode, offset, buffer)
    }

    fn seek(&self, inode: &Inode, offset: u64, hole: bool) -> Result<u64> {
        self.seek(inode, offset, hole)
    }

    fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        self.target(inode)
    }

    fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        self.xattrs(inode)
    }

    fn statfs(&self) -> StatFs {
        StatFs {
            magic: MAGIC,
            bsize: self.block_size(),
            frsize: self.block_size(),
            blocks: self.blocks(),
            files: self.inodes(),
            namelen: Name::MAX as u32,
            ..StatFs::default()
        }
    }
}
