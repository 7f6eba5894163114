//! Page faults: demand paging.
//!
//! A fault is dear (12 us and more where page tables are virtualised), an entry cheap, so one fault fills many:
//! anonymous memory in 2 MiB pages where the area allows and 64 KiB else; files in 2 MiB pages where a whole one of a
//! window fits, and else 256 KiB around the address as far as the content is in memory already.
//!
//! A file's page may have to be fetched from the host, which sleeps; the space is not locked meanwhile. Afterwards the
//! space's version tells whether its areas changed; if so, the fault starts over.

use super::paging::{self, ADDRESS, LARGE, NO_EXEC, OWNED, PRESENT, Slot, WRITE};
use super::space::{AddressSpace, FaultError, Inner, rights};
use super::vma::{Backing, Marks, Prot, Vma};
use super::{LARGE_PAGE, PAGE_SIZE, USER_MIN, USER_TOP, frames, losses, page_down, reclaim};
use crate::arch::copy_fallible;
use crate::{stats, task};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Access, Errno, File, MappedRun};

/// Anonymous memory is filled in pieces of this size where a large page does not fit.
const ANONYMOUS_STEP: u64 = 64 << 10;
const ANONYMOUS_ORDER: usize = 4;
/// File pages are mapped in aligned pieces of this size.
const FILE_STEP: u64 = 256 << 10;
/// An area that is first touched so near to its end, in bytes, is taken for a thread's stack: of thousands of them only what
/// is used shall take memory. (Linux 6.7 goes by `MAP_STACK`.)
const STACK_END: u64 = 128 << 10;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Executing.
    Execute,
}

impl Touch {
    /// From a page fault's error code (SDM volume 3, section 4.7).
    pub fn from_error_code(error: u64) -> Self {
        if error & 2 != 0 {
            Self::Write
        } else if error & 16 != 0 {
            Self::Execute
        } else {
            Self::Read
        }
    }

    fn allowed(self, prot: Prot) -> bool {
        match self {
            Self::Read => !prot.is_empty(),
            Self::Write => prot.contains(Prot::WRITE),
            Self::Execute => prot.contains(Prot::EXEC),
        }
    }
}

/// Resolves a page fault of the current thread.
///
/// # Errors
/// Why the access cannot be allowed.
pub fn page_fault(address: u64, touch: Touch) -> Result<(), FaultError> {
    if address >= USER_TOP {
        return Err(FaultError::NotMapped);
    }
    let space = task::try_current().and_then(|thread| thread.space.lock().clone()).ok_or(FaultError::NotMapped)?;
    resolve(&space, address, touch)
}

/// Makes the page at `address` accessible for `touch`.
pub(super) fn resolve(space: &AddressSpace, address: u64, touch: Touch) -> Result<(), FaultError> {
    let page = page_down(address);
    loop {
        match resolve_page(space, page, touch) {
            // What page caches hold can be had back.
            Err(FaultError::OutOfMemory) if reclaim::reclaim(0, true) => {}
            result => {
                if result == Err(FaultError::OutOfMemory) {
                    EXHAUSTED.store(true, Ordering::Relaxed);
                }
                return result;
            }
        }
    }
}

static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Whether a program's page could not be had for want of memory: on its own account, or when the kernel touched it. The
/// program cannot go on, and ends on its way out of the kernel, where nothing is locked.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

fn resolve_page(space: &AddressSpace, page: u64, touch: Touch) -> Result<(), FaultError> {
    loop {
        let mut inner = space.inner.lock();
        let vma = find_area(&mut inner, page)?;
        if !touch.allowed(vma.prot) {
            return Err(FaultError::Forbidden);
        }
        if is_served(&inner, page, touch) {
            paging::flush(page, 1);
            return Ok(());
        }
        let Backing::File { file, offset, .. } = &vma.backing else {
            return fill_anonymous(&mut inner, &vma, page);
        };
        let (file, offset, version) = (file.clone(), offset + (page - vma.start), inner.version);
        drop(inner);
        if fill_file(space, &vma, file, offset, page, touch, version)? {
            return Ok(());
        }
    }
}

fn find_area(inner: &mut Inner, page: u64) -> Result<Vma, FaultError> {
    let vma = inner.areas.at_or_after(page).ok_or(FaultError::NotMapped)?;
    if vma.start <= page {
        return Ok(vma.clone());
    }
    if !vma.marks.contains(Marks::GROWS_DOWN) {
        return Err(FaultError::NotMapped);
    }
    let (start, end, limit) = (vma.start, vma.end, inner.stack.1);
    let may_reach = |to: &u64| {
        let gap = to.saturating_sub(super::areas::GUARD_GAP);
        *to >= USER_MIN && end - to <= limit && inner.areas.overlapping(gap, start).next().is_none()
    };
    // Some pages at once, where Linux grows by what is touched.
    let step = page & !(ANONYMOUS_STEP - 1);
    let to = [step, page].into_iter().find(may_reach).ok_or(FaultError::NotMapped)?;
    inner.version += 1;
    inner.areas.grow_down(start, to);
    inner.areas.find(page).cloned().ok_or(FaultError::NotMapped)
}

