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
use super::policy::{Placement, Policy};
use super::range::{CHUNK, ChunkKey, Geometry, WindowRange};
use crate::counters::Tally;
use crate::ops::NodeId;
use crate::session::Session;
use crate::{Platform, WindowMemory};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing of ours.
    Free,
    /// A request about it is under way.
    Moving,
    /// A chunk of a file.
    Mapped { writable: bool },
    /// A chunk whose owner or content is gone, still pinned by somebody.
    Orphan,
    /// Nobody knows, and the host will not make it free.
    Lost,
}

/// Chunks last given to page tables that no other chunk for page tables may push out. One instruction can need several
/// pages at once (its own, what it reads, what it writes, each across a boundary); were any of them to give way to the
/// next, they would take turns for ever. Where that leaves no room the page comes by message.
const KEPT_FOR_INSTRUCTION: u64 = 6;

#[derive(Debug, Clone, Copy)]
struct Slot {
    content: Content,
    pins: u32,
    /// Page tables may lead here.
    handed_out: bool,
    /// Which of all the times that a chunk was given to page tables was the last one here.
    handed_out_at: u64,
    /// Content was lost while it moved, maybe that which is being mapped.
    doomed: bool,
}

impl Slot {
    fn empty(content: Content) -> Self {
        Self { content, pins: 0, handed_out: false, handed_out_at: 0, doomed: false }
    }

    /// Takes it from its chunk, which it shows no longer.
    fn abandon(&mut self) {
        self.content = if self.pins > 0 { Content::Orphan } else { Content::Free };
        self.doomed = false;
        // Whoever pins it may be about to enter it into page tables: it has to be taken back again later.
        self.handed_out = self.pins > 0;
    }

    /// Whether the policy must leave it alone.
    fn blocked(&self) -> bool {
        self.pins > 0 || !matches!(self.content, Content::Free | Content::Mapped { .. })
    }
}

struct State {
    policy: Box<dyn Policy>,
    slots: Vec<Slot>,
    /// How often a chunk was given to page tables.
    hand_outs: u64,
}

/// What a chunk is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    pub(crate) key: ChunkKey,
    /// Whose chunk it is on the host.
    pub(crate) node: NodeId,
    /// The bytes of the chunk that will be used.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// It will be written through the window.
    pub(crate) writable: bool,
    /// Page tables will lead to it.
    pub(crate) hand_out: bool,
    /// Map it if it is not there. Without this only what is there already counts.
    pub(crate) fetch: bool,
}

/// Why a chunk is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not in the window, and fetching was not asked for.
    Absent,
    /// Every slot is in use.
    Busy,
    /// The host will not map it.
    Host(Errno),
}

/// What the book-keeping says has to be done.
enum Step {
    Use(usize),
    Wait,
    Map { slot: usize, evicted: bool, handed_out: bool },
    Upgrade(usize),
    Refuse(Refusal),
}

/// The manager of one window.
pub(crate) struct Manager {
    memory: WindowMemory,
    geometry: Geometry,
    backing: Box<dyn Backing>,
    platform: Arc<dyn Platform>,
    session: Arc<Session>,
    state: Mutex<State>,
}

