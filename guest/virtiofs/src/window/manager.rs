//! The window manager: chunks in, chunks out, and nobody's chunk pulled away while it is used.
//!
//! Each slot of the window is free, moving (a request about it is under way), mapped, or lost. Whoever finds the chunk
//! it wants moving waits for it; whoever makes a slot move does so alone. So a chunk is mapped once however many
//! want it, and no lock is held across a request, a revocation or a copy:
//!
//! ```text
//!          place             host says yes
//!   free ─────────► moving ────────────────► mapped ──┐ upgrade to writable, release,
//!    ▲                │ ▲                             │ eviction by another chunk
//!    │ host unmapped  │ └─────────────────────────────┘
//!    └────────────────┤
//!                     └─ host will not say ─► lost (never used again)
//! ```
//!
//! A slot's content is only ever looked at after a SETUPMAPPING for it has succeeded, and replacing a chunk needs no
//! REMOVEMAPPING: the new mapping takes the place of the old. After a *failed* one the slot may show the old file,
//! part of the new one or nothing: it is unmapped before anybody may use it again, and given up when even that fails.
//!
//! A slot whose content is lost (the host cut the file short) is taken from its chunk at once: free, or the last pin's
//! business. One that is moving meanwhile is marked, and whoever moves it finds the mark and gives the chunk up.
//!
//! # Locking
//! One spin lock over the book-keeping, held for a few memory accesses and never while waiting. Dropping a [`Pin`]
//! takes it.

use super::Backing;
use super::cost::{Copied, Costs, Range, Way, tells};
use super::policy::Policy;
use super::range::{ChunkKey, Geometry, WindowRange};
use super::slots::{Content, Refusal, Run, State, Step, Want};
use super::touched::pages;
use crate::counters::Tally;
use crate::session::Session;
use crate::{PAGE, Platform, WindowMemory};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_common::cmdline::DaxIo;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

/// The manager of one window.
pub(crate) struct Manager {
    memory: WindowMemory,
    geometry: Geometry,
    backing: Box<dyn Backing>,
    platform: Arc<dyn Platform>,
    session: Arc<Session>,
    state: Mutex<State>,
    /// What content costs; `None` when everything is to go through the window that can.
    costs: Option<Mutex<Costs>>,
}

/// With no costs to weigh: the longest rest of a file, in bytes, that is read by message when the read reaches for the end
/// and the rest is not in the window. Such a read needs a round trip to the host anyway, to learn where the end is: a READ
/// brings that and the bytes in one, where the window would take a GETATTR and a SETUPMAPPING.
const TAIL: u64 = 64 << 10;

impl Manager {
    pub(crate) fn new(
        memory: WindowMemory,
        geometry: Geometry,
        policy: Box<dyn Policy>,
        io: DaxIo,
        backing: Box<dyn Backing>,
        platform: Arc<dyn Platform>,
        session: Arc<Session>,
    ) -> Self {
        let costs = (io == DaxIo::Auto).then(|| Mutex::new(Costs::new(geometry.slots(), geometry.chunk())));
        let state = Mutex::new(State::new(policy, geometry.slots()));
        Self { memory, geometry, backing, platform, session, state, costs }
    }

    /// Which way the bytes `start..end` of a chunk are to go, this time. `news` says that a message would bring the end of
    /// the file as well, which has to be asked for otherwise.
    pub(crate) fn way(&self, key: ChunkKey, start: u64, end: u64, writable: bool, news: bool) -> Way {
        let Some(costs) = &self.costs else {
            return match (self.state.lock().policy.find(key).is_some(), news && end - start <= TAIL) {
                (false, true) => Way::Message,
                // Nothing is mapped for a write alone.
                (false, false) if writable => Way::Message,
                _ => Way::Window,
            };
        };
        let (found, unbooked) = {
            let mut state = self.state.lock();
            (state.find(key, start, end, writable), state.unbooked.take())
        };
        let mut costs = costs.lock();
        costs.hit(unbooked);
        costs.choose(&Range { key, start, end, writable, found, news })
    }

