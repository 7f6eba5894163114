//! Where everything lies in guest-physical memory: every such constant of the machine, and the sums behind them.
//!
//! ```text
//! 0x0000_0000  RAM, up to 3 GiB of it; the first MiB holds the boot information
//! 0xe000_0000  ECAM: configuration space of bus 0, 1 MiB  ┐ one read-only slot:
//! 0xe010_0000  registers of the devices, 4 KiB each       │ the guest reads it without leaving
//! 0xe012_0000  the record of lost window memory, 4 KiB    ┘
//! 0xe020_0000  doorbells of the devices, 4 KiB each; every access is an exit or an ioeventfd
//! 0xfee0_0000  local APIC (in KVM)
//! 0xfffb_d000  three pages KVM wants for itself on some Intel processors
//! 4 GiB        the rest of RAM
//! above        DAX windows, each aligned to its size rounded up to a power of two
//! ```

use thiserror::Error;

/// 1 MiB.
pub const MIB: u64 = 1 << 20;
/// 1 GiB.
pub const GIB: u64 = 1 << 30;
/// The unit of RAM and of windows: what one large page maps.
pub const LARGE_PAGE: u64 = 2 * MIB;
/// Least RAM: the boot information and the kernel want somewhere to go.
pub const MIN_MEMORY: u64 = 4 * MIB;

/// End of low RAM at most; between it and 4 GiB lie devices.
pub const LOW_RAM_END: u64 = 3 * GIB;
/// Where the rest of RAM starts.
pub const HIGH_RAM: u64 = 4 * GIB;

/// `hvm_start_info`.
pub const START_INFO: u64 = 0x6000;
/// The list of modules it points to: one, of 32 bytes.
pub const MODULES: u64 = 0x6040;
/// The memory map it points to; 24 bytes an entry, so the page holds far more than we write.
pub const MEMORY_MAP: u64 = 0x6100;
/// The command line, when it fits before [`LOW_AREA_END`].
pub const COMMAND_LINE: u64 = 0x9000;
/// End of the memory below the legacy video hole. A start-up trampoline for further processors may use 0x8000.
pub const LOW_AREA_END: u64 = 0x9_f000;
/// Start of the memory a kernel may be linked to.
pub const KERNEL_MIN: u64 = MIB;

/// Devices on bus 0, host bridge included.
pub const MAX_SLOTS: usize = 32;
/// Shares and disks at most: the other places are the host bridge's, the console's and the entropy source's.
pub const MAX_DEVICES: usize = MAX_SLOTS - 3;
/// Configuration space of bus 0 as memory: 32 devices of 8 functions of 4 KiB.
pub const ECAM: u64 = 0xe000_0000;
/// Its size.
pub const ECAM_SIZE: u64 = MAX_SLOTS as u64 * 8 * 4096;
/// The devices' registers.
pub const REGISTERS: u64 = ECAM + ECAM_SIZE;
/// Size of one device's registers.
pub const REGISTERS_EACH: u64 = 4096;
/// The record of lost window memory ([`diolkos_common::losses`]).
pub const LOSSES: u64 = REGISTERS + MAX_SLOTS as u64 * REGISTERS_EACH;
/// Size of the read-only slot: ECAM, registers and that record, rounded up to a large page.
pub const READ_ONLY_SIZE: u64 = LARGE_PAGE;
/// The devices' doorbells.
pub const DOORBELLS: u64 = ECAM + READ_ONLY_SIZE;
/// Size of one device's doorbells.
pub const DOORBELLS_EACH: u64 = 4096;
/// End of the doorbells.
pub const DOORBELLS_END: u64 = DOORBELLS + MAX_SLOTS as u64 * DOORBELLS_EACH;
/// KVM's own three pages (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: u64 = 0xfffb_d000;

const _: () = assert!(LOSSES + diolkos_common::losses::SIZE as u64 <= DOORBELLS);
const _: () = assert!(DOORBELLS_END <= 0xfec0_0000);
const _: () = assert!(LOW_RAM_END <= ECAM);

/// Why the machine asked for cannot be laid out.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LayoutError {
    /// RAM is not a multiple of 2 MiB.
    #[error("memory: {0} bytes is not a multiple of 2 MiB")]
    MemoryUnaligned(u64),
    /// RAM is less than 4 MiB.
    #[error("memory: {0} bytes is too little, the machine needs at least 4 MiB")]
    MemoryTooSmall(u64),
    /// A window is not a multiple of 2 MiB.
    #[error("DAX window of '{tag}': {size} bytes is not a multiple of 2 MiB")]
    WindowUnaligned {
        /// The share.
        tag: String,
        /// The size asked for.
        size: u64,
    },
    /// RAM or a window ends beyond what the processor can address.
    #[error("{what}: does not fit into the {bits} bits of guest-physical address this processor has")]
    TooBig {
        /// `memory` or the window at fault.
        what: String,
        /// Width of guest-physical addresses.
        bits: u32,
    },
    /// More devices than the bus has places.
    #[error("shares and disks: {0} are too many, the machine has room for {max}", max = MAX_DEVICES)]
    TooManyDevices(usize),
}

