//! How much is read when a page is not there: reading ahead for who reads in order.

/// Pages asked for when a file is first read in order: 128 KiB.
const FIRST: u64 = 32;

/// What one open file's readers have missed so far.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// The page after what was read last.
    next: u64,
    /// How many that were; 0 after a jump.
    pages: u64,
}

impl ReadAhead {
    /// Page `number` is not there, and `wanted` pages from it on are asked for now: how many to read. Who goes on where
    /// the last reading ended, or starts at the beginning, gets twice as many as before; who jumps, what he asks for.
    /// Never more than `most`.
    pub fn plan(&self, number: u64, wanted: u64, most: u64) -> u64 {
        let ahead = if number == self.next { (self.pages * 2).max(FIRST) } else { 0 };
        ahead.max(wanted).clamp(1, most.max(1))
    }

    /// So many pages are being read; there may not have been memory for all of the plan.
    pub fn took(&mut self, number: u64, pages: u64) {
        self.pages = if number == self.next { pages } else { 0 };
        self.next = number.saturating_add(pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ahead: &mut ReadAhead, number: u64, wanted: u64) -> u64 {
        let pages = ahead.plan(number, wanted, 256);
        ahead.took(number, pages);
        pages
    }

    #[test]
    fn who_reads_in_order_gets_ever_more_up_to_the_most() {
        let mut ahead = ReadAhead::default();
        let mut at = 0;
        let mut plans = std::vec::Vec::new();
        for _ in 0..5 {
            plans.push(read(&mut ahead, at, 4));
            at += plans.last().unwrap();
        }
        assert_eq!(plans, [32, 64, 128, 256, 256]);
    }

    #[test]
    fn who_jumps_gets_what_he_asks_for() {
        let mut ahead = ReadAhead::default();
        assert_eq!(read(&mut ahead, 1000, 4), 4);
        assert_eq!(read(&mut ahead, 10, 1), 1);
        assert_eq!(read(&mut ahead, 11, 1), 32, "two in order are the beginning of a sequence");
        assert_eq!(read(&mut ahead, 5000, 1000), 256);
        assert_eq!(read(&mut ahead, u64::MAX, 1), 1);
    }

    #[test]
    fn who_gets_less_than_planned_still_reads_in_order() {
        let mut ahead = ReadAhead::default();
        assert_eq!(ahead.plan(0, 4, 256), 32);
        ahead.took(0, 20);
        assert_eq!(ahead.plan(20, 4, 256), 40);
        ahead.took(20, 40);
        assert_eq!(ahead.plan(60, 4, 256), 80);
    }
}
