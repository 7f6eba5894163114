//! The open regular file: how its content moves.
//!
//! Content comes through the window where there is one and the host maps the file, else in READ messages;
//! it leaves through the window where a writable mapping is there and the file does not grow, else in WRITE messages
//! (data and size then change together). The two agree at once: behind both is the host's page cache.

mod lock;
mod path;
mod range;
mod read;
mod write;

pub(crate) use path::PathOnly;

use crate::PAGE;
use crate::counters::Tally;
use crate::node::Node;
use crate::ops::Opcode;
use crate::ops::data::{FSync, Flush, OpenNode, REGULAR, Release};
use crate::window::{CHUNK, ChunkKey, Manager, Pin, Refusal, Want};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_vfs::{
    Access, Allocation, Errno, File, ForeignLock, Inode, LockRequest, MappedRun, OpenFlags, Result, Sink, Sought,
    Source,
};

/// Largest offset a file can have (`off_t`).
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Set-user-id and set-group-id. A write must clear them, which the host does for messages only.
const SET_ID: u32 = 0o6000;

/// An open regular file.
pub(crate) struct OpenFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    open: OpenNode,
    flags: OpenFlags,
    no_flush: bool,
}

impl OpenFile {
    pub(crate) fn new(node: Arc<Node>, open: OpenNode, flags: OpenFlags, no_flush: bool) -> Self {
        Self { inode: node.clone(), node, open, flags, no_flush }
    }

    /// The window, if this file may use it.
    fn window(&self) -> Option<&Arc<Manager>> {
        let usable = !self.node.unmappable.load(Relaxed) && self.node.fs.session.has(Opcode::FUSE_SETUPMAPPING);
        self.node.fs.window.as_ref().filter(|_| usable)
    }

    fn count(&self, tally: Tally, n: usize) {
        self.node.fs.session.counters.add(tally, n as u64);
    }

    /// Whether the chunk with byte `at` is in the window, or was a moment ago.
    fn has_chunk(&self, window: &Manager, at: u64) -> bool {
        window.has(ChunkKey { owner: self.node.serial, index: at / CHUNK })
    }

    /// Pins the chunk with byte `at`; `None` when the content has to go by message.
    fn pin(&self, window: &Arc<Manager>, at: u64, len: u64, how: How) -> Option<Pin> {
        let node = &self.node;
        let start = at % CHUNK;
        let want = Want {
            key: ChunkKey { owner: node.serial, index: at / CHUNK },
            node: node.id,
            start,
            end: start + len,
            writable: how.writable,
            hand_out: how.hand_out,
            fetch: how.fetch,
        };
        node.windowed.store(true, Relaxed);
        match window.pin(&want) {
            Ok(pin) => return Some(pin),
            Err(Refusal::Absent) => {}
            Err(Refusal::Busy) => self.count(Tally::FallbackBusy, 1),
            Err(Refusal::Host(errno)) => {
                self.count(Tally::FallbackRefused, 1);
                if !passing(errno) {
                    if how.writable { &node.unmappable_for_writing } else { &node.unmappable }.store(true, Relaxed);
                }
            }
        }
        None
    }

    fn need_writing(&self) -> Result<()> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        if self.node.fs.writable { self.node.check() } else { Err(Errno::EROFS) }
    }
}

/// How a chunk is wanted.
struct How {
    writable: bool,
    hand_out: bool,
    fetch: bool,
}

/// Whether an error of SETUPMAPPING says something about the moment, not about the file.
fn passing(errno: Errno) -> bool {
    use Errno as E;
    matches!(
        errno,
        E::EIO | E::EINTR | E::EAGAIN | E::ENOMEM | E::EBUSY | E::ENFILE | E::EMFILE | E::ENOENT | E::ESTALE
    )
}

impl File for OpenFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if !self.flags.reads() {
            return Err(Errno::EBADF);
        }
        self.node.check()?;
        if sink.room() == 0 {
            return Ok(0);
        }
        self.read(offset, sink)
    }

    fn write_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        self.need_writing()?;
        // pwrite(2): with O_APPEND the offset does not matter, on Linux.
        if self.flags.contains(OpenFlags::APPEND) {
            return self.append(source).map(|(n, _)| n);
        }
        self.write_all(offset, source, false)
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.need_writing()?;
        // The host opened the file with O_APPEND and finds the end itself; the offset is our best guess at it.
        let end = self.node.refresh(Some(self.open))?.size;
        let n = self.write_all(end, source, true)?;
        self.node.expire();
        Ok((n, end + n as u64))
    }

    fn map(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        let writable = access == Access::Write;
        if !self.flags.reads() || (writable && !(self.flags.writes() && self.node.fs.writable)) {
            return Err(Errno::EACCES);
        }
        let Some(window) = self.window() else { return Ok(None) };
        if writable && self.node.unmappable_for_writing.load(Relaxed) {
            return Ok(None);
        }
        if offset >= self.node.size(Some(self.open))? && offset >= self.node.refresh(Some(self.open))?.size {
            return Err(Errno::EINVAL);
        }
        let page = offset - offset % PAGE;
        let how = How { writable, hand_out: true, fetch: true };
        Ok(self.pin(window, page, PAGE, how).map(|pin| MappedRun {
            offset: offset - offset % CHUNK,
            phys: pin.phys(),
            len: CHUNK,
            writable,
            pin: Arc::new(pin),
        }))
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        match self.node.fs.session.call(&FSync::<REGULAR> { file: self.open, data_only }) {
            Err(Errno::ENOSYS) => Ok(()),
            result => result,
        }
    }

    fn allocate(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        self.allocate_range(what, offset, len)
    }

    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        self.seek_range(what, offset)
    }

    fn copy_range(&self, offset: u64, to: &dyn File, to_offset: u64, len: u64) -> Result<usize> {
        self.copy_on_host(offset, to, to_offset, len)
    }

    fn set_lock(&self, lock: &LockRequest) -> Result<()> {
        self.node.set_lock(self.open, lock)
    }

    fn find_lock(&self, lock: &LockRequest) -> Result<Option<ForeignLock>> {
        self.node.find_lock(self.open, lock)
    }

    fn flush(&self) -> Result<()> {
        // FLUSH reports what went wrong with writing; who only reads has nothing to hear.
        if self.no_flush || !self.flags.writes() {
            return Ok(());
        }
        match self.node.fs.session.call(&Flush(self.open)) {
            Err(Errno::ENOSYS) => Ok(()),
            result => result,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // close(2) has had its errors from `flush`; nobody is there for this one.
        let _ = self.node.fs.session.call(&Release::<REGULAR> { file: self.open });
    }
}
