//! The page cache: copies of file content, for file systems whose content is not in memory already. What comes in messages
//! from the host is kept here where no window shows it, and what is read from an image on a block device.
//!
//! A file system makes a [`Pages`] of its own. It says where content comes from, by filling what it has
//! [reserved](Pages::reserve), and where it goes, by a [`Writer`]; for files that never change [`constant`] does the rest.
//!
//! There is one copy of a page, whoever looks at it: read(2) copies out of it, mappings lead to it, write(2) goes to the
//! host and then into it. It lies in frames of the machine's memory, which come from [`Frames`] and go back when the
//! machine needs them or the content is no longer believed.
//!
//! A page is loading (reserved by whoever asks the host for it; others wait), ready, or an orphan: out of the index, and
//! freed when its last user lets go. Stores through a shared mapping make it dirty: page tables allow writing to dirty pages
//! only, so the first store to a clean one faults and is noticed. Writing back clears the mark *before* it takes the page
//! from page tables and reads it; so a store is either in what is sent, or marks the page again.
//!
//! # Locking
//! One spin lock over the book-keeping. Nobody waits, copies a page or drops a file with it held.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ahead;
pub mod constant;
mod passes;
mod reclaim;
mod seam;
mod slab;
mod store;
mod write_back;

pub use ahead::ReadAhead;
pub use passes::Passes;
pub use seam::{Count, Frames, PAGE, Surroundings, Writer};
pub use store::{Loading, MOST, NotReserved, Which};
pub use write_back::{Turn, Writing};

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, MappedRun, MemBytes, Result, Sink};
use slab::Slab;
use spin::Mutex;
use write_back::Passing;

/// A page of an inode, by the inode's serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// The inode: a number that no other inode of the cache has or has had.
    pub owner: u64,
    /// Which of its pages, the first being 0.
    pub number: u64,
}

/// What is in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Being read from the host. When `doomed`, what comes may be older than what is known by then, and does not count.
    Loading { doomed: bool },
    /// The file's.
    Ready,
    /// Something that was the file's; nobody finds it any more.
    Orphan,
}

#[derive(Debug)]
struct Page {
    key: PageKey,
    /// Its memory; 0 while it is loading.
    frame: u64,
    content: Content,
    pins: u32,
    /// Looked at since the clock's hand came by.
    used: bool,
    /// Page tables may lead here.
    handed_out: bool,
    /// Has stores that the host does not know.
    dirty: bool,
    /// Is being written back.
    writing: bool,
    /// Which writing back was the last.
    flushed: u64,
}

impl Page {
    /// A page that is reserved for whoever reads it.
    fn loading(key: PageKey) -> Self {
        Self {
            key,
            frame: 0,
            content: Content::Loading { doomed: false },
            pins: 0,
            used: false,
            handed_out: false,
            dirty: false,
            writing: false,
            flushed: 0,
        }
    }
}

/// The book-keeping.
#[derive(Default)]
struct State {
    slots: Slab,
    places: BTreeMap<PageKey, usize>,
    dirty: BTreeSet<PageKey>,
    /// A file to write back through for each inode that has dirty pages.
    writers: BTreeMap<u64, Arc<dyn Writer>>,
    /// Inodes whose pages somebody is writing back.
    turns: BTreeSet<u64>,
    /// Errors of writing back that nobody has heard of yet.
    errors: BTreeMap<u64, Errno>,
    /// Frames nobody uses, to which page tables may lead.
    limbo: Vec<u64>,
    hand: usize,
    /// How often something was written back.
    flushes: u64,
    /// Writes under way past the cache.
    passing: Vec<Passing>,
}

/// The cache.
pub struct Pages {
    around: Arc<dyn Surroundings>,
    state: Mutex<State>,
}

/// What a search gave.
pub enum Found {
    /// Pages that follow each other, from the one that was asked for on or, for mappings, around it.
    Pages(Pins),
    /// Somebody is reading it.
    Loading,
    /// It is not there.
    Absent,
}

/// Pages that stay where they are. Dropping it never waits.
pub struct Pins {
    pages: Arc<Pages>,
    /// Number of the first page in its file.
    pub first: u64,
    slots: Vec<usize>,
    frames: Vec<u64>,
}

impl Pages {
    /// An empty cache.
    pub fn new(around: Arc<dyn Surroundings>) -> Arc<Self> {
        Arc::new(Self { around, state: Mutex::default() })
    }

    fn frames(&self) -> &dyn Frames {
        self.around.frames()
    }

    /// Takes pages from page tables and gives their frames back.
    fn let_go(&self, revoked: Vec<u64>, released: Vec<u64>) {
        self.revoke(revoked);
        for frame in released {
            self.frames().release(frame, 0);
        }
    }

