//! Lost window memory: how the machine tells the guest that pages of a DAX window show their file no longer.
//!
//! The host may cut a file short while the guest has it in a window. The machine finds out when the guest touches a page
//! that is gone. It then enters the range here, puts zeros where the page was so that the access can complete, and
//! interrupts by the first MSI-X vector of the file system device whose window it is; only then does the guest go on. So
//! a program is interrupted before it sees a zero. A copy made with interrupts masked compares the sequence before and
//! after: when it moved, the bytes do not count.
//!
//! The record is one page that the guest reads without leaving and cannot write, at the guest-physical address
//! [`crate::cmdline::BootOptions::losses`]; all fields are little-endian and 64 bits wide:
//!
//! ```text
//!    0  sequence: losses so far
//!    8  zero
//!   16  guest-physical address and length of loss 0, then of loss 1, …; loss n is entry n % CAPACITY
//! ```
//!
//! A reader that falls behind by more than the entries hold has to assume that everything is lost.

/// Bytes of the record.
pub const SIZE: usize = 4096;
/// Entries of the record.
pub const CAPACITY: u64 = 255;
/// Where the sequence is.
pub const SEQUENCE: usize = 0;

/// A range of guest-physical memory that shows its file no longer. Whoever reads it has to check that it lies in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Where in the record loss `number` is.
fn place(number: u64) -> usize {
    16 * (1 + (number % CAPACITY) as usize)
}

/// The machine's side.
#[derive(Debug, Default)]
pub struct Writer {
    sequence: u64,
}

impl Writer {
    /// Enters a loss. `store` writes 64 bits at an offset in the record; each of its writes is seen after the ones before.
    pub fn enter(&mut self, loss: Loss, store: impl Fn(usize, u64)) {
        let at = place(self.sequence);
        store(at, loss.address);
        store(at + 8, loss.len);
        self.sequence = self.sequence.wrapping_add(1);
        store(SEQUENCE, self.sequence);
    }
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// This range is lost.
    Lost(Loss),
    /// So much is lost that the record holds not all of it.
    Everything,
}

/// The guest's side.
#[derive(Debug, Default)]
pub struct Reader {
    seen: u64,
}

impl Reader {
    /// A reader of a record without losses.
    pub const fn new() -> Self {
        Self { seen: 0 }
    }

    /// The next loss. `load` reads 64 bits at an offset in the record, and no read is made before the ones before it.
    pub fn next(&mut self, load: impl Fn(usize) -> u64) -> Option<News> {
        let unread = load(SEQUENCE).wrapping_sub(self.seen);
        if unread == 0 {
            return None;
        }
        let at = place(self.seen);
        let loss = Loss { address: load(at), len: load(at + 8) };
        // The entry may have been written over since, or is just now.
        let sequence = load(SEQUENCE);
        if sequence.wrapping_sub(self.seen) >= CAPACITY {
            self.seen = sequence;
            return Some(News::Everything);
        }
        self.seen = self.seen.wrapping_add(1);
        Some(News::Lost(loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Record([Cell<u64>; SIZE / 8]);

    impl Record {
        fn new() -> Self {
            Self([const { Cell::new(0) }; SIZE / 8])
        }

        fn enter(&self, writer: &mut Writer, n: u64) {
            writer.enter(loss(n), |at, value| self.0[at / 8].set(value));
        }

        fn next(&self, reader: &mut Reader) -> Option<News> {
            reader.next(|at| self.0[at / 8].get())
        }
    }

    fn loss(n: u64) -> Loss {
        Loss { address: n << 21, len: n + 1 }
    }

    #[test]
    fn what_is_entered_is_read_once_and_in_order() {
        let (record, mut writer, mut reader) = (Record::new(), Writer::default(), Reader::new());
        assert_eq!(record.next(&mut reader), None);
        for round in 0..3 * CAPACITY {
            record.enter(&mut writer, 2 * round);
            record.enter(&mut writer, 2 * round + 1);
            assert_eq!(record.next(&mut reader), Some(News::Lost(loss(2 * round))));
            assert_eq!(record.next(&mut reader), Some(News::Lost(loss(2 * round + 1))));
            assert_eq!(record.next(&mut reader), None);
        }
    }

    #[test]
    fn who_falls_behind_loses_everything_and_goes_on() {
        let (record, mut writer, mut reader) = (Record::new(), Writer::default(), Reader::new());
        for n in 0..CAPACITY - 1 {
            record.enter(&mut writer, n);
        }
        assert_eq!(record.next(&mut reader), Some(News::Lost(loss(0))));
        for n in 0..CAPACITY {
            record.enter(&mut writer, n);
        }
        assert_eq!(record.next(&mut reader), Some(News::Everything));
        assert_eq!(record.next(&mut reader), None);
        record.enter(&mut writer, 7);
        assert_eq!(record.next(&mut reader), Some(News::Lost(loss(7))));
    }

    #[test]
    fn an_entry_written_over_while_it_is_read_does_not_count() {
        let (record, mut reader) = (Record::new(), Reader::new());
        let writer = core::cell::RefCell::new(Writer::default());
        record.enter(&mut writer.borrow_mut(), 0);
        let overtaking = |at: usize| {
            let value = record.0[at / 8].get();
            if at != SEQUENCE {
                (0..CAPACITY).for_each(|n| record.enter(&mut writer.borrow_mut(), n));
            }
            value
        };
        assert_eq!(reader.next(overtaking), Some(News::Everything));
    }

    #[test]
    fn every_entry_lies_in_the_record() {
        assert!((0..2 * CAPACITY).all(|n| place(n) >= 16 && place(n) + 16 <= SIZE));
        assert_eq!(place(u64::MAX), place(u64::MAX % CAPACITY));
    }
}
