//! Which parts of a file were read past the cache.
//!
//! Memory that was never used costs a machine its first touch, several times what it takes to read the bytes once more. So a
//! large read of what is not in the cache goes past it, straight to its place, and what is read so a second time is kept:
//! a file that is used once takes no memory, and one that is used often pays one reading more.

use alloc::vec::Vec;

/// The unit that is remembered.
const BLOCK: u64 = 512 << 10;
/// Units remembered of a file, at most: those of 64 GiB, in 16 KiB. What lies behind them is never kept for being read twice
/// in large pieces.
const MOST: u64 = 1 << 17;

/// What is remembered of one file: a bit for each unit.
#[derive(Debug, Default)]
pub struct Passes(Vec<u64>);

impl Passes {
    /// Somebody wants `len` bytes from offset `at` on, which are not in the cache: how many of them, from the first on, to read
    /// past it.
    pub fn plan(&self, at: u64, len: u64) -> u64 {
        let end = at.saturating_add(len);
        let known = (at / BLOCK..end.div_ceil(BLOCK).min(MOST)).find(|block| self.has(*block));
        known.map_or(len, |block| (block * BLOCK).saturating_sub(at))
    }

    /// So many bytes were read past the cache.
    pub fn passed(&mut self, at: u64, len: u64) {
        // The unit in which it ends is the next reading's, should that go on there.
        let last = (at.saturating_add(len) / BLOCK).max(at / BLOCK + 1);
        for block in at / BLOCK..last.min(MOST) {
            let word = (block / 64) as usize;
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= 1 << (block % 64);
        }
    }

    fn has(&self, block: u64) -> bool {
        self.0.get((block / 64) as usize).is_some_and(|word| word & 1 << (block % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_read_twice_is_kept() {
        let mut passes = Passes::default();
        for at in [0, MIB, 2 * MIB] {
            assert_eq!(passes.plan(at, MIB), MIB);
            passes.passed(at, MIB);
        }
        assert_eq!((passes.plan(0, MIB), passes.plan(MIB + 5, 10)), (0, 0));
        assert_eq!(passes.plan(3 * MIB, MIB), MIB, "and what was not goes past");
    }

    #[test]
    fn readings_that_meet_inside_a_unit_are_one_pass() {
        let mut passes = Passes::default();
        for i in 0..100 {
            let (at, len) = (i * 800_000, 800_000);
            assert_eq!(passes.plan(at, len), len, "{i}");
            passes.passed(at, len);
        }
    }

    #[test]
    fn a_reading_goes_past_up_to_what_is_to_be_kept() {
        let mut passes = Passes::default();
        passes.passed(MIB, MIB);
        assert_eq!(passes.plan(100, 4 * MIB), MIB - 100);
    }

    #[test]
    fn huge_offsets_take_no_memory() {
        let mut passes = Passes::default();
        for at in [MOST * BLOCK, u64::MAX - 5, u64::MAX] {
            passes.passed(at, MIB);
            assert_eq!(passes.plan(at, MIB), MIB);
        }
        passes.passed(0, u64::MAX);
        assert!(passes.0.len() as u64 <= MOST / 64);
        assert_eq!(passes.plan(0, u64::MAX), 0);
    }
}
