//! System calls as function calls: a `syscall` that is made often becomes a jump into the kernel.
//!
//! Kernel and program share a ring and an address space, so a system call needs no trap; but programs are compiled to
//! trap, which costs a microsecond and more where ring 0 is emulated. So the code around a hot `syscall` is changed, in a
//! private copy of its page, to jump to a *stub* near it, and from there to `direct_call` (entry.s). What may be changed
//! and how is [`call_site`]'s; when, and how it is undone, is here.
//!
//! A program must not notice. Wherever a thread is stopped by a trap between the changed instruction and the kernel, it
//! is put back to where it would be without the change ([`unpatched`]): no signal handler sees an address in a stub, and no thread
//! stays there. So a change can be undone at any time, and is, before the program gets to change the code, the code
//! or a stub goes, or either moves. A program that reads its own code does see the change; `--no-patch` is for those.
//!
//! Only code that is mapped from a file, private and not writable, is changed: what a program generates is its own affair.
//! `rt_sigreturn` stays as it is, because unwinders know signal frames by those very bytes.

use super::paging::{self, ADDRESS, OWNED, PRESENT, Slot};
use super::space::{AddressSpace, Inner, rights};
use super::vma::{Backing, Prot, Vma};
use super::{PAGE_SIZE, frames, loans, losses, page_down};
use crate::abi::call_site::{self, JUMP_LEN, Page, STUB_LEN, SYSCALL_LEN, Site};
use crate::arch::{copy_fallible, direct_call};
use crate::{stats, task};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syscalls::Sysno;

/// A call is changed when it has trapped so often: what runs a few times at start-up does not pay for the copy.
const HOT: u64 = 16;
/// Calls whose traps are counted.
const COUNTED: usize = 256;
/// Bytes of an area of stubs.
const STUBS: u64 = 64 << 10;
/// How far a stub may be from its site: what a jump reaches, less room to be generous about its ends.
const REACH: u64 = (1 << 31) - (1 << 20);

/// Whether calls may be changed at all.
static ON: AtomicBool = AtomicBool::new(true);

/// Leaves all calls as they are, from now on.
pub fn turn_off() {
    ON.store(false, Ordering::Relaxed);
}

/// How often calls trapped, by the address after them; shared by those that fall into one place.
pub(super) struct Heat(Box<[AtomicU64; COUNTED]>);

impl Default for Heat {
    fn default() -> Self {
        Self(Box::new([const { AtomicU64::new(0) }; COUNTED]))
    }
}

impl Heat {
    /// Counts a trap; true when the call has just become hot.
    fn count(&self, back: u64) -> bool {
        // An address has 47 bits; the count lies above them and stops beyond HOT.
        let place = &self.0[((back >> 1) ^ (back >> 9)) as usize % COUNTED];
        let held = place.load(Ordering::Relaxed);
        let count = if held & ((1 << 48) - 1) == back { (held >> 48) + 1 } else { 1 };
        if count <= HOT {
            place.store(back | count << 48, Ordering::Relaxed);
        }
        count == HOT
    }
}

/// A change, by the addresses of what was changed.
#[derive(Debug, Clone, Copy)]
struct Patch {
    /// The jump to the stub, and what was there.
    jump: u64,
    original: [u8; JUMP_LEN],
    /// The short jump to that, in place of `syscall`, if there is one.
    short: Option<u64>,
    stub: u64,
    /// Bytes of code from the jump on that the stub begins with, up to the `syscall`.
    taken: u64,
}

impl Patch {
    /// Where a thread that has come to `offset` in the stub goes on, as if nothing had been changed: at the instruction
    /// that is done there in its place, and behind all of them at the `syscall`.
    fn original(&self, offset: u64) -> u64 {
        self.short.unwrap_or(self.jump + offset.min(self.taken))
    }

    fn restore(&self, page: &mut Page) {
        let at = (self.jump % PAGE_SIZE) as usize;
        page[at..at + JUMP_LEN].copy_from_slice(&self.original);
        if let Some(short) = self.short {
            let at = (short % PAGE_SIZE) as usize;
            page[at..at + SYSCALL_LEN].copy_from_slice(&[0x0f, 0x05]);
        }
    }
}

/// An area of stubs.
#[derive(Debug)]
struct Stubs {
    start: u64,
    used: u64,
}

impl Stubs {
    fn holds(&self, address: u64) -> bool {
        (self.start..self.start + STUBS).contains(&address)
    }

    /// Whether there is room for one more, which a jump at `site` can reach.
    fn serves(&self, site: u64) -> bool {
        self.used + STUB_LEN as u64 <= STUBS && self.start.abs_diff(site) < REACH
    }
}

/// The changes of one address space.
#[derive(Debug, Default)]
pub(super) struct Patches {
    /// By the address of the jump: where a thread may stand that has not got to its stub yet.
    sites: BTreeMap<u64, Patch>,
    /// By the address of the stub.
    by_stub: BTreeMap<u64, u64>,
    stubs: Vec<Stubs>,
}