    /// A message that carried so many bytes to or from a file took so long.
    pub(crate) fn message_took(&self, bytes: u64, ns: u64) {
        if let Some(costs) = &self.costs {
            costs.lock().prices.message_took(bytes.div_ceil(PAGE), ns);
        }
    }

    /// Pins a chunk, mapping it first if need be.
    ///
    /// # Errors
    /// See [`Refusal`]; the content has to come by message then.
    pub(crate) fn pin(self: &Arc<Self>, want: &Want) -> core::result::Result<Pin, Refusal> {
        let mut waited = false;
        loop {
            let step = self.state.lock().next_step(want);
            match step {
                Step::Use(slot) => {
                    if !waited {
                        self.session.counters.add(Tally::Hits, 1);
                    }
                    return Ok(self.pin_taken(slot, want));
                }
                Step::Wait => {
                    waited = true;
                    self.platform.pause();
                }
                Step::Map(run) => {
                    self.session.counters.add(Tally::Evictions, run.evicted);
                    return self.fill(run, want);
                }
                Step::Upgrade(slot) => self.upgrade(slot, want)?,
                Step::Refuse(refusal) => return Err(refusal),
            }
        }
    }

    /// Pins a chunk for a copy of its bytes `start..end`, if it is mapped and [`Manager::way`] could not but say that
    /// they are to come from there. Takes the lock for a moment and nothing else.
    pub(crate) fn pin_used(self: &Arc<Self>, key: ChunkKey, start: u64, end: u64) -> Option<Pin> {
        let slot = self.state.lock().pin_used(key, start, end, self.costs.is_some())?;
        Some(Pin { manager: self.clone(), slot, range: self.range(slot), owner: key.owner, copy: true })
    }

    /// The pin that `next_step` has counted.
    fn pin_taken(self: &Arc<Self>, slot: usize, want: &Want) -> Pin {
        Pin { manager: self.clone(), slot, range: self.range(slot), owner: want.key.owner, copy: !want.hand_out }
    }

    fn range(&self, slot: usize) -> WindowRange {
        self.ranges(slot, 1)
    }

    fn ranges(&self, slot: usize, count: usize) -> WindowRange {
        self.geometry.range(slot, count).expect("the book-keeping has as many slots as the geometry")
    }

    /// Bytes of a chunk: a power of two.
    pub(crate) fn chunk(&self) -> u64 {
        self.geometry.chunk()
    }

    /// Maps chunks into slots that are ours alone while they move: all by one request, or the wanted one by itself.
    fn fill(self: &Arc<Self>, run: Run, want: &Want) -> core::result::Result<Pin, Refusal> {
        let Run { slot, count, .. } = run;
        let range = self.ranges(slot, count);
        if run.handed_out {
            self.revoke(range);
        }
        let file_offset = want.key.index * self.chunk();
        let began = self.platform.now_ns();
        let Err(errno) = self.backing.map(want.node, file_offset, range, want.writable) else {
            if let Some(costs) = &self.costs {
                costs.lock().prices.map_took(self.platform.now_ns().saturating_sub(began));
            }
            return self.filled(slot, count, want);
        };
        // All of the range may show anything now.
        let content = self.emptied(&[range]);
        let alone = content == Content::Free && count > 1;
        {
            let mut state = self.state.lock();
            for slot in slot + usize::from(alone)..slot + count {
                state.policy.remove(slot);
                state.settle(slot, content);
            }
        }
        if alone {
            return self.fill(Run { count: 1, handed_out: false, ..run }, want);
        }
        Err(Refusal::Host(errno))
    }

    /// Enters what has been mapped into the books and pins the first.
    fn filled(self: &Arc<Self>, slot: usize, count: usize, want: &Want) -> core::result::Result<Pin, Refusal> {
        self.session.counters.add(Tally::Mappings, count as u64);
        self.session.counters.add(Tally::Ahead, count as u64 - 1);
        let mut state = self.state.lock();
        for slot in slot..slot + count {
            if state.slots[slot].doomed {
                state.policy.remove(slot);
                state.slots[slot].abandon();
            } else {
                state.slots[slot].content = Content::Mapped { writable: want.writable };
            }
        }
        if state.slots[slot].content == Content::Free {
            state.settle(slot, Content::Free);
            return Err(Refusal::Host(Errno::EIO));
        }
        state.slots[slot].pins = 1;
        state.policy.used(slot, want.start, want.end);
        if want.hand_out {
            state.hand_out(slot);
        }
        drop(state);
        Ok(self.pin_taken(slot, want))
    }

