//! The first names of a listing, by which a program that goes through it is known.
//!
//! Many programs list a directory and look at none of its names, or at a few: `ls`, `find`, a loader of modules. Attributes
//! cost the host more than ten times what the names cost, so a listing comes without. A program that wants them all (`ls -l`,
//! `du`) looks the names up in the order in which they were listed; so when it has asked for some of the first, the rest is
//! brought before it asks ([`crate::neighbours`]).

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Names to watch for. Who looks at a few of a directory's names hardly hits two of these.
const FIRST: usize = 4;
/// So many of them looked up are no chance.
const ENOUGH: usize = 2;

/// What a listing without attributes began with.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    /// Those that nobody has looked up since.
    names: Vec<Box<[u8]>>,
    looked_up: usize,
}

impl Beginning {
    /// A listing gave a name. Those after the first few do not matter.
    pub(crate) fn listed(&mut self, name: &[u8]) {
        if self.names.len() + self.looked_up < FIRST {
            self.names.push(name.into());
        }
    }

    /// A name was looked up. Returns whether somebody seems to go through the listing; once.
    pub(crate) fn looked_up(&mut self, name: &[u8]) -> bool {
        let Some(at) = self.names.iter().position(|listed| **listed == *name) else { return false };
        self.names.swap_remove(at);
        self.looked_up += 1;
        self.looked_up == ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_the_first_names_tells() {
        let mut beginning = Beginning::default();
        assert!(!beginning.looked_up(b"a"), "nothing was listed");
        [b"a", b"b", b"c", b"d", b"e"].into_iter().for_each(|name| beginning.listed(name));
        let told: Vec<bool> = [b"e", b"x", b"c", b"c", b"a", b"b"].map(|name| beginning.looked_up(name)).into();
        assert_eq!(told, [false, false, false, false, true, false]);
    }
}
