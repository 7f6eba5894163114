//! The question a policy answers: which slot of the window a chunk gets, and who has to go for it.

use super::range::ChunkKey;
use diolkos_common::cmdline::DaxPolicy;

/// A slot given to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) slot: usize,
    /// Who was there.
    pub(crate) evicted: Option<ChunkKey>,
}

/// Book-keeping of who sits where. It maps nothing and locks nothing; the manager does.
pub(crate) trait Policy: Send {
    /// Where a chunk is.
    fn find(&self, key: ChunkKey) -> Option<usize>;

    /// Which chunk has a slot.
    fn key_of(&self, slot: usize) -> Option<ChunkKey>;

    /// Whether some slot has no chunk. (Nobody may be able to use it all the same.)
    fn has_room(&self) -> bool;

    /// Gives a slot to a chunk that has none. Slots that are `blocked` are neither used nor emptied; `None`
    /// when there is no other.
    fn place(&mut self, key: ChunkKey, blocked: &dyn Fn(usize) -> bool) -> Option<Placement>;

    /// Gives this slot to a chunk that has none, if the slot is empty, or its chunk is the one that would go next anyway;
    /// says who was there. For chunks that nobody has asked for yet: they must not push out what may be used.
    fn place_at(&mut self, key: ChunkKey, slot: usize) -> Option<Option<ChunkKey>>;

    /// The bytes `start..end` of the chunk in a slot are used. Called after `place` too.
    fn used(&mut self, slot: usize, start: u64, end: u64);

    /// The chunk in a slot is gone; the slot is free.
    fn remove(&mut self, slot: usize);
}

/// The policy of that name for a window of so many slots; `None` for no window.
pub(crate) fn policy(name: DaxPolicy, slots: usize) -> Option<alloc::boxed::Box<dyn Policy>> {
    match name {
        DaxPolicy::Clock => Some(alloc::boxed::Box::new(super::clock::Clock::new(slots))),
        DaxPolicy::Lifo => Some(alloc::boxed::Box::new(super::lifo::Lifo::new(slots))),
        DaxPolicy::Off => None,
    }
}
