//! The book-keeping behind the manager: what each slot holds, and what has to be done for who wants a chunk.

use super::cost::{Found, Presence};
use super::folios::Came;
use super::policy::{Placement, Policy};
use super::range::ChunkKey;
use super::touched::{Touched, pages};
use crate::ops::NodeId;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use diolkos_vfs::Errno;
use hashbrown::HashMap;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
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
/// next, they would take turns for ever. A window always has more slots than this.
pub(super) const KEPT_FOR_INSTRUCTION: u64 = 6;

/// With fewer slots than this a chunk for page tables may have to be refused: those kept for an instruction and those of
/// copies under way may be all there are. A window begins with no fewer (`range::MIN_SLOTS`), but may lose some.
const ENOUGH: usize = 2 * (KEPT_FOR_INSTRUCTION as usize + 2);

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) content: Content,
    pub(super) pins: u32,
    /// Those of the pins that copies have.
    pub(super) copies: u32,
    /// Page tables may lead here.
    pub(super) handed_out: bool,
    /// Which of all the times that a chunk was given to page tables was the last one here.
    pub(super) handed_out_at: u64,
    /// Content was lost while it moved, maybe that which is being mapped.
    pub(super) doomed: bool,
    /// Pages that the kernel has used since the chunk was mapped.
    pub(super) touched: Option<Box<Touched>>,
}

impl Slot {
    pub(super) fn empty(content: Content) -> Self {
        Self { content, pins: 0, copies: 0, handed_out: false, handed_out_at: 0, doomed: false, touched: None }
    }

    /// Takes it from its chunk, which it shows no longer.
    pub(super) fn abandon(&mut self) {
        self.content = if self.pins > 0 { Content::Orphan } else { Content::Free };
        self.doomed = false;
        self.touched = None;
        // Whoever pins it may be about to enter it into page tables: it has to be taken back again later.
        self.handed_out = self.pins > 0;
    }

    /// How many pages with those bytes the kernel has not used yet.
    pub(super) fn missing(&self, start: u64, end: u64, writable: bool) -> u64 {
        let none = || pages(start, end).len() as u64;
        self.touched.as_ref().map_or_else(none, |touched| touched.missing(start, end, writable))
    }

    /// No page has been used since the chunk was mapped.
    pub(super) fn fresh(&self) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.none())
    }

    /// The kernel has used bytes of the chunk; returns how many pages for the first time.
    pub(super) fn touch(&mut self, start: u64, end: u64, writable: bool) -> u64 {
        if !matches!(self.content, Content::Mapped { .. }) {
            return 0;
        }
        let touched = self.touched.get_or_insert_default();
        let first = touched.missing(start, end, writable);
        touched.touch(start, end, writable);
        first
    }

    /// Says how pages of the chunk came when they were read first; see [`Touched::came`].
    pub(super) fn came(&mut self, how: Came) -> bool {
        self.touched.as_mut().is_some_and(|touched| touched.came(how))
    }

    /// Whether the policy must leave it alone.
    fn blocked(&self) -> bool {
        self.pins > 0 || !matches!(self.content, Content::Free | Content::Mapped { .. })
    }
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
    /// A copy of the content would do.
    pub(crate) copy_will_do: bool,
    /// Map it if it is not there. Without this only what is there already counts.
    pub(crate) fetch: bool,
    /// How many of the chunks that follow it are worth mapping with it, if there is room beside it.
    pub(crate) ahead: usize,
}

/// Why a chunk is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not in the window, and fetching was not asked for.
    Absent,
    /// Every slot is in use.
    Busy,
    /// It would not stay: it was taken out of page tables, and wanted there again, too often.
    Restless,
    /// The host will not map it.
    Host(Errno),
}

/// Neighbouring slots that are to get neighbouring chunks, and belong to nobody else meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) slot: usize,
    pub(super) count: usize,
    /// How many chunks have to go for it.
    pub(super) evicted: u64,
    /// Page tables may lead to some of them.
    pub(super) handed_out: bool,
}

