//! The default policy: second chance, resistant to scans.
//!
//! A new chunk waits in a short queue, the *lobby*. It leaves it for the *ring* when it was used again
//! while it waited, and for nothing when it was not. The ring is a clock: a chunk in it that was used since the hand
//! last passed gets another round. Who is evicted from the lobby is remembered for a while and goes straight to the
//! ring when it comes back.
//!
//! The hard idea is what "used again" means. A scan with small reads uses each chunk hundreds of times and never comes
//! back. But it only ever moves forward: so progress past the furthest byte touched so far is the first use still
//! going on, and a use that reaches behind that byte is another one.

use super::policy::{Placement, Policy};
use super::range::ChunkKey;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashMap;

#[derive(Debug, Clone, Copy)]
struct Resident {
    key: ChunkKey,
    in_ring: bool,
    used_again: bool,
    /// One past the furthest byte used.
    reached: u64,
}

/// The two queues and the memory of who left.
pub(crate) struct Clock {
    residents: Vec<Option<Resident>>,
    places: HashMap<ChunkKey, usize>,
    lobby: VecDeque<usize>,
    ring: VecDeque<usize>,
    departed: VecDeque<ChunkKey>,
}

impl Clock {
    /// An empty window of so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            residents: (0..slots).map(|_| None).collect(),
            places: HashMap::new(),
            lobby: VecDeque::new(),
            ring: VecDeque::new(),
            departed: VecDeque::new(),
        }
    }

    /// Chunks the lobby may hold while the ring has any: an eighth, and at least one.
    fn lobby_share(&self) -> usize {
        (self.residents.len() / 8).max(1)
    }

    /// Whether there is no room, and the next to go is one of the lobby.
    fn lobby_is_next(&self) -> bool {
        !self.has_room() && (self.lobby.len() > self.lobby_share() || self.ring.is_empty())
    }

    /// Finds the slot to empty. Every step either decides, spends a second chance or passes over a chunk in
    /// use, so the steps are bounded by a few rounds.
    fn victim(&mut self, blocked: &dyn Fn(usize) -> bool) -> Option<usize> {
        let (mut lobby_left, mut ring_left) = (self.lobby.len(), 2 * self.ring.len() + self.lobby.len());
        loop {
            let from_lobby =
                lobby_left > 0 && (self.lobby.len() > self.lobby_share() || ring_left == 0 || self.ring.is_empty());
            if from_lobby {
                lobby_left -= 1;
                let slot = self.lobby.pop_front()?;
                let Some(resident) = self.residents[slot].as_mut() else { continue };
                if blocked(slot) {
                    self.lobby.push_back(slot);
                } else if core::mem::take(&mut resident.used_again) {
                    resident.in_ring = true;
                    self.ring.push_back(slot);
                } else {
                    return Some(slot);
                }
            } else if ring_left > 0 && !self.ring.is_empty() {
                ring_left -= 1;
                let slot = self.ring.pop_front()?;
                let Some(resident) = self.residents[slot].as_mut() else { continue };
                if blocked(slot) || core::mem::take(&mut resident.used_again) {
                    self.ring.push_back(slot);
                } else {
                    return Some(slot);
                }
            } else if lobby_left == 0 {
                return None;
            }
        }
    }

    fn evict(&mut self, slot: usize) -> Option<ChunkKey> {
        let resident = self.residents[slot].take()?;
        self.places.remove(&resident.key);
        if !resident.in_ring {
            self.departed.push_back(resident.key);
            if self.departed.len() > self.residents.len() {
                self.departed.pop_front();
            }
        }
        Some(resident.key)
    }

    /// Enters a chunk that has been given an empty slot.
    fn seat(&mut self, key: ChunkKey, slot: usize) {
        let known = self.departed.iter().position(|departed| *departed == key);
        let in_ring = known.and_then(|at| self.departed.remove(at)).is_some();
        if in_ring { &mut self.ring } else { &mut self.lobby }.push_back(slot);
        self.residents[slot] = Some(Resident { key, in_ring, used_again: false, reached: 0 });
        self.places.insert(key, slot);
    }
}

impl Policy for Clock {
    fn find(&self, key: ChunkKey) -> Option<usize> {
        self.places.get(&key).copied()
    }

    fn key_of(&self, slot: usize) -> Option<ChunkKey> {
        self.residents[slot].map(|resident| resident.key)
    }

    fn has_room(&self) -> bool {
        self.places.len() < self.residents.len()
    }

    fn place(&mut self, key: ChunkKey, blocked: &dyn Fn(usize) -> bool) -> Option<Placement> {
        let free = (0..self.residents.len()).find(|slot| self.residents[*slot].is_none() && !blocked(*slot));
        let (slot, evicted) = match free {
            Some(slot) => (slot, None),
            None => {
                let slot = self.victim(blocked)?;
                (slot, self.evict(slot))
            }
        };
        self.seat(key, slot);
        Some(Placement { slot, evicted })
    }

    fn place_at(&mut self, key: ChunkKey, slot: usize) -> Option<Option<ChunkKey>> {
        let evicted = match &self.residents[slot] {
            None => None,
            // A scan that has filled the window finds here what it left first.
            Some(resident) if self.lobby.front() == Some(&slot) && !resident.used_again && self.lobby_is_next() => {
                self.lobby.pop_front();
                self.evict(slot)
            }
            Some(_) => return None,
        };
        self.seat(key, slot);
        Some(evicted)
    }

    fn used(&mut self, slot: usize, start: u64, end: u64) {
        if let Some(resident) = self.residents[slot].as_mut() {
            resident.used_again |= start < resident.reached;
            resident.reached = resident.reached.max(end);
        }
    }

    fn remove(&mut self, slot: usize) {
        if let Some(resident) = self.residents[slot].take() {
            self.places.remove(&resident.key);
            let queue = if resident.in_ring { &mut self.ring } else { &mut self.lobby };
            queue.retain(|other| *other != slot);
        }
    }
}

#[cfg(test)]
mod tests;
