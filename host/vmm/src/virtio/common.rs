//! The common configuration structure (section 4.1.4.3): feature negotiation, status, queue set-up. Pure: bytes in,
//! bytes and an [`Effect`] out.

use super::{F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};
use crate::pci::msix::NO_VECTOR;
use std::ops::Range;

/// Bytes of the structure.
pub const LEN: usize = 56;
/// Offset of the status byte.
pub const STATUS: u64 = 20;

/// Registers whose writes need not be seen at once, because nothing comes of them before the driver writes a register that
/// is not among them: the driver's features, which the status makes final; and a queue's size, its enabling and its
/// addresses, which count from `DRIVER_OK` on. No driver reads them back but to see what it has just written.
pub const POSTED: [Range<u64>; 3] = [8..16, 24..26, 28..56];

/// Status bits (section 2.1).
pub const DRIVER_OK: u8 = 4;
/// The driver's choice of features is complete.
pub const FEATURES_OK: u8 = 8;
/// The device failed.
pub const NEEDS_RESET: u8 = 64;

/// What the device around the chip has to do after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The driver reset the device; the chip is back in its first state.
    Reset,
    /// The driver is ready: start.
    Start,
    /// The configuration vector changed.
    ConfigVector,
}

/// A queue as the driver set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSetup {
    /// Entries; a power of two up to the device's maximum.
    pub size: u16,
    /// MSI-X vector or [`NO_VECTOR`].
    pub vector: u16,
    /// Whether the driver enabled it.
    pub enabled: bool,
    /// Guest-physical addresses of the descriptor table, the driver area and the device area; unchecked.
    pub areas: [u64; 3],
}

/// The chip.
#[derive(Debug)]
pub struct CommonConfig {
    offered: u64,
    accepted: u64,
    device_select: u32,
    driver_select: u32,
    config_vector: u16,
    status: u8,
    queue_select: u16,
    max_sizes: Vec<u16>,
    queues: Vec<QueueSetup>,
    vectors: u16,
}

impl CommonConfig {
    /// A chip that offers `features` beside the transport's own, for queues of at most these sizes.
    pub fn new(features: u64, max_sizes: &[u16], vectors: u16) -> Self {
        let mut chip = Self {
            offered: features | F_VERSION_1 | F_EVENT_IDX | F_INDIRECT_DESC,
            accepted: 0,
            device_select: 0,
            driver_select: 0,
            config_vector: NO_VECTOR,
            status: 0,
            queue_select: 0,
            max_sizes: max_sizes.to_vec(),
            queues: Vec::new(),
            vectors,
        };
        chip.reset();
        chip
    }

    fn reset(&mut self) {
        self.accepted = 0;
        self.device_select = 0;
        self.driver_select = 0;
        self.config_vector = NO_VECTOR;
        self.status = 0;
        self.queue_select = 0;
        let fresh = |size: &u16| QueueSetup { size: *size, vector: NO_VECTOR, enabled: false, areas: [0; 3] };
        self.queues = self.max_sizes.iter().map(fresh).collect();
    }

    /// The features both sides agreed on.
    pub fn features(&self) -> u64 {
        self.accepted
    }

    /// The queues as set up.
    pub fn queues(&self) -> &[QueueSetup] {
        &self.queues
    }

    /// The vector for configuration changes.
    pub fn config_vector(&self) -> u16 {
        self.config_vector
    }

