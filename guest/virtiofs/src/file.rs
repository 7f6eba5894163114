//! The open regular file: how its content moves.
//!
//! Content comes through the window where there is one and the host maps the file, else in READ messages;
//! it leaves through the window where a writable mapping is there and the file does not grow, else in WRITE messages (data and size
//! then change together). The two agree at once: behind both is the host's page cache.
//!
//! The hard part is the end of the file. Nothing past it may be touched in the window, and the size we know is hearsay: so it is asked for
//! again before a read is cut short by it. A file that claims to be empty may still have content (the host's procfs is
//! like that): it is read by message, whose reply needs no size.

use crate::PAGE;
use crate::counters::Tally;
use crate::node::Node;
use crate::ops::Opcode;
use crate::ops::data::{FSync, Flush, OpenNode, REGULAR, Read, Release, Write};
use crate::window::{CHUNK, ChunkKey, Manager, Pin, Refusal, Want};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::{Access, Errno, File, Inode, MappedRun, MemBytes, OpenFlags, Result, Sink, Source};

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

/// What one step of a read brought.
struct Step {
    bytes: usize,
    /// The host says the file ends here.
    ended: bool,
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

    /// Reads up to `limit` bytes in READ messages.
    fn read_by_message(&self, offset: u64, limit: usize, sink: &mut dyn Sink) -> Result<Step> {
        let fs = &self.node.fs;
        let mut buffer = fs.buffers.take();
        let mut step = Step { bytes: 0, ended: false };
        loop {
            let at = offset.saturating_add(step.bytes as u64);
            let room = usize::try_from(MAX_OFFSET.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = sink.room().min(limit - step.bytes).min(fs.agreement.max_read as usize).min(room);
            if wanted == 0 {
                return Ok(step);
            }
            let read = Read { file: self.open, offset: at, size: wanted as u32 };
            let put = fs.session.fetch(&read, &mut buffer[..wanted]).and_then(|n| {
                self.count(Tally::MessageRead, n);
                step.ended = n < wanted;
                if n == 0 { Ok(0) } else { sink.put(buffer[..n].into()) }
            });
            match put {
                Ok(n) => step.bytes += n,
                Err(errno) if step.bytes == 0 => return Err(errno),
                Err(_) => return Ok(step),
            }
            if step.ended {
                // The host's word on where the file ends: what we believed may be wrong.
                if self.node.last_known().size != at + put.unwrap_or(0) as u64 {
                    self.node.expire();
                }
                return Ok(step);
            }
        }
    }

    /// Reads through the window.
    fn read_by_window(&self, window: &Arc<Manager>, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let mut end = End { size: self.node.size(Some(self.open))?, certain: self.node.fs.cache == CacheMode::Always };
        if end.size == 0 {
            self.count(Tally::FallbackEmpty, 1);
            return self.read_by_message(offset, usize::MAX, sink).map(|step| step.bytes);
        }
        let mut done = 0;
        while sink.room() > 0 {
            let at = offset.saturating_add(done as u64);
            match self.read_step(window, at, &mut end, sink) {
                Ok(step) => {
                    done += step.bytes;
                    if step.ended || step.bytes == 0 {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads what lies in one chunk, and not past the end of the file.
    fn read_step(&self, window: &Arc<Manager>, at: u64, end: &mut End, sink: &mut dyn Sink) -> Result<Step> {
        let room = sink.room() as u64;
        if at.saturating_add(room) > end.size && !end.certain {
            *end = End { size: self.node.refresh(Some(self.open))?.size, certain: true };
        }
        let len = end.size.saturating_sub(at).min(room).min(CHUNK - at % CHUNK);
        if len == 0 {
            return Ok(Step { bytes: 0, ended: true });
        }
        let how = How { writable: false, hand_out: false, fetch: true };
        let Some(pin) = self.pin(window, at, len, how) else {
            return self.read_by_message(at, len as usize, sink);
        };
        let start = pin.bytes(at % CHUNK, len)?;
        // SAFETY: the window's memory is readable or faults recoverably (`WindowMemory::new`), the range is
        // inside a chunk that stays this file's while `pin` lives, which is until the copy is over.
        let bytes = unsafe { MemBytes::new(start, len as usize) };
        match sink.put(bytes) {
            Ok(bytes) => {
                self.count(Tally::WindowRead, bytes);
                Ok(Step { bytes, ended: false })
            }
            // The host cut the file under our hands: the page is gone, and so is the size we believed.
            Err(Errno::EIO) => {
                drop(pin);
                *end = End { size: self.node.refresh(Some(self.open))?.size, certain: true };
                if at < end.size { Err(Errno::EIO) } else { Ok(Step { bytes: 0, ended: true }) }
            }
            Err(errno) => Err(errno),
        }
    }

    /// Writes through the window what lies in one chunk that is there already, if the file does not grow by
    /// it; `None` when it has to go by message.
    fn write_by_window(&self, at: u64, source: &mut dyn Source) -> Result<Option<usize>> {
        let node = &self.node;
        let sync = OpenFlags::DSYNC | OpenFlags::SYNC | OpenFlags::APPEND;
        let no = node.unmappable_for_writing.load(Relaxed)
            || self.flags.intersects(sync)
            || node.last_known().mode & SET_ID != 0;
        let Some(window) = self.window().filter(|_| !no) else { return Ok(None) };
        let inside = node.size(Some(self.open))?.saturating_sub(at);
        let len = inside.min(source.remaining() as u64).min(CHUNK - at % CHUNK);
        if len == 0 {
            return Ok(None);
        }
        let how = How { writable: true, hand_out: false, fetch: false };
        let Some(pin) = self.pin(window, at, len, how) else { return Ok(None) };
        let to = pin.bytes(at % CHUNK, len)?;
        // SAFETY: the window's memory is writable or faults recoverably (`WindowMemory::new`); the chunk is
        // mapped writable and stays this file's while `pin` lives, which is until the copy is over.
        match unsafe { source.take_raw(to, len as usize) } {
            Ok(bytes) => {
                self.count(Tally::WindowWritten, bytes);
                node.touched();
                Ok(Some(bytes))
            }
            // Cut under our hands: by message the host extends the file again, as write(2) does.
            Err(Errno::EIO) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Writes as much as one WRITE message carries.
    fn write_by_message(&self, at: u64, source: &mut dyn Source) -> Result<Sent> {
        let fs = &self.node.fs;
        let room = MAX_OFFSET.saturating_sub(at);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        let mut buffer = fs.buffers.take();
        let len = source.remaining().min(fs.agreement.max_write as usize).min(room.min(1 << 30) as usize);
        let taken = source.take(&mut buffer[..len])?;
        if taken == 0 {
            return Ok(Sent { bytes: 0, all: false });
        }
        let bytes = fs.session.call(&Write { file: self.open, offset: at, data: &buffer[..taken] })?;
        if bytes == 0 {
            return Err(Errno::EIO);
        }
        self.count(Tally::MessageWritten, bytes);
        self.node.wrote(at + bytes as u64);
        Ok(Sent { bytes, all: bytes == taken })
    }

    fn write_all(&self, offset: u64, source: &mut dyn Source, append: bool) -> Result<usize> {
        let mut done = 0;
        while source.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let by_window = if append { Ok(None) } else { self.write_by_window(at, source) };
            let sent = match by_window {
                Ok(Some(bytes)) => Ok(Sent { bytes, all: bytes > 0 }),
                Ok(None) => self.write_by_message(at, source),
                Err(errno) => Err(errno),
            };
            match sent {
                Ok(Sent { bytes, all }) => {
                    done += bytes;
                    if !all {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn need_writing(&self) -> Result<()> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        if self.node.fs.writable { self.node.check() } else { Err(Errno::EROFS) }
    }
}

/// The end of a file as far as we know.
struct End {
    size: u64,
    /// Asked for in this very call.
    certain: bool,
}

/// How a chunk is wanted.
struct How {
    writable: bool,
    hand_out: bool,
    fetch: bool,
}

/// What became of a message's data.
struct Sent {
    bytes: usize,
    /// Nothing that was taken from the source is left over.
    all: bool,
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
        match self.window() {
            Some(window) => self.read_by_window(window, offset, sink),
            None => self.read_by_message(offset, usize::MAX, sink).map(|step| step.bytes),
        }
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

/// A file opened with O_PATH: a place in the tree, with nothing open on the host.
pub(crate) struct PathOnly(Arc<dyn Inode>);

impl PathOnly {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

impl File for PathOnly {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.0
    }

    fn read_at(&self, _offset: u64, _sink: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write_at(&self, _offset: u64, _source: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn readdir(&self, _cookie: u64, _entries: &mut diolkos_vfs::DirSink<'_>) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn map(&self, _offset: u64, _access: Access) -> Result<Option<MappedRun>> {
        Err(Errno::EBADF)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
