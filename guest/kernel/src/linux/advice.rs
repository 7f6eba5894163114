//! What a program says about its memory: madvise(2), and mlock(2) with its family.

use super::memory::check_mapped;
use super::{Call, table::Calls};
use crate::mm::marking::Marking;
use crate::mm::space::Advice;
use crate::mm::vma::Marks;
use crate::mm::{PAGE_SIZE, USER_MIN, USER_TOP, page_down, page_up};
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::madvise, madvise),
    (Sysno::mlock, mlock),
    (Sysno::mlock2, mlock2),
    (Sysno::munlock, munlock),
    (Sysno::mlockall, mlockall),
    (Sysno::munlockall, munlockall),
];

/// How an area locked by mlock(2) differs from others.
const LOCKS: Marks = Marks::LOCKED.union(Marks::ON_FAULT);

/// What advice of madvise(2) asks for.
enum Asked {
    /// To change what is in memory.
    Act(Advice),
    /// To be remembered.
    Mark(Marking),
    /// Nothing we could do, but there must be memory.
    Nothing,
}

/// Takes `clear` away and then sets `set`.
fn marking(set: Marks, clear: Marks) -> Asked {
    Asked::Mark(Marking { set, clear })
}

fn asked(advice: u32) -> Result<Asked> {
    let (none, order, size) = (Marks::empty(), Marks::SEQUENTIAL | Marks::RANDOM, Marks::LARGE | Marks::SMALL);
    Ok(match advice {
        raw::MADV_DONTNEED | raw::MADV_DONTNEED_LOCKED => Asked::Act(Advice::DontNeed),
        raw::MADV_FREE => Asked::Act(Advice::Free),
        raw::MADV_POPULATE_READ => Asked::Act(Advice::Populate(false)),
        raw::MADV_POPULATE_WRITE => Asked::Act(Advice::Populate(true)),
        raw::MADV_NORMAL => marking(none, order),
        raw::MADV_RANDOM => marking(Marks::RANDOM, order),
        raw::MADV_SEQUENTIAL => marking(Marks::SEQUENTIAL, order),
        raw::MADV_DONTFORK => marking(Marks::NOT_FORKED, none),
        raw::MADV_DOFORK => marking(none, Marks::NOT_FORKED),
        raw::MADV_WIPEONFORK => marking(Marks::WIPED_ON_FORK, none),
        raw::MADV_KEEPONFORK => marking(none, Marks::WIPED_ON_FORK),
        raw::MADV_DONTDUMP => marking(Marks::NOT_DUMPED, none),
        raw::MADV_DODUMP => marking(none, Marks::NOT_DUMPED),
        raw::MADV_HUGEPAGE => marking(Marks::LARGE, size),
        raw::MADV_NOHUGEPAGE => marking(Marks::SMALL, size),
        raw::MADV_WILLNEED | raw::MADV_COLD | raw::MADV_PAGEOUT => Asked::Nothing,
        _ => return Err(Errno::EINVAL),
    })
}

/// madvise(2). Of what is remembered only `MADV_NOHUGEPAGE` changes anything; `/proc/self/maps` shows where it begins and ends.
fn madvise(call: &mut Call<'_>) -> Result<u64> {
    let [start, len, advice, ..] = call.args;
    let asked = asked(advice as u32)?;
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if len == 0 {
        return Ok(0);
    }
    let space = call.process.space();
    match asked {
        Asked::Act(advice) => space.advise(start, len, advice)?,
        Asked::Nothing => check_mapped(call, start, len)?,
        Asked::Mark(marking) => {
            if marking.set.contains(Marks::WIPED_ON_FORK) && !space.is_private_anonymous(start, end) {
                return Err(Errno::EINVAL);
            }
            space.mark(start, end, marking)?;
        }
    }
    Ok(0)
}

/// The whole pages that mlock(2) and munlock(2) mean.
fn lock_range(call: &Call<'_>) -> Result<(u64, u64)> {
    let [start, len, ..] = call.args;
    let end = start.checked_add(len).and_then(page_up).ok_or(Errno::EINVAL)?;
    Ok((page_down(start), end))
}

/// Marks a range as locked in the way `set` says, or as not locked.
fn set_locks(call: &Call<'_>, (start, end): (u64, u64), set: Marks) -> Result<()> {
    call.process.space().mark(start, end, Marking { set, clear: LOCKS })
}

/// mlock(2): brings the pages in. Nothing is ever paged out that the program cannot have back by touching it.
fn mlock(call: &mut Call<'_>) -> Result<u64> {
    let range = lock_range(call)?;
    set_locks(call, range, Marks::LOCKED)?;
    call.process.space().fill(range.0, range.1)?;
    Ok(0)
}

/// mlock2(2).
fn mlock2(call: &mut Call<'_>) -> Result<u64> {
    match call.args[2] as u32 {
        0 => mlock(call),
        raw::MLOCK_ONFAULT => {
            set_locks(call, lock_range(call)?, LOCKS)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// munlock(2).
fn munlock(call: &mut Call<'_>) -> Result<u64> {
    set_locks(call, lock_range(call)?, Marks::empty())?;
    Ok(0)
}

/// Marks all there is. That not everything is mapped is no error.
fn set_all_locks(call: &Call<'_>, set: Marks) -> Result<()> {
    match set_locks(call, (USER_MIN, USER_TOP), set) {
        Err(Errno::ENOMEM) => Ok(()),
        other => other,
    }
}

/// mlockall(2). It brings nothing in: there may be far more mapped than there is memory, and all that is in stays in.
fn mlockall(call: &mut Call<'_>) -> Result<u64> {
    let known = raw::MCL_CURRENT | raw::MCL_FUTURE | raw::MCL_ONFAULT;
    let flags = call.args[0] as u32;
    if flags == 0 || flags & !known != 0 || flags == raw::MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let locks = if flags & raw::MCL_ONFAULT == 0 { Marks::LOCKED } else { LOCKS };
    let space = call.process.space();
    space.mark_future(if flags & raw::MCL_FUTURE == 0 { Marks::empty() } else { locks });
    if flags & raw::MCL_CURRENT != 0 {
        set_all_locks(call, locks)?;
    }
    Ok(0)
}

/// munlockall(2).
fn munlockall(call: &mut Call<'_>) -> Result<u64> {
    call.process.space().mark_future(Marks::empty());
    set_all_locks(call, Marks::empty())?;
    Ok(0)
}