    /// Maps a chunk again where it is, writable. Others may be reading it: they see the same bytes throughout.
    fn upgrade(&self, slot: usize, want: &Want) -> core::result::Result<(), Refusal> {
        let (range, file_offset) = (self.range(slot), want.key.index * self.chunk());
        let tried = self.backing.map(want.node, file_offset, range, true);
        let content = match tried {
            Ok(()) => {
                self.session.counters.add(Tally::Mappings, 1);
                Some(Content::Mapped { writable: true })
            }
            // The old mapping may have gone with the failed one: it has to be made anew.
            Err(_) => self
                .backing
                .map(want.node, file_offset, range, false)
                .ok()
                .map(|()| Content::Mapped { writable: false }),
        };
        let handed_out = {
            let mut state = self.state.lock();
            if state.slots[slot].doomed {
                state.policy.remove(slot);
                state.slots[slot].abandon();
                return Err(Refusal::Host(Errno::EIO));
            }
            match content {
                Some(content) => state.slots[slot].content = content,
                None => state.lose(slot),
            }
            state.slots[slot].handed_out
        };
        if content.is_none() {
            self.session.counters.add(Tally::Quarantined, 1);
            if handed_out {
                self.revoke(range);
            }
        }
        tried.map_err(Refusal::Host)
    }

    /// Unmaps ranges that moved and says what their slots hold then.
    fn emptied(&self, ranges: &[WindowRange]) -> Content {
        match self.backing.unmap(ranges) {
            Ok(()) => Content::Free,
            Err(_) => {
                let chunks = ranges.iter().map(|range| range.len() / self.chunk()).sum();
                self.session.counters.add(Tally::Quarantined, chunks);
                Content::Lost
            }
        }
    }

    fn revoke(&self, range: WindowRange) {
        self.session.counters.add(Tally::Revocations, 1);
        self.platform.revoke(range.phys(&self.memory), range.len());
    }

    /// The host has cut files short: what lies in this guest-physical range shows them no longer. Nobody gets these chunks
    /// from here again, and no page table leads to them; whoever holds one finds out by
    /// [`Platform::losses`]. Returns whether any of it was this window's. Never waits.
    pub(crate) fn lose(&self, phys: u64, len: u64) -> bool {
        let start = phys.max(self.memory.phys()) - self.memory.phys();
        let end = phys.saturating_add(len).saturating_sub(self.memory.phys());
        let chunk = self.chunk();
        let (first, last) = (start / chunk, end.div_ceil(chunk).min(self.geometry.slots() as u64));
        if start >= end || first >= last {
            return false;
        }
        {
            let mut state = self.state.lock();
            let State { policy, slots, .. } = &mut *state;
            for (number, slot) in slots.iter_mut().enumerate().take(last as usize).skip(first as usize) {
                match slot.content {
                    Content::Mapped { .. } => {
                        policy.remove(number);
                        slot.abandon();
                        self.session.counters.add(Tally::Lost, 1);
                    }
                    Content::Moving => slot.doomed = true,
                    Content::Free | Content::Orphan | Content::Lost => {}
                }
            }
        }
        self.session.counters.add(Tally::Revocations, 1);
        self.platform.revoke(self.range(first as usize).phys(&self.memory), (last - first) * chunk);
        true
    }

    /// Empties the window, pinned chunks apart. May wait for the host.
    pub(crate) fn clear(&self) {
        self.drop_where(|_| true, 0);
    }

