//! Names that are likely to be looked up next: those that stand beside names that were.
//!
//! A program that looks at every file of a directory without listing it (`git status`, `make`, a loader of modules) costs
//! a LOOKUP for each. READDIRPLUS brings names with all that LOOKUP tells at about a third of the price each, but in the
//! host's order, and whether they are wanted too, nobody knows. So they are bought as skis are by somebody who rents them:
//! for each name that was found by a message of its own, [`RATE`] entries more may be listed. Who looks at everything soon
//! finds it here; who looks at some names of a huge directory has paid for them twice, and a bit.
//!
//! Who goes through one directory like that often goes through the next one, too. So as long as at least half of what was
//! listed lately has been looked at ([`Luck`]), a few names are enough to list a directory at [`LUCKY_RATE`]; and who goes
//! through a listing that came without attributes ([`crate::bare`]) gets [`THROUGH`] of them at once.

use crate::attrs::believed;
use crate::counters::Tally;
use crate::dir::{close, list_piece};
use crate::fs::Fs;
use crate::node::Node;
use crate::ops::data::{DIRECTORY, Open, OpenNode};
use alloc::sync::Arc;
use diolkos_vfs::{Name, OpenFlags, Result};

/// Entries that one name looked up is worth.
const RATE: usize = 8;
/// Fewest entries that are worth the three messages of a listing.
const FEWEST: usize = 64;
/// Entries that one name is worth while luck lasts, and names it takes: fewer are what any walk through a path asks for.
const LUCKY_RATE: usize = 256;
const LUCKY_NAMES: usize = 4;

/// Entries for who goes through a listing.
const THROUGH: usize = 512;

/// How many of the names that came in listings were looked at afterwards, lately.
#[derive(Debug, Default)]
pub(crate) struct Luck {
    listed: u32,
    used: u32,
}

impl Luck {
    /// Listed names after which the older ones count half.
    const MEMORY: u32 = 2048;
    /// Listed names that say enough for a listing which is wanted anyway.
    const HINT: u32 = 32;

    /// A name came in a listing, with attributes or without.
    pub(crate) fn listed(&mut self) {
        self.listed += 1;
        if self.listed >= Self::MEMORY {
            (self.listed, self.used) = (self.listed / 2, self.used / 2);
        }
    }

    /// So many of these have come before.
    fn come_again(&mut self, names: usize) {
        self.listed = self.listed.saturating_sub(names as u32); // far fewer than 2^32 fit into a reply
    }

    /// One of these was looked at for the first time.
    pub(crate) fn used(&mut self) {
        self.used = (self.used + 1).min(self.listed);
    }

    /// Whether names that are listed are looked at, as far as is known.
    pub(crate) fn lasts(&self) -> bool {
        self.listed >= Self::MEMORY / 8 && self.is_good()
    }

    /// The same on less evidence: whether a listing that is wanted anyway should come with attributes.
    pub(crate) fn is_hinted_at(&self) -> bool {
        self.listed >= Self::HINT && self.is_good()
    }

    fn is_good(&self) -> bool {
        self.used >= self.listed / 2
    }
}

/// How far a directory was listed for names that were looked up in it.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// Names found by LOOKUP.
    found: usize,
    /// Entries listed.
    listed: usize,
    /// Somebody goes through a listing.
    through: bool,
    /// The host's cookie to go on from.
    cookie: u64,
    /// Until when nothing is to be listed: somebody does it, or has done all.
    rests_until: u64,
}

/// What is to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    cookie: u64,
    entries: usize,
}

/// What was listed.
#[derive(Debug, Clone, Copy)]
struct Brought {
    cookie: u64,
    entries: usize,
    /// The directory has more.
    more: bool,
    /// Until when all that is believed.
    until: u64,
}

impl Neighbours {
    /// Notes that a name was found by LOOKUP. When it is time to list, says what; the caller does it, and tells
    /// [`Neighbours::brought`]. `lucky`: [`Luck::lasts`].
    fn found(&mut self, now: u64, lucky: bool) -> Option<Piece> {
        if believed(self.rests_until, now) {
            return None;
        }
        if self.rests_until != 0 {
            *self = Self::default();
        }
        self.found += 1;
        let rate = if (lucky || self.through) && self.found >= LUCKY_NAMES { LUCKY_RATE } else { RATE };
        let entries = (self.found * rate).saturating_sub(self.listed);
        if entries < FEWEST.max(self.listed / 2) {
            return None;
        }
        self.rests_until = u64::MAX;
        Some(Piece { cookie: self.cookie, entries })
    }

    /// The same when somebody goes through a listing of the directory.
    fn gone_through(&mut self, now: u64) -> Option<Piece> {
        if believed(self.rests_until, now) {
            return None;
        }
        *self = Self { through: true, rests_until: u64::MAX, ..Self::default() };
        Some(Piece { cookie: 0, entries: THROUGH })
    }

    /// Takes in what was listed. No more than `most` entries of a directory are: they would push each other out.
    fn brought(&mut self, piece: Brought, most: usize) {
        self.cookie = piece.cookie;
        self.listed += piece.entries;
        self.rests_until = if piece.more && self.listed < most { 0 } else { piece.until };
    }
}

