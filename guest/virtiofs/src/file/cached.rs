//! Content that goes through the page cache: files that no window shows.

use super::OpenFile;
use super::read::End;
use crate::PAGE;
use crate::counters::Tally;
use crate::ops::data::Read;
use crate::posted::{Landing, post};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_common::cmdline::CacheMode;
use diolkos_pages::{Found, MOST, NotReserved, PageKey, Pages, Which, Writer, Writing};
use diolkos_vfs::{Access, Errno, MappedRun, OpenFlags, Result, Sink};

/// How often a page is read without being there afterwards, before we do without the cache: others want the memory more,
/// or the file changes all the time.
const PATIENCE: u32 = 8;

/// The same for a page fault, which cannot do without.
const FAULT_PATIENCE: u32 = 1 << 10;

/// Reads of less are better made in larger pieces, ahead: a message each would cost them more than memory does.
const LEAST_PAST: u64 = 512 << 10;
/// Files of less are kept the first time: they cost more messages than memory.
const KEPT_AT_ONCE: u64 = 1 << 20;

/// READs added to one at once, at most.
const AHEAD_STEPS: usize = 4;

/// What reading pages into the cache came to.
enum Loaded {
    /// Pages up to this byte of the file; it ends there if so many were not asked for.
    Upto { end: u64, ended: bool },
    /// Somebody else is reading them.
    Elsewhere,
    /// There is no memory.
    NoMemory,
    /// The file is not what its attributes said: it was cut just now, or claims a size that it does not have. Its content
    /// cannot be kept.
    Short,
}

impl OpenFile {
    /// The cache, if read(2) may use it: not where the host is to be asked each time.
    pub(super) fn read_cache(&self) -> Option<&Arc<Pages>> {
        let asks = self.direct || self.node.fs.cache == CacheMode::None;
        self.node.fs.pages.as_ref().filter(|_| !asks)
    }

    fn key(&self, at: u64) -> PageKey {
        PageKey { owner: self.node.serial, number: at / PAGE }
    }