    /// Drops every chunk of an owner that holds no byte before `from`, and takes back from page tables those
    /// that hold some after it. With `from` 0 the owner has nothing in the window afterwards; chunks that are
    /// pinned go when they are let go.
    ///
    /// May wait for the host.
    pub(crate) fn drop_from(&self, owner: u64, from: u64) {
        self.drop_where(|key| key.owner == owner, from);
    }

    fn drop_where(&self, which: impl Fn(ChunkKey) -> bool, from: u64) {
        let chunk = self.chunk();
        let first_gone = from.div_ceil(chunk);
        let (mut revoked, mut moved) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock();
            let State { policy, slots, .. } = &mut *state;
            for (number, slot) in slots.iter_mut().enumerate() {
                let Some(key) = policy.key_of(number) else { continue };
                let mapped = matches!(slot.content, Content::Mapped { .. });
                if !which(key) || !mapped || key.index.saturating_add(1) <= from / chunk {
                    continue;
                }
                if slot.handed_out {
                    revoked.push(number);
                    // Whoever pins it may be about to enter it into page tables: it has to be taken back again later.
                    slot.handed_out = slot.pins > 0;
                }
                if key.index < first_gone {
                    continue;
                }
                if slot.pins > 0 {
                    // A chunk past the end is still a chunk of this file; only the file's own end makes it nobody's.
                    if from == 0 {
                        slot.content = Content::Orphan;
                        policy.remove(number);
                    }
                    continue;
                }
                slot.content = Content::Moving;
                policy.remove(number);
                moved.push(number);
            }
        }
        for slot in revoked {
            self.revoke(self.range(slot));
        }
        if !moved.is_empty() {
            let ranges: Vec<_> = moved.iter().map(|slot| self.range(*slot)).collect();
            let content = self.emptied(&ranges);
            let mut state = self.state.lock();
            for slot in moved {
                state.settle(slot, content);
            }
        }
    }
}

/// A chunk that stays where it is. Dropping it never waits.
pub(crate) struct Pin {
    manager: Arc<Manager>,
    slot: usize,
    range: WindowRange,
    owner: u64,
    /// It is a copy's, not a page fault's.
    copy: bool,
}

impl Pin {
    /// Guest-physical address of the chunk.
    pub(crate) fn phys(&self) -> u64 {
        self.range.phys(&self.manager.memory)
    }

    /// Has `copy` move the bytes `start..end` from or to the chunk, or fewer, and notes what was used and what it took. The
    /// clock is not asked where the answer would tell nothing: for short copies it would be a good part of their price.
    pub(crate) fn used(
        &self,
        start: u64,
        end: u64,
        writable: bool,
        copy: impl FnOnce() -> Result<usize>,
    ) -> Result<usize> {
        let Some(costs) = &self.manager.costs else { return copy() };
        let (state, platform) = (&self.manager.state, &self.manager.platform);
        let (missing, fresh) = {
            let slot = &state.lock().slots[self.slot];
            (slot.missing(start, end, writable), slot.fresh())
        };
        let began = tells(pages(start, end).len() as u64, missing).then(|| platform.now_ns());
        let bytes = copy()?;
        let took = began.map(|began| platform.now_ns().saturating_sub(began));
        let end = start + bytes as u64;
        let first = if missing > 0 { state.lock().slots[self.slot].touch(start, end, writable) } else { 0 };
        if let Some(ns) = took {
            let pages = pages(start, end).len() as u64;
            let came = costs.lock().copied(&Copied { owner: self.owner, pages, first, fresh, writable }, ns);
            if state.lock().slots[self.slot].came(came) {
                costs.lock().came_whole(self.owner);
            }
        }
        Ok(bytes)
    }

    /// Where the kernel sees `len` bytes of the chunk from `start`; valid while the pin lives.
    ///
    /// # Errors
    /// `EINVAL` when they are not all in the chunk.
    pub(crate) fn bytes(&self, start: u64, len: u64) -> Result<*mut u8> {
        self.range.part(start, len).map(|part| part.virt(&self.manager.memory)).ok_or(Errno::EINVAL)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.manager.state.lock().unpin(self.slot, self.copy);
    }
}

#[cfg(test)]
mod tests;