/// Whether the entry allows the access already: another thread was faster, or the processor had an old translation.
fn is_served(inner: &Inner, page: u64, touch: Touch) -> bool {
    let value = match inner.tables.find(page) {
        Slot::Nothing(_) => return false,
        Slot::Large(entry) | Slot::Small(entry) => entry.get(),
    };
    let needed = if touch == Touch::Write { PRESENT | WRITE } else { PRESENT };
    value & needed == needed && (touch != Touch::Execute || value & NO_EXEC == 0)
}

fn out_of_memory(_: Errno) -> FaultError {
    FaultError::OutOfMemory
}

fn zero(phys: u64, len: u64) {
    stats::ZEROED_BYTES.add(len);
    // SAFETY: frames just allocated, not yet known to anybody.
    unsafe { frames::pointer(phys).write_bytes(0, len as usize) };
}

fn fill_anonymous(inner: &mut Inner, vma: &Vma, page: u64) -> Result<(), FaultError> {
    if vma.owner.is_none() {
        inner.areas.take_ownership(page);
    }
    let bits = rights(vma.prot, true) | OWNED;
    let large = page & !(LARGE_PAGE - 1);
    if !vma.marks.contains(Marks::SMALL)
        && large >= vma.start
        && large + LARGE_PAGE <= vma.end
        && page + STACK_END < vma.end
        && let Some(entry) = inner.tables.large(page).map_err(out_of_memory)?.filter(|entry| entry.get() == 0)
        && let Some(frame) = frames::allocate_for_program(frames::LARGE_ORDER)
    {
        zero(frame, LARGE_PAGE);
        entry.set(frame | bits | LARGE);
        inner.owned += LARGE_PAGE;
        return Ok(());
    }
    let step = page & !(ANONYMOUS_STEP - 1);
    let whole = step >= vma.start && step + ANONYMOUS_STEP <= vma.end;
    let empty = |inner: &Inner, at: u64| match inner.tables.find(at) {
        Slot::Nothing(_) => true,
        Slot::Small(entry) => entry.get() == 0,
        Slot::Large(_) => false,
    };
    let pages = (step..step + ANONYMOUS_STEP).step_by(PAGE_SIZE as usize);
    if whole
        && pages.clone().all(|at| empty(inner, at))
        && let Some(block) = frames::allocate_for_program(ANONYMOUS_ORDER)
    {
        zero(block, ANONYMOUS_STEP);
        for at in pages {
            inner.tables.small(at).map_err(out_of_memory)?.set((block + (at - step)) | bits);
        }
        inner.owned += ANONYMOUS_STEP;
        return Ok(());
    }
    let frame = frames::allocate_for_program(0).ok_or(FaultError::OutOfMemory)?;
    zero(frame, PAGE_SIZE);
    inner.tables.small(page).map_err(out_of_memory)?.set(frame | bits);
    inner.owned += PAGE_SIZE;
    Ok(())
}

/// The frame that holds the page at file offset `at`, if it lies in the run.
fn frame_of(run: &MappedRun, at: u64) -> Option<u64> {
    (at >= run.offset && at - run.offset < run.len).then(|| run.phys + (at - run.offset))
}

/// Serves a fault in a mapping of a file. `Ok(false)`: the areas changed meanwhile; start over.
fn fill_file(
    space: &AddressSpace,
    vma: &Vma,
    file: Arc<dyn File>,
    offset: u64,
    page: u64,
    touch: Touch,
    version: u64,
) -> Result<bool, FaultError> {
    let no_page = |errno| if errno == Errno::ENOMEM { FaultError::OutOfMemory } else { FaultError::NoPage };
    let lost = losses::heeded();
    let mut size = file.inode().metadata().map_err(no_page)?.size;
    let write_through = vma.shared && vma.prot.contains(Prot::WRITE);
    let access = match (write_through, touch) {
        (true, Touch::Write) => Access::Write,
        (true, _) => Access::WriteLater,
        (false, _) if vma.shared => Access::Read,
        (false, _) => Access::Copy,
    };
    let run = file.map(offset, access).map_err(no_page)?;
    if offset >= size {
        // What is known of the size may be old; a file that maps the page has looked again.
        size = file.inode().metadata().map_err(no_page)?.size;
    }
    if offset >= size {
        return Err(FaultError::NoPage);
    }
    let Some(run) = run else {
        // A chunk that lost content while it was being mapped may be whole the next time.
        return if losses::sequence() == lost { Err(FaultError::NoPage) } else { Ok(false) };
    };
    let source = frame_of(&run, offset).ok_or(FaultError::NoPage)?;
    let copy = touch == Touch::Write && !vma.shared;
    let mut inner = space.inner.lock();
    // What was lost since may be this page.
    if inner.version != version || losses::sequence() != lost {
        return Ok(false);
    }
    // Another thread was faster, and may have written into the copy that it got: nobody gets a second one.
    if is_served(&inner, page, touch) {
        return Ok(true);
    }
    if copy {
        if !copy_page(&mut inner, vma, page, source, lost)? {
            return Ok(false);
        }
    } else {
        let bits = rights(vma.prot, write_through && run.writable);
        if !map_large(&mut inner, vma, &run, page, offset, size, bits)? {
            map_around(&mut inner, vma, &run, page, offset, size, bits)?;
        }
    }
    if !run.taken_back {
        inner.keep(run.phys, run.pin);
    }
    Ok(true)
}

