//! Dirty pages on their way to the host, and what write(2) does to pages that are there.

use crate::{Content, Count, Found, PAGE, PageKey, Pages, Writer, pieces_of};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, MemBytes, Result};

/// Dirty pages sent in one message, at most: 256 KiB.
const MOST: u64 = 64;

/// A run of dirty pages that is being written back.
struct Batch {
    first: u64,
    slots: Vec<usize>,
    revoked: Vec<u64>,
    file: Arc<dyn Writer>,
}

/// The right to write an inode's pages back, of which there is one. Without it two messages with one page could overtake
/// each other, and one that reaches the host after the file was cut would make it longer again.
pub struct Turn {
    pages: Arc<Pages>,
    owner: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pages.state.lock().turns.remove(&self.owner);
    }
}

/// A write past the cache, as the cache knows it.
#[derive(Debug)]
pub(crate) struct Passing {
    number: u64,
    owner: u64,
    first: u64,
    end: u64,
    /// How much had been written back before.
    pub(crate) began: u64,
    /// A page was written back meanwhile, and then thrown out.
    pub(crate) overtaken: bool,
}

impl Passing {
    /// Whether bytes of this page may be written.
    pub(crate) fn concerns(&self, key: PageKey) -> bool {
        key.owner == self.owner && (self.first..self.end).contains(&key.number)
    }
}

/// A write to the host under way, of which the cache gets to know by [`Writing::done`].
pub struct Writing {
    pages: Arc<Pages>,
    owner: u64,
    number: u64,
    began: u64,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.pages.state.lock().passing.retain(|write| write.number != self.number);
    }
}

impl Writing {
    /// The host has taken `bytes` at offset `at`, written through `file`: the pages that are there get them too, and what
    /// is being read meanwhile does not count. A page that was written back since this began may have carried the old bytes
    /// to the host, after these. If it is still there it is written back again; if it is not, the answer is `false`, and
    /// `bytes` have to be written again.
    #[must_use]
    pub fn done(&self, file: &Arc<dyn Writer>, at: u64, bytes: &[u8]) -> bool {
        let (pages, owner, end) = (&self.pages, self.owner, at + bytes.len() as u64);
        let mut number = at / PAGE;
        pages.doom(owner, number, end.div_ceil(PAGE));
        while number < end.div_ceil(PAGE) {
            let key = PageKey { owner, number };
            let Found::Pages(pins) = pages.find(key, end.div_ceil(PAGE) - number) else {
                number += 1;
                continue;
            };
            let (from, to) = (at.max(number * PAGE), end.min((number + pins.count() as u64) * PAGE));
            pins.fill(from - number * PAGE, &bytes[(from - at) as usize..(to - at) as usize]);
            let mut state = pages.state.lock();
            for (i, slot) in (0..).zip(&pins.slots) {
                let page = state.page(*slot);
                if (page.writing || page.flushed > self.began) && page.content == Content::Ready {
                    page.dirty = true;
                    state.dirty.insert(PageKey { owner, number: number + i });
                    state.writers.entry(owner).or_insert_with(|| file.clone());
                }
            }
            drop(state);
            number += pins.count() as u64;
        }
        !pages.state.lock().passing.iter().any(|write| write.number == self.number && write.overtaken)
    }
}

impl Pages {
    /// Waits until nobody else is writing back pages of the inode.
    pub fn turn(self: &Arc<Self>, owner: u64) -> Turn {
        while !self.state.lock().turns.insert(owner) {
            self.around.pause();
        }
        Turn { pages: self.clone(), owner }
    }

    /// Writes the dirty pages from number `first` up to, not including, `end`, and waits until the host has them, with
    /// those that somebody else is writing. What the host refuses stays in the cache and counts as clean, as on Linux;
    /// why is there to be [taken](Pages::take_error).
    pub fn write_back(self: &Arc<Self>, owner: u64, first: u64, end: u64) {
        let turn = self.turn(owner);
        let mut at = first;
        while let Some(batch) = self.next_batch(owner, at, end) {
            at = batch.first + batch.slots.len() as u64;
            let outcome = self.write_batch(&batch);
            let mut released = Vec::new();
            let done_with = {
                let mut state = self.state.lock();
                for slot in &batch.slots {
                    state.page(*slot).writing = false;
                    released.extend(state.unpin(*slot));
                }
                if let Err(errno) = outcome {
                    state.errors.insert(owner, errno);
                }
                state.done_with_writer(owner)
            };
            self.let_go(Vec::new(), released);
            drop((done_with, batch));
        }
        drop(turn);
    }