/// What the book-keeping says has to be done.
pub(super) enum Step {
    Use(usize),
    Wait,
    Map(Run),
    Upgrade(usize),
    Refuse(Refusal),
}

pub(super) struct State {
    pub(super) policy: Box<dyn Policy>,
    pub(super) slots: Vec<Slot>,
    /// Slots that are lost.
    lost: usize,
    /// Slots that copies pin, or will when their chunk is mapped.
    pub(super) held_by_copies: usize,
    /// How often a chunk was given to page tables.
    hand_outs: u64,
    restless: Restless,
    /// What [`State::pin_used`] was used for, which the costs have not heard of.
    pub(super) unbooked: Hits,
}

/// Uses of pages that were in the window and had been used before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits {
    pub(super) times: u64,
    pub(super) pages: u64,
}

impl Hits {
    /// What there is, which is nothing from then on.
    pub(super) fn take(&mut self) -> Self {
        core::mem::take(self)
    }
}

/// How often chunks have been pushed out while page tables led to them. A program whose private mappings (its text, its
/// libraries) do not fit into the window is better off with copies of what keeps coming back: each return costs more
/// than the copy would.
#[derive(Default)]
struct Restless {
    returns: HashMap<ChunkKey, u32>,
    order: VecDeque<ChunkKey>,
}

/// Pushed out so often, a chunk is copied instead. The first few times do not count: programs start, and stop.
const RESTLESS: u32 = 3;
/// Chunks remembered.
const REMEMBERED: usize = 4096;

impl Restless {
    fn pushed_out(&mut self, key: ChunkKey) {
        if !self.returns.contains_key(&key) {
            if self.returns.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.returns.remove(&oldest);
            }
            self.order.push_back(key);
        }
        *self.returns.entry(key).or_default() += 1;
    }

    fn is(&self, key: ChunkKey) -> bool {
        self.returns.get(&key).is_some_and(|returns| *returns >= RESTLESS)
    }
}

impl State {
    pub(super) fn new(policy: Box<dyn Policy>, slots: usize) -> Self {
        Self {
            policy,
            slots: (0..slots).map(|_| Slot::empty(Content::Free)).collect(),
            lost: 0,
            held_by_copies: 0,
            hand_outs: 0,
            restless: Restless::default(),
            unbooked: Hits::default(),
        }
    }

    /// What there is of a range, as it is needed.
    pub(super) fn find(&self, key: ChunkKey, start: u64, end: u64, writable: bool) -> Found {
        let Some(slot) = self.policy.find(key).map(|slot| &self.slots[slot]) else {
            let presence = if self.policy.has_room() { Presence::Placed } else { Presence::Absent };
            return Found { presence, first: pages(start, end).len() as u64, fresh: true };
        };
        let mapped = matches!(slot.content, Content::Mapped { writable: w } if w || !writable);
        let presence = if mapped { Presence::Mapped } else { Presence::Placed };
        Found { presence, first: slot.missing(start, end, writable), fresh: slot.fresh() }
    }

    /// Slots that can be had.
    fn usable(&self) -> usize {
        self.slots.len() - self.lost
    }

    /// A slot that moved has come to rest, with nobody's chunk in it.
    pub(super) fn settle(&mut self, slot: usize, content: Content) {
        self.lost += usize::from(content == Content::Lost);
        self.held_by_copies -= usize::from(self.slots[slot].copies > 0);
        self.slots[slot] = Slot::empty(content);
    }

    /// The host has not restored the chunk that moved in a slot, which may be pinned.
    pub(super) fn lose(&mut self, slot: usize) {
        self.policy.remove(slot);
        self.lost += 1;
        self.slots[slot].content = Content::Lost;
    }

    /// A copy pins the slot, or is about to.
    fn copy_begins(&mut self, slot: usize) {
        self.held_by_copies += usize::from(self.slots[slot].copies == 0);
        self.slots[slot].copies += 1;
    }

