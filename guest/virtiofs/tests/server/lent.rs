//! Memory that was lent to a message, as a transport in this process uses it.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use diolkos_virtiofs::Lent;

/// What is to be sent.
pub fn sent(lent: Lent<'_>) -> Vec<u8> {
    let Lent::Sent(pieces) = lent else { return Vec::new() };
    // SAFETY: lent memory is mapped, and no test changes it meanwhile.
    pieces
        .iter()
        .flat_map(|piece| unsafe { std::slice::from_raw_parts(piece.as_ptr(), piece.len()) })
        .copied()
        .collect()
}

/// Bytes that fit.
pub fn room(lent: Lent<'_>) -> usize {
    let Lent::Wanted(pieces) = lent else { return 0 };
    pieces.iter().map(|piece| piece.len()).sum()
}

/// Fills it, as far as the bytes go.
pub fn fill(lent: Lent<'_>, mut bytes: &[u8]) {
    let Lent::Wanted(pieces) = lent else { return };
    for piece in pieces {
        let (now, later) = bytes.split_at(piece.len().min(bytes.len()));
        // SAFETY: the piece has room for so many, and nobody else uses it meanwhile.
        unsafe { piece.as_ptr().as_ptr().copy_from_nonoverlapping(now.as_ptr(), now.len()) };
        bytes = later;
    }
}
