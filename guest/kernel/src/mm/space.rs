//! The address space of a program: its areas and the page tables that show them. The calls that change mappings are
//! here; what happens on a fault is in `fault`, what brings pages in and throws them away in `residency`, and what
//! `/proc` shows in `listing`.
//!
//! # Locking
//! One spin lock a space, never held while a file is asked for anything.

use super::areas::Areas;
use super::paging::{self, ADDRESS, LARGE, NO_EXEC, OWNED, PRESENT, Tables, USER, WRITE};
use super::patch::{Heat, Patches};
use super::reverse::Reverse;
use super::vma::{Backing, Held, Marks, Prot, Vma};
use super::{LARGE_PAGE, PAGE_SIZE, USER_MIN, USER_TOP, frames, loans, page_up, shootdown};
use crate::arch::processors;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::mem;
use diolkos_vfs::{Access, Errno, Result};
use spin::Mutex;

pub use super::fault::{Touch, is_exhausted, page_fault};
pub use super::request::{Advice, FaultError, MapRequest, Place, Remap};

/// Mappings without a place of their own go below this; the stack lies above.
pub(super) const MMAP_TOP: u64 = USER_TOP - (1 << 40);

/// What the lock guards.
pub(super) struct Inner {
    pub(super) areas: Areas,
    pub(super) tables: Tables,
    /// Changes whenever an area does: tells a fault that slept whether its area is still the same.
    pub(super) version: u64,
    /// Bytes of frames owned by page-table entries.
    pub(super) owned: u64,
    /// What keeps RAM in place that entries lead to but do not own (cached pages, memory files), by its address.
    /// Kept until the space ends.
    pins: BTreeMap<u64, Arc<dyn Any + Send + Sync>>,
    /// Where entries lead into windows and page caches.
    pub(super) reverse: Reverse,
    /// Areas that were taken away. Dropping one may close its file, which may wait for the host: not under the lock.
    removed: Vec<Vec<Vma>>,
    /// Where the heap starts and ends.
    pub(super) brk: (u64, u64),
    /// Where the main stack began, and how large it and others may grow (`RLIMIT_STACK`).
    pub(super) stack: (u64, u64),
    /// What areas to come are marked with (mlockall(2), `MCL_FUTURE`).
    pub(super) future: Marks,
    /// System calls that have become jumps.
    pub(super) patches: Arc<Mutex<Patches>>,
}

/// An address space.
pub struct AddressSpace {
    pub(super) inner: Mutex<Inner>,
    pub(super) heat: Heat,
    /// The same as in `inner`: for traps, which look at it without the kernel lock.
    pub(super) patches: Arc<Mutex<Patches>>,
}

/// For [`all`].
static SPACES: Mutex<Vec<Weak<AddressSpace>>> = Mutex::new(Vec::new());

/// Every space there is.
pub(super) fn all() -> Vec<Arc<AddressSpace>> {
    SPACES.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Page-table bits for a page an area shows: `writable` says whether this very page may be written in place.
pub(super) fn rights(prot: Prot, writable: bool) -> u64 {
    let mut bits = USER | NO_EXEC;
    if !prot.is_empty() {
        bits |= PRESENT;
    }
    if writable && prot.contains(Prot::WRITE) {
        bits |= WRITE;
    }
    if prot.contains(Prot::EXEC) {
        bits &= !NO_EXEC;
    }
    bits
}

impl Inner {
    /// Keeps memory at `phys` in place as long as the space lives.
    pub(super) fn keep(&mut self, phys: u64, pin: Arc<dyn Any + Send + Sync>) {
        self.pins.insert(phys, pin);
    }

    /// Takes the pages in the range from programs that run on other processors, so that they can be freed: a program that
    /// still reached them would write into whatever they are used for next.
    pub(super) fn hide(&mut self, start: u64, end: u64) -> Result<()> {
        if processors::count() == 1 {
            return Ok(());
        }
        let mut any = false;
        self.tables.for_each(start, end, |_, entry, _| {
            any |= entry.get() & PRESENT != 0;
            entry.set(entry.get() & !PRESENT);
        })?;
        if any {
            shootdown::forget_elsewhere();
        }
        Ok(())
    }

    /// Clears every entry in the range, which is hidden, and frees the frames that belong to it. Returns whether there
    /// were any; if so this processor has to [`paging::flush`].
    pub(super) fn zap(&mut self, start: u64, end: u64) -> Result<bool> {
        let mut any = false;
        let owned = &mut self.owned;
        self.tables.for_each(start, end, |_, entry, size| {
            let value = entry.get();
            entry.set(0);
            any = true;
            if value & OWNED != 0 {
                let order = if size == LARGE_PAGE { frames::LARGE_ORDER } else { 0 };
                loans::release(value & ADDRESS & !(size - 1), order);
                *owned -= size;
            }
        })?;
        Ok(any)
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64) -> Result<()> {
        self.unpatch(start, end);
        self.hide(start, end)?;
        let (mut at, mut any) = (start, false);
        while at < end {
            let removed = self.areas.remove(at, end);
            at = removed.last().map_or(end, |last| last.end);
            self.version += 1;
            for vma in &removed {
                any |= self.zap(vma.start, vma.end)?;
            }
            self.removed.push(removed);
        }
        if any {
            paging::flush(start, (end - start) / PAGE_SIZE);
        }
        Ok(())
    }

    pub(super) fn place(&mut self, place: Place, len: u64) -> Result<u64> {
        let fixed = |start: u64| match start.checked_add(len) {
            Some(end) if start.is_multiple_of(PAGE_SIZE) && start >= USER_MIN && end <= USER_TOP => Ok(start),
            _ if !start.is_multiple_of(PAGE_SIZE) => Err(Errno::EINVAL),
            Some(end) if end <= USER_TOP => Err(Errno::EPERM),
            _ => Err(Errno::ENOMEM),
        };
        match place {
            Place::Anywhere(hint) => self.areas.find_room(hint & !(PAGE_SIZE - 1), len, MMAP_TOP).ok_or(Errno::ENOMEM),
            Place::Fixed(start) => {
                fixed(start)?;
                self.unmap(start, start + len)?;
                Ok(start)
            }
            Place::FixedNoReplace(start) => {
                fixed(start)?;
                match self.areas.overlapping(start, start + len).next() {
                    Some(_) => Err(Errno::EEXIST),
                    None => Ok(start),
                }
            }
        }
    }
}

pub(super) fn range(start: u64, len: u64) -> Result<(u64, u64)> {
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).filter(|end| *end <= USER_TOP).ok_or(Errno::EINVAL)?;
    if !start.is_multiple_of(PAGE_SIZE) { Err(Errno::EINVAL) } else { Ok((start, end)) }
}

