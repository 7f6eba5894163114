//! The kernel's memory functions, run here: every small length, at every place within a word, overlapping or not.

use std::arch::global_asm;

global_asm!(include_str!("../src/arch/x86_64/memory.s"), options(att_syntax));

unsafe extern "C" {
    fn memory_copy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memory_move(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memory_set(to: *mut u8, byte: i32, len: usize) -> *mut u8;
    fn memory_compare(one: *const u8, other: *const u8, len: usize) -> i32;
    fn memory_strlen(string: *const u8) -> usize;
    fn copy_fallible_asm(to: *mut u8, from: *const u8, len: usize) -> usize;
}

const ROOM: usize = 1200;

fn content() -> Vec<u8> {
    (0..ROOM).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain([511, 512, 513, 1000, 1024])
}

#[test]
fn copies_are_whole_and_touch_nothing_else() {
    let from = content();
    for len in lengths() {
        for (start, end) in (0..9).flat_map(|start| [(start, 0), (start, 3), (0, start)]) {
            let mut wanted = vec![0xee; ROOM];
            wanted[start..start + len].copy_from_slice(&from[end..end + len]);
            let (mut to, mut fallible) = (vec![0xee; ROOM], vec![0xee; ROOM]);
            // SAFETY: `start + len` and `end + len` lie below ROOM, the length of all three.
            unsafe {
                let place = to.as_mut_ptr().add(start);
                assert_eq!(memory_copy(place, from.as_ptr().add(end), len), place);
                assert_eq!(copy_fallible_asm(fallible.as_mut_ptr().add(start), from.as_ptr().add(end), len), 0);
            }
            assert!(to == wanted && fallible == wanted, "{len} bytes from {end} to {start}");
        }
    }
}

#[test]
fn moves_may_overlap() {
    for len in lengths() {
        for (from, to) in (0..20).flat_map(|by| [(50, 50 + by), (50 + by, 50), (0, 100 + by), (100 + by, 0)]) {
            let mut wanted = content();
            wanted.copy_within(from..from + len, to);
            let mut moved = content();
            // SAFETY: both ranges lie below ROOM.
            let result = unsafe { memory_move(moved.as_mut_ptr().add(to), moved.as_ptr().add(from), len) };
            assert_eq!(result, moved[to..].as_mut_ptr());
            assert!(moved == wanted, "{len} bytes from {from} to {to}");
        }
    }
}

#[test]
fn filling_takes_the_low_byte() {
    for len in lengths() {
        for start in 0..9 {
            let mut wanted = content();
            wanted[start..start + len].fill(0xa5);
            let mut filled = content();
            // SAFETY: the range lies below ROOM.
            let result = unsafe { memory_set(filled.as_mut_ptr().add(start), 0x77a5, len) };
            assert_eq!(result, filled[start..].as_mut_ptr());
            assert!(filled == wanted, "{len} bytes at {start}");
        }
    }
}

#[test]
fn comparing_finds_the_first_difference() {
    let one = content();
    for len in 0..70 {
        // SAFETY: `len` bytes are there, as below.
        assert_eq!(unsafe { memory_compare(one.as_ptr(), content().as_ptr(), len) }, 0);
        for at in 0..len {
            let mut other = content();
            other[at] ^= 0x80;
            let order = one[at].cmp(&other[at]) as i32;
            // SAFETY: see above.
            let found = unsafe { memory_compare(one.as_ptr(), other.as_ptr(), len) };
            assert_eq!(found.signum(), order, "{len} bytes, byte {at}");
        }
    }
    for len in 0..20 {
        let string = [vec![b'x'; len], vec![0, b'x']].concat();
        // SAFETY: it has a NUL.
        assert_eq!(unsafe { memory_strlen(string.as_ptr()) }, len);
    }
}
