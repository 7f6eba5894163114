//! How much is read when a page is not there: reading ahead for who reads in order.

/// Pages asked for when a file is first read in order: 128 KiB.
const FIRST: u64 = 32;

/// What one open file's readers have missed so far.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// The page after what was asked for last.
    next: u64,
    /// How many that were; 0 after a jump.
    pages: u64,
    /// How often in a row somebody went on where the last asking ended.
    steps: u32,
}

impl ReadAhead {
    /// Page `number` is not there, and `wanted` pages from it on are asked for now: how many to read. Who goes on where
    /// the last reading ended, or starts at the beginning, gets twice as many as before; who jumps, what he asks for.
    /// Never more than `most`.
    pub fn plan(&self, number: u64, wanted: u64, most: u64) -> u64 {
        let ahead = if number == self.next { (self.pages * 2).max(FIRST) } else { 0 };
        ahead.max(wanted).clamp(1, most.max(1))
    }

    /// Somebody reads `wanted` pages from `number` on, which are there or on their way: where to ask for more now, so that
    /// it is there when he comes to it, or `None` while there is enough behind them. Enough is half of what was asked for last while nobody
    /// knows whether he goes on, and two times all of it once he has.
    pub fn more(&self, number: u64, wanted: u64) -> Option<u64> {
        let left = self.next.saturating_sub(number.saturating_add(wanted));
        let enough = if self.steps > 1 { 2 * self.pages } else { self.pages / 2 };
        (self.pages > 0 && number <= self.next && left <= enough).then_some(self.next)
    }

    /// So many pages are asked for; there may not have been memory for all of the plan.
    pub fn took(&mut self, number: u64, pages: u64) {
        let goes_on = number == self.next;
        (self.pages, self.steps) = if goes_on { (pages, self.steps.saturating_add(1)) } else { (0, 0) };
        self.next = number.saturating_add(pages);
    }

    /// Pages that were to be asked for next, from `number` on, are there already: the next ones are behind those.
    pub fn skip(&mut self, number: u64, pages: u64) {
        if number == self.next {
            self.next = number.saturating_add(pages);
        }
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
    fn who_goes_on_finds_more_on_its_way() {
        let mut ahead = ReadAhead::default();
        read(&mut ahead, 0, 4);
        assert_eq!((ahead.more(4, 4), ahead.more(14, 1)), (None, None), "he may only look at the beginning");
        assert_eq!(ahead.more(15, 1), Some(32));
        assert_eq!(ahead.more(4, 100), Some(32), "and he may want more than there is");
        assert_eq!(read(&mut ahead, 32, 1), 64);
        assert_eq!(ahead.more(20, 1), Some(96), "he has gone on: two at a time");
        assert_eq!(read(&mut ahead, 96, 1), 128);
        assert_eq!(ahead.more(20, 1), Some(224));
        assert_eq!(read(&mut ahead, 224, 1), 256);
        assert_eq!(ahead.more(20, 1), Some(480));
        ahead.skip(480, 20);
        ahead.skip(480, 20);
        assert_eq!((ahead.more(480, 1), ahead.more(2000, 1)), (Some(500), None));
    }

    #[test]
    fn who_jumps_finds_nothing_on_its_way() {
        let mut ahead = ReadAhead::default();
        assert_eq!(ahead.more(0, 1), None);
        read(&mut ahead, 1000, 4);
        assert_eq!((ahead.more(1001, 1), ahead.more(1003, 1), ahead.more(1004, 1)), (None, None, None));
        read(&mut ahead, 1004, 1);
        read(&mut ahead, 5000, 1);
        assert_eq!(ahead.more(5000, 1), None);
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