    /// The last error of writing back that nobody has taken yet.
    pub fn take_error(&self, owner: u64) -> Option<Errno> {
        self.state.lock().errors.remove(&owner)
    }

    /// Finds the next dirty page at or after `at` and those that follow it, and marks them as being written.
    fn next_batch(&self, owner: u64, at: u64, end: u64) -> Option<Batch> {
        if at >= end {
            return None;
        }
        let mut state = self.state.lock();
        let range = PageKey { owner, number: at }..PageKey { owner, number: end };
        let first = state.dirty.range(range).next()?.number;
        let file = state.writers.get(&owner)?.clone();
        state.flushes += 1;
        let flushed = state.flushes;
        let (mut slots, mut revoked) = (Vec::new(), Vec::new());
        for number in first..end.min(first + MOST) {
            let key = PageKey { owner, number };
            if !state.dirty.contains(&key) {
                break;
            }
            let Some(slot) = state.places.get(&key).copied() else { break };
            let page = state.page(slot);
            // A page that is pinned may be about to get an entry that allows writing: it stays dirty.
            let stays = page.pins > 0;
            page.dirty = stays;
            (page.writing, page.flushed) = (true, flushed);
            page.pins += 1;
            if page.handed_out {
                revoked.push(page.frame);
                page.handed_out = stays;
            }
            if !stays {
                state.dirty.remove(&key);
            }
            slots.push(slot);
        }
        Some(Batch { first, slots, revoked, file })
    }

    fn write_batch(&self, batch: &Batch) -> Result<()> {
        self.revoke(batch.revoked.clone());
        let frames: Vec<u64> = {
            let mut state = self.state.lock();
            batch.slots.iter().map(|slot| state.page(*slot).frame).collect()
        };
        let start = batch.first * PAGE;
        // Nothing past the end of the file is sent: it would make the file longer.
        let size = batch.file.size();
        let len = size.saturating_sub(start).min(frames.len() as u64 * PAGE) as usize;
        // SAFETY: frames of the cache are mapped for ever, and these are pinned; the program may be writing to them, and then
        // they are dirty again.
        let data = |(memory, len): (*mut u8, usize)| unsafe { MemBytes::new(memory, len) };
        let pieces: Vec<_> = pieces_of(self.frames(), &frames, 0, len as u64).map(data).collect();
        batch.file.write(start, &pieces)?;
        self.around.count(Count::Written, frames.len() as u64);
        Ok(())
    }

    /// Notes that bytes from `at` to `end` are about to be written past the cache, after what was dirty there has been
    /// [written back](Pages::write_back).
    pub fn writing(self: &Arc<Self>, owner: u64, at: u64, end: u64) -> Writing {
        let mut state = self.state.lock();
        let number = state.passing.iter().map(|write| write.number + 1).max().unwrap_or(0);
        let (first, end) = (at / PAGE, end.div_ceil(PAGE));
        let began = state.flushes;
        state.passing.push(Passing { number, owner, first, end, began, overtaken: false });
        Writing { pages: self.clone(), owner, number, began }
    }

    /// What is being read of these pages will not count.
    fn doom(&self, owner: u64, first: u64, end: u64) {
        let mut state = self.state.lock();
        let range = PageKey { owner, number: first }..PageKey { owner, number: end };
        let slots: Vec<usize> = state.places.range(range).map(|(_, slot)| *slot).collect();
        for slot in slots {
            if let Content::Loading { doomed } = &mut state.page(slot).content {
                *doomed = true;
            }
        }
    }

    /// Zeroes what lies behind byte `size` in the page that holds it, if that page is there.
    pub fn zero_tail(self: &Arc<Self>, owner: u64, size: u64) {
        let (number, start) = (size / PAGE, size % PAGE);
        if start != 0 && self.has(PageKey { owner, number }) {
            self.patch(owner, size, &vec![0; (PAGE - start) as usize]);
        }
    }

    /// Puts `bytes` at `at` into the page that holds them all, if it is there.
    pub fn patch(self: &Arc<Self>, owner: u64, at: u64, bytes: &[u8]) {
        let number = at / PAGE;
        self.doom(owner, number, number + 1);
        if let Found::Pages(pins) = self.find(PageKey { owner, number }, 1) {
            pins.fill(at % PAGE, bytes);
        }
    }

    /// Writes back everything of every inode.
    pub fn write_back_all(self: &Arc<Self>) {
        let owners: Vec<u64> = self.state.lock().writers.keys().copied().collect();
        for owner in owners {
            self.write_back(owner, 0, u64::MAX);
        }
    }
}
