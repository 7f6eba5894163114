//! The ordered map of areas: finding, cutting, joining, and finding room. Pure; tested on the host.

use super::vma::{Backing, Marks, Owner, Vma};
use super::{LARGE_PAGE, USER_MIN};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Room left free below an area that grows down (`stack_guard_gap`, 256 pages).
pub const GUARD_GAP: u64 = 1 << 20;

/// Most areas of a program (`/proc/sys/vm/max_map_count`): each costs memory of the kernel's.
pub const MOST: usize = 65_530;

/// Areas taken out at once: a list of all of them would be larger than what the kernel's heap has in one piece.
const PIECE: usize = 512;

/// Areas by start address; they never overlap.
#[derive(Default)]
pub struct Areas {
    map: BTreeMap<u64, Vma>,
    /// Owners there have been.
    owners: u64,
    searched: Searched,
}

/// What the last search for room has shown: between `from` and `top` there is none for `len` bytes or more. So the next
/// search need not look at all areas again, of which there may be tens of thousands.
#[derive(Default)]
struct Searched {
    from: u64,
    top: u64,
    len: u64,
}

impl Areas {
    /// The area that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Vma> {
        self.map.range(..=address).next_back().map(|(_, vma)| vma).filter(|vma| address < vma.end)
    }

    /// The first area that ends after `address`.
    pub fn at_or_after(&self, address: u64) -> Option<&Vma> {
        self.find(address).or_else(|| self.map.range(address..).next().map(|(_, vma)| vma))
    }

    /// Whether cutting one in two, or three, would make too many.
    pub fn are_many(&self) -> bool {
        self.map.len() + 2 > MOST
    }

    /// All areas in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.map.values()
    }

    /// The areas that share a byte with `[start, end)`.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |vma| vma.start);
        self.map.range(first..end.max(first)).map(|(_, vma)| vma)
    }

    /// Whether areas cover `[start, end)` without a hole.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    /// Adds an area where there is none, joined with its neighbours if they are alike.
    pub fn insert(&mut self, mut vma: Vma) {
        if let Some(before) = self.map.range(..vma.start).next_back().map(|(_, v)| v.clone())
            && before.end == vma.start
            && joins(&before, &vma)
        {
            self.map.remove(&before.start);
            vma = Vma { start: before.start, backing: before.backing, owner: before.owner.or(vma.owner), ..vma };
        }
        if let Some(after) = self.map.get(&vma.end).cloned()
            && joins(&vma, &after)
        {
            self.map.remove(&after.start);
            vma.end = after.end;
            vma.owner = vma.owner.or(after.owner);
        }
        self.map.insert(vma.start, vma);
    }

    /// Takes away what is in `[start, end)`, cutting areas that reach over an end, and returns what was there: no more than
    /// [`PIECE`] areas at once, from the start on. What comes after is still there and begins where the last of them ends.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        if start >= end {
            return Vec::new();
        }
        let hit: Vec<Vma> = self.overlapping(start, end).take(PIECE).cloned().collect();
        let mut removed = Vec::with_capacity(hit.len());
        if let Some(last) = hit.last() {
            // The room that comes up reaches to the next area.
            let next = self.map.range(last.end..).next().map_or(u64::MAX, |(_, above)| above.start);
            self.searched.from = self.searched.from.max(if last.end > end { end } else { next });
        }
        for vma in hit {
            self.map.remove(&vma.start);
            if vma.start < start {
                self.map.insert(vma.start, Vma { end: start, ..vma.clone() });
            }
            if vma.end > end {
                self.map.insert(end, cut_front(&vma, end));
            }
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            removed.push(Vma { end: to, ..cut_front(&vma, from) });
        }
        removed
    }

    /// Changes every area in `[start, end)` and only there.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        let mut at = start;
        while at < end {
            let piece = self.remove(at, end);
            at = piece.last().map_or(end, |last| last.end);
            for mut vma in piece {
                change(&mut vma);
                self.insert(vma);
            }
        }
    }

    /// Moves the start of an area that grows down.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(vma) = self.map.remove(&start) {
            self.map.insert(new_start, Vma { start: new_start, ..vma });
        }
    }

    /// An owner that owns nothing yet.
    pub fn new_owner(&mut self) -> Owner {
        self.owners += 1;
        Owner(self.owners)
    }

    /// The private area that holds `address` gets pages of its own: from now on they have an owner, a neighbour's where that
    /// lets them join once they have the same protection (`find_mergeable_anon_vma` in Linux' mm/vma.c).
    pub fn take_ownership(&mut self, address: u64) {
        let Some(vma) = self.find(address).filter(|vma| !vma.shared && vma.owner.is_none()) else { return };
        let after = self.map.get(&vma.end).filter(|after| continues(vma, after));
        let before = self.map.range(..vma.start).next_back().map(|(_, before)| before);
        let before = before.filter(|before| before.end == vma.start && continues(before, vma));
        let (start, known) = (vma.start, after.and_then(|v| v.owner).or_else(|| before.and_then(|v| v.owner)));
        let owner = known.unwrap_or_else(|| self.new_owner());
        if let Some(vma) = self.map.get_mut(&start) {
            vma.owner = Some(owner);
        }
    }

    /// Finds room for `len` bytes: at `hint` if that is free, else the highest place below `top`. Big areas are
    /// aligned to large pages.
    pub fn find_room(&mut self, hint: u64, len: u64, top: u64) -> Option<u64> {
        if hint >= USER_MIN && hint.checked_add(len).is_some_and(|end| end <= top) && self.is_free(hint, hint + len) {
            return Some(hint);
        }
        let known = self.searched.top == top && self.searched.len <= len;
        let from = if known { self.searched.from.min(top) } else { top };
        let found = self.highest_room(len, from);
        // What is taken from the highest room leaves none above it.
        self.searched = Searched { from: found.map_or(USER_MIN, |start| start + len), top, len };
        found
    }

    /// The highest room for `len` bytes below `ceiling`.
    fn highest_room(&self, len: u64, mut ceiling: u64) -> Option<u64> {
        let align = if len >= LARGE_PAGE { LARGE_PAGE } else { super::PAGE_SIZE };
        loop {
            let start = ceiling.checked_sub(len).filter(|start| *start >= USER_MIN)? & !(align - 1);
            if start < USER_MIN {
                return None;
            }
            match self.map.range(..start + len).next_back() {
                Some((_, below)) if below.end > start => ceiling = bottom(below),
                _ => match self.map.range(start + len..).next() {
                    Some((_, above)) if bottom(above) < start + len => ceiling = bottom(above),
                    _ => return Some(start),
                },
            }
        }
    }

    /// Whether no area, nor the guard gap of one, touches `[start, end)`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
            && self.map.range(end..).next().is_none_or(|(_, above)| bottom(above) >= end)
    }
}

