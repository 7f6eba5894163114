//! The content of files that is not compressed, and the way to what is.

use crate::inode::{Layout, NO_BLOCK};
use crate::{Erofs, Error, Feature, Inode, Result};
use alloc::vec;
use alloc::vec::Vec;
use diolkos_images::bytes::{le16, le32};
use diolkos_vfs::FileType;

/// The longest target of a symbolic link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// Where a piece of content is.
enum Piece {
    /// From this byte of the image on.
    At(u64),
    /// It reads as zeros.
    Hole,
}

impl Erofs {
    /// Fills `buffer` with content from byte `offset` on; all of it must lie in the file.
    ///
    /// # Errors
    /// When the image makes no sense there.
    pub fn read(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_with(inode, offset, buffer, false)
    }

    /// As [`Erofs::read`]; with `cached` through the cache of metadata.
    pub(crate) fn read_with(&self, inode: &Inode, offset: u64, buffer: &mut [u8], cached: bool) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > inode.size) {
            return Err(Error::Corrupt("content past the end of a file"));
        }
        if let Layout::Compressed { compact } = inode.layout {
            return self.read_compressed(inode, compact, offset, buffer);
        }
        let mut done = 0;
        while done < buffer.len() {
            let (piece, len) = self.piece(inode, offset + done as u64)?;
            let n = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len() - done);
            let part = &mut buffer[done..done + n];
            match piece {
                Piece::Hole => part.fill(0),
                Piece::At(at) if cached => self.image.metadata(at, part)?,
                Piece::At(at) => self.image.read(at, part)?,
            }
            done += n;
        }
        Ok(())
    }

    /// Where byte `offset` of the content is, and how many bytes follow each other there.
    fn piece(&self, inode: &Inode, offset: u64) -> Result<(Piece, u64)> {
        let left = inode.size - offset;
        match inode.layout {
            Layout::Plain(start) => Ok((Piece::At(sum(start, offset)?), left)),
            Layout::Inline(start) => {
                let tail = (inode.size - 1) >> self.superblock.block_bits << self.superblock.block_bits;
                Ok(match offset.checked_sub(tail) {
                    Some(into) => (Piece::At(sum(inode.body(), into)?), left),
                    None => (Piece::At(sum(start, offset)?), tail - offset),
                })
            }
            Layout::Chunks { bits, indexes } => {
                let (chunk, into) = (offset >> bits, offset & ((1 << bits) - 1));
                let piece = match self.chunk(inode, indexes, chunk)? {
                    NO_BLOCK => Piece::Hole,
                    block => Piece::At(sum(u64::from(block) << self.superblock.block_bits, into)?),
                };
                Ok((piece, left.min((1 << bits) - into)))
            }
            Layout::Compressed { .. } | Layout::Nothing => Err(Error::Corrupt("content where there is none")),
        }
    }

    /// The first block of a chunk.
    fn chunk(&self, inode: &Inode, indexes: bool, number: u64) -> Result<u32> {
        let unit = if indexes { 8 } else { 4 };
        let table = inode.body().next_multiple_of(unit);
        let at = number.checked_mul(unit).and_then(|at| at.checked_add(table)).ok_or(Error::Corrupt("a chunk"))?;
        let mut raw = [0; 8];
        self.image.metadata(at, &mut raw[..unit as usize])?;
        if !indexes {
            return Ok(le32(&raw, 0));
        }
        let block = le32(&raw, 4);
        if le16(&raw, 2) != 0 && block != NO_BLOCK {
            return Err(Error::Unsupported(Feature::Named("further devices (mkfs.erofs --blobdev)")));
        }
        Ok(block)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.file_type() != FileType::Symlink || !(1..TARGET_MAX).contains(&inode.size) {
            return Err(Error::Corrupt("a symbolic link"));
        }
        let mut target = vec![0; inode.size as usize];
        self.read_with(inode, 0, &mut target, true)?;
        if target.contains(&0) { Err(Error::Corrupt("the target of a symbolic link")) } else { Ok(target) }
    }

    /// The first byte at or after `offset` (which lies in the file) that is in a hole, or for `hole` false not in one; the
    /// size of the file if there is none. Only files in chunks have holes that the format shows.
    ///
    /// # Errors
    /// When the image makes no sense there.
    pub fn seek(&self, inode: &Inode, offset: u64, hole: bool) -> Result<u64> {
        let Layout::Chunks { .. } = inode.layout else { return Ok(if hole { inode.size } else { offset }) };
        let mut at = offset;
        while at < inode.size {
            let (piece, len) = self.piece(inode, at)?;
            if matches!(piece, Piece::Hole) == hole {
                break;
            }
            at += len;
        }
        Ok(at)
    }
}

fn sum(start: u64, offset: u64) -> Result<u64> {
    start.checked_add(offset).ok_or(Error::Corrupt("an address past every end"))
}