/// Gives a private writable mapping its own copy of a page. `Ok(false)`: the page may be one of those lost since there were
/// `lost` losses.
fn copy_page(inner: &mut Inner, vma: &Vma, page: u64, source: u64, lost: u64) -> Result<bool, FaultError> {
    let frame = frames::allocate_for_program(0).ok_or(FaultError::OutOfMemory)?;
    // SAFETY: the frame is ours; the source is window memory that is pinned or a cached page that is held, and a
    // fault on the window is recovered from.
    let left = unsafe { copy_fallible(frames::pointer(frame), frames::pointer(source), PAGE_SIZE as usize) };
    if left != 0 || losses::sequence() != lost {
        frames::release(frame, 0);
        return if left == 0 { Ok(false) } else { Err(FaultError::NoPage) };
    }
    if vma.owner.is_none() {
        inner.areas.take_ownership(page);
    }
    stats::COPIED_BYTES.add(PAGE_SIZE);
    let entry = inner.tables.small(page).map_err(out_of_memory)?;
    let replaced = entry.get() & PRESENT != 0;
    entry.set(frame | rights(vma.prot, true) | OWNED);
    inner.owned += PAGE_SIZE;
    if replaced {
        paging::flush_everywhere(page, 1);
    }
    Ok(true)
}

/// Maps the large page that holds `page`, if all of it shows the file and lies in one chunk of a window. Beside the faults
/// that this saves, a host that virtualises page tables keeps what it knows of a large page by where it leads: whoever
/// maps the chunk next, anywhere, finds the pages that were used before in place.
fn map_large(
    inner: &mut Inner,
    vma: &Vma,
    run: &MappedRun,
    page: u64,
    offset: u64,
    size: u64,
    bits: u64,
) -> Result<bool, FaultError> {
    let start = page & !(LARGE_PAGE - 1);
    let Some(from) = offset.checked_sub(page - start) else { return Ok(false) };
    let whole = start >= vma.start && start + LARGE_PAGE <= vma.end;
    let shown = from.checked_add(LARGE_PAGE).is_some_and(|to| to <= size && to <= run.offset.saturating_add(run.len));
    let of_window = !frames::is_ram(run.phys, run.phys + run.len);
    let Some(frame) = frame_of(run, from).filter(|frame| frame.is_multiple_of(LARGE_PAGE)) else { return Ok(false) };
    if !(whole && shown && of_window && run.taken_back) {
        return Ok(false);
    }
    let Some(entry) = inner.tables.large(page).map_err(out_of_memory)? else { return Ok(false) };
    let old = entry.get();
    if old & OWNED != 0 {
        return Ok(false);
    }
    inner.reverse.note_large(frame, start);
    entry.set(frame | bits | LARGE);
    if old == 0 {
        stats::WINDOW_PAGES.add(LARGE_PAGE / PAGE_SIZE);
    } else if old & ADDRESS == frame {
        paging::flush(page, 1);
    } else {
        paging::flush_everywhere(page, 1);
    }
    inner.tidy_reverse();
    Ok(true)
}

/// Maps the page and those around it that are in memory and not mapped yet.
fn map_around(
    inner: &mut Inner,
    vma: &Vma,
    run: &MappedRun,
    page: u64,
    offset: u64,
    size: u64,
    bits: u64,
) -> Result<(), FaultError> {
    let low = (page & !(FILE_STEP - 1)).max(vma.start);
    let high = ((page & !(FILE_STEP - 1)) + FILE_STEP).min(vma.end);
    let of_window = !frames::is_ram(run.phys, run.phys + run.len);
    for at in (low..high).step_by(PAGE_SIZE as usize) {
        // Wrapping: offsets before the page's own are still offsets of this area.
        let file_offset = offset.wrapping_add(at.wrapping_sub(page));
        if file_offset >= size {
            break;
        }
        let Some(frame) = frame_of(run, file_offset) else { continue };
        let entry = inner.tables.small(at).map_err(out_of_memory)?;
        let old = entry.get();
        let more_rights = at == page && old & OWNED == 0;
        if old != 0 && !more_rights {
            continue;
        }
        if run.taken_back {
            inner.reverse.note(frame, at);
        }
        entry.set(frame | bits);
        if old != 0 && old & ADDRESS == frame {
            paging::flush(page, 1);
        } else if old != 0 {
            paging::flush_everywhere(page, 1);
        } else if of_window {
            stats::WINDOW_PAGES.count();
        }
    }
    inner.tidy_reverse();
    Ok(())
}
