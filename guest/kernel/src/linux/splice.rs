//! Moving bytes into and out of pipes inside the kernel: splice(2), tee(2), vmsplice(2).
//!
//! Bytes are copied, where Linux moves pages: nobody can tell by what comes out. A pipe here holds bytes, not pages, so it
//! may take a little more than Linux' after small writes.

use super::copy::{MAX_TRANSFER, PIECE, Side, offset, store_offset, tell};
use super::open_file::OpenFile;
use super::read_write::{many_buffers, write_or_signal};
use super::{Call, table::Calls};
use alloc::vec;
use diolkos_vfs::pipe::PipeEnd;
use diolkos_vfs::{Errno, FileType, MemBytes, OpenFlags, Result, Sink, SliceSink, SliceSource, Source};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::splice, splice), (Sysno::tee, tee), (Sysno::vmsplice, vmsplice)];

/// The flags of all three, from `linux/splice.h`. Only the second means anything here.
const SPLICE_F_MOVE: u32 = 1;
const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_MORE: u32 = 4;
const SPLICE_F_GIFT: u32 = 8;

/// The pipe an open file is an end of, if it is one.
pub fn pipe_of(file: &OpenFile) -> Option<&PipeEnd> {
    file.inner().as_any().downcast_ref()
}

/// A file as a pipe's source: read when the pipe has room, so that nothing read is left over.
struct FromFile<'a, 'f> {
    side: &'a mut Side<'f>,
    left: usize,
}

impl Source for FromFile<'_, '_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let len = buffer.len().min(self.left);
        let n = self.side.read(&mut buffer[..len])?;
        self.left -= n;
        Ok(n)
    }

    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let mut piece = vec![0; len.min(PIECE)];
        let n = self.take(&mut piece)?;
        // SAFETY: `to` is valid for `len` bytes by the caller's promise, and there are no more of these.
        unsafe { SliceSource::new(&piece[..n]).take_raw(to, n) }
    }
}

/// What a pipe's bytes go to: what is not taken stays in the pipe.
struct Into<F> {
    write: F,
    left: usize,
}

impl<F: FnMut(&[u8]) -> Result<usize>> Sink for Into<F> {
    fn room(&self) -> usize {
        self.left
    }

    fn put(&mut self, bytes: MemBytes<'_>) -> Result<usize> {
        let mut piece = vec![0; bytes.len().min(self.left)];
        let n = SliceSink::new(&mut piece).put(bytes)?;
        let n = (self.write)(&piece[..n])?;
        self.left -= n;
        Ok(n)
    }
}

/// Moves up to `len` bytes of a file into a pipe: what there is room for, waiting for some.
///
/// # Errors
/// `EPIPE`, `EAGAIN` with `nonblocking`, and what the file says.
pub fn file_to_pipe(from: &mut Side<'_>, to: &PipeEnd, len: u64, nonblocking: bool) -> Result<usize> {
    let left = len.min(MAX_TRANSFER) as usize;
    to.fill(&mut FromFile { side: from, left }, nonblocking)
}

fn check_flags(flags: u64) -> Result<bool> {
    let flags = flags as u32;
    if flags & !(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(flags & SPLICE_F_NONBLOCK != 0)
}

/// Whether splice(2) can read from or write to it: not a directory, and no counter or the like.
fn can_splice(file: &OpenFile) -> bool {
    match file.inode().file_type() {
        FileType::Directory | FileType::Symlink => false,
        FileType::Regular => !file.inner().is_stream(),
        _ => true,
    }
}

/// splice(2). The order of the checks is Linux' (`do_splice` in fs/splice.c).
fn splice(call: &mut Call<'_>) -> Result<u64> {
    let [from, from_at, to, to_at, len, flags] = call.args;
    if len == 0 {
        return Ok(0);
    }
    let nonblocking = check_flags(flags)?;
    let (input, output) = (call.file(from)?, call.file(to)?);
    let (from_pipe, to_pipe) = (pipe_of(&input), pipe_of(&output));
    if (from_pipe.is_some() && from_at != 0) || (to_pipe.is_some() && to_at != 0) {
        return Err(Errno::ESPIPE);
    }
    let (from_start, to_start) = (offset(from_at)?, offset(to_at)?);
    if !input.flags().reads() || !output.flags().writes() {
        return Err(Errno::EBADF);
    }
    let left = len.min(MAX_TRANSFER) as usize;
    let mut source = Side { file: &input, offset: from_start };
    let mut target = Side { file: &output, offset: to_start };
    let moved = write_or_signal(call, || match (from_pipe, to_pipe) {
        (Some(from), Some(to)) if from.is_of(to) => Err(Errno::EINVAL),
        (Some(from), Some(to)) => {
            let nonblocking = nonblocking || from.is_nonblocking() || to.is_nonblocking();
            let write = |bytes: &[u8]| to.fill(&mut SliceSource::new(bytes), nonblocking);
            from.drain(&mut Into { write, left }, nonblocking)
        }
        (Some(from), None) => {
            if output.flags().contains(OpenFlags::APPEND) || !can_splice(&output) {
                return Err(Errno::EINVAL);
            }
            let write = |bytes: &[u8]| target.write(bytes);
            from.drain(&mut Into { write, left }, nonblocking || from.is_nonblocking())
        }
        (None, Some(_)) if !can_splice(&input) => Err(Errno::EINVAL),
        (None, Some(to)) => file_to_pipe(&mut source, to, len, nonblocking || to.is_nonblocking()),
        (None, None) => Err(Errno::EINVAL),
    })?;
    tell(&input, &output, moved);
    store_offset(from_at, source.offset)?;
    store_offset(to_at, target.offset)?;
    Ok(moved)
}

/// tee(2).
fn tee(call: &mut Call<'_>) -> Result<u64> {
    let [from, to, len, flags, ..] = call.args;
    let nonblocking = check_flags(flags)?;
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (call.file(from)?, call.file(to)?);
    if !input.flags().reads() || !output.flags().writes() {
        return Err(Errno::EBADF);
    }
    let (Some(source), Some(target)) = (pipe_of(&input), pipe_of(&output)) else { return Err(Errno::EINVAL) };
    if source.is_of(target) {
        return Err(Errno::EINVAL);
    }
    let nonblocking = nonblocking || source.is_nonblocking() || target.is_nonblocking();
    let most = len.min(MAX_TRANSFER) as usize;
    let copied = write_or_signal(call, || source.tee(target, most, nonblocking))?;
    tell(&input, &output, copied);
    Ok(copied)
}

/// vmsplice(2): what the program gives is copied, so it may use its memory again at once.
fn vmsplice(call: &mut Call<'_>) -> Result<u64> {
    let [fd, iov, count, flags, ..] = call.args;
    let nonblocking = check_flags(flags)?;
    let file = call.file(fd)?;
    let mut buffers = many_buffers(iov, count)?;
    if Sink::room(&buffers) == 0 {
        return Ok(0);
    }
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?;
    let nonblocking = nonblocking || pipe.is_nonblocking();
    if file.flags().writes() {
        return write_or_signal(call, || pipe.fill(&mut buffers, nonblocking));
    }
    Ok(pipe.drain(&mut buffers, nonblocking)? as u64)
}