/// A piece of RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// Guest-physical address.
    pub base: u64,
    /// Length in bytes, not zero.
    pub len: u64,
}

/// A place for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPlace {
    /// Guest-physical address, aligned to `bar`.
    pub base: u64,
    /// Length in bytes, not zero, a multiple of 2 MiB.
    pub len: u64,
    /// Size of the BAR around it: the next power of two.
    pub bar: u64,
}

/// The layout of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// RAM, lowest first.
    pub ram: Vec<RamRange>,
    /// One entry for each window asked for; `None` for those of size zero.
    pub windows: Vec<Option<WindowPlace>>,
}

impl Layout {
    /// Lays out `memory` bytes of RAM and the windows `(tag, bytes)`, for addresses of `bits` bits.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn plan(memory: u64, windows: &[(&str, u64)], bits: u32) -> Result<Self, LayoutError> {
        if !memory.is_multiple_of(LARGE_PAGE) {
            return Err(LayoutError::MemoryUnaligned(memory));
        }
        if memory < MIN_MEMORY {
            return Err(LayoutError::MemoryTooSmall(memory));
        }
        let limit = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        let mut ram = vec![RamRange { base: 0, len: memory.min(LOW_RAM_END) }];
        let mut end = HIGH_RAM;
        if memory > LOW_RAM_END {
            let len = memory - LOW_RAM_END;
            ram.push(RamRange { base: HIGH_RAM, len });
            end = HIGH_RAM
                .checked_add(len)
                .filter(|end| *end <= limit)
                .ok_or_else(|| LayoutError::TooBig { what: format!("memory of {memory} bytes"), bits })?;
        }
        let mut places = Vec::with_capacity(windows.len());
        for &(tag, size) in windows {
            if size % LARGE_PAGE != 0 {
                return Err(LayoutError::WindowUnaligned { tag: tag.into(), size });
            }
            if size == 0 {
                places.push(None);
                continue;
            }
            let too_big = || LayoutError::TooBig { what: format!("DAX window of '{tag}' of {size} bytes"), bits };
            let bar = size.checked_next_power_of_two().ok_or_else(too_big)?;
            let base = end.checked_next_multiple_of(bar).ok_or_else(too_big)?;
            end = base.checked_add(bar).filter(|end| *end <= limit).ok_or_else(too_big)?;
            places.push(Some(WindowPlace { base, len: size, bar }));
        }
        Ok(Self { ram, windows: places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_splits_around_the_devices() {
        let small = Layout::plan(512 * MIB, &[], 46).unwrap();
        assert_eq!(small.ram, [RamRange { base: 0, len: 512 * MIB }]);
        let big = Layout::plan(5 * GIB, &[], 46).unwrap();
        assert_eq!(big.ram, [RamRange { base: 0, len: 3 * GIB }, RamRange { base: 4 * GIB, len: 2 * GIB }]);
    }

    #[test]
    fn windows_lie_above_ram_aligned_to_their_power_of_two() {
        let layout = Layout::plan(5 * GIB, &[("a", 3 * GIB), ("b", 0), ("c", 2 * MIB)], 46).unwrap();
        let [Some(a), None, Some(c)] = layout.windows[..] else { panic!("{layout:?}") };
        assert_eq!(a, WindowPlace { base: 8 * GIB, len: 3 * GIB, bar: 4 * GIB });
        assert_eq!(c, WindowPlace { base: 12 * GIB, len: 2 * MIB, bar: 2 * MIB });
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(Layout::plan(LARGE_PAGE + 1, &[], 46), Err(LayoutError::MemoryUnaligned(LARGE_PAGE + 1)));
        assert_eq!(Layout::plan(LARGE_PAGE, &[], 46), Err(LayoutError::MemoryTooSmall(LARGE_PAGE)));
        assert!(matches!(Layout::plan(1 << 40, &[], 39), Err(LayoutError::TooBig { bits: 39, .. })));
        assert!(matches!(Layout::plan(1 << 30, &[("w", 4097)], 39), Err(LayoutError::WindowUnaligned { .. })));
        for size in [1u64 << 38, 1 << 63, u64::MAX - LARGE_PAGE + 1, (1 << 63) + LARGE_PAGE] {
            let error = Layout::plan(1 << 30, &[("w", 1 << 38), ("x", size)], 39).unwrap_err();
            assert!(matches!(&error, LayoutError::TooBig { what, .. } if what.contains("'x'")), "{error}");
        }
    }
}
