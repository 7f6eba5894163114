//! The configuration space of one function (PCI Local Bus 3.0, chapter 6): bytes and which of their bits a guest
//! may write. Pure: what a write means is up to the device.

/// Bytes of the space we implement; the extended space reads as zero.
pub const SIZE: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const FIRST_CAPABILITY: usize = 0x40;

/// Memory space enable, bus master enable, interrupt disable.
const COMMAND_WRITABLE: u16 = 0x0406;
const STATUS_CAPABILITIES: u16 = 0x0010;

/// Who a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, 24 bits.
    pub class: u32,
    /// Subsystem vendor and device.
    pub subsystem: (u16, u16),
}

/// One base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// 32-bit memory, not prefetchable.
    Memory32 {
        /// Address, aligned to `size`.
        base: u32,
        /// A power of two, at least 16.
        size: u32,
    },
    /// 64-bit prefetchable memory; takes this register and the next.
    Memory64 {
        /// Address, aligned to `size`.
        base: u64,
        /// A power of two, at least 16.
        size: u64,
    },
}

/// The space.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    next_capability: usize,
    last_link: usize,
}

impl ConfigSpace {
    /// A type 0 header without BARs or capabilities, with memory decoding on: firmware would have done that.
    pub fn new(identity: Identity) -> Self {
        let mut space =
            Self { bytes: [0; SIZE], writable: [0; SIZE], next_capability: FIRST_CAPABILITY, last_link: CAPABILITIES };
        space.put(0x00, &identity.vendor.to_le_bytes());
        space.put(0x02, &identity.device.to_le_bytes());
        space.put(COMMAND, &0x0002u16.to_le_bytes());
        space.writable[COMMAND..COMMAND + 2].copy_from_slice(&COMMAND_WRITABLE.to_le_bytes());
        let class = identity.class << 8 | u32::from(identity.revision);
        space.put(0x08, &class.to_le_bytes());
        space.put(0x2c, &identity.subsystem.0.to_le_bytes());
        space.put(0x2e, &identity.subsystem.1.to_le_bytes());
        space
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Sets BAR number `index`.
    ///
    /// # Panics
    /// When the BAR is not a naturally aligned power of two or does not fit: the machine's own mistake.
    pub fn set_bar(&mut self, index: usize, bar: Bar) {
        let at = BARS + 4 * index;
        match bar {
            Bar::Memory32 { base, size } => {
                assert!(index < 6 && size >= 16 && size.is_power_of_two() && base % size == 0);
                self.put(at, &base.to_le_bytes());
                self.writable[at..at + 4].copy_from_slice(&(!(size - 1)).to_le_bytes());
            }
            Bar::Memory64 { base, size } => {
                assert!(index < 5 && size >= 16 && size.is_power_of_two() && base % size == 0);
                // Bits 2:1 say 64-bit, bit 3 prefetchable.
                self.put(at, &(base | 0b1100).to_le_bytes());
                self.writable[at..at + 8].copy_from_slice(&(!(size - 1)).to_le_bytes());
            }
        }
    }

    /// Appends a capability with this id and body (what follows the id and the link), and returns its offset.
    /// `writable` has a bit for each bit of the body a guest may write; it may be shorter than the body.
    ///
    /// # Panics
    /// When the space is full: the machine's own mistake.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next_capability;
        let end = at + 2 + body.len();
        assert!(end <= SIZE && writable.len() <= body.len());
        self.bytes[at] = id;
        self.put(at + 2, body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.bytes[self.last_link] = at as u8;
        self.last_link = at + 1;
        self.next_capability = end.next_multiple_of(4);
        let status = u16::from_le_bytes([self.bytes[STATUS], self.bytes[STATUS + 1]]) | STATUS_CAPABILITIES;
        self.put(STATUS, &status.to_le_bytes());
        at
    }

    /// Applies a guest's write to the bits it may change and returns the aligned range of bytes to look at again.
    /// A write beyond the space changes nothing.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> std::ops::Range<usize> {
        for (at, new) in (offset..SIZE).zip(data) {
            let mask = self.writable[at];
            self.bytes[at] = self.bytes[at] & !mask | new & mask;
        }
        let start = offset.min(SIZE) & !3;
        let end = offset.saturating_add(data.len()).min(SIZE).next_multiple_of(4);
        start..end.max(start)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; SIZE] {
        &self.bytes
    }

    /// The 16 bits at `at`.
    pub fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x105a,
            revision: 1,
            class: 0x018000,
            subsystem: (0x1af4, 26),
        })
    }

    fn dword(space: &ConfigSpace, at: usize) -> u32 {
        u32::from_le_bytes(space.bytes()[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_header_says_who_it_is_and_cannot_be_written() {
        let mut space = space();
        let before = *space.bytes();
        space.write(0, &[0xff; 4]);
        space.write(8, &[0xff; 8]);
        space.write(0x2c, &[0xff; 4]);
        assert_eq!(*space.bytes(), before);
        assert_eq!(dword(&space, 0), 0x105a_1af4);
        assert_eq!(dword(&space, 8), 0x0180_0001);
    }

    #[test]
    fn bars_are_sized_by_all_ones_and_take_their_address_back() {
        let mut space = space();
        space.set_bar(0, Bar::Memory32 { base: 0xe010_1000, size: 4096 });
        space.set_bar(2, Bar::Memory64 { base: 1 << 33, size: 1 << 32 });
        for at in [0x10, 0x18, 0x1c] {
            space.write(at, &[0xff; 4]);
        }
        assert_eq!(dword(&space, 0x10), 0xffff_f000);
        assert_eq!((dword(&space, 0x18), dword(&space, 0x1c)), (0x0000_000c, 0xffff_ffff));
        space.write(0x10, &0xe010_1000u32.to_le_bytes());
        space.write(0x18, &0u32.to_le_bytes());
        space.write(0x1c, &2u32.to_le_bytes());
        assert_eq!(dword(&space, 0x10), 0xe010_1000);
        assert_eq!((dword(&space, 0x18), dword(&space, 0x1c)), (0x0000_000c, 2));
        // A BAR that is not there reads as zero whatever is written.
        space.write(0x24, &[0xff; 4]);
        assert_eq!(dword(&space, 0x24), 0);
    }

    #[test]
    fn capabilities_are_linked_in_order() {
        let mut space = space();
        let first = space.add_capability(9, &[1, 2, 3], &[]);
        let second = space.add_capability(17, &[0; 10], &[0, 0xc0]);
        assert_eq!(space.bytes()[0x34] as usize, first);
        assert_eq!(space.bytes()[first..first + 5], [9, second as u8, 1, 2, 3]);
        assert_eq!(space.bytes()[second..second + 2], [17, 0]);
        assert_eq!(space.word(6) & 0x10, 0x10);
        space.write(second + 2, &[0xff, 0xff]);
        assert_eq!(space.word(second + 2), 0xc000);
    }

    #[test]
    fn writes_off_the_end_change_nothing() {
        let mut space = space();
        let before = *space.bytes();
        for offset in [SIZE - 1, SIZE, 4095, usize::MAX] {
            let range = space.write(offset, &[0xff; 8]);
            assert!(range.end <= SIZE && range.start <= range.end);
        }
        assert_eq!(*space.bytes(), before);
    }
}
