//! Where a `syscall` instruction can become a jump to code of ours, and the code it jumps to.
//!
//! `syscall` has two bytes; a jump that reaches anything has five. There are two ways to find three more:
//!
//! * *The number before it.* `mov $number,%eax` has just five bytes and stands before most of them. The jump replaces it, and
//!   the `syscall` stays where it is, for whoever gets there another way. Compilers that write the call in place put some of
//!   the arguments between the two. What goes over the jump is done in our code then: those instructions, as they are.
//! * *A gap after it.* Compilers fill the room between two functions with instructions that nobody gets to. The five bytes
//!   find room there, and a short jump to them takes the place of the `syscall`.
//!
//! In both, nothing but the replaced instruction changes for a thread that stands before, after or between, wherever it is
//! when the bytes change. Both need to know where instructions begin, which bytes alone do not tell: it is known of the
//! address that the call returns to, and of what follows padding up to a function's alignment.
//!
//! Nothing goes through the program's stack: the 128 bytes below it are the program's (System V ABI, section 3.2.2), and a
//! `syscall` leaves them alone.

use yaxpeax_arch::{Decoder, LengthedInstruction, U8Reader};
use yaxpeax_x86::amd64::{InstDecoder, Opcode, Operand, register_class};

/// A page of code; jumps do not reach over its ends.
pub type Page = [u8; 4096];

/// Bytes of `syscall`.
pub const SYSCALL_LEN: usize = 2;
/// Bytes of a jump to anywhere within 2 GiB, and of `mov $number,%eax`.
pub const JUMP_LEN: usize = 5;
/// Bytes of a [`stub`].
pub const STUB_LEN: usize = 64;
/// Most bytes of the program's own code in a stub: what [`stub`] adds has its place, too.
const MOST_TAKEN: usize = STUB_LEN - 24;

/// Functions begin at multiples of this.
const ALIGNMENT: usize = 16;
/// How far a short jump reaches, from its end.
const SHORT_REACH: usize = 127;

/// What is to be written into the page of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Offset of the jump to the stub.
    pub jump: usize,
    /// Offset of a short jump to that one, if it does not stand before the call.
    pub short: Option<usize>,
}

/// Finds a way for the `syscall` at offset `at`, which was just made with this number.
pub fn find(page: &Page, at: usize, number: u64) -> Option<Site> {
    if page.get(at..at + SYSCALL_LEN)? != [0x0f, 0x05] {
        return None;
    }
    if let Some(jump) = number_before(page, at, number) {
        return Some(Site { jump, short: None });
    }
    gap_after(page, at + SYSCALL_LEN).map(|jump| Site { jump, short: Some(at) })
}

impl Site {
    /// The program's code that the jump goes over, for the `syscall` at offset `at`: the stub begins with it.
    pub fn taken(self, page: &Page, at: usize) -> &[u8] {
        if self.short.is_some() { &[] } else { &page[self.jump..at] }
    }
}

