//! How much of the host a mount holds on to without need.
//!
//! A server keeps a descriptor open for every inode we know, and has only so many. What the program uses (open files,
//! working directories) it uses; what only speeds up the next walk is bounded here: names remembered, the inodes of one
//! listing, which all arrive before the first can be given back, inodes that wait to be forgotten together, and files that
//! stay open for the next time, each of which takes a descriptor for itself and one for its inode.

/// Inodes a share keeps known to the host without need when nobody says how many.
pub const INODES: usize = 8192;

/// Fewest that make sense: less, and a walk through a deep path would forget its beginning at its end.
const FEWEST: usize = 32;

/// Bytes an entry of a READDIRPLUS takes at least: `struct fuse_direntplus` and a name of up to 8 bytes.
const ENTRY: usize = 160;

/// Bytes of a listing. One that is too short for a name of 255 bytes would look like the end of the directory.
const SHORTEST_LISTING: usize = 4096;

/// The shares of the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Names remembered.
    pub(crate) names: usize,
    /// Files kept open.
    pub(crate) open: usize,
    /// Bytes asked for in one listing.
    pub(crate) listing: usize,
    /// Inodes that wait to be forgotten.
    pub(crate) forgets: usize,
}

impl Limits {
    /// Divides `inodes`, which is at most [`INODES`] and at least 32 whatever is asked for.
    pub(crate) fn new(inodes: usize) -> Self {
        let inodes = inodes.clamp(FEWEST, INODES);
        let eighth = inodes / 8;
        Self {
            names: inodes - 4 * eighth,
            open: eighth,
            listing: (eighth * ENTRY).clamp(SHORTEST_LISTING, 64 << 10),
            forgets: eighth.min(64),
        }
    }

    /// Bytes to ask for in a listing of about so many entries.
    pub(crate) fn listing_of(&self, entries: usize) -> usize {
        entries.saturating_mul(ENTRY).clamp(SHORTEST_LISTING, self.listing)
    }

    /// Whether the names of a listing are still there when the program looks at them. It reads some 32 KiB of them first,
    /// a thousand; if they push each other out, their attributes were fetched for nothing.
    pub(crate) fn listings_are_remembered(&self) -> bool {
        self.names >= 1024
    }

    /// Entries that one listing can bring at most.
    #[cfg(test)]
    fn listed(&self) -> usize {
        self.listing / ENTRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stay_within_the_whole() {
        for inodes in [256, 448, 1000, 8192] {
            let limits = Limits::new(inodes);
            assert!(limits.names + 2 * limits.open + limits.forgets + limits.listed() <= inodes, "{limits:?}");
            assert!(limits.names >= inodes / 2);
        }
        assert_eq!(Limits::new(usize::MAX), Limits::new(INODES));
        assert_eq!((Limits::new(INODES).listing, Limits::new(INODES).forgets), (64 << 10, 64));
    }

    #[test]
    fn no_bound_is_too_small_to_work_with() {
        let least = Limits::new(0);
        assert!(least.names > 0 && least.forgets > 0 && least.listing >= 4096, "{least:?}");
    }
}
