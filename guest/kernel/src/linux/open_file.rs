//! The open file description: what descriptors share after dup(2), open(2) calls it.
//!
//! It adds to a file of a file system what Linux keeps above it: the access mode and status flags, the
//! current position, and the place in the tree it was opened at.

use super::locks;
use super::position::Position;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use diolkos_vfs::notify::Events;
use diolkos_vfs::{
    Errno, File, FileType, Inode, Location, OpenFlags, Opened, Result, Sink, Sought, Source, WriteAccess,
    remove_privileges,
};

/// The flags `F_SETFL` may change (fcntl(2)); `O_DIRECT` and `O_NOATIME` among them change nothing here.
pub const CHANGEABLE: OpenFlags =
    OpenFlags::APPEND.union(OpenFlags::NONBLOCK).union(OpenFlags::DIRECT).union(OpenFlags::NOATIME);

/// Flags that open(2) acts on and forgets.
const OPEN_ONLY: OpenFlags =
    OpenFlags::CREAT.union(OpenFlags::EXCL).union(OpenFlags::NOCTTY).union(OpenFlags::TRUNC).union(OpenFlags::CLOEXEC);

/// An open file.
pub struct OpenFile {
    file: Arc<dyn File>,
    location: Location,
    flags: AtomicU32,
    position: Position,
    _writing: Option<Arc<WriteAccess>>,
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// To the offset, or to the end with `O_APPEND`, also for pwrite(2) (see BUGS there).
    AsOpened,
    /// To the end (`RWF_APPEND`).
    End,
    /// To the offset (`RWF_NOAPPEND`).
    Offset,
}

/// Where lseek(2) measures from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The start.
    Set,
    /// The position.
    Current,
    /// The end.
    End,
    /// The first data at or after an offset.
    Data,
    /// The first hole at or after an offset; the end of the file is one.
    Hole,
}

/// No transfer reaches past the largest offset there is (`rw_verify_area` in Linux' fs/read_write.c).
fn check_end(offset: u64, len: usize) -> Result<()> {
    let end = offset.checked_add(len as u64);
    if end.is_some_and(|end| end <= i64::MAX as u64) { Ok(()) } else { Err(Errno::EINVAL) }
}

impl OpenFile {
    /// What open(2) gave, with the flags it was opened with.
    pub fn new(opened: Opened, flags: OpenFlags) -> Self {
        let Opened { file, location, writing } = opened;
        if flags.contains(OpenFlags::NONBLOCK) {
            file.set_nonblocking(true);
        }
        let flags = AtomicU32::new((flags - OPEN_ONLY).bits());
        Self { file, location, flags, position: Position::new(), _writing: writing }
    }

    /// An open file without a name in the tree; `shown` is what `/proc/self/fd` shows for it.
    pub fn unnamed(file: Arc<dyn File>, shown: &str, flags: OpenFlags) -> Self {
        let location = Location::detached(file.inode().clone(), shown.as_bytes());
        Self::new(Opened { file, location, writing: None }, flags)
    }

    /// The file.
    pub fn inner(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Its inode.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.file.inode()
    }

    /// Where it was opened; pipes and other things without a name stand outside the tree.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Changes status flags: those of [`CHANGEABLE`], the rest stays (`F_SETFL`).
    pub fn set_flags(&self, wanted: OpenFlags) {
        let flags = (self.flags() - CHANGEABLE) | (wanted & CHANGEABLE);
        self.flags.store(flags.bits(), Ordering::Relaxed);
        self.file.set_nonblocking(flags.contains(OpenFlags::NONBLOCK));
    }

    /// The position, for `/proc/self/fdinfo`.
    pub fn position(&self) -> u64 {
        self.position.peek()
    }

    /// Tells who watches the file that bytes were moved, if any were.
    fn told(&self, what: Events, result: Result<usize>) -> Result<usize> {
        if matches!(result, Ok(1..)) {
            self.location.tell(what);
        }
        result
    }

