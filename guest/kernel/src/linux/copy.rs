//! Moving bytes between files inside the kernel: sendfile(2) and copy_file_range(2).
//!
//! Both go through a kernel buffer, unless the host can copy between the two files by itself.

use super::open_file::{Aim, OpenFile};
use super::read_write::write_or_signal;
use super::splice::{self, pipe_of};
use super::{Call, table::Calls};
use crate::mm::user::UserPtr;
use alloc::vec;
use diolkos_vfs::notify::Events;
use diolkos_vfs::{Errno, FileType, OpenFlags, Result, SliceSink, SliceSource, remove_privileges};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::sendfile, sendfile), (Sysno::copy_file_range, copy_file_range)];

/// Bytes moved at a time.
pub const PIECE: usize = 64 << 10;
/// Longest transfer of one call (`MAX_RW_COUNT`).
pub const MAX_TRANSFER: u64 = 0x7fff_f000;

/// Where one side of a copy stands: at an offset of its own, or at the open file's position.
pub struct Side<'a> {
    pub file: &'a OpenFile,
    pub offset: Option<u64>,
}

impl Side<'_> {
    /// Reads and goes on.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut sink = SliceSink::new(buffer);
        let n = match self.offset {
            Some(offset) => self.file.read_at_untold(offset, &mut sink)?,
            None => self.file.read_untold(&mut sink)?,
        };
        self.advance(n);
        Ok(n)
    }

    /// Writes and goes on.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut source = SliceSource::new(bytes);
        let n = match self.offset {
            Some(offset) => self.file.write_at_untold(offset, &mut source, Aim::AsOpened)?,
            None => self.file.write_untold(&mut source)?,
        };
        self.advance(n);
        Ok(n)
    }

    fn advance(&mut self, n: usize) {
        self.offset = self.offset.map(|offset| offset.saturating_add(n as u64));
    }

    /// Goes past bytes that the host has moved.
    fn skip(&mut self, n: usize) -> Result<()> {
        if self.offset.is_none() {
            self.file.seek(super::open_file::Whence::Current, n as i64)?;
        }
        self.advance(n);
        Ok(())
    }

    /// Takes back what was read and could not be written. Only sides that can seek come here.
    fn go_back(&mut self, n: usize) -> Result<()> {
        match &mut self.offset {
            Some(offset) => *offset = offset.saturating_sub(n as u64),
            None => {
                self.file.seek(super::open_file::Whence::Current, -(n as i64))?;
            }
        }
        Ok(())
    }
}

/// Moves up to `len` bytes; stops early at the end of the input, or when the output takes less. An error counts
/// only if nothing was moved.
fn transfer(from: &mut Side<'_>, to: &mut Side<'_>, len: u64) -> Result<usize> {
    let len = len.min(MAX_TRANSFER) as usize;
    let mut buffer = vec![0; len.min(PIECE)];
    let mut done = 0;
    while done < len {
        let piece = &mut buffer[..(len - done).min(PIECE)];
        let got = match from.read(piece) {
            Ok(0) => break,
            Ok(got) => got,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        let put = to.write(&piece[..got]);
        let written = *put.as_ref().unwrap_or(&0);
        done += written;
        if written < got {
            from.go_back(got - written)?;
            match put {
                Err(errno) if done == 0 => return Err(errno),
                _ => break,
            }
        }
    }
    Ok(done)
}

/// Reads an offset argument that may be null.
pub fn offset(address: u64) -> Result<Option<u64>> {
    let Some(user) = UserPtr::<u64>::nullable(address) else { return Ok(None) };
    let offset = user.read()?;
    if offset > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(Some(offset)) }
}

/// Writes the offset back where it came from.
pub fn store_offset(address: u64, offset: Option<u64>) -> Result<()> {
    match offset {
        Some(offset) => UserPtr::new(address).write(offset),
        None => Ok(()),
    }
}

/// Tells who watches that so many bytes went from one file to the other.
pub fn tell(from: &OpenFile, to: &OpenFile, moved: u64) {
    if moved > 0 {
        from.location().tell(Events::ACCESS);
        to.location().tell(Events::MODIFY);
    }
}

/// sendfile(2).
fn sendfile(call: &mut Call<'_>) -> Result<u64> {
    let [to, from, at, len, ..] = call.args;
    let start = offset(at)?;
    let (input, output) = (call.file(from)?, call.file(to)?);
    if !input.flags().reads() || !output.flags().writes() {
        return Err(Errno::EBADF);
    }
    // The input must be something that could be mapped, and the output must not append.
    if input.inner().is_stream() {
        return Err(if start.is_some() { Errno::ESPIPE } else { Errno::EINVAL });
    }
    if output.flags().contains(OpenFlags::APPEND) || len > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mut source = Side { file: &input, offset: start };
    let mut target = Side { file: &output, offset: None };
    let moved = write_or_signal(call, || match pipe_of(&output) {
        // As splice(2): no more than the pipe has room for, or who reads from it later would wait for ever.
        Some(pipe) => splice::file_to_pipe(&mut source, pipe, len, pipe.is_nonblocking()),
        None => transfer(&mut source, &mut target, len),
    })?;
    tell(&input, &output, moved);
    store_offset(at, source.offset)?;
    Ok(moved)
}

/// copy_file_range(2).
fn copy_file_range(call: &mut Call<'_>) -> Result<u64> {
    let [from, from_at, to, to_at, len, flags] = call.args;
    let (input, output) = (call.file(from)?, call.file(to)?);
    let (from_start, to_start) = (offset(from_at)?, offset(to_at)?);
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    for file in [&input, &output] {
        match file.inode().file_type() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !input.flags().reads() || !output.flags().writes() || output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let start_of = |file: &OpenFile, start: Option<u64>| start.unwrap_or_else(|| file.position());
    let (first, second) = (start_of(&input, from_start), start_of(&output, to_start));
    let len = len.min(i64::MAX as u64);
    if input.inode().id() == output.inode().id() && first.abs_diff(second) < len {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let mut source = Side { file: &input, offset: from_start };
    let mut target = Side { file: &output, offset: to_start };
    let on_host = match input.inner().copy_range(first, &**output.inner(), second, len.min(MAX_TRANSFER)) {
        Err(Errno::EOPNOTSUPP | Errno::EXDEV) => None,
        result => Some(result?),
    };
    let moved = match on_host {
        Some(moved) => {
            source.skip(moved)?;
            target.skip(moved)?;
            moved
        }
        None => transfer(&mut source, &mut target, len)?,
    };
    if moved > 0 {
        remove_privileges(output.inode())?;
    }
    tell(&input, &output, moved as u64);
    store_offset(from_at, source.offset)?;
    store_offset(to_at, target.offset)?;
    Ok(moved as u64)
}
