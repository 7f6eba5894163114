//! Reading and mapping files that never change, as those of images: all that is not in the cache is read, and stays true.

use crate::{Found, MOST, NotReserved, PAGE, PageKey, Pages, ReadAhead};
use alloc::sync::Arc;
use diolkos_vfs::{Errno, MappedRun, Result, Sink};
use spin::Mutex;

/// Pages read at once, at most: 1 MiB.
const READ_MOST: u64 = 256;

/// How often a page is read without being there afterwards, before we do without the cache: others want the memory more.
const PATIENCE: u32 = 8;

/// The same for a page fault, which cannot do without.
const FAULT_PATIENCE: u32 = 1 << 10;

/// The content of a file that never changes.
pub trait Constant: Send + Sync {
    /// The inode, by a number that no other inode of the cache has.
    fn owner(&self) -> u64;

    /// Its length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `offset` on; all of it lies in the file. May wait.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// What reading pages into the cache came to.
enum Loaded {
    /// They are there, or somebody else reads them.
    Yes,
    /// There is no memory.
    NoMemory,
}

/// An open file: a content, seen through a cache.
pub struct Reader<C> {
    pages: Arc<Pages>,
    content: C,
    read_ahead: Mutex<ReadAhead>,
    fault_ahead: Mutex<ReadAhead>,
}

impl<C: Constant> Reader<C> {
    /// Opens it.
    pub fn new(pages: Arc<Pages>, content: C) -> Self {
        Self { pages, content, read_ahead: Mutex::default(), fault_ahead: Mutex::default() }
    }

    /// The content.
    pub fn content(&self) -> &C {
        &self.content
    }

    fn key(&self, number: u64) -> PageKey {
        PageKey { owner: self.content.owner(), number }
    }

    /// Reads from byte `offset` until the sink is full or the file ends.
    ///
    /// # Errors
    /// As [`Constant::read`] and [`Sink::put`], when nothing was read.
    pub fn read(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let (mut done, mut tries) = (0, 0);
        while sink.room() > 0 {
            let at = offset.saturating_add(done as u64);
            let len = self.content.size().saturating_sub(at).min(sink.room() as u64);
            if len == 0 {
                break;
            }
            match self.read_piece(at, len, &mut tries, sink) {
                Ok(Some(0)) | Err(_) if done > 0 && tries > PATIENCE => break,
                Ok(Some(bytes)) => done += bytes,
                Ok(None) => {}
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// One step of reading: copies what is there, or (`None`) sees to it that it is.
    fn read_piece(&self, at: u64, len: u64, tries: &mut u32, sink: &mut dyn Sink) -> Result<Option<usize>> {
        let (first, wanted) = (at / PAGE, (at + len).div_ceil(PAGE) - at / PAGE);
        match self.pages.find(self.key(first), wanted) {
            Found::Pages(pins) => {
                *tries = 0;
                return pins.put(at % PAGE, at % PAGE + len, sink).map(Some);
            }
            Found::Loading => {
                self.pages.around.pause();
                return Ok(None);
            }
            Found::Absent => *tries += 1,
        }
        match self.load(first, wanted, &self.read_ahead)? {
            Loaded::Yes if *tries < PATIENCE => Ok(None),
            Loaded::Yes | Loaded::NoMemory => {
                let mut buffer = [0; 512];
                let piece = &mut buffer[..(len as usize).min(512)];
                self.content.read(at, piece)?;
                sink.put((&*piece).into()).map(Some)
            }
        }
    }

    /// Reads pages from number `first` on, as many as read-ahead thinks fit and at least one of the `wanted` ones.
    fn load(&self, first: u64, wanted: u64, ahead: &Mutex<ReadAhead>) -> Result<Loaded> {
        let most = self.content.size().div_ceil(PAGE).saturating_sub(first).clamp(1, READ_MOST);
        let count = ahead.lock().plan(first, wanted.min(most), most);
        let mut loading = match self.pages.reserve(self.key(first), count) {
            Ok(loading) => loading,
            Err(NotReserved::NoMemory) => return Ok(Loaded::NoMemory),
            Err(NotReserved::Taken) => return Ok(Loaded::Yes),
        };
        ahead.lock().took(first, loading.count());
        let (start, memory) = (first * PAGE, loading.bytes());
        let len = self.content.size().saturating_sub(start).min(memory.len() as u64) as usize;
        let (content, rest) = memory.split_at_mut(len);
        self.content.read(start, content)?;
        rest.fill(0);
        let count = loading.count();
        loading.publish(count);
        Ok(Loaded::Yes)
    }

    /// Memory for page tables that holds the byte at `offset`, not to be written.
    ///
    /// # Errors
    /// As [`Constant::read`]; `EINVAL` at or past the end, `ENOMEM`.
    pub fn map(&self, offset: u64) -> Result<Option<MappedRun>> {
        if offset >= self.content.size() {
            return Err(Errno::EINVAL);
        }
        let number = offset / PAGE;
        for _ in 0..FAULT_PATIENCE {
            match self.pages.find_around(self.key(number)) {
                Found::Pages(pins) => return Ok(Some(pins.into_run(false))),
                Found::Loading => {
                    while self.pages.is_loading(self.key(number)) {
                        self.pages.around.pause();
                    }
                }
                Found::Absent => {
                    // What is around a fault is likely to be wanted soon, before it as well as behind it.
                    let low = number - number % (MOST / 2);
                    let first = if self.pages.has(self.key(low)) { number } else { low };
                    if let Loaded::NoMemory = self.load(first, low + MOST / 2 - first, &self.fault_ahead)? {
                        return Err(Errno::ENOMEM);
                    }
                }
            }
        }
        Err(Errno::EIO)
    }
}