    fn check_readable(&self) -> Result<()> {
        if self.flags().reads() { Ok(()) } else { Err(Errno::EBADF) }
    }

    fn check_writable(&self) -> Result<()> {
        if self.flags().writes() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Reads at the position and moves it.
    ///
    /// # Errors
    /// `EBADF` when not open for reading; what the file says.
    pub fn read(&self, sink: &mut dyn Sink) -> Result<usize> {
        self.told(Events::ACCESS, self.read_untold(sink))
    }

    /// The same without telling who watches the file: for a step of something larger.
    ///
    /// # Errors
    /// As [`OpenFile::read`].
    pub fn read_untold(&self, sink: &mut dyn Sink) -> Result<usize> {
        self.check_readable()?;
        if self.file.is_stream() {
            return self.file.read_at(0, sink);
        }
        let position = self.position.hold();
        check_end(position.get(), sink.room())?;
        let n = self.file.read_at(position.get(), sink)?;
        position.set(position.get().saturating_add(n as u64));
        Ok(n)
    }

    /// Writes at the position, or with `O_APPEND` at the end, and moves it.
    ///
    /// # Errors
    /// `EBADF` when not open for writing, `EINVAL` past the largest offset; what the file says.
    pub fn write(&self, source: &mut dyn Source) -> Result<usize> {
        self.write_aimed(source, Aim::AsOpened)
    }

    /// The same without telling who watches the file.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub fn write_untold(&self, source: &mut dyn Source) -> Result<usize> {
        self.write_and_move(source, Aim::AsOpened)
    }

