//! Bytes in pieces, for what may be longer than a heap has room for in one: the guest's has at most 4 MiB.

use crate::Result;
use alloc::vec::Vec;
use diolkos_images::zeros;

/// Bytes of a piece, but for the last: 1 MiB, more than clusters of a block decompress to.
const PIECE: usize = 1 << 20;

/// Bytes in pieces.
pub(crate) struct Pieces {
    pieces: Vec<Vec<u8>>,
    len: usize,
}

impl Pieces {
    /// `len` bytes, which are zeros.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let starts = (0..len).step_by(PIECE);
        Ok(Self { pieces: starts.map(|start| zeros(PIECE.min(len - start))).collect::<Result<_>>()?, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All bytes, if they are one piece.
    pub(crate) fn as_one(&mut self) -> Option<&mut [u8]> {
        if let [piece] = &mut self.pieces[..] { Some(piece) } else { None }
    }

    /// Fills `buffer` from byte `from` on. All of it must be there.
    pub(crate) fn copy_to(&self, mut from: usize, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let piece = &self.pieces[from / PIECE][from % PIECE..];
            let (part, rest) = buffer.split_at_mut(piece.len().min(buffer.len()));
            part.copy_from_slice(&piece[..part.len()]);
            (from, buffer) = (from + part.len(), rest);
        }
    }

    /// Puts `bytes` at byte `at`. There must be room for all of them.
    pub(crate) fn copy_from(&mut self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = &mut self.pieces[at / PIECE][at % PIECE..];
            let (part, rest) = bytes.split_at(piece.len().min(bytes.len()));
            piece[..part.len()].copy_from_slice(part);
            (at, bytes) = (at + part.len(), rest);
        }
    }

    /// Copies `len` bytes from byte `from` on to byte `at`, one after the other: those from `at` on may be among them.
    pub(crate) fn repeat(&mut self, from: usize, at: usize, len: usize) {
        for i in 0..len {
            let byte = self.pieces[(from + i) / PIECE][(from + i) % PIECE];
            self.pieces[(at + i) / PIECE][(at + i) % PIECE] = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn pieces_are_one_sequence_of_bytes() {
        let len = 2 * PIECE + 10;
        let mut pieces = Pieces::zeros(len).unwrap();
        let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        pieces.copy_from(0, &content[..PIECE - 3]);
        pieces.copy_from(PIECE - 3, &content[PIECE - 3..]);
        let mut read = vec![0; len - 1];
        pieces.copy_to(1, &mut read);
        assert!(read == content[1..]);
        pieces.repeat(PIECE - 4, PIECE - 2, 6);
        let mut read = [0; 8];
        pieces.copy_to(PIECE - 4, &mut read);
        let [a, b] = [content[PIECE - 4], content[PIECE - 3]];
        assert_eq!(read, [a, b, a, b, a, b, a, b]);
        assert_eq!((pieces.len(), pieces.as_one()), (len, None));
        assert_eq!(Pieces::zeros(PIECE).unwrap().as_one().map(|one| one.len()), Some(PIECE));
        assert_eq!(Pieces::zeros(0).unwrap().len(), 0);
    }
}