    fn revoke(&self, mut frames: Vec<u64>) {
        if !frames.is_empty() {
            frames.sort_unstable();
            self.frames().revoke(&frames);
        }
    }

    /// Frees what could not be freed when it was let go of.
    fn reap(&self) {
        let limbo = core::mem::take(&mut self.state.lock().limbo);
        if !limbo.is_empty() {
            self.let_go(limbo.clone(), limbo);
        }
    }
}

impl Pins {
    /// The pages as a run for page tables.
    pub fn into_run(self, writable: bool) -> MappedRun {
        MappedRun {
            offset: self.first * PAGE,
            phys: self.phys(),
            len: self.count() as u64 * PAGE,
            writable,
            taken_back: true,
            pin: Arc::new(self),
        }
    }

    /// How many there are: never none.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// Guest-physical address of the first one.
    pub fn phys(&self) -> u64 {
        self.frames[0]
    }

    /// Pieces of memory that hold the bytes from `start` (counted from the first page) to `end`.
    fn pieces(&self, start: u64, end: u64) -> impl Iterator<Item = (*mut u8, usize)> {
        pieces_of(self.pages.frames(), &self.frames, start, end)
    }

    /// Copies out bytes; how many it was.
    pub fn put(&self, start: u64, end: u64, sink: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        for (memory, len) in self.pieces(start, end) {
            // SAFETY: frames of the cache are mapped for ever (`Frames`) and stay this file's while they are pinned.
            match sink.put(unsafe { MemBytes::new(memory, len) }) {
                Ok(n) if n == len => done += n,
                Ok(n) => return Ok(done + n),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies in `bytes`, from byte `start` on (counted from the first page), as far as there are pages.
    fn fill(&self, start: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (memory, len) in self.pieces(start, start + bytes.len() as u64) {
            let (now, later) = rest.split_at(len);
            // SAFETY: as in `put`; the program may be writing there too, and then either wins.
            unsafe { memory.copy_from_nonoverlapping(now.as_ptr(), len) };
            rest = later;
        }
    }
}

/// Contiguous pieces of memory that hold the bytes from `start` (counted from the first of `frames`) to `end`, as far as there
/// are frames; where the kernel sees each, and its length.
fn pieces_of(memory: &dyn Frames, frames: &[u64], start: u64, end: u64) -> impl Iterator<Item = (*mut u8, usize)> {
    let end = end.min(frames.len() as u64 * PAGE);
    let mut at = start;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let first = (at / PAGE) as usize;
        let follows = |i: &usize| frames[*i] == frames[first] + (*i - first) as u64 * PAGE;
        let last = (first..frames.len()).take_while(follows).last().unwrap_or(first);
        let stop = end.min((last as u64 + 1) * PAGE);
        let piece = (memory.at(frames[first]).as_ptr().wrapping_add((at % PAGE) as usize), (stop - at) as usize);
        at = stop;
        Some(piece)
    })
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut released = Vec::new();
        {
            let mut state = self.pages.state.lock();
            for slot in &self.slots {
                if let Some(frame) = state.unpin(*slot) {
                    released.push(frame);
                }
            }
        }
        self.pages.let_go(Vec::new(), released);
    }
}

impl State {
    fn page(&mut self, slot: usize) -> &mut Page {
        self.slots.get_mut(slot).expect("a slot that somebody knows of holds a page")
    }

    /// One user less; the frame to give back, if that was an orphan's last.
    fn unpin(&mut self, slot: usize) -> Option<u64> {
        let page = self.page(slot);
        page.pins -= 1;
        if page.pins > 0 || page.content != Content::Orphan {
            return None;
        }
        let (frame, handed_out) = (page.frame, page.handed_out);
        self.slots.remove(slot);
        if handed_out {
            // Entries may have been made after it was taken from page tables the first time. Not now: whoever drops a
            // pin may hold the lock that revoking takes.
            self.limbo.push(frame);
            return None;
        }
        Some(frame)
    }

    /// Takes a page out of the index. What is to be done about its frame: `(revoke, release)`.
    fn remove(&mut self, slot: usize) -> (Option<u64>, Option<u64>) {
        let page = self.page(slot);
        let (key, frame, pins, handed_out) = (page.key, page.frame, page.pins, page.handed_out);
        let flushed = page.flushed;
        page.content = Content::Orphan;
        page.dirty = false;
        self.places.remove(&key);
        self.dirty.remove(&key);
        for write in &mut self.passing {
            write.overtaken |= write.concerns(key) && flushed > write.began;
        }
        if pins == 0 {
            self.slots.remove(slot);
        }
        (handed_out.then_some(frame), (pins == 0).then_some(frame))
    }

    fn insert(&mut self, page: Page) {
        let key = page.key;
        let slot = self.slots.insert(page);
        self.places.insert(key, slot);
    }
}
