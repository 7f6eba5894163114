//! Which pages of a chunk the kernel has used since the chunk was mapped.
//!
//! The first use of a page is the dear one: the host has to enter it into the guest's page tables. A chunk that lies in one
//! folio of the host's is entered all at once ([`super::folios`]), for as long as nothing is stored in it: then the host has
//! to tell its pages apart.

use super::folios::{CONVINCING, Came};
use super::range::CHUNK;
use crate::PAGE;

const WORDS: usize = (CHUNK / PAGE / 64) as usize;

/// A bit for each page, for reading and for writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    read: [u64; WORDS],
    written: [u64; WORDS],
    /// Pages that came along with others, since one came by itself.
    along: u64,
    /// All of it was entered at once.
    whole: bool,
}

impl Touched {
    fn bits(&self, writable: bool) -> &[u64; WORDS] {
        if writable { &self.written } else { &self.read }
    }

    /// How many pages with bytes of `start..end` have not been used yet in this way.
    pub(crate) fn missing(&self, start: u64, end: u64, writable: bool) -> u64 {
        let bits = self.bits(writable);
        pages(start, end).filter(|page| bits[page / 64] & (1 << (page % 64)) == 0).count() as u64
    }

    /// The bytes `start..end` have been used.
    pub(crate) fn touch(&mut self, start: u64, end: u64, writable: bool) {
        if writable && self.whole {
            *self = Self { written: self.written, read: self.written, ..Self::default() };
        }
        for page in pages(start, end) {
            self.read[page / 64] |= 1 << (page % 64);
            if writable {
                self.written[page / 64] |= 1 << (page % 64);
            }
        }
    }

    /// No page has been used.
    pub(crate) fn none(&self) -> bool {
        self.read == [0; WORDS]
    }

    /// Says how pages came that were read. Whether it shows now, and did not before, that all of the chunk was entered at once.
    pub(crate) fn came(&mut self, how: Came) -> bool {
        match how {
            Came::Mute => {}
            Came::Along(pages) => self.along += pages,
            Came::Single => self.along = 0,
        }
        let shows = self.along >= CONVINCING && !self.whole;
        if shows {
            (self.read, self.whole) = ([u64::MAX; WORDS], true);
        }
        shows
    }
}

/// The pages with bytes of `start..end`, as far as a chunk has them.
pub(crate) fn pages(start: u64, end: u64) -> core::ops::Range<usize> {
    let end = end.min(CHUNK);
    if start >= end { 0..0 } else { (start / PAGE) as usize..end.div_ceil(PAGE) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_touched_once_and_writing_is_another_matter() {
        let mut touched = Touched::default();
        assert_eq!(touched.missing(0, CHUNK, false), CHUNK / PAGE);
        touched.touch(PAGE - 1, 2 * PAGE + 1, false);
        assert_eq!((touched.missing(0, 4 * PAGE, false), touched.missing(0, 4 * PAGE, true)), (1, 4));
        touched.touch(3 * PAGE, 4 * PAGE, true);
        assert_eq!((touched.missing(0, 4 * PAGE, false), touched.missing(0, 4 * PAGE, true)), (0, 3));
    }

    #[test]
    fn pages_that_came_along_show_that_all_are_there_until_one_is_written() {
        let mut touched = Touched::default();
        assert!(touched.none());
        touched.touch(0, PAGE, false);
        assert!(!touched.none());
        let few = Came::Along(CONVINCING - 1);
        assert!([few, Came::Single, few, Came::Mute].iter().all(|how| !touched.came(*how)));
        assert_eq!(touched.missing(0, CHUNK, false), CHUNK / PAGE - 1);
        assert!(touched.came(Came::Along(1)) && !touched.came(Came::Along(1)), "told once");
        assert_eq!((touched.missing(0, CHUNK, false), touched.missing(0, CHUNK, true)), (0, CHUNK / PAGE));
        touched.touch(0, 2 * PAGE, true);
        assert_eq!(touched.missing(0, CHUNK, false), CHUNK / PAGE - 2, "the host tells the pages apart");
        touched.touch(4 * PAGE, 5 * PAGE, false);
        touched.touch(5 * PAGE, 6 * PAGE, true);
        assert_eq!(touched.missing(0, CHUNK, false), CHUNK / PAGE - 4);
    }

    #[test]
    fn no_bytes_are_no_pages() {
        let mut touched = Touched::default();
        for (start, end) in [(5, 5), (7, 6), (CHUNK, CHUNK + 1), (u64::MAX, 0)] {
            assert_eq!(touched.missing(start, end, false), 0);
            touched.touch(start, end, true);
        }
        assert_eq!(touched, Touched::default());
        assert_eq!(touched.missing(CHUNK - 1, u64::MAX, false), 1);
    }
}
