//! The files of block devices: `/dev/vda` and on.
//!
//! They are read and written past every cache, so `O_DIRECT` changes nothing and needs no alignment. Left out: mapping them
//! (`ENODEV`), and partitions: a disk is one thing.

use super::stat::join_device;
use crate::drivers::blk::{self, Disk};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use diolkos_vfs::block::Block;
use diolkos_vfs::generated::Tree;
use diolkos_vfs::{Allocation, Errno, File, FileType, Inode, Result, Sink, Source};

/// Linux hands the number of virtio disks out when its driver starts; on most machines it is this one.
const MAJOR: u32 = 254;
/// Numbers a disk has, for partitions that it does not have.
const MINORS: u32 = 16;
/// Bytes copied through the kernel at a time.
const PIECE: usize = 256 << 10;
/// `disk` on Debian.
const GROUP: u32 = 6;

/// An open disk.
pub struct BlockFile {
    inode: Arc<dyn Inode>,
    disk: Arc<Disk>,
}

impl BlockFile {
    /// The disk.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }
}

/// The device number of a disk.
pub fn number(disk: &Disk) -> (u32, u32) {
    (MAJOR, disk.number() as u32 * MINORS)
}

/// The entries of `/dev`: names and nodes.
pub fn nodes(tree: &Arc<Tree>) -> Vec<(String, Arc<dyn Inode>)> {
    let node = |disk: Arc<Disk>| {
        let (major, minor) = number(&disk);
        let name = disk.name();
        let node = tree.node(0o660).owner(0, GROUP).device(
            FileType::BlockDevice,
            join_device(major, minor),
            move |inode, _| Ok(Arc::new(BlockFile { inode, disk: disk.clone() })),
        );
        (name, node)
    };
    blk::all().into_iter().map(node).collect()
}

/// `/proc/partitions` (proc(5)).
pub fn partitions() -> String {
    let mut text = String::from("major minor  #blocks  name\n\n");
    for disk in blk::all() {
        let (major, minor) = number(&disk);
        let _ = writeln!(text, "{major:4}  {minor:7} {:10} {}", disk.bytes() >> 10, disk.name());
    }
    text
}

impl BlockFile {
    /// How much of `len` bytes from `offset` on there is.
    fn there(&self, offset: u64, len: usize) -> usize {
        let left = self.disk.bytes().saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX).min(len)
    }
}

impl File for BlockFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn size(&self) -> Result<u64> {
        Ok(self.disk.bytes())
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let all = self.there(offset, sink.room());
        let mut buffer = vec![0; all.min(PIECE)];
        let mut done = 0;
        while done < all {
            let piece = &mut buffer[..PIECE.min(all - done)];
            let moved = self.disk.read(offset + done as u64, piece).and_then(|()| sink.put((&*piece).into()));
            match moved {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        let all = self.there(offset, source.remaining());
        if all == 0 && source.remaining() > 0 {
            return Err(Errno::ENOSPC);
        }
        let mut buffer = vec![0; all.min(PIECE)];
        let mut done = 0;
        while done < all {
            let piece = &mut buffer[..PIECE.min(all - done)];
            let moved = source.take(piece).and_then(|n| {
                self.disk.write(offset + done as u64, &piece[..n])?;
                Ok(n)
            });
            match moved {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        self.disk.flush()
    }

    /// As Linux' `blkdev_fallocate`: the size is what it is, and a range that is punched out reads as zeroes.
    fn allocate(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        match what {
            Allocation::Punch => self.disk.write_zeroes(offset, len, true),
            Allocation::Zero { .. } => self.disk.write_zeroes(offset, len, false),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
