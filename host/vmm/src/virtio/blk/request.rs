//! Requests (section 5.2.6): what a chain asks for, checked, and the byte that answers it.

use super::disk::{Disk, DiskError};
use super::segments::Segments;
use super::{DISCARD_MAX, RANGES_MAX, SECTOR, ZEROES_MAX};
use crate::virtio::ring::Chain;
use vm_memory::GuestMemoryMmap;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// `struct virtio_blk_req` up to its data: type, a reserved word, the first sector.
const HEADER: usize = 16;
/// `struct virtio_blk_discard_write_zeroes`: the first sector, how many, flags.
const RANGE: usize = 16;
/// The one flag: the range of a write-zeroes request may be given back.
const UNMAP: u32 = 1;
/// Bytes of the answer to `GET_ID`.
pub const ID_LEN: usize = 20;

/// The status byte.
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A request, whose memory is all RAM and that has a place for the answer.
pub struct Request<'m> {
    kind: u32,
    sector: u64,
    /// What the device reads.
    input: Segments<'m>,
    /// What it writes.
    output: Segments<'m>,
    status: Segments<'m>,
}

impl<'m> Request<'m> {
    /// Reads the chain's header.
    ///
    /// # Errors
    /// The chain has no header or no room for a status, or its memory is not what was agreed on: there is nowhere to say so.
    pub fn parse(memory: &'m GuestMemoryMmap, chain: Chain<'_>) -> Result<Self, &'static str> {
        let (mut input, mut output) = (Segments::default(), Segments::default());
        for descriptor in chain {
            let to = if descriptor.is_write_only() { &mut output } else { &mut input };
            to.add(memory, descriptor.addr(), descriptor.len())?;
        }
        let header: [u8; HEADER] = input.first().ok_or("a request without a header")?;
        let input = input.split_off(HEADER);
        let data = output.len().checked_sub(1).ok_or("a request without room for a status")?;
        let status = output.split_off(data);
        let (kind, sector) = (word(&header, 0), u64::from(word(&header, 8)) | u64::from(word(&header, 12)) << 32);
        Ok(Self { kind, sector, input, output, status })
    }

    /// Does it, answers, and returns how many bytes were written to the chain.
    pub fn serve(self, disk: &Disk, write_through: bool) -> u32 {
        let (status, written) = match self.perform(disk, write_through) {
            Ok(written) => (OK, written),
            Err(DiskError::Unsupported) => (UNSUPPORTED, 0),
            Err(error) => {
                tracing::debug!("disk '{}': request {}: {error}", disk.name(), self.kind);
                (IOERR, 0)
            }
        };
        // The status comes behind the data, so all of that counts as written (section 2.7.8.2), and is.
        self.output.zero_from(written);
        self.status.fill(&[status]);
        self.output.len() as u32 + 1
    }

    fn perform(&self, disk: &Disk, write_through: bool) -> Result<usize, DiskError> {
        match self.kind {
            IN => {
                let at = place(disk, self.sector, self.output.len() as u64)?;
                disk.read(at, &self.output)?;
                return Ok(self.output.len());
            }
            GET_ID => return Ok(self.output.fill(&disk.id())),
            OUT => {
                let at = place(disk, self.sector, self.input.len() as u64)?;
                disk.write(at, &self.input)?;
            }
            FLUSH => return disk.flush().map(|()| 0),
            DISCARD => self.each_range(disk, DISCARD_MAX, |at, len, flags| match flags {
                0 => disk.discard(at, len),
                _ => Err(DiskError::Unsupported),
            })?,
            WRITE_ZEROES => self.each_range(disk, ZEROES_MAX, |at, len, flags| match flags {
                0 | UNMAP => disk.write_zeroes(at, len, flags == UNMAP),
                _ => Err(DiskError::Unsupported),
            })?,
            _ => return Err(DiskError::Unsupported),
        }
        if write_through {
            disk.flush()?;
        }
        Ok(0)
    }

    /// Calls `act` with place, length and flags of each range in the request's data.
    fn each_range(
        &self,
        disk: &Disk,
        most: u32,
        mut act: impl FnMut(u64, u64, u32) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        const ALL: usize = RANGES_MAX as usize * RANGE;
        if self.input.len() > ALL || !self.input.len().is_multiple_of(RANGE) || self.input.len() == 0 {
            return Err(DiskError::Malformed("not a list of ranges"));
        }
        let mut bytes = [0; ALL];
        let mut done = 0;
        for piece in self.input.pieces() {
            done += piece.copy_to(&mut bytes[done..]);
        }
        for range in bytes[..done].chunks_exact(RANGE) {
            let first = u64::from(word(range, 0)) | u64::from(word(range, 4)) << 32;
            let (sectors, flags) = (word(range, 8), word(range, 12));
            if sectors > most {
                return Err(DiskError::Malformed("a range longer than was agreed on"));
            }
            let len = u64::from(sectors) * SECTOR;
            let at = place(disk, first, len)?;
            if len > 0 {
                act(at, len, flags)?;
            }
        }
        Ok(())
    }
}

/// The offset of a sector, if it and `len` bytes from it on, a whole number of sectors, lie on the disk.
fn place(disk: &Disk, sector: u64, len: u64) -> Result<u64, DiskError> {
    let outside = DiskError::Malformed("sectors that the disk does not have");
    if !len.is_multiple_of(SECTOR) {
        return Err(DiskError::Malformed("a part of a sector"));
    }
    match sector.checked_add(len / SECTOR) {
        Some(end) if end <= disk.sectors() => Ok(sector * SECTOR),
        _ => Err(outside),
    }
}

/// The 32 bits at `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
