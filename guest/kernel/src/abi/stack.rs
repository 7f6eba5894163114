//! The stack a program starts with: argument count, arguments, environment, auxiliary vector, and their strings.
//!
//! The layout is the one of Linux' `create_elf_tables` (fs/binfmt_elf.c), from high to low: eight zero bytes, the name of the
//! file executed, the environment's and the arguments' strings, the platform's name, sixteen random bytes, then, aligned
//! to 16, the vectors, with `argc` where the stack pointer points.

use alloc::vec::Vec;

/// Longest single argument or environment entry with its NUL (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_STRING: usize = 32 * 4096;

/// Most bytes of strings and pointers together: a quarter of the default stack of 8 MiB (execve(2)).
pub const MAX_TOTAL: usize = 2 << 20;

/// What is put on the stack.
pub struct Contents<'a> {
    /// Arguments.
    pub args: &'a [Vec<u8>],
    /// Environment.
    pub env: &'a [Vec<u8>],
    /// Path of the file executed (`AT_EXECFN`).
    pub execfn: &'a [u8],
    /// Sixteen random bytes (`AT_RANDOM`).
    pub random: [u8; 16],
    /// The auxiliary vector without `AT_PLATFORM`, `AT_EXECFN`, `AT_RANDOM` and the final `AT_NULL`.
    pub auxv: &'a [(u64, u64)],
}

/// The finished stack.
#[derive(Debug)]
pub struct Stack {
    /// The stack pointer to start with, a multiple of 16.
    pub pointer: u64,
    /// The bytes from the pointer up to the top.
    pub bytes: Vec<u8>,
    /// The whole auxiliary vector, for `/proc/self/auxv`.
    pub auxv: Vec<(u64, u64)>,
    /// Where the argument strings begin and end, and the environment's.
    pub arg_range: (u64, u64),
    /// As above.
    pub env_range: (u64, u64),
}

const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const PLATFORM: &[u8] = b"x86_64";

/// Whether arguments and environment keep the limits; where they do not, execve fails with `E2BIG`.
pub fn fits(args: &[Vec<u8>], env: &[Vec<u8>]) -> bool {
    let mut total = 0usize;
    args.iter().chain(env).all(|string| {
        total = total.saturating_add(string.len() + 1 + size_of::<u64>());
        string.len() < MAX_STRING && total <= MAX_TOTAL
    })
}