    /// Whether the driver is ready.
    pub fn running(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    /// The structure as the driver reads it.
    pub fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.device_select.to_le_bytes());
        put(4, &half(self.offered, self.device_select).to_le_bytes());
        put(8, &self.driver_select.to_le_bytes());
        put(12, &half(self.accepted, self.driver_select).to_le_bytes());
        put(16, &self.config_vector.to_le_bytes());
        put(18, &(self.queues.len() as u16).to_le_bytes());
        put(20, &[self.status, 0]);
        put(22, &self.queue_select.to_le_bytes());
        // A queue that is not there has size 0, which is how the driver knows.
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(24, &queue.size.to_le_bytes());
            put(26, &queue.vector.to_le_bytes());
            put(28, &u16::from(queue.enabled).to_le_bytes());
            put(30, &self.queue_select.to_le_bytes());
            for (at, area) in [32, 40, 48].into_iter().zip(queue.areas) {
                put(at, &area.to_le_bytes());
            }
        }
        bytes
    }

    /// A driver's write. Fields are written whole, 64-bit ones also by halves (section 4.1.3.1); anything else is
    /// ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut value = [0; 8];
        let Some(room) = value.get_mut(..data.len()) else { return Effect::None };
        room.copy_from_slice(data);
        let value = u64::from_le_bytes(value);
        match (offset, data.len()) {
            (0, 4) => self.device_select = value as u32,
            (8, 4) => self.driver_select = value as u32,
            (12, 4) => self.accept(value as u32),
            (16, 2) => {
                self.config_vector = self.vector(value as u16);
                return Effect::ConfigVector;
            }
            (20, 1) => return self.set_status(value as u8),
            (22, 2) => self.queue_select = value as u16,
            (24..56, _) => self.write_queue(offset, data.len(), value),
            _ => {}
        }
        Effect::None
    }

    fn accept(&mut self, value: u32) {
        if self.status & FEATURES_OK == 0 {
            match self.driver_select {
                0 => self.accepted = self.accepted & !0xffff_ffff | u64::from(value),
                1 => self.accepted = self.accepted & 0xffff_ffff | u64::from(value) << 32,
                _ => {}
            }
        }
    }

    fn vector(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { NO_VECTOR }
    }

    fn set_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            self.reset();
            return Effect::Reset;
        }
        let mut added = value & !self.status & !NEEDS_RESET;
        if added & FEATURES_OK != 0 && !self.acceptable() {
            added &= !FEATURES_OK;
        }
        // A driver that goes on without FEATURES_OK has not understood; it stays where it is (section 3.1.1).
        if added & DRIVER_OK != 0 && (self.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        self.status |= added;
        if added & DRIVER_OK != 0 { Effect::Start } else { Effect::None }
    }

    fn acceptable(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & F_VERSION_1 != 0
    }

    fn write_queue(&mut self, offset: u64, len: usize, value: u64) {
        let index = usize::from(self.queue_select);
        let (running, vector) = (self.running(), self.vector(value as u16));
        let (Some(queue), Some(max)) = (self.queues.get_mut(index), self.max_sizes.get(index)) else { return };
        // A queue in use does not change under the device (section 4.1.4.3.2).
        if running || queue.enabled {
            return;
        }
        match (offset, len) {
            (24, 2) => {
                let size = value as u16;
                if size.is_power_of_two() && size <= *max {
                    queue.size = size;
                }
            }
            (26, 2) => queue.vector = vector,
            (28, 2) => queue.enabled = value == 1,
            (32 | 40 | 48, 8) => queue.areas[((offset - 32) / 8) as usize] = value,
            (32 | 36 | 40 | 44 | 48 | 52, 4) => {
                let area = &mut queue.areas[((offset - 32) / 8) as usize];
                *area = if offset.is_multiple_of(8) {
                    *area & !0xffff_ffff | value
                } else {
                    *area & 0xffff_ffff | value << 32
                };
            }
            _ => {}
        }
    }
}

fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chip() -> CommonConfig {
        CommonConfig::new(2, &[128, 256], 3)
    }

    fn read(chip: &CommonConfig, at: usize, len: usize) -> u64 {
        let mut value = [0; 8];
        value[..len].copy_from_slice(&chip.bytes()[at..at + len]);
        u64::from_le_bytes(value)
    }

    fn negotiate(chip: &mut CommonConfig, features: u64) -> u8 {
        chip.write(20, &[1]);
        chip.write(20, &[3]);
        for half in [0u32, 1] {
            chip.write(8, &half.to_le_bytes());
            chip.write(12, &((features >> (32 * half)) as u32).to_le_bytes());
        }
        chip.write(20, &[11]);
        read(chip, 20, 1) as u8
    }

    #[test]
    fn the_driver_reads_features_by_halves() {
        let mut chip = chip();
        assert_eq!(read(&chip, 4, 4), 2 | F_EVENT_IDX | F_INDIRECT_DESC);
        chip.write(0, &1u32.to_le_bytes());
        assert_eq!(read(&chip, 4, 4), F_VERSION_1 >> 32);
        chip.write(0, &2u32.to_le_bytes());
        assert_eq!(read(&chip, 4, 4), 0);
    }

    #[test]
    fn features_that_were_not_offered_are_refused() {
        assert_eq!(negotiate(&mut chip(), F_VERSION_1 | 2), 11);
        assert_eq!(negotiate(&mut chip(), F_VERSION_1 | 4), 3);
        assert_eq!(negotiate(&mut chip(), 2), 3, "and so is a legacy driver");
        let mut chip = chip();
        negotiate(&mut chip, 2);
        assert_eq!(chip.write(20, &[15]), Effect::None, "no start without FEATURES_OK");
        assert!(!chip.running());
    }

    #[test]
    fn a_queue_is_set_up_then_fixed() {
        let mut chip = chip();
        negotiate(&mut chip, F_VERSION_1);
        chip.write(22, &1u16.to_le_bytes());
        assert_eq!((read(&chip, 24, 2), read(&chip, 30, 2)), (256, 1));
        for size in [0u16, 3, 512, 0x8000] {
            chip.write(24, &size.to_le_bytes());
            assert_eq!(read(&chip, 24, 2), 256, "{size}");
        }
        chip.write(24, &64u16.to_le_bytes());
        chip.write(26, &2u16.to_le_bytes());
        chip.write(32, &0x1_0000_2000u64.to_le_bytes());
        chip.write(40, &0x3000u32.to_le_bytes());
        chip.write(44, &1u32.to_le_bytes());
        chip.write(48, &0x4000u32.to_le_bytes());
        chip.write(28, &1u16.to_le_bytes());
        let setup = QueueSetup { size: 64, vector: 2, enabled: true, areas: [0x1_0000_2000, 0x1_0000_3000, 0x4000] };
        assert_eq!(chip.queues()[1], setup);
        chip.write(24, &32u16.to_le_bytes());
        chip.write(28, &0u16.to_le_bytes());
        assert_eq!(chip.queues()[1], setup);
        assert_eq!(chip.write(20, &[15]), Effect::Start);
        assert_eq!(chip.write(20, &[15]), Effect::None, "only once");
        chip.write(22, &0u16.to_le_bytes());
        chip.write(28, &1u16.to_le_bytes());
        assert!(!chip.queues()[0].enabled, "too late");
    }

    #[test]
    fn reset_forgets_everything() {
        let mut chip = chip();
        negotiate(&mut chip, F_VERSION_1);
        chip.write(16, &1u16.to_le_bytes());
        chip.write(28, &1u16.to_le_bytes());
        assert_eq!(chip.write(20, &[0]), Effect::Reset);
        assert_eq!(chip.bytes(), self::chip().bytes());
        assert_eq!(negotiate(&mut chip, F_VERSION_1), 11, "and it can be set up again");
    }

    #[test]
    fn hostile_values_change_nothing_they_should_not() {
        let mut chip = chip();
        chip.write(26, &3u16.to_le_bytes());
        assert_eq!(chip.queues()[0].vector, NO_VECTOR, "no such vector");
        chip.write(22, &2u16.to_le_bytes());
        assert_eq!(read(&chip, 24, 2), 0, "no such queue");
        let before = chip.bytes();
        for offset in [4, 18, 21, 23, 30, 33, 55, 56, 4095, u64::MAX] {
            for len in [0, 1, 2, 3, 4, 8, 9, 64] {
                if (offset, len) != (22, 2) {
                    assert_eq!(chip.write(offset, &[0xff; 64][..len]), Effect::None);
                }
            }
        }
        assert_eq!(chip.bytes(), before);
    }
}
