//! What the machine hands over at the PVH entry: `struct hvm_start_info` (Xen, `include/public/arch-x86/hvm/start_info.h`).
//!
//! The boot tables map the first 4 GiB; everything handed over lies there.

use crate::mm::{PHYS_BASE, frames, paging};
use alloc::string::String;
use core::mem::size_of;
use diolkos_vfs::Result;

const MAGIC: u32 = 0x336e_c578;
const MAPPED: u64 = 4 << 30;
/// Memory below this is left to the machine's tables and the boot code.
const LOW_MEMORY: u64 = 1 << 20;
const MAX_ENTRIES: usize = 32;
const RAM: u32 = 1;
/// Longest command line believed, in bytes.
const MAX_COMMAND_LINE: u64 = 4 << 20;

#[derive(Clone, Copy)]
#[repr(C)]
struct RawStartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawModule {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

/// The start info, read once.
pub struct StartInfo {
    raw: RawStartInfo,
    at: u64,
    command_line_len: u64,
}

unsafe extern "C" {
    static kernel_end: [u8; 0];
}

fn read<T: Copy>(phys: u64) -> Option<T> {
    let end = phys.checked_add(size_of::<T>() as u64)?;
    // SAFETY: the boot tables map the first 4 GiB, and T is plain data written by the machine before we started.
    (phys != 0 && end <= MAPPED).then(|| unsafe { (frames::pointer(phys) as *const T).read_unaligned() })
}

impl StartInfo {
    /// Reads what lies at physical address `at`.
    ///
    /// # Errors
    /// It is not a start info, or one of a version without a memory map.
    pub fn read(at: u64) -> core::result::Result<Self, &'static str> {
        let raw: RawStartInfo = read(at).ok_or("no PVH start info: boot this kernel by its PVH entry")?;
        if raw.magic != MAGIC {
            return Err("the PVH start info has the wrong magic number");
        }
        if raw.version == 0 || raw.memory_entries == 0 {
            return Err("the PVH start info has no memory map (version 1 is needed)");
        }
        let length = |start: u64| (0..MAX_COMMAND_LINE).find(|i| read::<u8>(start + i) == Some(0));
        let command_line_len = if raw.command_line == 0 { 0 } else { length(raw.command_line).unwrap_or(0) };
        Ok(Self { raw, at, command_line_len })
    }

    /// The command line, copied.
    pub fn command_line(&self) -> String {
        let bytes = (0..self.command_line_len).filter_map(|i| read::<u8>(self.raw.command_line + i)).collect();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Where the first module lies, and its length in bytes; `None` for one that cannot be reached.
    pub fn initrd(&self) -> Option<(u64, u64)> {
        let module: RawModule = if self.raw.modules == 0 { None } else { read(self.raw.module_list) }?;
        let end = module.start.checked_add(module.len)?;
        (module.len > 0 && module.start >= LOW_MEMORY && end <= MAPPED).then_some((module.start, module.len))
    }

    fn ram(&self) -> impl Iterator<Item = (u64, u64)> {
        let entries = (self.raw.memory_entries as usize).min(MAX_ENTRIES);
        (0..entries)
            .filter_map(|i| read::<RawEntry>(self.raw.memory_map + (i * size_of::<RawEntry>()) as u64))
            .filter(|entry| entry.kind == RAM)
            .map(|entry| (entry.start, entry.start.saturating_add(entry.len)))
    }

    /// Gives RAM below 4 GiB to the frame allocator, less what is in use.
    pub fn add_low_memory(&self) {
        let map_len = self.raw.memory_entries as u64 * size_of::<RawEntry>() as u64;
        let (initrd, initrd_len) = self.initrd().unwrap_or((0, 0));
        let mut used = [
            (initrd, initrd + initrd_len),
            (0, (&raw const kernel_end) as u64 - PHYS_BASE),
            (self.at, self.at + size_of::<RawStartInfo>() as u64),
            (self.raw.memory_map, self.raw.memory_map + map_len),
            (self.raw.command_line, self.raw.command_line + self.command_line_len + 1),
        ];
        used.sort_unstable();
        for (start, end) in self.ram().filter(|(start, _)| *start < MAPPED) {
            frames::add_region(start.max(LOW_MEMORY), end.min(MAPPED), &used);
        }
    }

    /// Maps RAM above 4 GiB and gives it to the frame allocator.
    ///
    /// # Errors
    /// `ENOMEM` when the page tables for it do not fit the memory below.
    pub fn add_high_memory(&self) -> Result<()> {
        for (start, end) in self.ram().filter(|(_, end)| *end > MAPPED) {
            let start = start.max(MAPPED);
            paging::map_physical(start, end - start)?;
            frames::add_region(start, end, &[]);
        }
        Ok(())
    }
}