    /// A pin is let go of.
    pub(super) fn unpin(&mut self, slot: usize, copy: bool) {
        let held = &mut self.slots[slot];
        held.pins -= 1;
        if copy {
            held.copies -= 1;
            self.held_by_copies -= usize::from(held.copies == 0);
        }
        if held.pins == 0 && held.content == Content::Orphan {
            // `handed_out` stays: it is for the next chunk here to have it revoked.
            held.content = Content::Free;
        }
    }

    /// Notes that page tables are about to lead to a slot.
    pub(super) fn hand_out(&mut self, slot: usize) {
        self.hand_outs += 1;
        self.slots[slot].handed_out = true;
        self.slots[slot].handed_out_at = self.hand_outs;
    }

    /// Decides, and leaves the books as if it were done: a pin counted, or slots moving for the caller alone.
    ///
    /// A copy that holds a pin may fault, and its fault wait for a slot. So that they never all wait for each other, copies
    /// pin no more than half of the slots; faults, which hold a pin for as long as it takes to write page-table entries,
    /// always find one among the others in the end.
    pub(super) fn next_step(&mut self, want: &Want) -> Step {
        if want.hand_out {
            return self.step(want);
        }
        let one_more = self.policy.find(want.key).is_none_or(|slot| self.slots[slot].copies == 0);
        if one_more && self.held_by_copies >= self.usable().div_ceil(2) {
            return Step::Refuse(Refusal::Busy);
        }
        let step = self.step(want);
        if let Step::Use(slot) | Step::Map(Run { slot, .. }) = step {
            self.copy_begins(slot);
        }
        step
    }

    /// Pins the slot of a chunk for a copy, if it is mapped and copies have not too many pins. If first uses of pages have a
    /// price (`weighed`) all those with bytes of `start..end` must have been used.
    pub(super) fn pin_used(&mut self, key: ChunkKey, start: u64, end: u64, weighed: bool) -> Option<usize> {
        let number = self.policy.find(key)?;
        let most = self.usable().div_ceil(2);
        let slot = &mut self.slots[number];
        let mapped = matches!(slot.content, Content::Mapped { .. });
        let used = !weighed || slot.touched.as_ref().is_some_and(|touched| touched.missing(start, end, false) == 0);
        if !mapped || !used || slot.copies == 0 && self.held_by_copies >= most {
            return None;
        }
        slot.pins = slot.pins.checked_add(1)?;
        self.copy_begins(number);
        self.policy.used(number, start, end);
        self.unbooked.times += 1;
        self.unbooked.pages += pages(start, end).len() as u64;
        Some(number)
    }

    fn step(&mut self, want: &Want) -> Step {
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
        let may_wait = want.hand_out && self.usable() >= ENOUGH;
        let State { policy, slots, hand_outs, restless, .. } = self;
        if want.copy_will_do && restless.is(want.key) {
            return Step::Refuse(Refusal::Restless);
        }
        let kept = |slot: &Slot| slot.handed_out && slot.handed_out_at + KEPT_FOR_INSTRUCTION > *hand_outs;
        let blocked = |slot: usize| slots[slot].blocked() || want.hand_out && kept(&slots[slot]);
        let Some(Placement { slot, evicted }) = policy.place(want.key, &blocked) else {
            return if may_wait { Step::Wait } else { Step::Refuse(Refusal::Busy) };
        };
        if let Some(gone) = evicted.filter(|_| slots[slot].handed_out) {
            restless.pushed_out(gone);
        }
        let mut run = Run { slot, count: 1, evicted: evicted.is_some().into(), handed_out: false };
        // Those that follow it in the file, as long as those that follow in the window cost nobody anything.
        for next in (want.key.index..).skip(1).take(want.ahead) {
            let (key, slot) = (ChunkKey { index: next, ..want.key }, slot + run.count);
            if slot >= slots.len() || blocked(slot) || policy.find(key).is_some() {
                break;
            }
            let Some(evicted) = policy.place_at(key, slot) else { break };
            run.count += 1;
            run.evicted += u64::from(evicted.is_some());
        }
        for slot in &mut slots[run.slot..run.slot + run.count] {
            run.handed_out |= slot.handed_out;
            *slot = Slot::empty(Content::Moving);
        }
        Step::Map(run)
    }
}
