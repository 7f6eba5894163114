//! The open regular file: how its content moves.
//!
//! Content comes through the window where there is one and the host maps the file, else in READ messages;
//! it leaves through the window where a writable mapping is there and the file does not grow, else in WRITE messages
//! (data and size then change together). The two agree at once: behind both is the host's page cache.

mod cached;
mod fill;
mod handle;
mod lock;
mod path;
mod range;
mod read;
mod recent;
mod write;

pub(crate) use fill::Underway;
pub(crate) use handle::Handle;
pub(crate) use path::PathOnly;
pub(crate) use recent::{Kept, Recent};

use crate::PAGE;
use crate::counters::Tally;
use crate::node::Node;
use crate::ops::Opcode;
use crate::ops::data::{FSync, Flush, OpenNode, Opened, REGULAR};
use crate::window::ahead::Trace;
use crate::window::{ChunkKey, Manager, Pin, Refusal, Want, Way};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_pages::ReadAhead;
use diolkos_vfs::{
    Access, Allocation, Errno, File, ForeignLock, Inode, LockRequest, MappedRun, OpenFlags, Result, Sink, Sought,
    Source,
};
use spin::Mutex;

/// Largest offset a file can have (`off_t`).
const MAX_OFFSET: u64 = i64::MAX as u64;

/// From this length on, memory is lent to the device instead of copying to or from a buffer that it has: to find the memory and
/// to hold it costs about what some kilobytes of copying do.
const WORTH_LENDING: usize = 16 << 10;

/// Set-user-id and set-group-id. A write must clear them, which the host does for messages only.
const SET_ID: u32 = 0o6000;

/// An open regular file.
pub(crate) struct OpenFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    open: OpenNode,
    flags: OpenFlags,
    no_flush: bool,
    /// Which chunks were used, for the next ones.
    trace: Trace,
    /// The server, or whoever opened the file, wants no copies between them.
    direct: bool,
    handle: Arc<Handle>,
    /// The same file opened once more, see [`OpenFile::writer`] and [`OpenFile::lock_owner`].
    second: Mutex<Option<Arc<Handle>>>,
    /// Of read(2), and of faults in mappings.
    read_ahead: Mutex<ReadAhead>,
    fault_ahead: Mutex<ReadAhead>,
}

impl OpenFile {
    pub(crate) fn new(handle: Arc<Handle>, flags: OpenFlags, opened: &Opened) -> Self {
        let node = handle.node.clone();
        Self {
            inode: node.clone(),
            open: handle.open,
            flags,
            no_flush: opened.no_flush,
            trace: Trace::default(),
            direct: opened.direct || flags.contains(OpenFlags::DIRECT),
            handle,
            second: Mutex::default(),
            node,
            read_ahead: Mutex::default(),
            fault_ahead: Mutex::default(),
        }
    }

    /// The window, if this file may use it.
    fn window(&self) -> Option<&Arc<Manager>> {
        let usable = !self.node.unmappable.load(Relaxed) && self.node.fs.session.has(Opcode::FUSE_SETUPMAPPING);
        self.node.fs.window.as_ref().filter(|_| usable)
    }

    fn count(&self, tally: Tally, n: usize) {
        self.node.fs.session.counters.add(tally, n as u64);
    }

    /// Which way `len` bytes of one chunk from `at` on are to go. `news`: a message would bring the file's end, too.
    fn way(&self, window: &Manager, at: u64, len: u64, writable: bool, news: bool) -> Way {
        let start = at % window.chunk();
        let key = ChunkKey { owner: self.node.serial, index: at / window.chunk() };
        let way = window.way(key, start, start + len, writable, news);
        if way == Way::Message && !writable {
            self.count(Tally::Cheaper, 1);
        }
        way
    }

    /// How many chunks after that with byte `at` to map with it. None lies past the end of the file.
    fn ahead(&self, window: &Manager, at: u64) -> usize {
        let index = at / window.chunk();
        let last = self.node.last_known().size.saturating_sub(1) / window.chunk();
        self.trace.step(index).min(last.saturating_sub(index)) as usize
    }

    fn now(&self) -> u64 {
        self.node.fs.platform.now_ns()
    }

