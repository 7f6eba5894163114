//! An open end of a pipe, and pipe(2).

use super::{Channel, Openings};
use crate::{
    Clock, Errno, File, FileType, Inode, InodeId, Metadata, OpenFlags, Poll, Result, SetMetadata, Sink, SliceSource,
    Source, StatFs, Timespec, WaitQueues,
};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The file system magic of pipes (`PIPEFS_MAGIC`, statfs(2)).
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// An open end: for reading, for writing, or (a FIFO opened `O_RDWR`) for both.
pub struct PipeEnd {
    inode: Arc<dyn Inode>,
    channel: Arc<Channel>,
    reads: bool,
    writes: bool,
    nonblocking: AtomicBool,
}

impl PipeEnd {
    pub(super) fn new(inode: Arc<dyn Inode>, channel: Arc<Channel>, flags: OpenFlags) -> Arc<Self> {
        Self::meeting(inode, channel, flags).0
    }

    /// Also says what [`Channel::enter`] does.
    pub(super) fn meeting(
        inode: Arc<dyn Inode>,
        channel: Arc<Channel>,
        flags: OpenFlags,
    ) -> (Arc<Self>, Option<Openings>) {
        let (reads, writes) = (flags.reads(), flags.writes());
        let before = channel.enter(reads, writes);
        let nonblocking = AtomicBool::new(flags.contains(OpenFlags::NONBLOCK));
        (Arc::new(Self { inode, channel, reads, writes, nonblocking }), before)
    }

    /// Bytes waiting to be read (`FIONREAD`).
    pub fn available(&self) -> usize {
        self.channel.len()
    }

    /// Whether both are ends of one pipe.
    pub fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// Moves bytes into the pipe once: as many as there is room for, waiting for room for the first. Nothing is atomic.
    ///
    /// # Errors
    /// `EBADF` for an end that reads; `EPIPE`, `EAGAIN` with `nonblocking` or when the end is so; what the source says.
    pub fn fill(&self, source: &mut dyn Source, nonblocking: bool) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        if source.remaining() == 0 { Ok(0) } else { self.channel.write_piece(source, false, nonblocking) }
    }

    /// Moves what waits in the pipe out of it, waiting for the first byte; 0 when nobody writes any more.
    ///
    /// # Errors
    /// `EBADF` for an end that writes; `EAGAIN` with `nonblocking`; what the sink says, and nothing is lost then.
    pub fn drain(&self, sink: &mut dyn Sink, nonblocking: bool) -> Result<usize> {
        if !self.reads {
            return Err(Errno::EBADF);
        }
        self.channel.read(sink, nonblocking)
    }

    /// Copies up to `most` bytes that wait here into the pipe of `to`, where they are written; here they stay.
    ///
    /// # Errors
    /// As [`PipeEnd::drain`] and [`PipeEnd::fill`].
    pub fn tee(&self, to: &Self, most: usize, nonblocking: bool) -> Result<usize> {
        if !self.reads {
            return Err(Errno::EBADF);
        }
        let bytes = self.channel.peek(most, nonblocking)?;
        to.fill(&mut SliceSource::new(&bytes), nonblocking)
    }

    /// Whether its reads and writes do not wait.
    pub fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.channel.leave(self.reads, self.writes);
    }
}

impl File for PipeEnd {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if !self.reads {
            return Err(Errno::EBADF);
        }
        self.channel.read(sink, self.is_nonblocking())
    }

    /// `EPIPE` when nobody reads; raising `SIGPIPE` is left to the system call layer.
    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        self.channel.write(source, self.is_nonblocking())
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.write_at(0, source).map(|n| (n, 0))
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn poll(&self) -> Poll {
        self.channel.poll(self.reads, self.writes)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The inode of a pipe that pipe(2) made. Opening it (by `/proc/self/fd/N`) gives a further end.
pub(super) struct PipeInode {
    dev: u64,
    ino: u64,
    owner: (u32, u32),
    made: Timespec,
    channel: Arc<Channel>,
}

impl Inode for PipeInode {
    fn id(&self) -> InodeId {
        InodeId { dev: self.dev, node: self.ino, generation: 0 }
    }

    fn file_type(&self) -> FileType {
        FileType::Fifo
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata {
            ino: self.ino,
            dev: self.dev,
            mode: FileType::Fifo.mode_bits() | 0o600,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
        })
    }

    fn set_metadata(&self, change: &SetMetadata) -> Result<Metadata> {
        // Times are kept nowhere; anything else would be a lie.
        match *change {
            SetMetadata { mode: None, uid: None, gid: None, size: None, .. } => self.metadata(),
            _ => Err(Errno::EPERM),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        Ok(PipeEnd::new(self.clone(), self.channel.clone(), flags))
    }

    fn access(&self, mask: u32) -> Result<()> {
        if mask & 1 != 0 { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: PIPEFS_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// pipe2(2): the end to read from and the end to write to. `dev` is the device number all pipes show and no
/// file system has. Of the flags, `NONBLOCK` counts.
pub fn pipe(
    dev: u64,
    owner: (u32, u32),
    clock: &dyn Clock,
    queues: &dyn WaitQueues,
    flags: OpenFlags,
) -> (Arc<PipeEnd>, Arc<PipeEnd>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let channel = Channel::new(queues.wait_queue());
    let ino = NEXT.fetch_add(1, Ordering::Relaxed);
    let inode: Arc<dyn Inode> = Arc::new(PipeInode { dev, ino, owner, made: clock.now(), channel: channel.clone() });
    let flags = flags & OpenFlags::NONBLOCK;
    let reader = PipeEnd::new(inode.clone(), channel.clone(), flags);
    let writer = PipeEnd::new(inode, channel, flags | OpenFlags::WRONLY);
    (reader, writer)
}
