//! PCI configuration space: through memory where the machine says where (ECAM), else through two ports.

use crate::arch::port;
use crate::mm::frames;
use diolkos_virtio::pci::MmioSpace;
use diolkos_virtio::{ConfigRegionAccess, PciAddress, PhysRange};
use spin::Mutex;

/// How to reach it.
pub enum ConfigSpace {
    /// Bus 0's functions, 4 KiB each, from here on. Our own machine lets reads through without an exit.
    Ecam(*mut u8),
    /// The address and data ports of configuration mechanism 1 (PCI 3.0, section 3.2.2.3.2), one access at a time.
    Ports(Mutex<()>),
}

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const BUS_SIZE: u64 = 1 << 20;

impl ConfigSpace {
    /// By memory at guest-physical `ecam` (below 4 GiB, where everything is mapped), or by ports.
    pub fn new(ecam: Option<u64>) -> Self {
        let usable =
            |base: &u64| base.checked_add(BUS_SIZE).is_some_and(|end| end <= 1 << 32 && !frames::is_ram(*base, end));
        match ecam.filter(usable) {
            Some(base) => Self::Ecam(frames::pointer(base)),
            None => Self::Ports(Mutex::new(())),
        }
    }

    fn register(base: *mut u8, address: PciAddress, offset: u16) -> *mut u32 {
        let function = (address.device() as usize) << 3 | address.function() as usize;
        base.wrapping_add(function << 12 | (offset & 0xffc) as usize).cast()
    }

    fn select(address: PciAddress, offset: u16) {
        let function = (address.device() as u32) << 11 | (address.function() as u32) << 8;
        port::write_u32(ADDRESS_PORT, 1 << 31 | function | (offset & 0xfc) as u32);
    }
}

impl ConfigRegionAccess for ConfigSpace {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match self {
            // SAFETY: device, function and offset have 5, 3 and 12 bits, so the register lies in the megabyte checked
            // in `new`, which is not RAM.
            Self::Ecam(base) => unsafe { Self::register(*base, address, offset).read_volatile() },
            Self::Ports(lock) => {
                let _one_at_a_time = lock.lock();
                Self::select(address, offset);
                port::read_u32(DATA_PORT)
            }
        }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        match self {
            // SAFETY: as for reading; what the value does is the caller's promise.
            Self::Ecam(base) => unsafe { Self::register(*base, address, offset).write_volatile(value) },
            Self::Ports(lock) => {
                let _one_at_a_time = lock.lock();
                Self::select(address, offset);
                port::write_u32(DATA_PORT, value);
            }
        }
    }
}

/// Where BARs may be placed that the machine has not placed: below the I/O APIC, and above all RAM.
pub fn space_for_bars() -> MmioSpace {
    const LOW: (u64, u64) = (0xd000_0000, 0x2e00_0000);
    const HIGH_LEN: u64 = 1 << 38;
    let low = PhysRange::new(LOW.0, LOW.1).filter(|range| !frames::is_ram(range.start().0, range.end()));
    let high = frames::end_of_ram().max(1 << 32).next_multiple_of(1 << 34);
    MmioSpace::new(low, PhysRange::new(high, HIGH_LEN))
}