    /// Writes at the position or the end and moves it.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub fn write_aimed(&self, source: &mut dyn Source, aim: Aim) -> Result<usize> {
        self.told(Events::MODIFY, self.write_and_move(source, aim))
    }

    fn appends(&self, aim: Aim) -> bool {
        match aim {
            Aim::AsOpened => self.flags().contains(OpenFlags::APPEND),
            Aim::End => true,
            Aim::Offset => false,
        }
    }

    fn write_and_move(&self, source: &mut dyn Source, aim: Aim) -> Result<usize> {
        self.check_writable()?;
        if self.file.is_stream() {
            return self.file.write_at(0, source);
        }
        let position = self.position.hold();
        let (n, end) = if self.appends(aim) {
            self.append(source)?
        } else {
            let n = self.put_at(position.get(), source)?;
            (n, position.get().saturating_add(n as u64))
        };
        position.set(end);
        self.settle(n)
    }

    /// Reads at an offset.
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE` for a stream; what the file says.
    pub fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        self.told(Events::ACCESS, self.read_at_untold(offset, sink))
    }

    /// The same without telling who watches the file.
    ///
    /// # Errors
    /// As [`OpenFile::read_at`].
    pub fn read_at_untold(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if self.file.is_stream() {
            return Err(Errno::ESPIPE);
        }
        self.check_readable()?;
        check_end(offset, sink.room())?;
        self.file.read_at(offset, sink)
    }

    /// Reads at an offset, or at the position and moves it, if that needs nobody: no other thread, no host, no kernel lock
    /// (see [`super::unlocked`]). `None` if it does, and nothing has happened. Nobody who watches the file is told.
    pub fn read_resident(&self, offset: Option<u64>, sink: &mut dyn Sink) -> Option<usize> {
        if self.file.is_stream() || !self.flags().reads() {
            return None;
        }
        let position = if offset.is_none() { Some(self.position.try_hold()?) } else { None };
        let at = offset.or(position.as_ref().map(|position| position.get()))?;
        check_end(at, sink.room()).ok()?;
        let n = self.file.read_resident(at, sink)?;
        if let Some(position) = position {
            position.set(at.saturating_add(n as u64));
        }
        Some(n)
    }

    /// Writes at an offset or the end, and leaves the position alone.
    ///
    /// # Errors
    /// `EBADF`, `ESPIPE` for a stream, `EINVAL` past the largest offset; what the file says.
    pub fn write_at(&self, offset: u64, source: &mut dyn Source, aim: Aim) -> Result<usize> {
        self.told(Events::MODIFY, self.write_at_untold(offset, source, aim))
    }

    /// The same without telling who watches the file.
    ///
    /// # Errors
    /// As [`OpenFile::write_at`].
    pub fn write_at_untold(&self, offset: u64, source: &mut dyn Source, aim: Aim) -> Result<usize> {
        if self.file.is_stream() {
            return Err(Errno::ESPIPE);
        }
        self.check_writable()?;
        let n = if self.appends(aim) { self.append(source)?.0 } else { self.put_at(offset, source)? };
        self.settle(n)
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        if source.remaining() == 0 {
            return Ok((0, self.position.peek()));
        }
        remove_privileges(self.inode())?;
        self.file.append(source)
    }

    fn put_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        check_end(offset, source.remaining())?;
        if source.remaining() == 0 {
            return Ok(0);
        }
        remove_privileges(self.inode())?;
        self.file.write_at(offset, source)
    }

    /// Makes `n` written bytes safe if the file was opened so that every write is.
    fn settle(&self, n: usize) -> Result<usize> {
        let flags = self.flags();
        if n > 0 && flags.contains(OpenFlags::DSYNC) {
            self.file.fsync(!flags.contains(OpenFlags::SYNC))?;
        }
        Ok(n)
    }

    /// Moves the position and returns it (lseek(2)).
    ///
    /// # Errors
    /// `ESPIPE` for a stream, `EINVAL` for a negative or too large result, `ENXIO` past the end for data and holes.
    pub fn seek(&self, whence: Whence, offset: i64) -> Result<u64> {
        if self.file.is_stream() {
            return Err(Errno::ESPIPE);
        }
        let position = self.position.hold();
        let inode = self.file.inode();
        if inode.file_type() == FileType::CharDevice {
            // null_lseek of Linux: /dev/null and its kin have one position only.
            position.set(0);
            return Ok(0);
        }
        let sought = match whence {
            // The cookies of a directory are opaque and may use all 64 bits; they come back as they went out.
            Whence::Set if inode.file_type() == FileType::Directory => {
                position.set(offset as u64);
                return Ok(offset as u64);
            }
            Whence::Set => Some(offset),
            Whence::Current => (position.get() as i64).checked_add(offset),
            Whence::End => (self.file.size()? as i64).checked_add(offset),
            Whence::Data | Whence::Hole => {
                let what = if whence == Whence::Data { Sought::Data } else { Sought::Hole };
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                i64::try_from(self.file.seek(what, from)?).ok()
            }
        };
        let sought = sought.filter(|sought| *sought >= 0).ok_or(Errno::EINVAL)? as u64;
        position.set(sought);
        Ok(sought)
    }

    /// Lists a directory from the position on; `list` gets the cookie to start from and returns the one to go on from.
    ///
    /// # Errors
    /// `EBADF` for a file opened for a path only; what `list` says.
    pub fn list<T>(&self, list: impl FnOnce(u64) -> Result<(u64, T)>) -> Result<T> {
        self.check_readable()?;
        let position = self.position.hold();
        let (next, value) = list(position.get())?;
        position.set(next);
        self.location.tell(Events::ACCESS);
        Ok(value)
    }

    /// What close(2) of one descriptor does to the open file.
    ///
    /// # Errors
    /// What the host says; the descriptor is closed all the same.
    pub fn flush(&self) -> Result<()> {
        if self.flags().contains(OpenFlags::PATH) { Ok(()) } else { self.file.flush() }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let flags = self.flags();
        if !flags.contains(OpenFlags::PATH) {
            self.location.tell(if flags.writes() { Events::CLOSE_WRITE } else { Events::CLOSE_NOWRITE });
        }
        locks::release_open_file(self);
    }
}
