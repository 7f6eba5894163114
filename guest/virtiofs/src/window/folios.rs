//! Whether the host keeps a file's content in large folios.
//!
//! A page of the window is dear at its first use: the host has to enter it into the guest's page tables. Where its page
//! cache holds content in folios of 2 MiB or more (Linux does on XFS, on ext4 since 6.16 and in some tmpfs, if it was
//! written or read ahead in pieces as long) one fault enters all of a chunk, and the other 511 pages cost nothing. No
//! message tells of that. But it shows: beyond the first fault of a chunk its pages come at the price of their copy.
//!
//! So what pages cost beyond that fault is evidence ([`Came`]). What is known holds for all of a file, and is the
//! first guess for the next one: files that came to the host in the same way are kept in the same way. Content that
//! goes by message gives no evidence, so now and then it is worth a *look*: a small part of a read goes through the window.
//! Looks are paid out of what messages have cost beyond a copy, of whatever file, and are the rarer the more of them
//! were in vain.

use alloc::collections::VecDeque;
use hashbrown::HashMap;

/// What copying pages that had not been used before says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing.
    Mute,
    /// So many pages came with others.
    Along(u64),
    /// Each came by itself.
    Single,
}

/// So many pages of a chunk that came along, none by itself between them, show that all of it has: with fewer, a program
/// might have used them through a mapping, which nobody tells us.
pub(crate) const CONVINCING: u64 = 8;

/// Pages of a look: enough for one to be convincing, and few enough to be cheap when it is in vain.
pub(crate) const LOOK: u64 = 32;

/// After so many copies in a row whose pages came singly a file's folios are small.
const DOUBTS: u32 = 3;

/// A look is worth it when messages have cost so many times its price beyond a copy; twice as much for each look at this
/// file that was in vain, up to the second number, and for each at any file since one was not, up to the third.
const PATIENCE: (u64, u32, u32) = (4, 12, 3);

/// Files remembered. The oldest is forgotten for a new one.
const FILES: usize = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct File {
    /// Whether its folios are large, if that was found out.
    large: Option<bool>,
    /// Copies in a row whose pages came singly.
    doubts: u32,
    /// Looks in vain.
    vain: u32,
}

/// What is known of the files of a share, by the serial numbers of their inodes.
#[derive(Debug, Default)]
pub(crate) struct Folios {
    files: HashMap<u64, File>,
    order: VecDeque<u64>,
    /// What was last found out of any.
    guess: bool,
    /// Nanoseconds that messages took longer than a copy since the last look.
    fares: u64,
    /// Looks in vain since anything was found.
    vain: u32,
}

impl Folios {
    /// Whether those of a file are large, as far as is known.
    pub(crate) fn large(&self, owner: u64) -> bool {
        self.files.get(&owner).and_then(|file| file.large).unwrap_or(self.guess)
    }

    /// A chunk turned out to be in one folio.
    pub(crate) fn found_large(&mut self, owner: u64) {
        *self.file(owner) = File { large: Some(true), ..File::default() };
        (self.guess, self.vain) = (true, 0);
    }

    /// Pages of a chunk came singly.
    pub(crate) fn doubt(&mut self, owner: u64) {
        let large = self.large(owner);
        let file = self.file(owner);
        file.doubts = file.doubts.saturating_add(1);
        if large && file.doubts >= DOUBTS {
            file.large = Some(false);
            self.guess = false;
        }
    }

    /// Content goes by message, which takes `fare` ns longer than a copy: whether a look at `price` ns is worth it instead. It
    /// counts as in vain until something is found.
    pub(crate) fn look(&mut self, owner: u64, fare: u64, price: u64) -> bool {
        self.fares = self.fares.saturating_add(fare);
        let (times, most, most_of_any) = PATIENCE;
        let (fares, doublings, large) = (self.fares, self.vain.min(most_of_any), self.large(owner));
        let file = self.file(owner);
        let due = !large && fares >= price.saturating_mul(times << (file.vain.min(most) + doublings));
        if due {
            file.vain = file.vain.saturating_add(1);
            (self.fares, self.vain) = (0, self.vain.saturating_add(1));
        }
        due
    }

    fn file(&mut self, owner: u64) -> &mut File {
        let Self { files, order, .. } = self;
        if !files.contains_key(&owner) {
            if files.len() >= FILES
                && let Some(oldest) = order.pop_front()
            {
                files.remove(&oldest);
            }
            order.push_back(owner);
        }
        files.entry(owner).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_was_found_holds_until_it_is_doubted_and_is_the_next_files_guess() {
        let mut folios = Folios::default();
        assert!(!folios.large(1));
        folios.found_large(1);
        assert!(folios.large(1) && folios.large(2));
        (0..DOUBTS - 1).for_each(|_| folios.doubt(1));
        assert!(folios.large(1), "something else may have disturbed them");
        folios.found_large(1);
        (0..DOUBTS - 1).for_each(|_| folios.doubt(1));
        assert!(folios.large(1), "found again");
        folios.doubt(1);
        assert!(!folios.large(1) && !folios.large(2));
        folios.doubt(3);
        folios.found_large(2);
        assert!(!folios.large(1) && folios.large(3), "nothing was found out of the third");
    }

    #[test]
    fn looks_cost_a_part_of_what_messages_do_and_become_rare() {
        let (mut folios, price, fare) = (Folios::default(), 1000, 10);
        let looks: Vec<_> = (0..100_000u64).filter(|_| folios.look(1, fare, price)).collect();
        assert!(looks[0] >= 300 && (4..20).contains(&looks.len()), "{looks:?}");
        assert!(looks.len() as u64 * price * PATIENCE.0 <= 100_000 * fare);
        folios.found_large(1);
        assert!(!folios.look(1, u64::MAX, 1), "it is known");
        assert!(folios.look(2, u64::MAX, u64::MAX) || folios.large(2));
    }

    #[test]
    fn every_file_of_many_is_looked_at_but_rarely() {
        let (mut folios, price, fare) = (Folios::default(), 1000, 10);
        // Each is read so little that its own messages would never pay for a look.
        let looks = (0..100_000u64).filter(|read| folios.look(read / 16, fare, price)).count() as u64;
        assert!((10..50).contains(&looks), "{looks}");
        assert!(looks * price * 20 <= 100_000 * fare, "a twentieth of what messages cost");
    }

    #[test]
    fn files_are_bounded() {
        let mut folios = Folios::default();
        (0..3 * FILES as u64).for_each(|owner| folios.doubt(owner));
        assert_eq!((folios.files.len(), folios.order.len()), (FILES, FILES));
    }
}
