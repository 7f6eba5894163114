//! ext4 as one of the formats that can be mounted.

use crate::{Entry, Ext4, Inode, Result, Xattr};
use alloc::vec::Vec;
use diolkos_images::Format;
use diolkos_vfs::{Metadata, Name, StatFs};

/// `EXT4_SUPER_MAGIC` of statfs(2).
const MAGIC: u64 = 0xef53;

impl Format for Ext4 {
    type Inode = Inode;

    fn root(&self) -> u64 {
        self.root()
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        self.inode(number)
    }

    fn metadata(&self, inode: &Inode) -> Metadata {
        Metadata {
            ino: u64::from(inode.number),
            dev: 0,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks: inode.blocks,
            blksize: self.superblock.block_size() as u32,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
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
        let superblock = &self.superblock;
        StatFs {
            magic: MAGIC,
            bsize: superblock.block_size() as u32,
            frsize: superblock.block_size() as u32,
            blocks: superblock.blocks.saturating_sub(superblock.overhead),
            bfree: superblock.free,
            bavail: superblock.free.saturating_sub(superblock.reserved),
            files: u64::from(superblock.inodes),
            ffree: u64::from(superblock.free_inodes),
            namelen: Name::MAX as u32,
        }
    }
}
