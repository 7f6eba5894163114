//! Writing: through the window what does not grow the file and is cheaper so, the rest by message.
//!
//! A message carries data and size together, so the host never has one without the other; the window cannot make a file
//! longer.

use super::{How, MAX_OFFSET, OpenFile, SET_ID, WORTH_LENDING};
use crate::counters::Tally;
use crate::ops::data::Write;
use crate::window::Way;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_vfs::{Errno, MemBytes, OpenFlags, Result, Source};

/// What became of the data of one step.
struct Sent {
    bytes: usize,
    /// Nothing that was taken from the source is left over.
    all: bool,
}

impl OpenFile {
    /// Writes through the window what lies in one chunk, if the file does not grow by it and that is the cheaper way;
    /// `None` when it has to go by message.
    fn write_by_window(&self, at: u64, source: &mut dyn Source) -> Result<Option<usize>> {
        let node = &self.node;
        let sync = OpenFlags::DSYNC | OpenFlags::SYNC;
        let no = node.unmappable_for_writing.load(Relaxed)
            || self.flags.intersects(sync)
            || node.last_known().mode & SET_ID != 0;
        let Some(window) = self.window().filter(|_| !no) else { return Ok(None) };
        let inside = node.size(Some(self.open))?.saturating_sub(at);
        let in_chunk = at % window.chunk();
        let len = inside.min(source.remaining() as u64).min(window.chunk() - in_chunk);
        if len == 0 || self.way(window, at, len, true, false) == Way::Message {
            return Ok(None);
        }
        let how = How { writable: true, hand_out: false, copy_will_do: false, ahead: 0 };
        let Some(pin) = self.pin(window, at, len, how) else { return Ok(None) };
        let to = pin.bytes(in_chunk, len)?;
        // SAFETY: the window's memory is writable or faults recoverably (`WindowMemory::new`); the chunk is
        // mapped writable and stays this file's while `pin` lives, which is until the copy is over.
        let copy = || unsafe { source.take_raw(to, len as usize) };
        match pin.used(in_chunk, in_chunk + len, true, copy) {
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
    fn write_by_message(&self, at: u64, source: &mut dyn Source, append: bool) -> Result<Sent> {
        let fs = &self.node.fs;
        let room = MAX_OFFSET.saturating_sub(at);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        let len = source.remaining().min(fs.agreement.max_write as usize).min(room.min(1 << 30) as usize);
        if let Some(sent) = self.write_lent(at, len, source, append) {
            return sent;
        }
        let mut buffer = fs.buffers.take();
        let taken = source.take(&mut buffer[..len])?;
        if taken == 0 {
            return Ok(Sent { bytes: 0, all: false });
        }
        loop {
            let writing = self.before_writing(at, taken, append);
            let bytes = self.write_one(at, &[buffer[..taken].into()], append)?;
            if self.after_writing(at, &buffer[..bytes], writing.as_ref(), append) {
                return Ok(Sent { bytes, all: bytes == taken });
            }
        }
    }

    /// The same without a copy, where that is worth it and can be done. Not for a file with pages in the cache: they are
    /// to get what the host got, and the program may change its memory meanwhile.
    fn write_lent(&self, at: u64, len: usize, source: &mut dyn Source, append: bool) -> Option<Result<Sent>> {
        if len < WORTH_LENDING || self.node.cached_pages().is_some() {
            return None;
        }
        let mut all = false;
        let mut take = |pieces: &[MemBytes<'_>]| {
            let bytes = loop {
                let writing = self.before_writing(at, len, append);
                let bytes = self.write_one(at, pieces, append)?;
                self.count(Tally::MessageLent, bytes);
                // Another thread may have begun to fill the cache meanwhile.
                let filled = self.node.cached_pages().is_some();
                if !filled || self.after_writing(at, &copy_of(pieces, bytes), writing.as_ref(), append) {
                    break bytes;
                }
            };
            all = bytes == pieces.iter().map(|piece| piece.len()).sum::<usize>();
            Ok(bytes)
        };
        let taken = source.lend(len, self.node.fs.session.most_pieces(), &mut take)?;
        Some(taken.map(|bytes| Sent { bytes, all }))
    }

    /// One WRITE message; how much of it the host took.
    fn write_one(&self, at: u64, data: &[MemBytes<'_>], append: bool) -> Result<usize> {
        let bytes = self.node.fs.session.call(&Write { file: self.open, offset: at, data, append })?;
        if bytes == 0 {
            return Err(Errno::EIO);
        }
        self.count(Tally::MessageWritten, bytes);
        self.node.wrote(at + bytes as u64);
        Ok(bytes)
    }

    /// Writes everything the source has, or up to the first failure.
    pub(super) fn write_all(&self, offset: u64, source: &mut dyn Source, append: bool) -> Result<usize> {
        let mut done = 0;
        while source.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let by_window = if append { Ok(None) } else { self.write_by_window(at, source) };
            let sent = match by_window {
                Ok(Some(bytes)) => Ok(Sent { bytes, all: bytes > 0 }),
                Ok(None) => self.write_by_message(at, source, append),
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
}

/// The first `len` bytes of memory that was lent.
fn copy_of(pieces: &[MemBytes<'_>], len: usize) -> Vec<u8> {
    let mut copy: Vec<u8> = Vec::with_capacity(len);
    for piece in pieces {
        let n = piece.len().min(len - copy.len());
        // SAFETY: lent memory is mapped (`Source::lend`), and there is room for `n` more bytes, which are filled.
        unsafe {
            copy.as_mut_ptr().add(copy.len()).copy_from_nonoverlapping(piece.as_ptr(), n);
            copy.set_len(copy.len() + n);
        }
    }
    copy
}