/// A system call trapped, and will return to `back`: changes it if it has often.
pub fn trapped(back: u64, number: u64) {
    if !ON.load(Ordering::Relaxed) || number == Sysno::rt_sigreturn as u64 {
        return;
    }
    let Some(space) = task::try_current().and_then(|thread| thread.space.lock().clone()) else { return };
    if space.heat.count(back) && space.patch(back - SYSCALL_LEN as u64, number).is_none() {
        stats::UNPATCHED.count();
    }
}

/// Where the current thread, which a trap stopped at `rip`, goes on: somewhere else if that is in a change or its stub. Needs
/// no kernel lock.
pub fn unpatched(rip: u64) -> u64 {
    if stats::PATCHED.get() == 0 {
        return rip;
    }
    let space = task::try_current().and_then(|thread| thread.space.lock().clone());
    space.and_then(|space| space.patches.lock().start_of(rip)).unwrap_or(rip)
}

/// Undoes what was changed in the page of the current thread's code that holds `rip`. A call that has been changed once stays
/// as it is from then on.
pub fn undo_around(rip: u64) {
    let page = page_down(rip);
    if let Some(space) = task::try_current().and_then(|thread| thread.space.lock().clone()) {
        space.inner.lock().unpatch(page, page + PAGE_SIZE);
    }
}

impl Patches {
    fn start_of(&self, rip: u64) -> Option<u64> {
        let (jump, offset) = if self.stubs.iter().any(|stubs| stubs.holds(rip)) {
            let offset = rip % STUB_LEN as u64;
            (*self.by_stub.get(&(rip - offset))?, offset)
        } else {
            (rip, 0)
        };
        self.sites.get(&jump).map(|patch| patch.original(offset))
    }

    fn insert(&mut self, patch: Patch) {
        self.sites.insert(patch.jump, patch);
        self.by_stub.insert(patch.stub, patch.jump);
    }

    fn remove(&mut self, patch: &Patch) {
        self.sites.remove(&patch.jump);
        self.by_stub.remove(&patch.stub);
    }

    /// Whether there is anything for [`take`](Self::take).
    fn touches(&self, start: u64, end: u64) -> bool {
        self.sites.range(start..end).next().is_some()
            || self.stubs.iter().any(|area| area.start < end && start < area.start + STUBS)
    }

    /// Takes out those in a range of whole pages, and those whose stubs are in an area that touches it: that area is the program's from
    /// now on.
    fn take(&mut self, start: u64, end: u64) -> Vec<Patch> {
        let gone: Vec<_> = self.stubs.extract_if(.., |area| area.start < end && start < area.start + STUBS).collect();
        let mut taken: Vec<_> = self.sites.extract_if(start..end, |_, _| true).collect();
        if !gone.is_empty() {
            taken.extend(self.sites.extract_if(.., |_, patch| gone.iter().any(|area| area.holds(patch.stub))));
        }
        for (_, patch) in &taken {
            self.by_stub.remove(&patch.stub);
        }
        taken.into_iter().map(|(_, patch)| patch).collect()
    }
}

impl AddressSpace {
    /// Changes the `syscall` at `site`, which was made with this number, if that can be done.
    fn patch(&self, site: u64, number: u64) -> Option<()> {
        // Before the lock: it may take it.
        let lost = losses::heeded();
        let mut inner = self.inner.lock();
        let page = page_down(site);
        let area = inner.areas.find(site)?;
        let code = matches!(area.backing, Backing::File { .. }) && !area.shared;
        if !code || area.prot.contains(Prot::WRITE) || !area.prot.contains(Prot::EXEC) {
            return None;
        }
        let below = area.start;
        if let Slot::Large(_) = inner.tables.find(page) {
            inner.tables.small(page).ok()?;
        }
        let mut copy = inner.copy_of(page).filter(|_| losses::sequence() == lost)?;
        let at = (site - page) as usize;
        let found = call_site::find(&copy, at, number)?;
        let (Site { jump, short }, taken) = (found, found.taken(&copy, at));
        let stub = inner.patches.lock().stubs.iter().position(|stubs| stubs.serves(site));
        let stub = match stub {
            Some(area) => area,
            None => inner.new_stubs(site, below)?,
        };
        let Stubs { start, used } = inner.patches.lock().stubs[stub];
        let patch = Patch {
            jump: page + jump as u64,
            original: copy[jump..jump + JUMP_LEN].try_into().ok()?,
            short: short.map(|short| page + short as u64),
            stub: start + used,
            taken: taken.len() as u64,
        };
        let code = call_site::stub(taken, site + SYSCALL_LEN as u64, direct_call());
        inner.write_stub(patch.stub, &code)?;
        copy[jump..jump + JUMP_LEN].copy_from_slice(&call_site::jump(patch.jump, patch.stub)?);
        if let Some(short) = short {
            copy[short..short + SYSCALL_LEN].copy_from_slice(&call_site::short_jump(short, jump));
        }
        // Known before anybody can get there.
        inner.patches.lock().insert(patch);
        if inner.replace(page, &copy).is_none() {
            inner.patches.lock().remove(&patch);
            return None;
        }
        inner.patches.lock().stubs[stub].used += STUB_LEN as u64;
        stats::PATCHED.count();
        Some(())
    }
}

