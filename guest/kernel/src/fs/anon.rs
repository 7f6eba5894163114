//! Inodes without a name: what stands behind descriptors that no path leads to (pipes to the outside, event
//! counters, …).

use super::devices::ANONYMOUS;
use crate::boot::options;
use crate::time;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::{Errno, File, FileType, Inode, InodeId, Metadata, OpenFlags, Result, StatFs, Timespec};

/// `ANON_INODE_FS_MAGIC`.
const MAGIC: u64 = 0x0904_1934;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The wall clock as file systems want it.
pub fn now() -> Timespec {
    let ns = time::wall_ns();
    Timespec { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
}

/// To whom things belong that a process makes without a name: the one user the machine has.
pub fn owner() -> (u32, u32) {
    options().ids
}

/// An inode with nothing but attributes. It cannot be opened again.
pub struct AnonInode {
    ino: u64,
    mode: u32,
    rdev: u64,
    born: Timespec,
}

impl AnonInode {
    /// A new one with type and permission bits `mode`. Zero type bits are right for Linux' own anonymous inodes.
    pub fn new(mode: u32, rdev: u64) -> Arc<Self> {
        Arc::new(Self { ino: NEXT.fetch_add(1, Ordering::Relaxed), mode, rdev, born: now() })
    }

    /// The inode number.
    pub fn number(&self) -> u64 {
        self.ino
    }
}

impl Inode for AnonInode {
    fn id(&self) -> InodeId {
        InodeId { dev: ANONYMOUS, node: self.ino, generation: 0 }
    }

    fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }

    fn metadata(&self) -> Result<Metadata> {
        let (uid, gid) = owner();
        Ok(Metadata {
            ino: self.ino,
            dev: ANONYMOUS,
            mode: self.mode,
            nlink: 1,
            uid,
            gid,
            rdev: self.rdev,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: self.born,
            mtime: self.born,
            ctime: self.born,
        })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }

    fn access(&self, _mask: u32) -> Result<()> {
        Ok(())
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
