//! The program's memory on loan to a device, which reads or fills it without a copy.
//!
//! The program may unmap what is lent: another thread of it, while the one that asked waits. Then its frames are nobody's but
//! the device's, and are freed when the loan ends. So whoever takes frames from the program gives them back through
//! [`release`]. Only frames that belong to their page-table entry are lent: private and anonymous memory. A window is not
//! a device's to use, and cached pages have other users.
//!
//! # Locking
//! The list of loans is under a spin lock that is taken inside of an address space's, and held for nothing else.

#[cfg(guest)]
mod walk;

use super::{PAGE_SIZE, frames};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;

#[cfg(guest)]
pub use walk::{Loan, lend};

/// What is lent, and what waits for that to end.
#[derive(Default)]
struct Loans {
    /// Ranges of physical memory, from the first byte to the one after the last. One may be there twice.
    lent: Vec<(u64, u64)>,
    /// Blocks of 2^order frames that were given back meanwhile.
    waiting: Vec<(u64, usize)>,
}

static LOANS: Mutex<Loans> = Mutex::new(Loans { lent: Vec::new(), waiting: Vec::new() });

/// How many ranges are lent: mostly none, and then nobody takes the lock.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// Gives frames of the program back, at once or when the device that they are lent to is done with them. The caller has taken
/// them from page tables, and holds the lock of the address space that they were in.
pub fn release(phys: u64, order: usize) {
    if LENT.load(Ordering::Relaxed) == 0 || !LOANS.lock().keep(phys, order) {
        frames::release(phys, order);
    }
}

impl Loans {
    fn is_lent(&self, phys: u64, order: usize) -> bool {
        self.lent.iter().any(|(start, end)| phys < *end && *start < phys + (PAGE_SIZE << order))
    }

    /// Takes charge of a block that is lent.
    fn keep(&mut self, phys: u64, order: usize) -> bool {
        let lent = self.is_lent(phys, order);
        if lent {
            self.waiting.push((phys, order));
        }
        lent
    }

    fn begin(&mut self, ranges: &[(u64, u64)]) {
        self.lent.extend_from_slice(ranges);
    }

    /// Ends a loan of `ranges`; the blocks that nobody waits for any more.
    fn end(&mut self, ranges: &[(u64, u64)]) -> Vec<(u64, usize)> {
        for range in ranges {
            let place = self.lent.iter().position(|lent| lent == range).expect("a loan ends once");
            self.lent.swap_remove(place);
        }
        let (waiting, free) = self.waiting.drain(..).partition(|(phys, order)| {
            let (start, end) = (*phys, phys + (PAGE_SIZE << order));
            self.lent.iter().any(|lent| start < lent.1 && lent.0 < end)
        });
        self.waiting = waiting;
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_while_it_is_lent_waits_for_the_last_loan_to_end() {
        let page = |number: u64| number * PAGE_SIZE;
        let mut loans = Loans::default();
        let (first, second) = ([(page(8) + 100, page(9)), (page(20), page(24))], [(page(22), page(23))]);
        loans.begin(&first);
        loans.begin(&second);
        assert!(!loans.keep(page(7), 0) && !loans.keep(page(9), 0) && !loans.keep(page(16), 2));
        assert!(loans.keep(page(8), 0) && loans.keep(page(20), 2) && loans.keep(page(0), 4));
        assert_eq!(loans.end(&first), [(page(8), 0), (page(0), 4)]);
        assert!(!loans.keep(page(8), 0));
        assert_eq!(loans.end(&second), [(page(20), 2)]);
        assert!(loans.lent.is_empty() && loans.waiting.is_empty());
    }

    #[test]
    fn the_same_memory_can_be_lent_twice() {
        let range = [(PAGE_SIZE, 2 * PAGE_SIZE)];
        let mut loans = Loans::default();
        loans.begin(&range);
        loans.begin(&range);
        assert!(loans.keep(PAGE_SIZE, 0) && loans.end(&range).is_empty());
        assert_eq!(loans.end(&range), [(PAGE_SIZE, 0)]);
    }
}
