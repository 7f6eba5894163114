//! Where the book-keeping of pages lies: numbered slots that never move, in pieces of a size that any heap has.

use crate::Page;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Slots allocated at once. One list of all of them would be megabytes in one piece, which a kernel's heap may not have.
const PIECE: usize = 256;

/// A slot.
enum Slot {
    Page(Page),
    /// Free; the next free one, for there is no room for a list of them either.
    Free(Option<usize>),
}

/// Pages by number.
#[derive(Default)]
pub(crate) struct Slab {
    pieces: Vec<Box<[Slot]>>,
    free: Option<usize>,
}

impl Slab {
    /// One more than the highest number there has been.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len() * PIECE
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Page> {
        match self.pieces.get(number / PIECE)?.get(number % PIECE)? {
            Slot::Page(page) => Some(page),
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Page> {
        match self.pieces.get_mut(number / PIECE)?.get_mut(number % PIECE)? {
            Slot::Page(page) => Some(page),
            Slot::Free(_) => None,
        }
    }

    /// Puts a page into a free slot and says which.
    pub(crate) fn insert(&mut self, page: Page) -> usize {
        let number = self.free.unwrap_or_else(|| self.grow());
        let slot = &mut self.pieces[number / PIECE][number % PIECE];
        let Slot::Free(next) = core::mem::replace(slot, Slot::Page(page)) else {
            unreachable!("the list of free slots holds free slots")
        };
        self.free = next;
        number
    }

    /// Frees the slot, which holds a page.
    pub(crate) fn remove(&mut self, number: usize) {
        self.pieces[number / PIECE][number % PIECE] = Slot::Free(self.free);
        self.free = Some(number);
    }

    /// Adds a piece; its first slot. The others follow in the list.
    fn grow(&mut self) -> usize {
        let (first, end) = (self.len(), self.len() + PIECE);
        let next = |number| (number < end).then_some(number);
        self.pieces.push((first..end).map(|number| Slot::Free(next(number + 1))).collect());
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, PageKey};

    fn page(number: u64) -> Page {
        Page::loading(PageKey { owner: 1, number })
    }

    #[test]
    fn slots_are_used_again_before_there_are_more() {
        let mut slab = Slab::default();
        let numbers: Vec<usize> = (0..3 * PIECE as u64 / 2).map(|number| slab.insert(page(number))).collect();
        assert_eq!(numbers, (0..3 * PIECE / 2).collect::<Vec<_>>());
        assert_eq!(slab.len(), 2 * PIECE);
        for number in [7, PIECE + 3, 0] {
            slab.remove(number);
            assert!(slab.get(number).is_none() && slab.get_mut(number).is_none());
        }
        let again: Vec<usize> = (0..3).map(|i| slab.insert(page(1000 + i))).collect();
        assert_eq!(again, [0, PIECE + 3, 7]);
        assert_eq!(slab.get(PIECE + 3).unwrap().key.number, 1001);
        slab.get_mut(7).unwrap().content = Content::Ready;
        assert_eq!(slab.get(7).unwrap().content, Content::Ready);
        assert!(slab.get(2 * PIECE).is_none());
    }
}