/// The code behind a site: does what the jump went over, notes where to go on as `syscall` does, and goes to `entry`.
///
/// # Panics
/// With more code than [`find`] lets a jump go over.
pub fn stub(taken: &[u8], back: u64, entry: u64) -> [u8; STUB_LEN] {
    // int3: nobody gets there.
    let mut code = [0xcc; STUB_LEN];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        code[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(taken);
    put(&[0x48, 0xb9]); // movabs $back, %rcx
    put(&back.to_le_bytes());
    put(&[0xff, 0x25, 0, 0, 0, 0]); // jmp *(next)
    put(&entry.to_le_bytes());
    code
}

/// A jump at `from` to `to`, if it reaches so far.
pub fn jump(from: u64, to: u64) -> Option<[u8; JUMP_LEN]> {
    let distance = i32::try_from((to as i64).checked_sub(from as i64)? - JUMP_LEN as i64).ok()?;
    let [a, b, c, d] = distance.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// A short jump at offset `from` to offset `to`, which [`find`] has seen to be near.
pub fn short_jump(from: usize, to: usize) -> [u8; SYSCALL_LEN] {
    [0xeb, (to as i64 - (from + SYSCALL_LEN) as i64) as i8 as u8]
}

/// An instruction's length and, of what matters, its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    len: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Fills room.
    Filler,
    /// What follows it is got to from elsewhere or not at all.
    End,
    /// Does the same wherever it stands.
    Movable,
    Other,
}

/// The instruction at an offset; `None` for what is none, or does not end in the page.
fn decode(page: &Page, at: usize) -> Option<Instruction> {
    let bytes = page.get(at..)?;
    if *bytes.first()? == 0xcc {
        return Some(Instruction { len: 1, kind: Kind::Filler });
    }
    let found = InstDecoder::default().decode(&mut U8Reader::new(bytes)).ok()?;
    let kind = match found.opcode() {
        Opcode::NOP => Kind::Filler,
        Opcode::RETURN | Opcode::JMP | Opcode::UD2 | Opcode::HLT => Kind::End,
        // xchg %ax,%ax
        Opcode::XCHG if bytes.starts_with(&[0x66, 0x90]) => Kind::Filler,
        // What loads arguments. There are others that could be moved.
        Opcode::MOV | Opcode::LEA | Opcode::XOR | Opcode::MOVZX | Opcode::MOVSX | Opcode::MOVSXD
            if (0..found.operand_count()).all(|number| is_anywhere(found.operand(number))) =>
        {
            Kind::Movable
        }
        _ => Kind::Other,
    };
    Some(Instruction { len: usize::try_from(found.len().to_const()).ok()?, kind })
}

/// Whether an operand is the same wherever the instruction stands: not an address told by its distance.
fn is_anywhere(operand: Operand) -> bool {
    match operand {
        Operand::Register { .. }
        | Operand::ImmediateI8 { .. }
        | Operand::ImmediateU8 { .. }
        | Operand::ImmediateI32 { .. }
        | Operand::ImmediateU32 { .. }
        | Operand::ImmediateI64 { .. }
        | Operand::ImmediateU64 { .. } => true,
        Operand::MemDeref { base }
        | Operand::Disp { base, .. }
        | Operand::MemBaseIndexScale { base, .. }
        | Operand::MemBaseIndexScaleDisp { base, .. } => {
            base.class() != register_class::RIP && base.class() != register_class::EIP
        }
        _ => false,
    }
}

/// The offset of a `mov $number,%eax` from which only instructions lead to `at` that do the same anywhere.
fn number_before(page: &Page, at: usize, number: u64) -> Option<usize> {
    let low = at.saturating_sub(MOST_TAKEN);
    let loads = |from: &usize| {
        let number_there = page[from + 1..from + JUMP_LEN].try_into().map(u32::from_le_bytes);
        page[*from] == 0xb8 && number_there.is_ok_and(|there| u64::from(there) == number)
    };
    let from = (low..=at.checked_sub(JUMP_LEN)?).rev().filter(loads).find(|from| {
        let mut here = from + JUMP_LEN;
        while here < at
            && let Some(Instruction { len, kind: Kind::Movable }) = decode(page, here)
        {
            here += len;
        }
        here == at
    })?;
    // The same bytes may be the end of a longer instruction: they are not if instructions from a known one on end there.
    let start = (0..=from).rev().find(|start| follows_filler(page, *start))?;
    let mut here = start;
    while here < from {
        here += decode(page, here)?.len;
    }
    (here == from).then_some(from)
}

/// Whether functions may begin at an offset, and what stands before it fills room.
fn follows_filler(page: &Page, at: usize) -> bool {
    at.is_multiple_of(ALIGNMENT)
        && (2..ALIGNMENT).any(|len| {
            let Some(mut here) = at.checked_sub(len) else { return false };
            while here < at {
                match decode(page, here) {
                    Some(Instruction { len, kind: Kind::Filler }) => here += len,
                    _ => return false,
                }
            }
            here == at
        })
}

/// The offset of room for a jump, within reach of a short jump that ends at `from`, where an instruction begins.
fn gap_after(page: &Page, from: usize) -> Option<usize> {
    let mut here = from;
    // Where the filler that is being gone over began, and whether anybody gets to it.
    let mut gap = None;
    let mut ended = false;
    while here <= from + SHORT_REACH {
        let found = decode(page, here)?;
        match found.kind {
            Kind::Filler if ended => {
                let start = *gap.get_or_insert(here);
                let end = here + found.len;
                if end.is_multiple_of(ALIGNMENT) && end - start >= JUMP_LEN && start - from <= SHORT_REACH {
                    return Some(start);
                }
            }
            kind => {
                ended = kind == Kind::End;
                gap = None;
            }
        }
        here += found.len;
    }
    None
}

#[cfg(test)]
mod tests;
