//! Finding pages, and bringing them in and throwing them out.

use crate::{Content, Count, Found, PAGE, Page, PageKey, Pages, Pins, State, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Pages given out at once, at most; and what a fault maps at once is aligned to so many.
pub const MOST: u64 = 64;

/// Pages thrown out under one lock, at most: lists of them are small, and others get their turn.
const AT_ONCE: usize = 1024;

/// Which pages are thrown out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those the host has too.
    Clean,
    /// Those with stores that the host does not know as well.
    All,
}

impl Pages {
    /// Whether a page is there, or on its way.
    pub fn has(&self, key: PageKey) -> bool {
        self.state.lock().places.contains_key(&key)
    }

    /// How many pages from this one on are neither there nor on their way, `count` at most.
    pub fn absent(&self, key: PageKey, count: u64) -> u64 {
        let end = PageKey { number: key.number.saturating_add(count), ..key };
        let first = self.state.lock().places.range(key..end).next().map(|(key, _)| key.number);
        first.map_or(count, |first| first - key.number)
    }

    /// Whether somebody is reading it from the host just now.
    pub fn is_loading(&self, key: PageKey) -> bool {
        matches!(self.state.lock().ready(key), Err(Found::Loading))
    }

    /// Pins the page and those after it, `count` at most.
    pub fn find(self: &Arc<Self>, key: PageKey, count: u64) -> Found {
        let mut state = self.state.lock();
        match state.ready(key) {
            Ok(_) => {}
            Err(other) => return other,
        }
        let last = key.number.saturating_add(count.clamp(1, MOST) - 1);
        let slots = state.following(key, last, |_, _| true);
        self.pin(&mut state, key.number, slots)
    }

    /// Pins the page and those of its neighbours whose frames are its neighbours too, for page tables to lead to them.
    pub fn find_around(self: &Arc<Self>, key: PageKey) -> Found {
        let mut state = self.state.lock();
        let slot = match state.ready(key) {
            Ok(slot) => slot,
            Err(other) => return other,
        };
        let frame = state.page(slot).frame;
        let low = key.number - key.number % MOST;
        let mut first = key.number;
        while first > low {
            let before = PageKey { number: first - 1, ..key };
            let expected = frame.wrapping_sub((key.number - before.number) * PAGE);
            match state.ready(before) {
                Ok(slot) if state.page(slot).frame == expected => first -= 1,
                _ => break,
            }
        }
        let start = frame - (key.number - first) * PAGE;
        let follows = |number: u64, page: &Page| page.frame == start + (number - first) * PAGE;
        let slots = state.following(PageKey { number: first, ..key }, low + MOST - 1, follows);
        for slot in &slots {
            state.page(*slot).handed_out = true;
        }
        self.pin(&mut state, first, slots)
    }

    /// Pins the page for page tables that may write to it: from now on it is dirty, and `file` keeps open what it will be
    /// written back through.
    pub fn find_to_write(self: &Arc<Self>, key: PageKey, file: &Arc<dyn Writer>) -> Found {
        let mut state = self.state.lock();
        let slot = match state.ready(key) {
            Ok(slot) => slot,
            Err(other) => return other,
        };
        let page = state.page(slot);
        (page.handed_out, page.dirty) = (true, true);
        state.dirty.insert(key);
        state.writers.entry(key.owner).or_insert_with(|| file.clone());
        self.pin(&mut state, key.number, alloc::vec![slot])
    }

    fn pin(self: &Arc<Self>, state: &mut State, first: u64, slots: Vec<usize>) -> Found {
        let mut frames = Vec::with_capacity(slots.len());
        for slot in &slots {
            let page = state.page(*slot);
            page.pins += 1;
            page.used = true;
            frames.push(page.frame);
        }
        Found::Pages(Pins { pages: self.clone(), first, slots, frames })
    }

    /// Reserves the page and those after it that are not there, `count` at most and as many as there is memory for in one
    /// piece. May wait: other pages may have to go for it.
    ///
    /// # Errors
    /// Why there are none.
    pub fn reserve(self: &Arc<Self>, key: PageKey, count: u64) -> Result<Loading, NotReserved> {
        self.reap();
        let reserved = self.reserve_numbers(key, count);
        if reserved == 0 {
            return Err(NotReserved::Taken);
        }
        let mut order = reserved.next_power_of_two().trailing_zeros() as usize;
        let block = loop {
            match (self.frames().allocate(order), order) {
                (Some(block), _) => break block,
                (None, 0) => {
                    self.publish(key, reserved, None, 0);
                    return Err(NotReserved::NoMemory);
                }
                (None, _) => order -= 1,
            }
        };
        let count = reserved.min(1 << order);
        for extra in count..1 << order {
            self.frames().release(block + extra * PAGE, 0);
        }
        self.publish(PageKey { number: key.number + count, ..key }, reserved - count, None, 0);
        Ok(Loading { pages: self.clone(), key, block, count, valid: 0 })
    }

