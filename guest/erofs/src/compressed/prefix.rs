//! LZ4 blocks of which only the beginning is wanted, or whose content is in pieces.
//!
//! Old images (`mkfs.erofs -Elegacy-compress`) have compressed data at the beginning of its cluster and do not tell where
//! it ends; nor does the block have to end where the extent does. Decoders of whole blocks, as `lz4_flex` has, take what
//! follows for a part of the block. They also want all content in one piece, of which extents can be too long. The format: `lz4_Block_format.md` of the LZ4 project.

use crate::pieces::Pieces;

/// The shortest match.
const MATCH_MIN: usize = 4;

/// Fills `output` with the first bytes of what `input` begins with; `None` if that is no LZ4 block or too short a one.
pub(super) fn decompress(input: &[u8], output: &mut Pieces) -> Option<()> {
    let (mut at, mut made) = (0, 0);
    while made < output.len() {
        let token = *input.get(at)?;
        let (literals, start) = length(input, at + 1, token >> 4)?;
        let n = literals.min(output.len() - made);
        output.copy_from(made, input.get(start..start + n)?);
        made += n;
        at = start + literals;
        if made == output.len() {
            break;
        }
        let distance = usize::from(u16::from_le_bytes(input.get(at..at + 2)?.try_into().ok()?));
        let (matched, next) = length(input, at + 2, token & 15)?;
        let n = (matched + MATCH_MIN).min(output.len() - made);
        // A match may reach into itself.
        let from = made.checked_sub(distance).filter(|_| distance > 0)?;
        output.repeat(from, made, n);
        made += n;
        at = next;
    }
    Some(())
}

/// A length, whose beginning stands in a token and the rest from byte `at` on, and where it ends. It is at most 255 times
/// as long as the input.
fn length(input: &[u8], mut at: usize, nibble: u8) -> Option<(usize, usize)> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = *input.get(at)?;
            at += 1;
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some((length, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn beginning(input: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut output = Pieces::zeros(len).unwrap();
        decompress(input, &mut output)?;
        let mut bytes = vec![0; len];
        output.copy_to(0, &mut bytes);
        Some(bytes)
    }

    #[test]
    fn any_beginning_is_had_whatever_follows() {
        let content: Vec<u8> = (0..5000u32).map(|i| (i * i / 3000) as u8).collect();
        let block = lz4_flex::block::compress(&content);
        for len in [0, 1, 14, 15, 16, 270, 4999, 5000] {
            let read = beginning(&[&block[..], &[0xff; 100]].concat(), len);
            assert_eq!(read.as_deref(), Some(&content[..len]));
        }
        assert_eq!(beginning(&block[..block.len() - 1], 5000), None);
        assert_eq!(beginning(&[], 1), None);
        assert_eq!(beginning(&[0x10, b'a', 0, 0], 9), None, "a distance of nothing");
        assert_eq!(beginning(&[0x10, b'a', 2, 0], 9), None, "a distance past the beginning");
    }
}