impl Fs {
    /// Has `name` been found in `dir` by LOOKUP, its neighbours may be worth a listing: does that.
    pub(crate) fn bring_neighbours(self: &Arc<Self>, dir: &Node, name: Name<'_>, until: u64) {
        let looked_up = dir.bare.lock().looked_up(name.as_bytes());
        if looked_up.counts {
            self.dentries.lock().luck.used();
        }
        // A server that was out of descriptors once needs those it has for what is asked for.
        if !self.lists_with_attributes() || self.session.counters.get(Tally::LetGo) != 0 {
            return;
        }
        let lucky = self.dentries.lock().luck.lasts();
        let now = self.platform.now_ns();
        let piece = {
            let mut neighbours = dir.neighbours.lock();
            if looked_up.goes_through { neighbours.gone_through(now) } else { neighbours.found(now, lucky) }
        };
        let Some(piece) = piece else { return };
        // Whatever is wrong, nobody has asked for it: it says nothing but that there is no more.
        let nothing = Brought { cookie: piece.cookie, entries: 0, more: false, until };
        let brought = self.list_neighbours(dir, piece, until).unwrap_or(nothing);
        dir.neighbours.lock().brought(brought, self.limits.names / 2);
    }

    fn list_neighbours(self: &Arc<Self>, dir: &Node, piece: Piece, until: u64) -> Result<Brought> {
        let flags = OpenFlags::DIRECTORY.bits();
        let opened = self.session.call(&Open::<DIRECTORY> { node: dir.id, flags })?;
        let open = OpenNode { node: dir.id, handle: opened.handle, flags };
        let mut brought = Brought { cookie: piece.cookie, entries: 0, more: true, until };
        let mut result = Ok(true);
        while result == Ok(true) && brought.entries < piece.entries {
            let size = self.limits.listing_of(piece.entries - brought.entries);
            result = list_piece::<true>(dir, open, brought.cookie, size, |listed, _| {
                brought.cookie = listed.next;
                brought.entries += 1;
            });
        }
        close(self, open);
        brought.more = result?;
        let again = dir.bare.lock().came_again(brought.entries);
        self.dentries.lock().luck.come_again(again);
        self.session.counters.add(Tally::NamesAhead, brought.entries as u64);
        Ok(brought)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks up `names` names of a directory with `all`, none of which was brought; returns how many were brought.
    fn look(neighbours: &mut Neighbours, names: usize, all: usize, most: usize) -> usize {
        look_with(neighbours, names, all, most, false)
    }

    fn look_with(neighbours: &mut Neighbours, names: usize, all: usize, most: usize, lucky: bool) -> usize {
        let mut listed = 0;
        for _ in 0..names {
            if let Some(Piece { cookie, entries }) = neighbours.found(5, lucky) {
                assert_eq!(cookie, listed as u64);
                assert!(neighbours.found(5, lucky).is_none(), "somebody is listing");
                let entries = entries.min(all - listed);
                listed += entries;
                let piece = Brought { cookie: listed as u64, entries, more: listed < all, until: 100 };
                neighbours.brought(piece, most);
            }
        }
        listed
    }

    #[test]
    fn a_few_names_bring_nothing_and_many_bring_all() {
        assert_eq!(look(&mut Neighbours::default(), FEWEST / RATE - 1, 1000, 9999), 0);
        for names in [20, 50, 100, 200] {
            let listed = look(&mut Neighbours::default(), names, 1_000_000, 9999);
            assert!(listed <= RATE * names && listed * 2 >= RATE * names, "{listed} for {names}");
        }
        assert_eq!(look(&mut Neighbours::default(), 1000, 1000, 9999), 1000);
    }

    #[test]
    fn who_is_lucky_gets_a_directory_for_a_few_names() {
        assert_eq!(look_with(&mut Neighbours::default(), LUCKY_NAMES - 1, 1000, 9999, true), 0);
        assert_eq!(look_with(&mut Neighbours::default(), LUCKY_NAMES, 1000, 9999, true), 1000);
    }

    #[test]
    fn luck_is_what_happened_lately() {
        let mut luck = Luck::default();
        luck.used();
        assert!(!luck.lasts(), "nothing is known");
        (0..1000).for_each(|_| luck.listed());
        assert!(!luck.lasts());
        (0..500).for_each(|_| luck.used());
        assert!(luck.lasts(), "{luck:?}");
        let wasted = (0..).find(|_| {
            luck.listed();
            !luck.lasts()
        });
        assert!(wasted.unwrap() < 10, "{luck:?}");
        for _ in 0..100_000 {
            luck.listed();
            luck.used();
        }
        assert!(luck.lasts(), "{luck:?}");
        let wasted = (0..).find(|_| {
            luck.listed();
            !luck.lasts()
        });
        assert!((500..3000).contains(&wasted.unwrap()), "{luck:?}");
    }

    #[test]
    fn no_more_is_brought_than_can_be_kept() {
        let listed = look(&mut Neighbours::default(), 100_000, 1_000_000, 3000);
        assert!((3000..5000).contains(&listed), "{listed}");
    }

    #[test]
    fn what_was_brought_is_brought_again_when_it_is_no_longer_believed() {
        let mut neighbours = Neighbours::default();
        assert_eq!(look(&mut neighbours, 100, 60, 9999), 60);
        assert!((0..100).all(|_| neighbours.found(99, false).is_none()));
        let again = (0..100).find_map(|_| neighbours.found(100, false));
        assert_eq!(again, Some(Piece { cookie: 0, entries: FEWEST }));
    }
}