fn bottom(vma: &Vma) -> u64 {
    if vma.marks.contains(Marks::GROWS_DOWN) { vma.start.saturating_sub(GUARD_GAP) } else { vma.start }
}

fn cut_front(vma: &Vma, start: u64) -> Vma {
    let mut rest = vma.clone();
    if let Backing::File { offset, .. } = &mut rest.backing {
        *offset += start - vma.start;
    }
    rest.start = start;
    rest
}

/// Whether `high` goes on where `low` ends, protection and owner aside.
fn continues(low: &Vma, high: &Vma) -> bool {
    let alike = low.shared == high.shared && low.marks == high.marks && low.name == high.name;
    alike
        && match (&low.backing, &high.backing) {
            (Backing::Anonymous, Backing::Anonymous) => low.moved == high.moved,
            (Backing::File { file: a, offset: at, .. }, Backing::File { file: b, offset: next, .. }) => {
                alloc::sync::Arc::ptr_eq(a, b) && at + (low.end - low.start) == *next
            }
            _ => false,
        }
}

/// Whether two neighbours become one area: exactly where they do on Linux (`can_vma_merge_after` in mm/vma.c), because
/// `/proc/self/maps` shows it, and mremap(2) does not reach over an end.
fn joins(low: &Vma, high: &Vma) -> bool {
    let owners = low.owner.is_none() || high.owner.is_none() || low.owner == high.owner;
    owners && low.prot == high.prot && low.max_prot == high.max_prot && continues(low, high)
}

#[cfg(test)]
mod tests {
    use super::super::vma::Prot;
    use super::*;

    const TOP: u64 = 0x5000_0000;

    fn area(start: u64, end: u64, prot: Prot) -> Vma {
        Vma::anonymous(start, end, prot)
    }

    fn bounds(areas: &Areas) -> Vec<(u64, u64)> {
        areas.iter().map(|v| (v.start, v.end)).collect()
    }

