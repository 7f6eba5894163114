//! What a block device says of itself (`struct virtio_blk_config`, section 5.2.4).

use super::{MAX_SEGMENTS, SECTOR, feature};
use crate::{Device, Error, Features, Hal};

/// What a device can discard, or make zero, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// Sectors in a request at most, at least 1.
    pub most: u32,
    /// Ranges should begin at a multiple of so many sectors.
    pub align: u32,
}

/// A device's facts, made sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Sectors of 512 bytes; their bytes can be counted in 64 bits.
    pub sectors: u64,
    /// Nothing can be written.
    pub read_only: bool,
    /// The size in bytes of the blocks it likes to work in, a power of two from 512 on.
    pub block_size: u32,
    /// It keeps writes to itself until it is told to flush.
    pub flush: bool,
    /// Discarding, if it can.
    pub discard: Option<Ranges>,
    /// Writing zeroes, if it can.
    pub write_zeroes: Option<Ranges>,
    /// Bytes in one buffer of a request at most, a multiple of 512.
    pub segment_bytes: u32,
    /// Buffers in a request at most, at least 1.
    pub segments: u32,
    /// Queues it has, at least 1.
    pub queues: u16,
}

impl Info {
    pub(super) fn read<H: Hal>(device: &Device<H>, features: Features) -> Result<Self, Error> {
        let has = |feature| features.contains(feature);
        let word = |wanted, at: usize| if has(wanted) { device.config32(at).map(Some) } else { Ok(None) };
        let sectors = u64::from(device.config32(0)?) | u64::from(device.config32(4)?) << 32;
        let ranges = |wanted, most: usize, align: Option<usize>| -> Result<Option<Ranges>, Error> {
            let Some(most @ 1..) = word(wanted, most)? else { return Ok(None) };
            let align = align.map_or(Ok(1), |at| device.config32(at))?.max(1);
            Ok(Some(Ranges { most, align }))
        };
        // A field of 16 bits in the upper half of its word.
        let queues = word(feature::MQ, 32)?.map_or(1, |word| (word >> 16) as u16);
        let block_size = word(feature::BLK_SIZE, 20)?.filter(|size| size.is_power_of_two() && *size >= SECTOR as u32);
        let segment_bytes = word(feature::SIZE_MAX, 8)?.unwrap_or(u32::MAX) / SECTOR as u32 * SECTOR as u32;
        Ok(Self {
            sectors: sectors.min(u64::MAX / SECTOR),
            read_only: has(feature::RO),
            block_size: block_size.unwrap_or(SECTOR as u32),
            flush: has(feature::FLUSH),
            discard: ranges(feature::DISCARD, 36, Some(44))?,
            write_zeroes: ranges(feature::WRITE_ZEROES, 48, None)?,
            segment_bytes: segment_bytes.max(SECTOR as u32),
            segments: word(feature::SEG_MAX, 12)?.unwrap_or(1).clamp(1, MAX_SEGMENTS),
            queues: queues.max(1),
        })
    }
}
