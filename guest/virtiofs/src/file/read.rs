//! Reading: through the window, or by message.
//!
//! The hard part is the end of the file. Nothing past it may be touched in the window, and the size we know is
//! hearsay: so it is asked for again before a read is cut short by it. A file that claims to be empty may still have
//! content (the host's procfs is like that): it is read by message, whose reply needs no size.

use super::{How, MAX_OFFSET, OpenFile, WORTH_LENDING};
use crate::counters::Tally;
use crate::ops::data::Read;
use crate::window::{ChunkKey, Manager, Way};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::{Errno, MemBytes, MemBytesMut, Result, Sink};

/// The end of a file as far as we know.
pub(super) struct End {
    pub(super) size: u64,
    /// Asked for in this very call.
    pub(super) certain: bool,
}

/// What one step of a read brought.
pub(super) struct Step {
    pub(super) bytes: usize,
    /// The file ends here.
    pub(super) ended: bool,
}

impl OpenFile {
    /// Reads until the sink is full or the file ends.
    pub(super) fn read(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let Some(window) = self.window() else {
            return match self.read_cache() {
                Some(pages) => self.read_cached(pages, offset, sink),
                None => self.read_by_message(offset, usize::MAX, sink).map(|step| step.bytes),
            };
        };
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

    /// Reads what lies in one chunk that is in the window, all of whose wanted pages have been used before. Nothing here
    /// waits, and the locks taken are never held by anybody who does; see [`diolkos_vfs::File::read_resident`].
    pub(super) fn read_resident_chunk(&self, at: u64, sink: &mut dyn Sink) -> Option<usize> {
        let window = self.window()?;
        let (room, in_chunk) = (sink.room() as u64, at % window.chunk());
        let inside = at.checked_add(room)? <= self.node.believed_size()?;
        // Pages of the cache would have to be written back first.
        if room == 0 || !inside || room > window.chunk() - in_chunk || self.node.cached.load(Relaxed) {
            return None;
        }
        let losses = self.node.fs.platform.heed_losses();
        let index = at / window.chunk();
        let pin = window.pin_used(ChunkKey { owner: self.node.serial, index }, in_chunk, in_chunk + room)?;
        let start = pin.bytes(in_chunk, room).ok()?;
        let intact = || self.node.fs.platform.losses() == losses;
        // SAFETY: as in `read_step`.
        let bytes = unsafe { MemBytes::new(start, room as usize) }.checked_by(&intact);
        let bytes = sink.put(bytes).ok()?;
        self.trace.step(index);
        self.count(Tally::Hits, 1);
        self.count(Tally::WindowRead, bytes);
        Some(bytes)
    }

    /// Reads what lies in one chunk, and not past the end of the file.
    fn read_step(&self, window: &Arc<Manager>, at: u64, end: &mut End, sink: &mut dyn Sink) -> Result<Step> {
        let room = sink.room() as u64;
        let in_chunk = window.chunk() - at % window.chunk();
        if at.saturating_add(room) > end.size && !end.certain {
            let rest = end.size.saturating_sub(at);
            if rest > 0 && rest <= in_chunk && self.way(window, at, rest, false, true) == Way::Message {
                let step = self.read_by_message(at, usize::MAX, sink)?;
                return Ok(Step { ended: true, ..step });
            }
            *end = End { size: self.node.refresh(Some(self.open))?.size, certain: true };
        }
        let len = end.size.saturating_sub(at).min(room).min(in_chunk);
        if len == 0 {
            return Ok(Step { bytes: 0, ended: true });
        }
        let (len, ahead) = match self.way(window, at, len, false, false) {
            Way::Window => (len, self.ahead(window, at)),
            Way::Look(some) => (len.min(some), 0),
            Way::Message => return self.read_by_message(at, len as usize, sink),
        };
        let how = How { writable: false, hand_out: false, copy_will_do: false, ahead };
        let losses = self.node.fs.platform.heed_losses();
        let Some(pin) = self.pin(window, at, len, how) else {
            return self.read_by_message(at, len as usize, sink);
        };
        let in_chunk = at % window.chunk();
        let start = pin.bytes(in_chunk, len)?;
        let intact = || self.node.fs.platform.losses() == losses;
        // SAFETY: the window's memory is readable or faults recoverably (`WindowMemory::new`), the range is
        // inside a chunk that stays this file's while `pin` lives, which is until the copy is over.
        let bytes = unsafe { MemBytes::new(start, len as usize) }.checked_by(&intact);
        match pin.used(in_chunk, in_chunk + len, false, || sink.put(bytes)) {
            Ok(bytes) => {
                self.count(Tally::WindowRead, bytes);
                Ok(Step { bytes, ended: false })
            }
            // The host cut the file under our hands: the page is gone, and so is the size we believed. A message brings
            // what is there now, and where it ends.
            Err(Errno::EIO) => {
                drop(pin);
                self.read_by_message(at, len as usize, sink)
            }
            Err(errno) => Err(errno),
        }
    }

    /// A READ says that the file ends at byte `end`: what we believed may be wrong.
    pub(super) fn ends_at(&self, end: u64) {
        let known = self.node.last_known().size;
        if known != end {
            self.node.expire();
        }
        // Mappings must not show what is gone.
        if end < known && self.node.cached_pages().is_some() {
            let _ = self.node.refresh(Some(self.open));
        }
    }

    /// Reads up to `limit` bytes in READ messages.
    pub(super) fn read_by_message(&self, offset: u64, limit: usize, sink: &mut dyn Sink) -> Result<Step> {
        let fs = &self.node.fs;
        // The host is to tell what mappings of ours have stored, too.
        self.node.write_back(0, u64::MAX);
        let mut step = Step { bytes: 0, ended: false };
        loop {
            let at = offset.saturating_add(step.bytes as u64);
            let room = usize::try_from(MAX_OFFSET.saturating_sub(at)).unwrap_or(usize::MAX);
            let wanted = sink.room().min(limit - step.bytes).min(fs.agreement.max_read as usize).min(room);
            if wanted == 0 || step.ended {
                return Ok(step);
            }
            let began = self.now();
            match self.read_one(at, wanted, sink, &mut step.ended) {
                Ok(0) => return Ok(step),
                Ok(n) => {
                    if let Some(window) = &fs.window {
                        window.message_took(n as u64, self.now().saturating_sub(began));
                    }
                    step.bytes += n;
                }
                Err(errno) if step.bytes == 0 => return Err(errno),
                Err(_) => return Ok(step),
            }
        }
    }

    /// One READ message of up to `wanted` bytes, which go straight to their place where that is worth it and can be done.
    /// Says in `ended` whether the file ends with them.
    fn read_one(&self, at: u64, wanted: usize, sink: &mut dyn Sink, ended: &mut bool) -> Result<usize> {
        let fs = &self.node.fs;
        let mut came = |n, size| {
            self.count(Tally::MessageRead, n);
            *ended = n < size;
            if *ended {
                self.ends_at(at + n as u64);
            }
        };
        if wanted >= WORTH_LENDING {
            let mut fill = |pieces: &[MemBytesMut<'_>]| {
                let size = pieces.iter().map(MemBytesMut::len).sum();
                let n = fs.session.fetch_into(&Read { file: self.open, offset: at, size: size as u32 }, pieces)?;
                self.count(Tally::MessageLent, n);
                came(n, size);
                Ok(n)
            };
            if let Some(filled) = sink.lend(wanted, fs.session.most_pieces(), &mut fill) {
                return filled;
            }
        }
        let mut buffer = fs.buffers.take();
        let n = fs.session.fetch(&Read { file: self.open, offset: at, size: wanted as u32 }, &mut buffer[..wanted])?;
        came(n, wanted);
        if n == 0 { Ok(0) } else { sink.put(buffer[..n].into()) }
    }
}
