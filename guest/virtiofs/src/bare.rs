//! Listings without attributes, and how a program that wants the attributes all the same is known.
//!
//! Many programs list a directory and look at none of its names, or at a few: `ls`, `find`, a loader of modules. Attributes
//! cost the host more than ten times what the names cost, so at first a listing comes without. How many of its names are
//! looked up then is part of what is known of listings ([`crate::neighbours::Luck`]): where it is most, the next listing
//! comes with attributes. And who looks the names up in the order in which they were listed, as `ls -l` does, wants those of
//! the others, too: when there are enough of them the rest is brought before it asks ([`crate::neighbours`]).

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Names to watch for. Who looks at a few of a directory's names hardly hits two of these.
const FIRST: usize = 4;
/// So many of them looked up are no chance.
const ENOUGH: usize = 2;
/// Names that a listing must have for the rest to be worth another one, of three messages.
const WORTH: usize = 8;

/// The last listing of a directory, if it was one without attributes.
#[derive(Debug, Default)]
pub(crate) struct Bare {
    /// How many names it gave, and how many were looked up since, as far as is known.
    listed: usize,
    looked_up: usize,
    /// How many have come with attributes since.
    again: usize,
    /// The first names, but those that were looked up.
    first: Vec<Box<[u8]>>,
}

/// What a name says that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookedUp {
    /// It may have been looked up because it was listed.
    pub(crate) counts: bool,
    /// Somebody goes through the listing, and this is the first sign of it.
    pub(crate) goes_through: bool,
}

impl Bare {
    /// The listing gave a name.
    pub(crate) fn listed(&mut self, name: &[u8]) {
        self.listed += 1;
        if self.listed <= FIRST {
            self.first.push(name.into());
        }
    }

    /// So many of the directory's names came with attributes. Returns how many of them the listing had given.
    pub(crate) fn came_again(&mut self, names: usize) -> usize {
        let again = names.min(self.listed - self.again);
        self.again += again;
        again
    }

    /// A name of the directory was looked up, and found.
    pub(crate) fn looked_up(&mut self, name: &[u8]) -> LookedUp {
        let counts = self.looked_up < self.listed;
        self.looked_up += usize::from(counts);
        let first = self.first.iter().position(|listed| **listed == *name);
        first.into_iter().for_each(|at| drop(self.first.swap_remove(at)));
        let seen = self.listed.min(FIRST) - self.first.len();
        LookedUp { counts, goes_through: first.is_some() && seen == ENOUGH && self.listed >= WORTH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i"];

    #[test]
    fn the_second_of_the_first_names_tells() {
        let mut bare = Bare::default();
        assert!(!bare.looked_up(b"a").counts, "nothing was listed");
        NAMES.into_iter().for_each(|name| bare.listed(name));
        let told: Vec<bool> = [b"e", b"x", b"c", b"c", b"a", b"b"].map(|name| bare.looked_up(name).goes_through).into();
        assert_eq!(told, [false, false, false, false, true, false]);
    }

    #[test]
    fn what_is_in_a_few_names_is_looked_up_one_by_one() {
        let mut bare = Bare::default();
        NAMES[..7].iter().for_each(|name| bare.listed(name));
        assert!(NAMES[..7].iter().all(|name| bare.looked_up(name) == LookedUp { counts: true, goes_through: false }));
        assert!(!bare.looked_up(b"a").counts, "all there were have been counted");
    }
}
