//! The open file: what a descriptor leads to.

use crate::{DirEntry, Errno, FileType, ForeignLock, Inode, LockRequest, Result, Sink, Source};
use alloc::sync::Arc;
use bitflags::bitflags;
use core::any::Any;

bitflags! {
    /// What a file is ready for, with poll(2)'s values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Poll: u16 {
        /// Reading would not block.
        const IN = 0x1;
        /// Writing would not block.
        const OUT = 0x4;
        /// An error is waiting.
        const ERR = 0x8;
        /// The other end is closed.
        const HUP = 0x10;
        /// The other end of a socket sends no more.
        const RDHUP = 0x2000;
    }
}

/// How memory of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read or executed, and to show what others write.
    Read,
    /// To be read or executed by a private mapping: the content of some moment will do, so the file system may answer that
    /// a copy is better.
    Copy,
    /// To be written through to the file now.
    Write,
    /// To be read now, in a mapping through which the file may be written later.
    WriteLater,
}

/// What fallocate(2) does to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Reserves space; what is there stays.
    Reserve {
        /// The file does not grow by it.
        keep_size: bool,
    },
    /// Gives the space back: the range reads as zeros, and the size stays.
    Punch,
    /// Makes it read as zeros without giving space back.
    Zero {
        /// The file does not grow by it.
        keep_size: bool,
    },
    /// Makes the space the file's own where it shares it with another.
    Unshare {
        /// The file does not grow by it.
        keep_size: bool,
    },
    /// Takes the range out: what is behind it moves up, and the file becomes shorter.
    Collapse,
    /// Puts a hole there: what is there and behind it moves back, and the file becomes longer.
    Insert,
}

impl Allocation {
    /// Whether a range past the end makes the file longer.
    pub fn grows(self) -> bool {
        match self {
            Self::Reserve { keep_size } | Self::Zero { keep_size } | Self::Unshare { keep_size } => !keep_size,
            Self::Punch | Self::Collapse | Self::Insert => false,
        }
    }

    /// Whether content moves to other offsets.
    pub fn moves(self) -> bool {
        matches!(self, Self::Collapse | Self::Insert)
    }

    /// Whether the range reads as zeros afterwards.
    pub fn zeroes(self) -> bool {
        matches!(self, Self::Punch | Self::Zero { .. })
    }
}

/// What lseek(2) looks for from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// Content (`SEEK_DATA`).
    Data,
    /// A hole, the end of the file being one (`SEEK_HOLE`).
    Hole,
}

/// Receives directory entries; returning `false` declines the entry offered and ends the listing.
pub type DirSink<'a> = dyn FnMut(&DirEntry<'_>) -> bool + 'a;

/// A run of a file's content in guest-physical memory, ready to be put into page tables.
///
/// While `pin` lives the run stays where it is. Whoever keeps page-table entries to it after dropping the
/// pin must be ready to have them revoked (`virtiofs::window` tells how).
pub struct MappedRun {
    /// Offset in the file of the run's first byte, page-aligned.
    pub offset: u64,
    /// Guest-physical address of that byte, page-aligned.
    pub phys: u64,
    /// Length in bytes, page-aligned. It may reach past the end of the file: only pages that hold a byte of the file may be touched.
    pub len: u64,
    /// Whether the memory may be written. Where it may not although writing was asked for later, ask again when it
    /// comes to it.
    pub writable: bool,
    /// Whether the file system takes the memory out of page tables by itself before it becomes something else, so that
    /// the pin has to last only until the entries are there.
    pub taken_back: bool,
    /// Keeps the run in place. Another [`File::map`] may wait for it to go.
    pub pin: Arc<dyn Any + Send + Sync>,
}

/// An open file. Offsets are explicit; the current position belongs to the system call layer.
pub trait File: Send + Sync {
    /// The inode it is open on.
    fn inode(&self) -> &Arc<dyn Inode>;

