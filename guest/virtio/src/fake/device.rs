//! A virtio function: configuration space, common registers, doorbells, an MSI-X table.

use super::ring::FakeQueue;
use std::vec;
use std::vec::Vec;

/// The BAR with all registers, 64 bits wide, and the one with shared memory.
pub(crate) const BAR_REGISTERS: u8 = 0;
pub(crate) const BAR_SHARED: u8 = 4;
const BAR_SIZE: u64 = 0x4000;

/// Where structures are in the register BAR.
pub(crate) const COMMON: usize = 0;
pub(crate) const NOTIFY: usize = 0x1000;
const DEVICE: usize = 0x2000;
pub(crate) const MSIX_TABLE: usize = 0x3000;
const MULTIPLIER: u32 = 4;
const VECTORS: u16 = 4;

/// Encoders for capabilities.
pub(crate) mod cap {
    use std::vec::Vec;

    /// `struct virtio_pci_cap` for a structure of a kind, with what follows it.
    pub(crate) fn virtio(kind: u8, bar: u8, id: u8, offset: u32, len: u32, more: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::from([0x09, 0, 16 + 4 * more.len() as u8, kind, bar, id, 0, 0]);
        bytes.extend([offset, len].iter().chain(more).flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// A shared memory region.
    pub(crate) fn shared(bar: u8, id: u8, offset: u64, len: u64) -> Vec<u8> {
        let high = [(offset >> 32) as u32, (len >> 32) as u32];
        virtio(8, bar, id, offset as u32, len as u32, &high)
    }

    /// MSI-X with so many vectors.
    pub(crate) fn msix(vectors: u16, bar: u8, table: u32) -> Vec<u8> {
        let mut bytes = Vec::from([0x11, 0]);
        bytes.extend((vectors - 1).to_le_bytes());
        bytes.extend((table | u32::from(bar)).to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes
    }
}

#[derive(Debug)]
pub(crate) struct FakeDevice {
    config_space: [u8; 256],
    /// Sizes of the six BARs; 0 for an upper half or none.
    bar_sizes: [u64; 6],
    end_of_caps: usize,
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    /// Refuses whatever the driver accepts.
    pub(crate) stubborn: bool,
    /// Never finishes a reset.
    pub(crate) stuck: bool,
    /// Vectors it can attach to queues.
    pub(crate) vectors: u16,
    pub(crate) config: Vec<u8>,
    pub(crate) queues: Vec<FakeQueue>,
    pub(crate) msix_table: Vec<u32>,
    pub(crate) status: u8,
    /// Every status the driver wrote.
    pub(crate) statuses: Vec<u8>,
    pub(crate) feature_selects: [u32; 2],
    pub(crate) queue_select: u16,
    /// Queues the driver rang for.
    pub(crate) doorbells: Vec<u16>,
    /// Register accesses: exits, on a real machine.
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    /// Writes to configuration space.
    pub(crate) config_writes: usize,
}

impl FakeDevice {
    /// A device of a type, with the capabilities and features that every device of ours has, and its BARs placed.
    pub(crate) fn new(device_type: u16, features: u64, config: &[u8], queues: &[u16]) -> Self {
        let mut device = Self {
            config_space: [0; 256],
            bar_sizes: [BAR_SIZE, 0, 0, 0, 1 << 30, 0],
            end_of_caps: 0x40,
            offered: features | 1 << 32 | 1 << 29 | 1 << 28,
            accepted: 0,
            stubborn: false,
            stuck: false,
            vectors: VECTORS,
            config: config.to_vec(),
            queues: queues.iter().map(|size| FakeQueue::new(*size)).collect(),
            msix_table: [0, 0, 0, 1].repeat(VECTORS.into()),
            status: 0,
            statuses: Vec::new(),
            feature_selects: [0; 2],
            queue_select: 0,
            doorbells: Vec::new(),
            reads: 0,
            writes: 0,
            config_writes: 0,
        };
        device.put32(0, 0x1af4 | (0x1040 + u32::from(device_type)) << 16);
        device.put32(4, 1 << 20);
        device.place(0xfe00_0000, 0x40_0000_0000);
        device.add_cap(&cap::virtio(1, BAR_REGISTERS, 0, COMMON as u32, 56, &[]));
        device.add_cap(&cap::virtio(2, BAR_REGISTERS, 0, NOTIFY as u32, 0x100, &[MULTIPLIER]));
        device.add_cap(&cap::virtio(4, BAR_REGISTERS, 0, DEVICE as u32, config.len().max(4) as u32, &[]));
        device.add_cap(&cap::msix(VECTORS, BAR_REGISTERS, MSIX_TABLE as u32));
        device
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.config_space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn get32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.config_space[at..at + 4].try_into().unwrap())
    }

    /// Gives the two BARs addresses, as firmware would; 0 for none.
    pub(crate) fn place(&mut self, registers: u64, shared: u64) {
        for (bar, flags, address) in [(BAR_REGISTERS, 0x4, registers), (BAR_SHARED, 0xc, shared)] {
            let at = 0x10 + 4 * usize::from(bar);
            self.put32(at, address as u32 | flags);
            self.put32(at + 4, (address >> 32) as u32);
        }
    }

    /// Appends a capability to the list.
    pub(crate) fn add_cap(&mut self, bytes: &[u8]) {
        let at = self.end_of_caps;
        self.config_space[at..at + bytes.len()].copy_from_slice(bytes);
        // Insert at the front: the pointer register is the one place that is always there.
        self.config_space[at + 1] = self.config_space[0x34];
        self.config_space[0x34] = at as u8;
        self.end_of_caps = (at + bytes.len()).next_multiple_of(4);
    }

    /// Overwrites configuration space.
    pub(crate) fn put_bytes(&mut self, at: usize, bytes: &[u8]) {
        self.config_space[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Empties the list.
    pub(crate) fn clear_caps(&mut self) {
        self.config_space[0x34] = 0;
        self.end_of_caps = 0x40;
    }

    /// Makes the last capability of the list point somewhere.
    pub(crate) fn tie_last_cap_to(&mut self, pointer: u8) {
        self.config_space[0x41] = pointer;
    }

    pub(crate) fn bar_address(&self, bar: u8) -> u64 {
        let at = 0x10 + 4 * usize::from(bar);
        u64::from(self.get32(at) & !0xf) | u64::from(self.get32(at + 4)) << 32
    }

    pub(crate) fn command(&self) -> u16 {
        self.get32(4) as u16
    }

    /// The MSI-X control word.
    pub(crate) fn msix_control(&self) -> u16 {
        let mut at = usize::from(self.config_space[0x34]);
        while self.config_space[at] != 0x11 {
            at = self.config_space[at + 1].into();
        }
        (self.get32(at) >> 16) as u16
    }

    pub(super) fn decode(&self, address: u64) -> Option<(u8, usize)> {
        assert_ne!(self.command() & 2, 0, "registers mapped while memory decoding is off");
        [BAR_REGISTERS, BAR_SHARED].into_iter().find_map(|bar| {
            let offset = address.checked_sub(self.bar_address(bar))?;
            (offset < self.bar_sizes[usize::from(bar)]).then_some((bar, offset as usize))
        })
    }

    pub(super) fn config_read(&self, offset: u16) -> u32 {
        assert!(offset.is_multiple_of(4));
        self.get32(offset.into())
    }

    pub(super) fn config_write(&mut self, offset: u16, value: u32) {
        self.config_writes += 1;
        let at = usize::from(offset);
        match at {
            4 => self.put32(4, self.get32(4) & !0xffff | value & 0xffff),
            0x10..0x28 => {
                assert_eq!(self.command() & 2, 0, "a BAR moved while memory decoding is on");
                let bar = (at - 0x10) / 4;
                let flags = self.get32(at) & 0xf;
                let (low, size) = if self.bar_sizes[bar] == 0 && bar > 0 {
                    (false, self.bar_sizes[bar - 1])
                } else {
                    (true, self.bar_sizes[bar])
                };
                let mask = if size == 0 { 0 } else { !(size - 1) };
                let value = if low { value & mask as u32 | flags } else { value & (mask >> 32) as u32 };
                self.put32(at, value);
            }
            _ => {
                assert_eq!(self.config_space[at], 0x11, "a write to {at:#x}, which is read-only");
                let keep = self.get32(at) & 0x3fff_ffff;
                self.put32(at, keep | value & 0xc000_0000);
            }
        }
    }

    fn queue(&mut self) -> Option<&mut FakeQueue> {
        let select = usize::from(self.queue_select);
        self.queues.get_mut(select)
    }

    pub(super) fn read(&mut self, at: usize, width: usize) -> u32 {
        self.reads += 1;
        match (at, width) {
            (0, 4) => self.feature_selects[0],
            (4, 4) => match self.feature_selects[0] {
                select @ 0..2 => (self.offered >> (32 * select)) as u32,
                _ => 0,
            },
            (20, 1) => self.status.into(),
            (22, 2) => self.queue_select.into(),
            (24, 2) => self.queue().map_or(0, |queue| queue.size.into()),
            (26, 2) => self.queue().map_or(0xffff, |queue| queue.vector.into()),
            (30, 2) => self.queue_select.into(),
            (DEVICE.., 4) if at - DEVICE + 4 <= self.config.len() => {
                u32::from_le_bytes(self.config[at - DEVICE..][..4].try_into().unwrap())
            }
            _ => panic!("a read of {width} bytes at {at:#x}"),
        }
    }

    pub(super) fn write(&mut self, at: usize, width: usize, value: u32) {
        self.writes += 1;
        match (at, width) {
            (0, 4) => self.feature_selects[0] = value,
            (8, 4) => self.feature_selects[1] = value,
            (12, 4) => self.accepted |= u64::from(value) << (32 * self.feature_selects[1]),
            (20, 1) => self.set_status(value as u8),
            (22, 2) => self.queue_select = value as u16,
            (24, 2) => self.queue().unwrap().size = value as u16,
            (26, 2) => {
                let vector = if value < u32::from(self.vectors) { value as u16 } else { 0xffff };
                self.queue().unwrap().vector = vector;
            }
            (28, 2) => {
                assert_eq!(value, 1, "a queue is disabled by reset only (section 4.1.4.3.2)");
                self.queue().unwrap().enabled = true;
            }
            (32..56, 4) => {
                let address = &mut self.queue().unwrap().addresses[(at - 32) / 8];
                let shift = 8 * (at as u32 % 8);
                *address = *address & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            (NOTIFY.., 2) if at < NOTIFY + 0x100 => {
                assert_eq!(at, NOTIFY + value as usize * MULTIPLIER as usize, "the wrong doorbell");
                assert_ne!(self.status & 4, 0, "a notification before DRIVER_OK (section 3.1.1)");
                self.doorbells.push(value as u16);
            }
            (MSIX_TABLE.., 4) => self.msix_table[(at - MSIX_TABLE) / 4] = value,
            _ => panic!("a write of {width} bytes at {at:#x}"),
        }
    }

    fn set_status(&mut self, value: u8) {
        self.statuses.push(value);
        if value == 0 {
            if self.stuck {
                self.status |= 0x40;
                return;
            }
            self.accepted = 0;
            self.queues = self.queues.iter().map(|queue| FakeQueue::new(queue.max_size)).collect();
        }
        self.status = value;
        if self.stubborn {
            self.status &= !8;
        }
    }
}

impl FakeDevice {
    /// A file system with one high-priority queue and two request queues.
    pub(crate) fn fs(tag: &[u8]) -> Self {
        let mut config = vec![0; 40];
        config[..tag.len()].copy_from_slice(tag);
        config[36] = 2;
        Self::new(26, 0, &config, &[128; 3])
    }

    /// A console with so many ports, with MULTIPORT.
    pub(crate) fn console(ports: u32) -> Self {
        let mut config = vec![0; 8];
        config[4..].copy_from_slice(&ports.to_le_bytes());
        Self::new(3, 0b10, &config, &vec![64; 2 * ports as usize + 2])
    }

    /// A block device of 4 TiB with these features and four queues.
    pub(crate) fn blk(features: crate::Features) -> Self {
        let mut config = vec![0; 60];
        let words = [(4, 2), (8, 1 << 20), (12, 126), (20, 4096), (36, 4096), (40, 16), (44, 8), (48, 2048), (52, 16)];
        for (at, word) in words {
            config[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        config[34] = 4;
        Self::new(2, features.bits(), &config, &[128; 4])
    }

    pub(crate) fn rng() -> Self {
        Self::new(4, 0, &[], &[8])
    }
}
