//! The thesis' policy, kept for comparison: the window is a stack of chunks, and the newest goes first.
//!
//! Chunks are put on top; runs of neighbours in one file that are neighbours in the window form a mapping.
//! Making room pops chunks off the top, if need be part of a mapping. What the thesis did not have: chunks in use,
//! which are passed over, and files that are forgotten, whose slots become holes that are filled lowest first.

use super::policy::{Placement, Policy};
use super::range::ChunkKey;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// The stack.
pub(crate) struct Lifo {
    slots: Vec<Option<ChunkKey>>,
    places: HashMap<ChunkKey, usize>,
}

impl Lifo {
    /// An empty window of so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: vec![None; slots], places: HashMap::new() }
    }

    /// The lowest free slot: the top of the stack, unless there are holes.
    fn first_empty(&self, blocked: &dyn Fn(usize) -> bool) -> Option<usize> {
        (0..self.slots.len()).find(|slot| self.slots[*slot].is_none() && !blocked(*slot))
    }

    /// Takes the newest chunk away and returns it with the slot it had.
    fn pop(&mut self, blocked: &dyn Fn(usize) -> bool) -> Option<(usize, ChunkKey)> {
        let slot = (0..self.slots.len()).rev().find(|slot| self.slots[*slot].is_some() && !blocked(*slot))?;
        let key = self.slots[slot].take()?;
        self.places.remove(&key);
        Some((slot, key))
    }

    fn push(&mut self, slot: usize, key: ChunkKey) {
        self.slots[slot] = Some(key);
        self.places.insert(key, slot);
    }
}

impl Policy for Lifo {
    fn find(&self, key: ChunkKey) -> Option<usize> {
        self.places.get(&key).copied()
    }

    fn key_of(&self, slot: usize) -> Option<ChunkKey> {
        self.slots[slot]
    }

    fn has_room(&self) -> bool {
        self.places.len() < self.slots.len()
    }

    fn place(&mut self, key: ChunkKey, blocked: &dyn Fn(usize) -> bool) -> Option<Placement> {
        let (slot, evicted) = match self.first_empty(blocked) {
            Some(slot) => (slot, None),
            None => self.pop(blocked).map(|(slot, key)| (slot, Some(key)))?,
        };
        self.push(slot, key);
        Some(Placement { slot, evicted })
    }

    fn place_at(&mut self, key: ChunkKey, slot: usize) -> Option<Option<ChunkKey>> {
        if self.slots[slot].is_some() {
            return None;
        }
        self.push(slot, key);
        Some(None)
    }

    fn used(&mut self, _slot: usize, _start: u64, _end: u64) {}

    fn remove(&mut self, slot: usize) {
        if let Some(key) = self.slots[slot].take() {
            self.places.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