    /// Pins the chunk with byte `at`; `None` when the content has to go by message.
    fn pin(&self, window: &Arc<Manager>, at: u64, len: u64, how: How) -> Option<Pin> {
        let node = &self.node;
        let start = at % window.chunk();
        let want = Want {
            key: ChunkKey { owner: node.serial, index: at / window.chunk() },
            node: node.id,
            start,
            end: start + len,
            writable: how.writable,
            hand_out: how.hand_out,
            copy_will_do: how.copy_will_do,
            fetch: true,
            ahead: how.ahead,
        };
        node.windowed.store(true, Relaxed);
        // A chunk and copies of its pages would not agree: what the copies have goes first, and they go if it is written.
        if node.cached.load(Relaxed) {
            let chunk = at - start;
            node.write_back(chunk, chunk + window.chunk());
            if how.writable {
                node.drop_pages(chunk, chunk + window.chunk());
            }
        }
        let refusal = match window.pin(&want) {
            Ok(pin) => return Some(pin),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Absent => {}
            Refusal::Busy => self.count(Tally::FallbackBusy, 1),
            Refusal::Restless => self.count(Tally::FallbackRestless, 1),
            Refusal::Host(errno) => {
                self.count(Tally::FallbackRefused, 1);
                if !passing(errno) {
                    if how.writable { &node.unmappable_for_writing } else { &node.unmappable }.store(true, Relaxed);
                }
            }
        }
        None
    }

    /// The file that locks are asked for with. Some servers keep locks by file; others may read through ours.
    fn lock_owner(&self) -> Result<OpenNode> {
        if self.flags.writes() {
            return Ok(self.open);
        }
        Ok(self.second(OpenFlags::empty())?.open)
    }

    /// The same file opened once more, for good.
    fn second(&self, flags: OpenFlags) -> Result<Arc<Handle>> {
        let known = self.second.lock().clone();
        if let Some(handle) = known {
            return Ok(handle);
        }
        let (handle, _) = Handle::open(&self.node, flags.bits())?;
        // Another thread may have been faster. Its handle is as good; this one is released without the lock.
        let mut second = self.second.lock();
        let first = second.get_or_insert_with(|| handle.clone()).clone();
        drop(second);
        Ok(first)
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
    copy_will_do: bool,
    ahead: usize,
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

    fn read_resident(&self, offset: u64, sink: &mut dyn Sink) -> Option<usize> {
        let readable = self.flags.reads() && self.node.check().is_ok();
        if readable { self.read_resident_chunk(offset, sink) } else { None }
    }

    fn write_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        self.need_writing()?;
        self.write_all(offset, source, false)
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.need_writing()?;
        // The host appends and finds the end itself; the offset is our best guess at it.
        let end = self.node.refresh(Some(self.open))?.size;
        let n = self.write_all(end, source, true)?;
        self.node.expire();
        Ok((n, end + n as u64))
    }

    fn map(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        let writable = matches!(access, Access::Write | Access::WriteLater);
        if !self.flags.reads() || (writable && !(self.flags.writes() && self.node.fs.writable)) {
            return Err(Errno::EACCES);
        }
        if offset >= self.node.size(Some(self.open))? && offset >= self.node.refresh(Some(self.open))?.size {
            return Err(Errno::EINVAL);
        }
        let no = writable && self.node.unmappable_for_writing.load(Relaxed);
        let Some(window) = self.window().filter(|_| !no) else { return self.map_cached(offset, access) };
        let page = offset - offset % PAGE;
        let copy_will_do = access == Access::Copy;
        let how = How { writable, hand_out: true, copy_will_do, ahead: self.ahead(window, page) };
        let Some(pin) = self.pin(window, page, PAGE, how) else { return self.map_cached(offset, access) };
        Ok(Some(MappedRun {
            offset: offset - offset % window.chunk(),
            phys: pin.phys(),
            len: window.chunk(),
            writable,
            taken_back: true,
            pin: Arc::new(pin),
        }))
    }

    fn write_back(&self) {
        self.node.write_back(0, u64::MAX);
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        self.write_back();
        match self.node.fs.session.call(&FSync::<REGULAR> { file: self.open, data_only }) {
            Ok(()) | Err(Errno::ENOSYS) => self.node.write_back_error(),
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
        self.node.set_lock(self.lock_owner()?, lock)
    }

    fn find_lock(&self, lock: &LockRequest) -> Result<Option<ForeignLock>> {
        self.node.find_lock(self.lock_owner()?, lock)
    }

    fn flush(&self) -> Result<()> {
        self.write_back();
        // FLUSH reports what went wrong with writing; who only reads has nothing to hear.
        if !self.flags.writes() {
            return Ok(());
        }
        self.node.write_back_error()?;
        if self.no_flush {
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
        self.write_back();
    }
}
