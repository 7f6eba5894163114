//! Page tables: four levels, 4 KiB and 2 MiB pages.
//!
//! On hosts that virtualise page tables a write to a live entry is cheap and a fault is not, so callers fill many
//! entries at once. Nothing here flushes: whoever takes an entry away or lowers its rights calls [`flush_everywhere`].

use super::{LARGE_PAGE, PAGE_SIZE, PHYS_BASE, PHYS_END, USER_TOP, frames, shootdown};
use crate::arch::monitor;
use core::ptr::{read_volatile, write_volatile};
use diolkos_vfs::{Errno, Result};

/// Entry bits (SDM volume 3, section 4.5). All pages are user pages: the kernel runs at ring 3.
pub const PRESENT: u64 = 1;
/// Writes are allowed.
pub const WRITE: u64 = 2;
/// Ring 3 may use it.
pub const USER: u64 = 4;
/// The entry maps a 2 MiB page.
pub const LARGE: u64 = 0x80;
/// No instruction fetches.
pub const NO_EXEC: u64 = 1 << 63;
/// Ours: the frame belongs to this entry and is freed with it. Also set while the page is not [`PRESENT`] because its
/// area allows no access.
pub const OWNED: u64 = 1 << 9;
/// The address bits.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ENTRIES: u64 = 512;
/// Where `link.ld` puts the boot code, in physical memory.
const BOOT_CODE: core::ops::Range<u64> = 0x10_0000..0x11_0000;
const TABLE: u64 = PRESENT | WRITE | USER;

unsafe extern "C" {
    static boot_pml4: [u64; 512];
    static boot_pd: [u64; 2048];
    static kernel_text: [u8; 0];
    static kernel_rodata: [u8; 0];
    static kernel_data: [u8; 0];
    static kernel_end: [u8; 0];
}

/// A page-table entry in place.
#[derive(Clone, Copy)]
pub struct Entry(*mut u64);

impl Entry {
    /// Its value.
    pub fn get(self) -> u64 {
        // SAFETY: entries come from walking tables, which live in the direct map.
        unsafe { read_volatile(self.0) }
    }

    /// Replaces it.
    pub fn set(self, value: u64) {
        // SAFETY: as above; what a value maps is the caller's affair, kept to frames and windows it owns.
        unsafe { write_volatile(self.0, value) }
    }
}

fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

fn entry_in(table: u64, index: u64) -> Entry {
    Entry(frames::pointer(table + index * 8).cast())
}

fn new_table() -> Result<u64> {
    let table = frames::allocate(0).ok_or(Errno::ENOMEM)?;
    // SAFETY: a fresh frame, ours.
    unsafe { frames::pointer(table).write_bytes(0, PAGE_SIZE as usize) };
    Ok(table)
}

/// A tree of page tables, by the physical address of its root.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    root: u64,
}

/// What a walk found for an address.
pub enum Slot {
    /// No table: this many bytes from the address on have no entry.
    Nothing(u64),
    /// An entry of a 2 MiB page that is in use, or the place for one whose table does not exist yet.
    Large(Entry),
    /// An entry of a 4 KiB page.
    Small(Entry),
}

impl Tables {
    /// The tree the machine started with; the kernel's half of it is everybody's.
    pub fn kernel() -> Self {
        // boot_pml4 is linked at its physical address.
        Self { root: (&raw const boot_pml4) as u64 }
    }