impl Manager {
    pub(crate) fn new(
        memory: WindowMemory,
        geometry: Geometry,
        policy: Box<dyn Policy>,
        backing: Box<dyn Backing>,
        platform: Arc<dyn Platform>,
        session: Arc<Session>,
    ) -> Self {
        let slots = alloc::vec![Slot::empty(Content::Free); geometry.slots()];
        let state = Mutex::new(State { policy, slots, hand_outs: 0 });
        Self { memory, geometry, backing, platform, session, state }
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
                    return Ok(self.pin_taken(slot));
                }
                Step::Wait => {
                    waited = true;
                    self.platform.pause();
                }
                Step::Map { slot, evicted, handed_out } => {
                    if evicted {
                        self.session.counters.add(Tally::Evictions, 1);
                    }
                    return self.fill(slot, want, handed_out);
                }
                Step::Upgrade(slot) => self.upgrade(slot, want)?,
                Step::Refuse(refusal) => return Err(refusal),
            }
        }
    }

    /// Whether a chunk is in the window now, or on its way.
    pub(crate) fn has(&self, key: ChunkKey) -> bool {
        self.state.lock().policy.find(key).is_some()
    }

    /// The pin that `next_step` has counted.
    fn pin_taken(self: &Arc<Self>, slot: usize) -> Pin {
        Pin { manager: self.clone(), slot, range: self.range(slot) }
    }

    fn range(&self, slot: usize) -> WindowRange {
        self.geometry.range(slot).expect("the book-keeping has as many slots as the geometry")
    }

    /// Maps a chunk into a slot that is ours alone while it moves.
    fn fill(self: &Arc<Self>, slot: usize, want: &Want, handed_out: bool) -> core::result::Result<Pin, Refusal> {
        let range = self.range(slot);
        if handed_out {
            self.revoke(range);
        }
        let file_offset = want.key.index * CHUNK;
        match self.backing.map(want.node, file_offset, range, want.writable) {
            Ok(()) => {
                self.session.counters.add(Tally::Mappings, 1);
                let mut state = self.state.lock();
                if state.slots[slot].doomed {
                    state.policy.remove(slot);
                    state.slots[slot].abandon();
                    return Err(Refusal::Host(Errno::EIO));
                }
                state.policy.used(slot, want.start, want.end);
                state.slots[slot] = Slot { pins: 1, ..Slot::empty(Content::Mapped { writable: want.writable }) };
                if want.hand_out {
                    state.hand_out(slot);
                }
                drop(state);
                Ok(self.pin_taken(slot))
            }
            Err(errno) => {
                let content = self.emptied(&[range]);
                let mut state = self.state.lock();
                state.policy.remove(slot);
                state.slots[slot] = Slot::empty(content);
                Err(Refusal::Host(errno))
            }
        }
    }

    /// Maps a chunk again where it is, writable. Others may be reading it: they see the same bytes throughout.
    fn upgrade(&self, slot: usize, want: &Want) -> core::result::Result<(), Refusal> {
        let (range, file_offset) = (self.range(slot), want.key.index * CHUNK);
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
            state.slots[slot].content = content.unwrap_or(Content::Lost);
            if content.is_none() {
                state.policy.remove(slot);
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
                self.session.counters.add(Tally::Quarantined, ranges.len() as u64);
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
        let (first, last) = (start / CHUNK, end.div_ceil(CHUNK).min(self.geometry.slots() as u64));
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
        self.platform.revoke(self.range(first as usize).phys(&self.memory), (last - first) * CHUNK);
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
        let first_gone = from.div_ceil(CHUNK);
        let (mut revoked, mut moved) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock();
            let State { policy, slots, .. } = &mut *state;
            for (number, slot) in slots.iter_mut().enumerate() {
                let Some(key) = policy.key_of(number) else { continue };
                let mapped = matches!(slot.content, Content::Mapped { .. });
                if !which(key) || !mapped || key.index.saturating_add(1) <= from / CHUNK {
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
                state.slots[slot] = Slot::empty(content);
            }
        }
    }
}

impl State {
    /// Notes that page tables are about to lead to a slot.
    fn hand_out(&mut self, slot: usize) {
        self.hand_outs += 1;
        self.slots[slot].handed_out = true;
        self.slots[slot].handed_out_at = self.hand_outs;
    }

    /// Decides, and leaves the books as if it were done: a pin counted, or a slot moving for the caller alone.
    fn next_step(&mut self, want: &Want) -> Step {
        let Some(slot) = self.policy.find(want.key) else {
            return self.make_room(want);
        };
        let State { policy, slots, .. } = self;
        let held = &mut slots[slot];
        match held.content {
            Content::Mapped { writable } if want.writable && !writable => {
                held.content = Content::Moving;
                Step::Upgrade(slot)
            }
            Content::Mapped { .. } => match held.pins.checked_add(1) {
                Some(pins) => {
                    held.pins = pins;
                    policy.used(slot, want.start, want.end);
                    if want.hand_out {
                        self.hand_out(slot);
                    }
                    Step::Use(slot)
                }
                None => Step::Refuse(Refusal::Busy),
            },
            _ => Step::Wait,
        }
    }

    fn make_room(&mut self, want: &Want) -> Step {
        if !want.fetch {
            return Step::Refuse(Refusal::Absent);
        }
        let (slots, hand_outs) = (&self.slots, self.hand_outs);
        let kept = |slot: &Slot| slot.handed_out && slot.handed_out_at + KEPT_FOR_INSTRUCTION > hand_outs;
        let blocked = |slot: usize| slots[slot].blocked() || want.hand_out && kept(&slots[slot]);
        let Some(Placement { slot, evicted }) = self.policy.place(want.key, &blocked) else {
            return Step::Refuse(Refusal::Busy);
        };
        let handed_out = self.slots[slot].handed_out;
        self.slots[slot] = Slot::empty(Content::Moving);
        Step::Map { slot, evicted: evicted.is_some(), handed_out }
    }
}

/// A chunk that stays where it is. Dropping it never waits.
pub(crate) struct Pin {
    manager: Arc<Manager>,
    slot: usize,
    range: WindowRange,
}

impl Pin {
    /// Guest-physical address of the chunk.
    pub(crate) fn phys(&self) -> u64 {
        self.range.phys(&self.manager.memory)
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
        let mut state = self.manager.state.lock();
        let slot = &mut state.slots[self.slot];
        slot.pins -= 1;
        if slot.pins == 0 && slot.content == Content::Orphan {
            // `handed_out` stays: it is for the next chunk here to have it revoked.
            slot.content = Content::Free;
        }
    }
}

#[cfg(test)]
mod tests;