impl Inner {
    /// Undoes every change in a range, and every change whose stub is in it: the range is about to be the program's to
    /// change.
    pub(super) fn unpatch(&mut self, start: u64, end: u64) {
        if !self.patches.lock().touches(start, end) {
            return;
        }
        // A thread that runs elsewhere may stand in a change or a stub. It is put back as it comes in.
        task::sched::call_others_in();
        let gone = self.patches.lock().take(start, end);
        for patch in gone {
            let page = page_down(patch.jump);
            // A page that was thrown away has its old content when it comes back.
            if let Some(mut copy) = self.owned_frame(page).and_then(|_| self.copy_of(page)) {
                patch.restore(&mut copy);
                // Without memory for another copy the bytes are written where they are. Nobody runs there.
                if self.replace(page, &copy).is_none()
                    && let Some(frame) = self.owned_frame(page)
                {
                    write(frame, 0, &*copy);
                }
            }
        }
    }

    /// The frame of a small page that belongs to its entry.
    fn owned_frame(&self, page: u64) -> Option<u64> {
        match self.tables.find(page) {
            Slot::Small(entry) if entry.get() & OWNED != 0 => Some(entry.get() & ADDRESS),
            _ => None,
        }
    }

    /// What a small page that is in memory holds.
    fn copy_of(&self, page: u64) -> Option<Box<Page>> {
        let Slot::Small(entry) = self.tables.find(page) else { return None };
        let value = entry.get();
        if value & (PRESENT | OWNED) == 0 {
            return None;
        }
        let mut copy = Box::new([0; PAGE_SIZE as usize]);
        // SAFETY: the copy is ours. An entry leads to memory in the direct map that nobody takes back without this space's
        // lock, and a fault on a window is recovered from.
        let left = unsafe { copy_fallible(copy.as_mut_ptr(), frames::pointer(value & ADDRESS), PAGE_SIZE as usize) };
        (left == 0).then_some(copy)
    }

    /// Puts a new frame with this content in a page's place, at once as far as any thread can tell.
    fn replace(&mut self, page: u64, content: &Page) -> Option<()> {
        let frame = frames::allocate_for_program(0)?;
        write(frame, 0, content);
        let Slot::Small(entry) = self.tables.find(page) else {
            frames::release(frame, 0);
            return None;
        };
        let old = entry.get();
        // On no processor may an instruction be put together of both.
        self.hide(page, page + PAGE_SIZE).expect("a small page is not cut");
        entry.set(frame | OWNED | old & !ADDRESS);
        paging::flush(page, 1);
        if old & OWNED != 0 {
            loans::release(old & ADDRESS, 0);
        } else {
            self.owned += PAGE_SIZE;
            stats::COPIED_BYTES.add(PAGE_SIZE);
        }
        Some(())
    }

    /// Makes room for stubs in the highest room below `below`, if a jump reaches so far; the index of the new area of them.
    fn new_stubs(&mut self, site: u64, below: u64) -> Option<usize> {
        let start = self.areas.find_room(0, STUBS, below).filter(|start| start.abs_diff(site) < REACH)?;
        self.version += 1;
        self.areas.insert(Vma {
            max_prot: Prot::READ | Prot::EXEC,
            name: Some("[diolkos]".into()),
            ..Vma::anonymous(start, start + STUBS, Prot::READ | Prot::EXEC)
        });
        let stubs = &mut self.patches.lock().stubs;
        stubs.push(Stubs { start, used: 0 });
        Some(stubs.len() - 1)
    }

    fn write_stub(&mut self, at: u64, code: &[u8; STUB_LEN]) -> Option<()> {
        let entry = self.tables.small(at).ok()?;
        if entry.get() == 0 {
            let frame = frames::allocate_for_program(0)?;
            write(frame, 0, &[0xcc; PAGE_SIZE as usize]);
            entry.set(frame | OWNED | rights(Prot::READ | Prot::EXEC, false));
            self.owned += PAGE_SIZE;
        }
        write(self.owned_frame(page_down(at))?, (at % PAGE_SIZE) as usize, code);
        Some(())
    }
}

/// Writes into a frame that belongs to an entry of the space, or to nobody yet.
fn write(frame: u64, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= PAGE_SIZE as usize, "frames are pages");
    // SAFETY: the frame is RAM in the direct map, the range inside it, and it holds code that no reference of ours leads to.
    unsafe { frames::pointer(frame).add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}
