//! A request's memory: pieces of the guest's RAM, checked once.
//!
//! The protocol does not say how a request is cut into descriptors (section 2.7.4.3), so pieces can be cut off at any byte.

use super::{SEG_MAX, SIZE_MAX};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, VolatileSlice};

/// Descriptors of a request: its data's, the header's and the status'.
const MOST: usize = SEG_MAX as usize + 2;

/// Pieces of RAM, in order. Whoever has them may read and write them; nobody ever forms a reference to what is in them.
#[derive(Debug, Default)]
pub struct Segments<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Segments<'m> {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pieces.
    pub fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// Adds a descriptor's memory.
    ///
    /// # Errors
    /// It is longer than a descriptor may be, one too many, or not all in RAM.
    pub fn add(&mut self, memory: &'m GuestMemoryMmap, at: GuestAddress, len: u32) -> Result<(), &'static str> {
        if len > SIZE_MAX || self.pieces.len() >= MOST {
            return Err("a request of more memory than was agreed on");
        }
        // Two regions that touch give two pieces.
        for slice in memory.get_slices(at, len as usize) {
            let slice = slice.map_err(|_| "a descriptor that points outside of RAM")?;
            self.len += slice.len();
            self.pieces.push(slice);
        }
        Ok(())
    }

    /// Cuts off what is behind the first `at` bytes; if there are no more than that, nothing.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut rest = Self::default();
        let mut before = 0;
        for piece in std::mem::take(&mut self.pieces) {
            let here = at.saturating_sub(before).min(piece.len());
            before += piece.len();
            let (front, back) = piece.split_at(here).expect("no more than the piece's length");
            for (half, to) in [(front, &mut self.pieces), (back, &mut rest.pieces)] {
                if !half.is_empty() {
                    to.push(half);
                }
            }
        }
        rest.len = self.len.saturating_sub(at);
        self.len -= rest.len;
        rest
    }

    /// Copies the first `N` bytes out, if there are as many.
    pub fn first<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.copy_to(&mut bytes[done..]);
        }
        (done == N).then_some(bytes)
    }

    /// Copies bytes in, as many as fit, and returns how many.
    pub fn fill(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            let now = piece.len().min(bytes.len() - done);
            piece.copy_from(&bytes[done..done + now]);
            done += now;
        }
        done
    }

    /// Makes everything from byte `at` on zero.
    pub fn zero_from(&self, at: usize) {
        const ZEROES: [u8; 512] = [0; 512];
        let mut before = 0;
        for piece in &self.pieces {
            let mut from = at.saturating_sub(before).min(piece.len());
            before += piece.len();
            while from < piece.len() {
                let rest = piece.offset(from).expect("an offset in the piece");
                rest.copy_from(&ZEROES[..rest.len().min(ZEROES.len())]);
                from += ZEROES.len();
            }
        }
    }
}