/// Lays the stack out below `top`, a multiple of 16. The caller has checked [`fits`] and that `top` leaves room for it.
pub fn build(top: u64, contents: &Contents<'_>) -> Stack {
    // Strings are laid down from the top; `at` is the address of the lowest so far.
    let mut strings: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut at = top - 8;
    let mut push = |string: &[u8], nul: bool| {
        let mut bytes = string.to_vec();
        bytes.extend(nul.then_some(0));
        at -= bytes.len() as u64;
        strings.push((at, bytes));
        at
    };
    let execfn = push(contents.execfn, true);
    let env_end = execfn;
    let env: Vec<u64> = contents.env.iter().rev().map(|s| push(s, true)).collect();
    let env_start = env.last().copied().unwrap_or(env_end);
    let args: Vec<u64> = contents.args.iter().rev().map(|s| push(s, true)).collect();
    let args_start = args.last().copied().unwrap_or(env_start);
    let platform = push(PLATFORM, true);
    let random = push(&contents.random, false);

    let mut auxv = contents.auxv.to_vec();
    auxv.extend([(AT_RANDOM, random), (AT_EXECFN, execfn), (AT_PLATFORM, platform), (AT_NULL, 0)]);
    let mut words = Vec::with_capacity(args.len() + env.len() + auxv.len() * 2 + 3);
    words.push(contents.args.len() as u64);
    words.extend(args.iter().rev().chain(&[0]));
    words.extend(env.iter().rev().chain(&[0]));
    words.extend(auxv.iter().flat_map(|&(key, value)| [key, value]));

    let pointer = (at - words.len() as u64 * 8) & !15;
    let mut bytes = alloc::vec![0; (top - pointer) as usize];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(&words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    for (address, string) in &strings {
        let from = (address - pointer) as usize;
        bytes[from..from + string.len()].copy_from_slice(string);
    }
    Stack { pointer, bytes, auxv, arg_range: (args_start, env_start), env_range: (env_start, env_end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u64 = 0x57ff_ffff_f000;

    fn strings(list: &[&str]) -> Vec<Vec<u8>> {
        list.iter().map(|s| s.as_bytes().to_vec()).collect()
    }

    fn word(stack: &Stack, index: usize) -> u64 {
        u64::from_le_bytes(stack.bytes[index * 8..][..8].try_into().unwrap())
    }

    fn string(stack: &Stack, address: u64) -> &[u8] {
        let tail = &stack.bytes[(address - stack.pointer) as usize..];
        &tail[..tail.iter().position(|b| *b == 0).unwrap()]
    }

    fn check(args: &[Vec<u8>], env: &[Vec<u8>]) {
        let aux = [(6, 4096), (17, 100)];
        let contents = Contents { args, env, execfn: b"/bin/prog", random: [7; 16], auxv: &aux };
        let stack = build(TOP, &contents);
        assert_eq!(stack.pointer % 16, 0);
        assert_eq!(stack.pointer + stack.bytes.len() as u64, TOP);
        assert_eq!(word(&stack, 0), args.len() as u64);
        for (i, arg) in args.iter().enumerate() {
            assert_eq!(string(&stack, word(&stack, 1 + i)), arg);
        }
        assert_eq!(word(&stack, 1 + args.len()), 0);
        let base = 2 + args.len();
        for (i, entry) in env.iter().enumerate() {
            assert_eq!(string(&stack, word(&stack, base + i)), entry);
        }
        assert_eq!(word(&stack, base + env.len()), 0);
        let mut at = base + env.len() + 1;
        let mut found = Vec::new();
        while word(&stack, at) != 0 {
            found.push((word(&stack, at), word(&stack, at + 1)));
            at += 2;
        }
        assert_eq!(found, stack.auxv[..stack.auxv.len() - 1]);
        let value = |key| found.iter().find(|(k, _)| *k == key).unwrap().1;
        assert_eq!(string(&stack, value(AT_EXECFN)), b"/bin/prog");
        assert_eq!(string(&stack, value(AT_PLATFORM)), b"x86_64");
        let random = (value(AT_RANDOM) - stack.pointer) as usize;
        assert_eq!(stack.bytes[random..random + 16], [7; 16]);
        assert!(random >= (at + 2) * 8, "the random bytes overlap the vectors");
        let length = |list: &[Vec<u8>]| list.iter().map(|s| s.len() as u64 + 1).sum::<u64>();
        assert_eq!(stack.arg_range.1 - stack.arg_range.0, length(args));
        assert_eq!(stack.env_range.1 - stack.env_range.0, length(env));
    }

    #[test]
    fn everything_is_found_where_the_program_looks() {
        check(&strings(&["prog", "-l", ""]), &strings(&["A=b", "TERM=x"]));
        check(&strings(&["prog"]), &[]);
        check(&[], &[]);
        for n in 0..16 {
            check(&[alloc::vec![b'x'; n]], &strings(&["Y=1"]));
        }
    }

    #[test]
    fn limits_are_linux_limits() {
        assert!(fits(&[alloc::vec![b'x'; MAX_STRING - 1]], &[]));
        assert!(!fits(&[alloc::vec![b'x'; MAX_STRING]], &[]));
        assert!(!fits(&alloc::vec![alloc::vec![b'x'; MAX_STRING - 1]; 17], &[]));
        assert!(!fits(&[], &alloc::vec![Vec::new(); MAX_TOTAL / 9 + 1]));
    }
}