    fn reserve_numbers(&self, key: PageKey, count: u64) -> u64 {
        let mut state = self.state.lock();
        for i in 0..count {
            let key = PageKey { number: key.number + i, ..key };
            if state.places.contains_key(&key) {
                return i;
            }
            state.insert(Page::loading(key));
        }
        count
    }

    /// Ends the loading of `count` reserved pages. The first `valid` of them have content, in `block`; frames of the others
    /// are given back. With no block nothing has.
    fn publish(&self, key: PageKey, count: u64, block: Option<u64>, valid: u64) {
        let mut released = Vec::new();
        {
            let mut state = self.state.lock();
            for i in 0..count {
                let key = PageKey { number: key.number + i, ..key };
                let Some(slot) = state.places.get(&key).copied() else { continue };
                let frame = block.map(|block| block + i * PAGE);
                let page = state.page(slot);
                if let (Some(frame), true, Content::Loading { doomed: false }) = (frame, i < valid, page.content) {
                    (page.frame, page.content) = (frame, Content::Ready);
                    continue;
                }
                state.places.remove(&key);
                state.slots.remove(slot);
                released.extend(frame);
            }
        }
        self.let_go(Vec::new(), released);
    }

    /// Throws out pages of an inode from number `first` up to, not including, `end`. What is loading will not count.
    pub fn drop_range(&self, owner: u64, first: u64, end: u64, which: Which) {
        let mut next = first;
        while next < end {
            let (mut revoked, mut released) = (Vec::new(), Vec::new());
            {
                let mut state = self.state.lock();
                let range = PageKey { owner, number: next }..PageKey { owner, number: end };
                let some: Vec<(PageKey, usize)> =
                    state.places.range(range).take(AT_ONCE).map(|(k, s)| (*k, *s)).collect();
                next = some.get(AT_ONCE - 1).map_or(end, |(key, _)| key.number + 1);
                for (_, slot) in some {
                    if state.drops(slot, which) {
                        let (revoke, release) = state.remove(slot);
                        revoked.extend(revoke);
                        released.extend(release);
                        self.around.count(Count::Dropped, 1);
                    }
                }
            }
            self.let_go(revoked, released);
        }
        let done_with = self.state.lock().done_with_writer(owner);
        drop(done_with);
    }
}

/// Why no page was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReserved {
    /// The first one is there, or on its way.
    Taken,
    /// There is no memory.
    NoMemory,
}

/// Reserved pages that follow each other, and the memory for them. Dropped without [`Loading::publish`], the pages are
/// given up.
pub struct Loading {
    pages: Arc<Pages>,
    key: PageKey,
    block: u64,
    count: u64,
    valid: u64,
}

impl Loading {
    /// How many pages they are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The memory, to be filled.
    pub fn bytes(&mut self) -> &mut [u8] {
        let start = self.pages.frames().at(self.block).as_ptr();
        // SAFETY: the block is mapped for ever (`Frames`) and ours alone until the pages are published.
        unsafe { core::slice::from_raw_parts_mut(start, (self.count * PAGE) as usize) }
    }

    /// The first `valid` pages have the file's content and may be found; the others are given up.
    pub fn publish(mut self, valid: u64) {
        self.valid = valid;
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.pages.publish(self.key, self.count, Some(self.block), self.valid);
    }
}

impl State {
    /// The slot of a page that is ready.
    fn ready(&mut self, key: PageKey) -> Result<usize, Found> {
        let Some(slot) = self.places.get(&key).copied() else { return Err(Found::Absent) };
        if self.page(slot).content == Content::Ready { Ok(slot) } else { Err(Found::Loading) }
    }

    /// Whether a page is to be thrown out now; what is being read is marked instead.
    fn drops(&mut self, slot: usize, which: Which) -> bool {
        let page = self.page(slot);
        if let Content::Loading { doomed } = &mut page.content {
            *doomed = true;
            return false;
        }
        // The host does not have what is being written back yet: who read the page again now could get what it had before.
        !(page.dirty || page.writing) || which == Which::All
    }

    /// The slots of `key` and the pages after it, up to number `last`, as long as they are ready and `fits`.
    fn following(&self, key: PageKey, last: u64, fits: impl Fn(u64, &Page) -> bool) -> Vec<usize> {
        let numbers = key.number..=last;
        let pages = self.places.range(key..=PageKey { number: last, ..key });
        let taken = pages.zip(numbers).take_while(|((key, slot), number)| {
            let page = self.slots.get(**slot);
            key.number == *number && page.is_some_and(|page| page.content == Content::Ready && fits(*number, page))
        });
        taken.map(|((_, slot), _)| *slot).collect()
    }

    /// The file that dirty pages of an inode were to be written through, when there are none any more. To be dropped
    /// without the lock.
    #[must_use]
    pub(crate) fn done_with_writer(&mut self, owner: u64) -> Option<Arc<dyn Writer>> {
        let all = PageKey { owner, number: 0 }..=PageKey { owner, number: u64::MAX };
        let any = self.dirty.range(all).next().is_some();
        if any { None } else { self.writers.remove(&owner) }
    }
}