    #[test]
    fn alike_neighbours_join_and_others_do_not() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x20000, Prot::READ));
        areas.insert(area(0x30000, 0x40000, Prot::READ));
        areas.insert(area(0x20000, 0x30000, Prot::READ));
        assert_eq!(bounds(&areas), [(0x10000, 0x40000)]);
        areas.insert(area(0x40000, 0x50000, Prot::WRITE));
        assert_eq!(bounds(&areas).len(), 2);
    }

    #[test]
    fn removing_cuts_at_both_ends() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x50000, Prot::READ));
        let gone = areas.remove(0x20000, 0x30000);
        assert_eq!(gone.iter().map(|v| (v.start, v.end)).collect::<Vec<_>>(), [(0x20000, 0x30000)]);
        assert_eq!(bounds(&areas), [(0x10000, 0x20000), (0x30000, 0x50000)]);
        assert!(!areas.covers(0x10000, 0x50000));
        assert!(areas.covers(0x38000, 0x48000));
        assert!(areas.find(0x2ffff).is_none() && areas.find(0x30000).is_some());
    }

    #[test]
    fn changing_a_middle_makes_three_and_back_makes_one() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x50000, Prot::READ));
        areas.change(0x20000, 0x30000, |v| v.prot = Prot::empty());
        assert_eq!(bounds(&areas), [(0x10000, 0x20000), (0x20000, 0x30000), (0x30000, 0x50000)]);
        areas.change(0x20000, 0x30000, |v| v.prot = Prot::READ);
        assert_eq!(bounds(&areas), [(0x10000, 0x50000)]);
        assert!(areas.remove(0x30000, 0x30000).is_empty());
    }

    #[test]
    fn many_are_changed_and_taken_away_piece_by_piece() {
        let mut areas = Areas::default();
        let end = 0x10000 + 3000 * 0x2000;
        for start in (0x10000..end).step_by(0x2000) {
            areas.insert(area(start, start + 0x1000, Prot::READ));
        }
        areas.change(0x10000, end, |v| v.prot = Prot::WRITE);
        assert!(areas.iter().count() == 3000 && areas.iter().all(|v| v.prot == Prot::WRITE));
        let (mut at, mut taken) = (0x10000, 0);
        while let piece = areas.remove(at, end)
            && let Some(last) = piece.last()
        {
            (at, taken) = (last.end, taken + piece.len());
            assert!(piece.len() <= PIECE);
        }
        assert_eq!((taken, areas.iter().count()), (3000, 0));
    }

    #[test]
    fn room_is_found_from_the_top_and_hints_are_kept() {
        let mut areas = Areas::default();
        assert_eq!(areas.find_room(0, 0x1000, TOP), Some(TOP - 0x1000));
        areas.insert(area(TOP - 0x1000, TOP, Prot::READ));
        assert_eq!(areas.find_room(0, 0x2000, TOP), Some(TOP - 0x3000));
        assert_eq!(areas.find_room(0x30000, 0x2000, TOP), Some(0x30000));
        assert_eq!(areas.find_room(TOP - 0x1000, 0x1000, TOP), Some(TOP - 0x2000));
        let big = areas.find_room(0, 4 << 20, TOP).unwrap();
        assert_eq!(big % LARGE_PAGE, 0);
        assert_eq!(areas.find_room(0, TOP, TOP), None);
    }

    #[test]
    fn room_that_came_up_since_the_last_search_is_found() {
        let (mut areas, mut random) = (Areas::default(), 1u64);
        for step in 0..5000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (size, place) = ((random >> 33 & 15) + 1, random >> 40);
            if step % 3 == 0 {
                let start = TOP - (place & 0xfff) * 0x1000 - 0x10000;
                areas.remove(start, start + size * 0x1000);
                continue;
            }
            let len = size * if place & 31 == 0 { 0x40000 } else { 0x1000 };
            let found = areas.find_room(0, len, TOP);
            assert_eq!(found, areas.highest_room(len, TOP), "step {step}");
            if let Some(start) = found {
                areas.insert(area(start, start + len, if step & 1 == 0 { Prot::READ } else { Prot::WRITE }));
            }
        }
    }

    #[test]
    fn nothing_is_put_into_the_gap_below_a_stack() {
        let mut areas = Areas::default();
        areas.insert(Vma { marks: Marks::GROWS_DOWN, ..area(TOP - 0x10000, TOP, Prot::WRITE) });
        assert_eq!(areas.find_room(0, 0x1000, TOP), Some(TOP - 0x10000 - GUARD_GAP - 0x1000));
        assert!(!areas.is_free(TOP - 0x20000, TOP - 0x1f000));
    }

    #[test]
    fn pages_of_different_owners_stay_apart() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x20000, Prot::READ));
        areas.insert(Vma { marks: Marks::LOCKED, ..area(0x20000, 0x30000, Prot::READ) });
        areas.insert(area(0x30000, 0x40000, Prot::READ));
        [0x10000, 0x20000, 0x30000].iter().for_each(|at| areas.take_ownership(*at));
        areas.change(0x20000, 0x30000, |v| v.marks = Marks::empty());
        assert_eq!(bounds(&areas).len(), 3);
        areas.remove(0x20000, 0x30000);
        // Without pages it joins the one before, with which it then ends at the other's.
        areas.insert(area(0x20000, 0x30000, Prot::READ));
        assert_eq!(bounds(&areas), [(0x10000, 0x30000), (0x30000, 0x40000)]);
    }

    #[test]
    fn who_only_differs_in_protection_shares_an_owner_and_may_join() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x20000, Prot::READ));
        areas.insert(area(0x20000, 0x30000, Prot::EXEC));
        areas.take_ownership(0x10000);
        areas.take_ownership(0x20000);
        assert_eq!(areas.find(0x10000).unwrap().owner, areas.find(0x20000).unwrap().owner);
        areas.change(0x20000, 0x30000, |v| v.prot = Prot::READ);
        assert_eq!(bounds(&areas), [(0x10000, 0x30000)]);
    }

    #[test]
    fn what_was_moved_with_its_pages_does_not_join() {
        let mut areas = Areas::default();
        areas.insert(area(0x10000, 0x20000, Prot::READ));
        areas.insert(Vma { moved: 0x5000, ..area(0x20000, 0x30000, Prot::READ) });
        assert_eq!(bounds(&areas).len(), 2);
    }
}
