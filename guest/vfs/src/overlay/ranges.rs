//! Which pages of a lower file still show: a set of page numbers as disjoint ranges. Pure.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// Disjoint ranges that do not touch: start to end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// The pages from 0 up to `end`.
    pub(super) fn up_to(end: u64) -> Self {
        Self((end > 0).then_some((0, end)).into_iter().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many pages there are.
    pub(super) fn pages(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// The range that holds `page`.
    pub(super) fn around(&self, page: u64) -> Option<Range<u64>> {
        self.first_from(page).filter(|range| range.contains(&page))
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        self.around(page).is_some()
    }

    /// The first range that ends after `page`.
    pub(super) fn first_from(&self, page: u64) -> Option<Range<u64>> {
        let before = self.0.range(..=page).next_back().filter(|(_, end)| **end > page);
        before.or_else(|| self.0.range(page..).next()).map(|(start, end)| *start..*end)
    }

    /// Takes pages out.
    pub(super) fn remove(&mut self, pages: Range<u64>) {
        while let Some(range) = self.first_from(pages.start).filter(|range| range.start < pages.end) {
            if pages.is_empty() {
                return;
            }
            self.0.remove(&range.start);
            if range.start < pages.start {
                self.0.insert(range.start, pages.start);
            }
            if range.end > pages.end {
                self.0.insert(pages.end, range.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    fn pages(ranges: &Ranges) -> Vec<u64> {
        ranges.0.iter().flat_map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn taking_pages_out_cuts_ranges() {
        let mut ranges = Ranges::up_to(10);
        ranges.remove(3..5);
        ranges.remove(9..20);
        ranges.remove(6..6);
        assert_eq!(pages(&ranges), [0, 1, 2, 5, 6, 7, 8]);
        assert_eq!((ranges.around(6), ranges.around(3), ranges.first_from(3)), (Some(5..9), None, Some(5..9)));
        assert_eq!((ranges.pages(), ranges.count(), ranges.first_from(9)), (7, 2, None));
        ranges.remove(0..u64::MAX);
        assert!(ranges.is_empty());
        assert!(Ranges::up_to(0).is_empty());
    }

    #[test]
    fn any_order_gives_what_a_set_gives() {
        let mut dice = crate::testing::Dice(7);
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::up_to(40), (0..40).collect::<BTreeSet<u64>>());
            for _ in 0..20 {
                let start = dice.below(45);
                let end = start + dice.below(9);
                ranges.remove(start..end);
                model.retain(|page| !(start..end).contains(page));
                assert_eq!(pages(&ranges), model.iter().copied().collect::<Vec<_>>());
                assert_eq!(ranges.pages(), model.len() as u64);
                let page = dice.below(45);
                assert_eq!(ranges.contains(page), model.contains(&page));
                let next = model.range(page..).next().copied();
                assert_eq!(ranges.first_from(page).map(|range| range.start.max(page)), next);
            }
        }
    }
}