    /// Reads until the sink is full or the file ends.
    pub(super) fn read_cached(&self, pages: &Arc<Pages>, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let mut end = End { size: self.node.size(Some(self.open))?, certain: self.node.fs.cache == CacheMode::Always };
        if end.size == 0 {
            self.count(Tally::FallbackEmpty, 1);
            return self.read_by_message(offset, usize::MAX, sink).map(|step| step.bytes);
        }
        let (mut done, mut tries) = (0, 0);
        while sink.room() > 0 {
            let at = offset.saturating_add(done as u64);
            match self.read_piece(pages, at, &mut end, &mut tries, sink) {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) => break,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// One step of reading: copies what is there, or sees to it that it is. `None` at the end.
    fn read_piece(
        &self,
        pages: &Arc<Pages>,
        at: u64,
        end: &mut End,
        tries: &mut u32,
        sink: &mut dyn Sink,
    ) -> Result<Option<usize>> {
        let room = sink.room() as u64;
        // A page that has to be read anyway brings the news of the end with it.
        let reaches = at.saturating_add(room) > end.size && !end.certain;
        if reaches && (at >= end.size || pages.has(self.key(end.size.saturating_sub(1)))) {
            *end = End { size: self.node.refresh(Some(self.open))?.size, certain: true };
        }
        let len = end.size.saturating_sub(at).min(room);
        if len == 0 {
            return Ok(None);
        }
        let wanted = (at + len).div_ceil(PAGE) - at / PAGE;
        match pages.find(self.key(at), wanted) {
            Found::Pages(pins) => {
                *tries = 0;
                self.go_on(pages, at / PAGE, wanted);
                let bytes = pins.put(at % PAGE, at % PAGE + len, sink)?;
                self.count(Tally::PageHits, (bytes as u64).div_ceil(PAGE) as usize);
                return Ok((bytes > 0).then_some(bytes));
            }
            Found::Loading => {
                let key = self.key(at);
                self.node.fs.session.wait_for(&|| !pages.is_loading(key));
                return Ok(Some(0));
            }
            Found::Absent => {}
        }
        let past = self.past(pages, at, len);
        if past > 0 {
            let bytes = self.read_past(at, past, end, sink)?;
            self.node.passes.lock().passed(at, bytes as u64);
            self.count(Tally::PassedBy, bytes);
            return Ok((bytes > 0).then_some(bytes));
        }
        *tries += 1;
        let loaded = match *tries {
            ..PATIENCE => self.load(pages, at / PAGE, wanted, false)?,
            _ => Loaded::Short,
        };
        match loaded {
            Loaded::Upto { end: upto, ended } => {
                if ended {
                    *end = End { size: upto, certain: true };
                }
                Ok(Some(0))
            }
            Loaded::Elsewhere => Ok(Some(0)),
            Loaded::NoMemory | Loaded::Short => {
                let bytes = self.read_past(at, len, end, sink)?;
                Ok((bytes > 0).then_some(bytes))
            }
        }
    }

    /// How many of `len` bytes from `at` on, which are not in the cache, to read past it.
    fn past(&self, pages: &Pages, at: u64, len: u64) -> u64 {
        if len < LEAST_PAST || self.node.last_known().size < KEPT_AT_ONCE {
            return 0;
        }
        let absent = pages.absent(self.key(at), (at + len).div_ceil(PAGE) - at / PAGE);
        let len = len.min((at / PAGE + absent) * PAGE - at);
        let past = self.node.passes.lock().plan(at, len);
        if past < LEAST_PAST { 0 } else { past }
    }

    /// Reads by message what the cache is not to have, or cannot.
    fn read_past(&self, at: u64, len: u64, end: &mut End, sink: &mut dyn Sink) -> Result<usize> {
        let step = self.read_by_message(at, len as usize, sink)?;
        if step.ended {
            *end = End { size: at + step.bytes as u64, certain: true };
        }
        Ok(step.bytes)
    }

    /// Reads pages from number `first` on, as many as read-ahead thinks fit and at least one of the `wanted` ones.
    fn load(&self, pages: &Arc<Pages>, first: u64, wanted: u64, fault: bool) -> Result<Loaded> {
        let fs = &self.node.fs;
        self.node.cached.store(true, Relaxed);
        self.count(Tally::PageMisses, 1);
        let most = self.most(first);
        let ahead = if fault { &self.fault_ahead } else { &self.read_ahead };
        let count = ahead.lock().plan(first, wanted.min(most), most);
        let loading = match pages.reserve(PageKey { owner: self.node.serial, number: first }, count) {
            Ok(loading) => loading,
            Err(NotReserved::NoMemory) => return Ok(Loaded::NoMemory),
            Err(NotReserved::Taken) => {
                fs.platform.pause();
                return Ok(Loaded::Elsewhere);
            }
        };
        ahead.lock().took(first, loading.count());
        let (read, mut fill) = self.fill(first, wanted, loading);
        let (outcome, expected, full) = (fill.outcome(), fill.expected(), u64::from(read.size));
        let mut reads = vec![(read, fill as Box<dyn Landing>)];
        if !fault {
            self.add_ahead(pages, first, wanted, &mut reads);
        }
        post(&fs.session, reads);
        fs.session.wait_for(&|| outcome.lock().is_some());
        let n = outcome.lock().take().unwrap_or(Err(Errno::EIO))? as u64;
        let (end, ended) = (first * PAGE + n, n < full);
        if ended {
            self.ends_at(end);
        }
        if n < expected || n == 0 { Ok(Loaded::Short) } else { Ok(Loaded::Upto { end, ended }) }
    }

    /// Pages that one READ may bring from number `first` on; at least one, whatever the file's end is said to be.
    fn most(&self, first: u64) -> u64 {
        let pages = self.node.last_known().size.div_ceil(PAGE);
        pages.saturating_sub(first).clamp(1, u64::from(self.node.fs.agreement.max_read) / PAGE)
    }

    /// Somebody reads `wanted` pages from `number` on, which are there: asks for what he is likely to read next, unless that
    /// is on its way.
    fn go_on(&self, pages: &Arc<Pages>, number: u64, wanted: u64) {
        let mut reads = Vec::new();
        self.add_ahead(pages, number, wanted, &mut reads);
        if !reads.is_empty() {
            post(&self.node.fs.session, reads);
        }
    }

    /// Adds READs for what is still missing of `wanted` pages from `number` on, and one for what is likely to be read after
    /// them.
    fn add_ahead(&self, pages: &Arc<Pages>, number: u64, wanted: u64, reads: &mut Vec<(Read, Box<dyn Landing>)>) {
        // What is there already is passed over, a little each time.
        for _ in 0..AHEAD_STEPS {
            let Some(next) = self.read_ahead.lock().more(number, wanted) else { return };
            let wanted_too = (number + wanted).saturating_sub(next);
            if next >= self.node.last_known().size.div_ceil(PAGE) || !self.has_room_for_fills() {
                return;
            }
            let most = self.most(next);
            let count = self.read_ahead.lock().plan(next, 1, most);
            match pages.reserve(PageKey { owner: self.node.serial, number: next }, count) {
                Ok(loading) => {
                    self.read_ahead.lock().took(next, loading.count());
                    let (read, fill) = self.fill(next, wanted_too, loading);
                    reads.push((read, fill));
                    if wanted_too == 0 {
                        return;
                    }
                }
                Err(NotReserved::Taken) => self.read_ahead.lock().skip(next, count),
                Err(NotReserved::NoMemory) => return,
            }
        }
    }

    /// What pages of mappings are written back through. The host would put what comes through a file that was opened with
    /// `O_APPEND` at its end; such a file is opened once more without.
    fn writer(&self) -> Result<Arc<dyn Writer>> {
        if !self.flags.contains(OpenFlags::APPEND) {
            return Ok(self.handle.clone());
        }
        Ok(self.second(OpenFlags::RDWR)?)
    }

    /// Memory of the cache for page tables. Only a page that is about to be written may be written.
    pub(super) fn map_cached(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        let Some(pages) = &self.node.fs.pages else { return Ok(None) };
        let key = self.key(offset);
        let writer = if access == Access::Write { Some(self.writer()?) } else { None };
        for _ in 0..FAULT_PATIENCE {
            let found = match &writer {
                Some(writer) => pages.find_to_write(key, writer),
                None => pages.find_around(key),
            };
            match found {
                Found::Pages(pins) => {
                    self.count(Tally::PageHits, 1);
                    return Ok(Some(pins.into_run(access == Access::Write)));
                }
                Found::Loading => self.node.fs.session.wait_for(&|| !pages.is_loading(key)),
                Found::Absent => {
                    // What is around a fault is likely to be wanted soon, before it as well as behind it.
                    let low = key.number - key.number % (MOST / 2);
                    let first = if pages.has(PageKey { number: low, ..key }) { key.number } else { low };
                    let wanted = low + MOST / 2 - first;
                    match self.load(pages, first, wanted, true)? {
                        Loaded::NoMemory => return Err(Errno::ENOMEM),
                        // The page itself may still be there.
                        Loaded::Short => _ = self.load(pages, key.number, 1, true)?,
                        Loaded::Upto { .. } | Loaded::Elsewhere => {}
                    }
                }
            }
        }
        Err(Errno::EIO)
    }

    /// Before `len` bytes go to the host in a message: what mappings stored there goes first. For
    /// [`OpenFile::after_writing`]; nothing where there is no cache.
    pub(super) fn before_writing(&self, at: u64, len: usize, append: bool) -> Option<Writing> {
        let pages = self.node.fs.pages.as_ref()?;
        let end = if append { u64::MAX } else { at.saturating_add(len as u64) };
        self.node.write_back(at, end);
        Some(pages.writing(self.node.serial, at, end))
    }

    /// The host has taken `bytes`: the cache gets them too. Whether that was all; else they have to be written again.
    pub(super) fn after_writing(&self, at: u64, bytes: &[u8], writing: Option<&Writing>, append: bool) -> bool {
        let (Some(pages), Some(writing)) = (self.node.cached_pages(), writing) else { return true };
        if append {
            // Where the end was, only the host knows for certain. Nothing that was written back reaches behind it.
            pages.drop_range(self.node.serial, at / PAGE, u64::MAX, Which::Clean);
            return true;
        }
        let file: Arc<dyn Writer> = self.handle.clone();
        writing.done(&file, at, bytes)
    }
}
