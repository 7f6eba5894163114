//! The calls about the address space: mmap(2) and its family, and brk(2).

use super::Call;
use super::open_file::OpenFile;
use super::table::Calls;
use crate::mm::space::{MapRequest, Place, Remap};
use crate::mm::user::UserPtr;
use crate::mm::vma::{Backing, Marks, Prot};
use crate::mm::{PAGE_SIZE, USER_TOP, frames, page_up};
use crate::report;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, FileType, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::mmap, mmap),
    (Sysno::munmap, munmap),
    (Sysno::mprotect, mprotect),
    (Sysno::mremap, mremap),
    (Sysno::mincore, mincore),
    (Sysno::msync, msync),
    (Sysno::brk, brk),
];

bitflags! {
    /// Flags of mmap(2) beside the type in the low bits.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct MapFlags: u32 {
        const FIXED = raw::MAP_FIXED;
        const ANONYMOUS = raw::MAP_ANONYMOUS;
        const LOW = raw::MAP_32BIT;
        const GROWSDOWN = raw::MAP_GROWSDOWN;
        const DENYWRITE = raw::MAP_DENYWRITE;
        const EXECUTABLE = raw::MAP_EXECUTABLE;
        const LOCKED = raw::MAP_LOCKED;
        const NORESERVE = raw::MAP_NORESERVE;
        const POPULATE = raw::MAP_POPULATE;
        const NONBLOCK = raw::MAP_NONBLOCK;
        const STACK = raw::MAP_STACK;
        const HUGETLB = raw::MAP_HUGETLB;
        const FIXED_NOREPLACE = raw::MAP_FIXED_NOREPLACE;
    }
}

impl MapFlags {
    /// Those that are remembered with the area.
    fn marks(self) -> Marks {
        let marks =
            [(Self::GROWSDOWN, Marks::GROWS_DOWN), (Self::NORESERVE, Marks::NORESERVE), (Self::LOCKED, Marks::LOCKED)];
        marks.into_iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, mark)| mark).collect()
    }
}

/// Where `MAP_32BIT` begins to look, and the end of what it may find.
const LOW_START: u64 = 0x4000_0000;
const LOW_END: u64 = 0x8000_0000;

/// Protection bits of mmap(2), where Linux ignores unknown ones.
fn prot_of(bits: u64) -> Prot {
    Prot::from_bits_truncate(bits as u32)
}

/// mmap(2).
fn mmap(call: &mut Call<'_>) -> Result<u64> {
    let [address, len, prot, bits, fd, offset] = call.args;
    let flags = MapFlags::from_bits_truncate(bits as u32);
    let shared = match bits as u32 & raw::MAP_TYPE {
        raw::MAP_PRIVATE => false,
        raw::MAP_SHARED => true,
        // Like MAP_SHARED, but with flags it does not know it fails.
        raw::MAP_SHARED_VALIDATE if bits as u32 & !(MapFlags::all().bits() | raw::MAP_TYPE) != 0 => {
            return Err(Errno::EOPNOTSUPP);
        }
        raw::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    if len == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let prot = prot_of(prot);
    let what = if flags.contains(MapFlags::ANONYMOUS) {
        // No huge pages are set aside; anonymous memory gets them by itself.
        if flags.contains(MapFlags::HUGETLB) {
            return Err(Errno::ENOMEM);
        }
        // Linux has a nameless memory file behind it, and shows that.
        let name = shared.then(|| "/dev/zero (deleted)".into());
        Mapped { backing: Backing::Anonymous, max_prot: Prot::all(), name }
    } else {
        of_file(&call.file(fd)?, prot, shared, offset)?
    };
    let low = flags.contains(MapFlags::LOW) && !flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
    let place = match () {
        () if flags.contains(MapFlags::FIXED_NOREPLACE) => Place::FixedNoReplace(address),
        () if flags.contains(MapFlags::FIXED) => Place::Fixed(address),
        () if low && !(LOW_START..LOW_END).contains(&address) => Place::Anywhere(LOW_START),
        () => Place::Anywhere(address),
    };
    // Linux' heuristic (proc_sys_vm(5), overcommit_memory 0): what could never be filled is refused at once.
    let accounted = prot.contains(Prot::WRITE) && !flags.contains(MapFlags::NORESERVE);
    if accounted && matches!(what.backing, Backing::Anonymous) && len > frames::usage().1 {
        return Err(Errno::ENOMEM);
    }
    let space = call.process.space();
    let start = space.map(MapRequest {
        place,
        len,
        prot,
        max_prot: what.max_prot,
        shared,
        marks: flags.marks(),
        backing: what.backing,
        name: what.name,
        populate: flags.intersects(MapFlags::POPULATE | MapFlags::LOCKED) && !flags.contains(MapFlags::NONBLOCK),
    })?;
    if low && start.saturating_add(len) > LOW_END {
        space.unmap(start, len)?;
        return Err(Errno::ENOMEM);
    }
    Ok(start)
}

/// What a mapping shows, and what may become of it.
struct Mapped {
    backing: Backing,
    max_prot: Prot,
    name: Option<Arc<str>>,
}

/// Checks that a file may be mapped so (mmap(2), ERRORS).
fn of_file(file: &Arc<OpenFile>, prot: Prot, shared: bool, offset: u64) -> Result<Mapped> {
    let flags = file.flags();
    let metadata = file.inode().metadata()?;
    if !flags.reads() || shared && prot.contains(Prot::WRITE) && !flags.writes() {
        return Err(Errno::EACCES);
    }
    match metadata.file_type() {
        FileType::Regular => {}
        // A private mapping of /dev/zero is anonymous memory; programs from before MAP_ANONYMOUS make it.
        FileType::CharDevice if metadata.rdev == DEV_ZERO => {
            return Ok(Mapped { backing: Backing::Anonymous, max_prot: Prot::all(), name: None });
        }
        _ => return Err(Errno::ENODEV),
    }
    let mut max_prot = Prot::all();
    if shared && !flags.writes() {
        max_prot -= Prot::WRITE;
    }
    let path = file.location().path();
    let name: Arc<str> = String::from_utf8_lossy(&path).into();
    if shared && prot.contains(Prot::WRITE) && offset < metadata.size {
        let access = diolkos_vfs::Access::WriteLater;
        if file.inner().map(offset, access)?.is_none() {
            refuse_shared(&name);
            return Err(Errno::ENODEV);
        }
    }
    let backing = Backing::File { file: file.inner().clone(), offset, held: Some(file.clone()) };
    Ok(Mapped { backing, max_prot, name: Some(name) })
}

/// `makedev(1, 5)`.
const DEV_ZERO: u64 = 0x105;

/// Says once that a file cannot be written by a shared mapping.
fn refuse_shared(name: &str) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        report::warning(format_args!("mmap: {name}: this kind of file cannot be mapped to be written"));
    }
}