    /// A tree with the kernel's half and an empty program's half.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let tables = Self { root: new_table()? };
        for i in index(USER_TOP, 4)..ENTRIES {
            entry_in(tables.root, i).set(entry_in(Self::kernel().root, i).get());
        }
        Ok(tables)
    }

    /// The tree with this root.
    pub(super) fn of_root(root: u64) -> Self {
        Self { root }
    }

    /// Makes the processor use it.
    pub fn load(self) {
        self.reload();
        shootdown::note_loaded(self.root);
    }

    /// Forgets all cached translations of the processor, which uses this tree already.
    pub(super) fn reload(self) {
        // SAFETY: the kernel's half is the same in every tree.
        unsafe { monitor::load_cr3(self.root) }
    }

    /// Makes the processor use it, if it does not already, with nothing of it that has changed since.
    pub fn use_here(self) {
        if shootdown::loaded() != self.root {
            self.load();
        } else if shootdown::is_behind() {
            self.reload();
            shootdown::note_loaded(self.root);
        }
    }

    /// The table at `level` (1: of 4 KiB entries) for `address`, made if it is missing.
    fn table(self, address: u64, level: u32) -> Result<u64> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = entry_in(table, index(address, above));
            let value = entry.get();
            table = if value & PRESENT == 0 {
                let new = new_table()?;
                entry.set(new | TABLE);
                new
            } else if value & LARGE != 0 {
                return Err(Errno::EEXIST);
            } else {
                value & ADDRESS
            };
        }
        Ok(table)
    }

    /// The entry for the 4 KiB page at `address`, with the tables above it; a large page there is cut into small ones.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn small(self, address: u64) -> Result<Entry> {
        let directory = entry_in(self.table(address, 2)?, index(address, 2));
        let value = directory.get();
        if value & LARGE != 0 {
            split(directory, value)?;
            flush(address & !(LARGE_PAGE - 1), 1);
        }
        Ok(entry_in(self.table(address, 1)?, index(address, 1)))
    }

    /// The entry for a 2 MiB page at `address`, if there is no table of small ones in its place.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn large(self, address: u64) -> Result<Option<Entry>> {
        let entry = entry_in(self.table(address, 2)?, index(address, 2));
        let value = entry.get();
        Ok((value & LARGE != 0 || value == 0).then_some(entry))
    }

    /// Finds what is there for `address` without making anything.
    pub fn find(self, address: u64) -> Slot {
        let mut table = self.root;
        for level in (2..=4).rev() {
            let entry = entry_in(table, index(address, level));
            let value = entry.get();
            if level == 2 && value & LARGE != 0 {
                return Slot::Large(entry);
            }
            if value & PRESENT == 0 {
                let span = PAGE_SIZE << (9 * (level - 1));
                return Slot::Nothing(span - address % span);
            }
            table = value & ADDRESS;
        }
        Slot::Small(entry_in(table, index(address, 1)))
    }

    /// Visits every entry in use in a page-aligned range, in order. Large pages that reach over an end of the range
    /// are cut first.
    ///
    /// # Errors
    /// `ENOMEM` when a large page cannot be cut.
    pub fn for_each(self, start: u64, end: u64, mut visit: impl FnMut(u64, Entry, u64)) -> Result<()> {
        let mut at = start;
        while at < end {
            at += match self.find(at) {
                Slot::Nothing(bytes) => bytes,
                Slot::Large(_) if !at.is_multiple_of(LARGE_PAGE) || end - at < LARGE_PAGE => {
                    self.small(at)?;
                    continue;
                }
                Slot::Large(entry) => {
                    visit(at, entry, LARGE_PAGE);
                    LARGE_PAGE
                }
                Slot::Small(entry) => {
                    if entry.get() != 0 {
                        visit(at, entry, PAGE_SIZE);
                    }
                    PAGE_SIZE
                }
            };
        }
        Ok(())
    }

    /// Frees the tables of the program's half. All its pages are gone already, and no thread uses the tree.
    pub fn free(self) {
        shootdown::give_up(self.root);
        for i in 0..index(USER_TOP, 4) {
            free_tables(entry_in(self.root, i).get(), 3);
        }
        frames::release(self.root, 0);
    }
}

/// The kernel's tree, and the boot code where it lies in physical memory, executable: what a processor needs between
/// turning paging on and reaching ring 3.
impl Tables {
    /// Makes it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn kernel_with_boot_code() -> Result<Self> {
        let tables = Self::new()?;
        for page in BOOT_CODE.step_by(PAGE_SIZE as usize) {
            tables.small(page)?.set(page | PRESENT | USER);
        }
        Ok(tables)
    }

    /// Its root as a processor in 32-bit mode can load it.
    ///
    /// # Errors
    /// `ERANGE` when it lies above 4 GiB.
    pub fn low_root(self) -> Result<u32> {
        u32::try_from(self.root).map_err(|_| Errno::ERANGE)
    }
}

fn free_tables(entry: u64, level: u32) {
    if entry & PRESENT == 0 || entry & LARGE != 0 {
        return;
    }
    let table = entry & ADDRESS;
    if level > 1 {
        for i in 0..ENTRIES {
            free_tables(entry_in(table, i).get(), level - 1);
        }
    }
    frames::release(table, 0);
}

