//! PVH boot: the kernel's segments into RAM, and the boot information a PVH kernel finds through `ebx`
//! (Xen, `xen/include/public/arch-x86/hvm/start_info.h`).

use crate::initrd::Initrd;
use crate::layout::{
    COMMAND_LINE, DOORBELLS_END, ECAM, KERNEL_MIN, LOW_AREA_END, MEMORY_MAP, MIB, MODULES, RamRange, START_INFO,
};
use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use std::path::PathBuf;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const NOTE_ENTRY: u64 = 18;
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const TYPE_RAM: u32 = 1;
const TYPE_RESERVED: u32 = 2;

/// Why the kernel cannot be started.
#[derive(Debug, Error)]
pub enum BootError {
    /// Not an ELF file we can read.
    #[error("kernel: not a valid ELF file: {0}")]
    Elf(#[from] elf::ParseError),
    /// An ELF file for something else.
    #[error("kernel: not an ELF file for x86-64")]
    Machine,
    /// Nothing says where to start.
    #[error("kernel: no PVH entry point (an ELF note of name Xen and type 18)")]
    NoEntry,
    /// A segment that cannot be placed.
    #[error("kernel: segment at {address:#x} of {size:#x} bytes does not fit into memory: give it more")]
    Segment {
        /// Physical address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// The command line has no place.
    #[error("command line and environment: {0} bytes do not fit into memory: give it more")]
    CommandLine(usize),
    /// The initrd cannot be read.
    #[error("initrd {}: {source}", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The initrd has no place, or there is nothing in it.
    #[error("initrd {}: {len} bytes do not fit into memory, or are none: give the machine more memory, or another file", path.display())]
    InitrdSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// RAM that is there cannot be written.
    #[error("kernel: cannot write guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// A kernel in RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Its 32-bit entry point.
    pub entry: u32,
    /// Guest-physical address after its last byte.
    pub end: u64,
}

/// Copies the kernel's segments to their physical addresses.
///
/// # Errors
/// [`BootError`] names what is wrong with the file.
pub fn load(memory: &GuestMemoryMmap, low_ram: u64, kernel: &[u8]) -> Result<Loaded, BootError> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(kernel)?;
    if file.ehdr.class != elf::file::Class::ELF64 || file.ehdr.e_machine != EM_X86_64 {
        return Err(BootError::Machine);
    }
    let (mut entry, mut end) = (None, KERNEL_MIN);
    for header in file.segments().iter().flat_map(|table| table.iter()) {
        match header.p_type {
            PT_LOAD if header.p_memsz > 0 => {
                let (address, size) = (header.p_paddr, header.p_memsz);
                let stop = address.checked_add(size).filter(|stop| *stop <= low_ram);
                let fits = address >= KERNEL_MIN && header.p_filesz <= size;
                let stop = stop.filter(|_| fits).ok_or(BootError::Segment { address, size })?;
                // RAM is fresh, so what the file does not fill is zero.
                memory.write_slice(file.segment_data(&header)?, GuestAddress(address))?;
                end = end.max(stop);
            }
            PT_NOTE => entry = file.segment_data_as_notes(&header)?.find_map(entry_note).or(entry),
            _ => {}
        }
    }
    Ok(Loaded { entry: entry.ok_or(BootError::NoEntry)?, end })
}

fn entry_note(note: Note<'_>) -> Option<u32> {
    let Note::Unknown(note) = note else { return None };
    if note.n_type != NOTE_ENTRY || note.name.strip_suffix(b"\0").unwrap_or(note.name) != b"Xen" {
        return None;
    }
    // 4 or 8 bytes, by the linker's taste; the address is a 32-bit one either way.
    let low = note.desc.first_chunk::<4>()?;
    note.desc[4..].iter().all(|byte| *byte == 0).then_some(u32::from_le_bytes(*low))
}

/// Finds a place for a command line of `len` bytes and its zero: below the video hole, or after the kernel.
///
/// # Errors
/// [`BootError::CommandLine`].
pub fn place_command_line(len: usize, kernel: &Loaded, low_ram: u64) -> Result<u64, BootError> {
    let fits = |start: u64, end: u64| start.checked_add(len as u64).is_some_and(|last| last < end);
    if fits(COMMAND_LINE, LOW_AREA_END) {
        return Ok(COMMAND_LINE);
    }
    let after = kernel.end.next_multiple_of(4096);
    if fits(after, low_ram) { Ok(after) } else { Err(BootError::CommandLine(len)) }
}

/// Writes the boot information: the command line at `place`, the memory map, the initrd's place, and `hvm_start_info`.
///
/// # Errors
/// [`BootError::Memory`] when `place` has no room; [`place_command_line`] sees to that.
pub fn write_information(
    memory: &GuestMemoryMmap,
    ram: &[RamRange],
    place: u64,
    command_line: &str,
    initrd: Option<Initrd>,
) -> Result<(), BootError> {
    memory.write_slice(command_line.as_bytes(), GuestAddress(place))?;
    memory.write_obj(0u8, GuestAddress(place + command_line.len() as u64))?;
    let map = memory_map(ram);
    for (i, (base, len, kind)) in map.iter().enumerate() {
        let mut entry = [0; 24];
        entry[..8].copy_from_slice(&base.to_le_bytes());
        entry[8..16].copy_from_slice(&len.to_le_bytes());
        entry[16..20].copy_from_slice(&kind.to_le_bytes());
        memory.write_slice(&entry, GuestAddress(MEMORY_MAP + 24 * i as u64))?;
    }
    // No ACPI tables, no flags.
    let mut info = [0; 56];
    if let Some(Initrd { start, len }) = initrd {
        // struct hvm_modlist_entry: no command line of its own.
        let module = [start, len, 0, 0].map(u64::to_le_bytes).concat();
        memory.write_slice(&module, GuestAddress(MODULES))?;
        info[12..16].copy_from_slice(&1u32.to_le_bytes());
        info[16..24].copy_from_slice(&MODULES.to_le_bytes());
    }
    info[..4].copy_from_slice(&MAGIC.to_le_bytes());
    info[4..8].copy_from_slice(&VERSION.to_le_bytes());
    info[24..32].copy_from_slice(&place.to_le_bytes());
    info[40..48].copy_from_slice(&MEMORY_MAP.to_le_bytes());
    info[48..52].copy_from_slice(&(map.len() as u32).to_le_bytes());
    Ok(memory.write_slice(&info, GuestAddress(START_INFO))?)
}

fn memory_map(ram: &[RamRange]) -> Vec<(u64, u64, u32)> {
    let mut map = Vec::with_capacity(ram.len() + 2);
    for range in ram {
        if range.base == 0 {
            // The hole where video memory and firmware used to be. There is RAM, but no kernel looks for it there.
            map.push((0, LOW_AREA_END, TYPE_RAM));
            map.push((MIB, range.len - MIB, TYPE_RAM));
        } else {
            map.push((range.base, range.len, TYPE_RAM));
        }
    }
    map.push((ECAM, DOORBELLS_END - ECAM, TYPE_RESERVED));
    map
}

#[cfg(test)]
mod tests;