/// munmap(2).
fn munmap(call: &mut Call<'_>) -> Result<u64> {
    call.process.space().unmap(call.args[0], call.args[1])?;
    Ok(0)
}

/// mprotect(2).
fn mprotect(call: &mut Call<'_>) -> Result<u64> {
    let [start, len, bits, ..] = call.args;
    const SEM: u64 = raw::PROT_SEM as u64;
    const GROWSDOWN: u64 = raw::PROT_GROWSDOWN as u64;
    let known = u64::from(Prot::all().bits()) | SEM | GROWSDOWN;
    if !start.is_multiple_of(PAGE_SIZE) || bits & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let space = call.process.space();
    let end = page_up(len).and_then(|len| start.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if end > USER_TOP {
        return Err(Errno::ENOMEM);
    }
    // PROT_GROWSDOWN reaches down to the start of the area: the whole stack, from the page a library knows.
    let from = match bits & GROWSDOWN {
        0 => start,
        _ => space.start_of_area(start).ok_or(Errno::EINVAL)?,
    };
    space.protect(from, end - from, prot_of(bits))?;
    Ok(0)
}

/// mremap(2).
fn mremap(call: &mut Call<'_>) -> Result<u64> {
    let [old, old_len, new_len, flags, new, _] = call.args;
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let known = u64::from(raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED | raw::MREMAP_DONTUNMAP);
    let (may_move, keep_old) = (has(raw::MREMAP_MAYMOVE), has(raw::MREMAP_DONTUNMAP));
    let fixed = has(raw::MREMAP_FIXED).then_some(new);
    if flags & !known != 0 || (fixed.is_some() || keep_old) && !may_move || keep_old && old_len != new_len {
        return Err(Errno::EINVAL);
    }
    if !old.is_multiple_of(PAGE_SIZE) || fixed.is_some_and(|new| !new.is_multiple_of(PAGE_SIZE)) {
        return Err(Errno::EINVAL);
    }
    call.process.space().remap(old, old_len, new_len, Remap { may_move, keep_old, fixed })
}

/// mincore(2), a gigabyte at a time: the answer is a byte a page.
fn mincore(call: &mut Call<'_>) -> Result<u64> {
    const PIECE: u64 = 1 << 30;
    let [start, len, vector, ..] = call.args;
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let end = start.checked_add(len).filter(|end| *end <= USER_TOP).ok_or(Errno::ENOMEM)?;
    let space = call.process.space();
    let mut at = start;
    let mut to = UserPtr::<u8>::new(vector);
    while at < end {
        let piece = (end - at).min(PIECE);
        let bytes: Vec<u8> = space.resident(at, piece)?.into_iter().map(u8::from).collect();
        to.write_slice(&bytes)?;
        to = to.add(bytes.len());
        at += piece;
    }
    Ok(0)
}

/// msync(2). Through a window shared memory of a file is the host's own page cache, and what is left to do for `MS_SYNC` is
/// to have it reach the disk; without one fsync(2) writes it back first.
fn msync(call: &mut Call<'_>) -> Result<u64> {
    let [start, len, flags, ..] = call.args;
    let flags = flags as u32;
    let both = raw::MS_ASYNC | raw::MS_SYNC;
    if flags & !(both | raw::MS_INVALIDATE) != 0 || flags & both == both || !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    check_mapped(call, start, len)?;
    if flags & raw::MS_SYNC != 0 {
        for file in call.process.space().shared_files(start, start + len) {
            file.fsync(true)?;
        }
    }
    Ok(0)
}

/// Fails for holes, as the calls do that change nothing else.
pub fn check_mapped(call: &Call<'_>, start: u64, len: u64) -> Result<()> {
    let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
    if call.process.space().covers(start, end) { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// brk(2): the raw call returns the end, moved or not.
fn brk(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.space().brk(call.args[0]))
}