/// Replaces a large page by 512 small ones that show the same.
fn split(directory: Entry, value: u64) -> Result<()> {
    let table = frames::allocate(0).ok_or(Errno::ENOMEM)?;
    let flags = value & !(ADDRESS | LARGE);
    for i in 0..ENTRIES {
        entry_in(table, i).set(((value & ADDRESS) + i * PAGE_SIZE) | flags);
    }
    directory.set(table | TABLE);
    Ok(())
}

/// Forgets cached translations of `pages` pages from `address` on, on this processor. One entry of a large page
/// counts as one page. Enough where an entry was missing, or gained rights.
pub fn flush(address: u64, pages: u64) {
    /// Beyond this, starting over is cheaper.
    const SINGLE: u64 = 4;
    if pages <= SINGLE {
        monitor::invlpg(address, pages);
    } else {
        flush_all();
    }
}

/// The same on all processors, and returns when they have: for entries that lead elsewhere now, or have lost rights.
pub fn flush_everywhere(address: u64, pages: u64) {
    flush(address, pages);
    shootdown::forget_elsewhere();
}

/// Forgets all cached translations of this processor.
pub fn flush_all() {
    Tables::of_root(shootdown::loaded()).reload();
}

/// The same on all processors, as [`flush_everywhere`].
pub fn flush_all_everywhere() {
    flush_all();
    shootdown::forget_elsewhere();
}

/// Takes away what only the boot code needed, and gives the kernel's image its rights: text executable and read-only,
/// constants read-only, the rest writable, nothing both. Then fills the kernel's top-level entries, which every tree
/// copies, so that later mappings there are seen by all.
///
/// # Errors
/// `ENOMEM`.
pub fn protect_kernel() -> Result<()> {
    let kernel = Tables::kernel();
    let (text, rodata) = ((&raw const kernel_text) as u64, (&raw const kernel_rodata) as u64);
    let (data, end) = ((&raw const kernel_data) as u64, (&raw const kernel_end) as u64);
    let monitor = PHYS_BASE + 0x11_0000..PHYS_BASE + 0x11_8000;
    for large in (PHYS_BASE..end).step_by(LARGE_PAGE as usize) {
        for page in (large..large + LARGE_PAGE).step_by(PAGE_SIZE as usize) {
            let rights = if (text..rodata).contains(&page) || monitor.contains(&page) {
                0
            } else if (rodata..data).contains(&page) {
                NO_EXEC
            } else {
                NO_EXEC | WRITE
            };
            kernel.small(page)?.set((page - PHYS_BASE) | PRESENT | USER | rights);
        }
    }
    let first_free = (end - PHYS_BASE).div_ceil(LARGE_PAGE);
    for i in first_free..4 {
        let entry = Entry((&raw const boot_pd) as *mut u64).at(i);
        entry.set(entry.get() | NO_EXEC);
    }
    for i in index(PHYS_BASE, 4)..index(super::STACKS_BASE, 4) + 1 {
        let entry = entry_in(kernel.root, i);
        if entry.get() == 0 && (i - index(PHYS_BASE, 4) < 2 || i == index(super::STACKS_BASE, 4)) {
            entry.set(new_table()? | TABLE);
        }
    }
    // The identity map: entry 0 shared the direct map's table.
    entry_in(kernel.root, 0).set(0);
    kernel.load();
    Ok(())
}

impl Entry {
    fn at(self, i: u64) -> Self {
        // boot_pd is linked at its physical address: go through the direct map.
        Self(frames::pointer(self.0 as u64 + 8 * i).cast())
    }
}

/// Extends the direct map to a guest-physical range above the first 4 GiB (RAM, BARs, DAX windows) and returns where
/// it appears. Ranges below are mapped from the start.
///
/// # Errors
/// `ENOMEM`; `ERANGE` for a range the direct map has no room for.
pub fn map_physical(phys: u64, len: u64) -> Result<*mut u8> {
    const BOOT_MAPPED: u64 = 4 << 30;
    let end = phys.checked_add(len).filter(|end| *end <= PHYS_END - PHYS_BASE).ok_or(Errno::ERANGE)?;
    let mut at = (phys & !(LARGE_PAGE - 1)).max(BOOT_MAPPED);
    while at < end {
        if let Some(entry) = Tables::kernel().large(PHYS_BASE + at)?
            && entry.get() == 0
        {
            entry.set(at | LARGE | PRESENT | USER | WRITE | NO_EXEC);
        }
        at += LARGE_PAGE;
    }
    Ok(frames::pointer(phys))
}