impl AddressSpace {
    /// An empty one, with the kernel's half in place.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        let tables = Tables::new()?;
        let patches = Arc::new(Mutex::new(Patches::default()));
        let inner = Inner {
            areas: Areas::default(),
            tables,
            version: 0,
            owned: 0,
            pins: BTreeMap::new(),
            reverse: Reverse::default(),
            removed: Vec::new(),
            brk: (0, 0),
            stack: (0, 0),
            future: Marks::empty(),
            patches: patches.clone(),
        };
        let space = Arc::new(Self { inner: Mutex::new(inner), heat: Heat::default(), patches });
        let mut spaces = SPACES.lock();
        spaces.retain(|space| space.strong_count() > 0);
        spaces.push(Arc::downgrade(&space));
        Ok(space)
    }

    /// Does something with the lock held, and drops what was removed after.
    fn locked<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let result = act(&mut inner);
        let removed = mem::take(&mut inner.removed);
        drop(inner);
        for vma in removed.iter().flatten().filter(|vma| vma.shared) {
            if let Backing::File { file, .. } = &vma.backing {
                file.write_back();
            }
        }
        drop(removed);
        result
    }

    /// Makes the processor use it.
    pub fn load(&self) {
        let tables = self.inner.lock().tables;
        tables.use_here();
    }

    /// Maps memory and returns its address.
    ///
    /// # Errors
    /// `ENOMEM` when there is no room, `EEXIST`, `EINVAL` for an unaligned and `EPERM` for a forbidden fixed place,
    /// `ENODEV` for a file that cannot be mapped this way.
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        let MapRequest { place, len, prot, max_prot, shared, marks, backing, name, populate } = request;
        let len = page_up(len).filter(|len| *len <= USER_TOP).ok_or(Errno::ENOMEM)?;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        if let Backing::File { file, offset, .. } = &backing {
            if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
                return Err(Errno::EOVERFLOW);
            }
            // Shared writing needs memory that is the file's own, or that it writes back.
            let must_be_memory = shared && max_prot.contains(Prot::WRITE) && prot.contains(Prot::WRITE);
            if must_be_memory
                && *offset < file.inode().metadata()?.size
                && file.map(*offset, Access::WriteLater)?.is_none()
            {
                return Err(Errno::ENODEV);
            }
        }
        let start = self.locked(|inner| {
            if inner.areas.are_many() {
                return Err(Errno::ENOMEM);
            }
            let start = inner.place(place, len)?;
            inner.version += 1;
            let end = start + len;
            // Shared anonymous memory is an object of its own; its first byte is here.
            let object = shared && matches!(backing, Backing::Anonymous);
            let (owner, moved) = if object { (Some(inner.areas.new_owner()), start) } else { (None, 0) };
            let marks = (marks | inner.future).accounted(prot, shared);
            inner.areas.insert(Vma { start, end, prot, max_prot, shared, marks, owner, moved, backing, name });
            Ok(start)
        })?;
        if populate && !prot.is_empty() {
            // What cannot be filled now will fault later.
            let _ = self.populate(start, start + len, prot.contains(Prot::WRITE));
        }
        Ok(start)
    }

    /// Unmaps all whole pages in the range; holes are fine.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned, empty or foreign range, `ENOMEM` when there would be too many areas.
    pub fn unmap(&self, start: u64, len: u64) -> Result<()> {
        let (start, end) = range(start, len)?;
        if start == end {
            return Err(Errno::EINVAL);
        }
        self.locked(|inner| {
            let cuts = inner.areas.find(start).is_some_and(|vma| vma.start < start && end < vma.end);
            if cuts && inner.areas.are_many() { Err(Errno::ENOMEM) } else { inner.unmap(start, end) }
        })
    }

    /// Changes the protection of a range that must be mapped without holes.
    ///
    /// # Errors
    /// `ENOMEM` for holes and when there would be too many areas, `EACCES` beyond an area's `max_prot`, `EINVAL`.
    pub fn protect(&self, start: u64, len: u64, prot: Prot) -> Result<()> {
        let (start, end) = range(start, len)?;
        let mut inner = self.inner.lock();
        if !inner.areas.covers(start, end) || inner.areas.are_many() {
            return Err(Errno::ENOMEM);
        }
        if inner.areas.overlapping(start, end).any(|vma| !vma.max_prot.contains(prot)) {
            return Err(Errno::EACCES);
        }
        if prot.contains(Prot::WRITE) {
            inner.unpatch(start, end);
        }
        inner.version += 1;
        inner.areas.change(start, end, |vma| vma.protect(prot));
        let mut lowered = false;
        inner.tables.for_each(start, end, |_, entry, _| {
            let old = entry.get();
            let new = if old & OWNED != 0 {
                old & (ADDRESS | OWNED | LARGE) | rights(prot, true)
            } else if prot.is_empty() {
                0
            } else {
                // Never writable here: a write faults, and the fault decides whether to copy.
                old & (ADDRESS | LARGE) | rights(prot, false)
            };
            lowered |= old & PRESENT != 0 && old & !new & (PRESENT | WRITE) | new & !old & NO_EXEC != 0;
            entry.set(new);
        })?;
        if lowered {
            paging::flush_everywhere(start, (end - start) / PAGE_SIZE);
        }
        Ok(())
    }

    /// mremap(2): grows, shrinks or moves a mapping; with an old length of 0 it makes another view of a shared one.
    ///
    /// # Errors
    /// `EFAULT` when the old range is not in one mapping, `ENOMEM`, `EINVAL`.
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, how: Remap) -> Result<u64> {
        let (old, old_end) = range(old, old_len)?;
        let new_len = page_up(new_len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        let (room, place) = match how.fixed {
            Some(new) if new < old_end && old < new.checked_add(new_len).ok_or(Errno::EINVAL)? => {
                return Err(Errno::EINVAL);
            }
            Some(new) => (false, Place::Fixed(new)),
            None => (!how.keep_old, Place::Anywhere(0)),
        };
        self.locked(|inner| {
            if inner.areas.are_many() {
                return Err(Errno::ENOMEM);
            }
            if old == old_end {
                return if how.may_move { inner.view_again(old, place, new_len) } else { Err(Errno::ENOMEM) };
            }
            if room && inner.resize((old, old_end), new_len)? {
                return Ok(old);
            }
            if how.may_move { inner.relocate((old, old_end), place, new_len, how.keep_old) } else { Err(Errno::ENOMEM) }
        })
    }

    /// Sets how large stacks may grow, in bytes (`RLIMIT_STACK`).
    pub fn set_stack_limit(&self, limit: u64) {
        self.inner.lock().stack.1 = limit;
    }

    /// Sets where the main stack starts; called once by the loader.
    pub fn set_stack_start(&self, start: u64) {
        self.inner.lock().stack.0 = start;
    }

    /// Sets where the heap starts; called once by the loader.
    pub fn set_brk_start(&self, start: u64) {
        self.inner.lock().brk = (start, start);
    }

    /// brk(2): moves the end of the heap and returns it; on failure, or for 0, the present end.
    pub fn brk(&self, end: u64) -> u64 {
        self.locked(|inner| {
            let moved = inner.move_brk(end);
            if moved.is_ok() {
                inner.brk.1 = end;
            }
            inner.brk.1
        })
    }

    /// Unmaps those areas of a range that keep `held`, and no others.
    ///
    /// # Errors
    /// As [`AddressSpace::unmap`].
    pub fn unmap_held(&self, start: u64, len: u64, held: &Held) -> Result<()> {
        let (start, end) = range(start, len)?;
        let is_held = |vma: &&Vma| match &vma.backing {
            Backing::File { held: Some(other), .. } => Arc::ptr_eq(held, other),
            _ => false,
        };
        loop {
            let next = self.inner.lock().areas.overlapping(start, end).find(is_held).map(|vma| (vma.start, vma.end));
            let Some((from, to)) = next else { return Ok(()) };
            self.unmap(from, to - from)?;
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        let all: Vec<_> = inner.areas.iter().map(|vma| (vma.start, vma.end)).collect();
        for (start, end) in all {
            // Whole areas have no large page reaching over their ends, so nothing needs to be cut.
            let _ = inner.zap(start, end);
        }
        inner.tables.free();
    }
}