    /// Reads from byte `offset` until the sink is full or the file ends; `Ok(0)` at the end or for a full sink.
    /// Streams (see [`File::is_stream`]) ignore the offset and return what there is, waiting for the first byte.
    ///
    /// # Errors
    /// `EISDIR`, `EFAULT`, or what the host says; only when nothing was read. This one: of what has nothing to be read.
    fn read_at(&self, _offset: u64, _sink: &mut dyn Sink) -> Result<usize> {
        Err(if self.inode().file_type() == FileType::Directory { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Reads from byte `offset` until the sink is full, if that takes no more than a copy of what is in memory: it waits for
    /// nobody, allocates nothing and lets go of nothing that was the last of its kind, and may run beside any other call.
    /// `None` if it does take more, and then nothing has happened.
    fn read_resident(&self, _offset: u64, _sink: &mut dyn Sink) -> Option<usize> {
        None
    }

    /// Writes the source's bytes from byte `offset`, all of them unless something fails on the way.
    ///
    /// # Errors
    /// `EROFS`, `ENOSPC`, `EPIPE`, `EFAULT`, or what the host says; only when nothing was written.
    fn write_at(&self, _offset: u64, _source: &mut dyn Source) -> Result<usize> {
        Err(if self.inode().file_type() == FileType::Directory { Errno::EBADF } else { Errno::EINVAL })
    }

    /// Appends atomically and returns the number of bytes and the offset after them.
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        let end = self.size()?;
        let n = self.write_at(end, source)?;
        Ok((n, end + n as u64))
    }

    /// Where the content ends. For a block device that is more than its inode says.
    ///
    /// # Errors
    /// What the host says.
    fn size(&self) -> Result<u64> {
        Ok(self.inode().metadata()?.size)
    }

    /// Lists the directory from `cookie` (0 is the start) until the sink declines or it ends.
    ///
    /// # Errors
    /// `ENOTDIR`, or what the host says; only before the first entry.
    fn readdir(&self, _cookie: u64, _entries: &mut DirSink<'_>) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Finds the memory that holds the byte at `offset`, or `None` when the file has to be read instead.
    ///
    /// # Errors
    /// What the host says. `offset` at or past the end is the caller's mistake and gives `EINVAL`.
    fn map(&self, _offset: u64, _access: Access) -> Result<Option<MappedRun>> {
        Ok(None)
    }

    /// Stores what was written through shared mappings, where those have memory of their own and not the file's. What goes
    /// wrong is told by the next [`File::fsync`] or [`File::flush`].
    fn write_back(&self) {}

    /// Makes written data safe; with `data_only` not the metadata that reading does not need.
    ///
    /// # Errors
    /// `EIO`, or what the host says.
    fn fsync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// Does this to `len` bytes (not 0) from `offset`; the two add up to no more than `off_t` can say.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system cannot, `EINVAL` for a range that it cannot take out or put in, `ENOSPC`, `EBADF` when not open for writing, or what the host says.
    fn allocate(&self, _what: Allocation, _offset: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Finds the first data or hole at or after `offset`. A file system that knows no holes has data up to the end.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, or without data up to it; what the host says.
    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        let size = self.size()?;
        match what {
            _ if offset >= size => Err(Errno::ENXIO),
            Sought::Data => Ok(offset),
            Sought::Hole => Ok(size),
        }
    }

    /// Copies up to `len` bytes from `offset` to byte `to_offset` of `to` without passing them through this machine, and
    /// returns how many that were: 0 at the end of this file. The ranges do not overlap.
    ///
    /// # Errors
    /// `EOPNOTSUPP` or `EXDEV` when the two files do not lie where that can be done; the caller copies then. Else what
    /// the host says.
    fn copy_range(&self, _offset: u64, _to: &dyn File, _to_offset: u64, _len: u64) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Places, changes or gives up an advisory lock where those outside this machine see it who see the file, without
    /// waiting. A lock that succeeds makes what is known of the file doubtful: it is asked for again.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when nobody outside can see locks on it; `EAGAIN` when somebody outside holds one in the way; `ENOLCK`, or
    /// what the host says.
    fn set_lock(&self, _lock: &LockRequest) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// A lock of somebody outside this machine that would be in the way of this one.
    ///
    /// # Errors
    /// What the host says.
    fn find_lock(&self, _lock: &LockRequest) -> Result<Option<ForeignLock>> {
        Ok(None)
    }

    /// Called once for each close(2) of a descriptor; its error is close's.
    ///
    /// # Errors
    /// What the host says.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it is a stream (pipe, terminal, socket): no offsets, `lseek` fails with `ESPIPE`.
    fn is_stream(&self) -> bool {
        false
    }

    /// Tells a stream whether its reads and writes may wait (`O_NONBLOCK`, from open(2) or `F_SETFL`). One that
    /// may not fails with `EAGAIN` instead. Files that never wait for an event ignore it.
    fn set_nonblocking(&self, _on: bool) {}

    /// What it is ready for; never sleeps. Ordinary files are always ready.
    fn poll(&self) -> Poll {
        Poll::IN | Poll::OUT
    }

    /// The file as itself, for the layer that made it to recognise its own (a terminal, a pipe).
    fn as_any(&self) -> &dyn Any;
}
