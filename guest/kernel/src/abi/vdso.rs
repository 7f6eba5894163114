//! The vDSO: a small shared object the kernel puts into every program, so that reading the clock costs no system call.
//!
//! It is made here, at boot, from code that the kernel's own assembler produced and from tables written out by hand,
//! so the build needs no second linker. In memory it is two pages: [`Clock`], which only the kernel writes, and right
//! above it the ELF image, whose code finds the clock by its distance. Names and version are those of Linux (vdso(7)).

use alloc::vec;
use alloc::vec::Vec;
use core::arch::global_asm;

/// Bytes of each of the two pages.
pub const PAGE: usize = 4096;

/// Where the code begins in the image.
const TEXT: usize = 0x600;

/// The first page: how the time stamp counter becomes nanoseconds, `(tsc - base) * mult >> 32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Counter value at monotonic zero.
    pub base: u64,
    /// Nanoseconds per tick, times 2^32.
    pub mult: u64,
    /// Wall clock at monotonic zero, in nanoseconds.
    pub wall_base_ns: u64,
}

impl Clock {
    /// The page's first bytes.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (slot, word) in bytes.chunks_exact_mut(8).zip([self.base, self.mult, self.wall_base_ns]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

// The code refers to nothing but itself and the clock page, which lies TEXT + PAGE bytes before it once the image is
// in place. It may use rax, rcx, rdx, rsi, rdi, r8 to r11 (System V ABI). What it cannot answer it asks the kernel.
// Clocks are served by their numbers (time.h): REALTIME 0, MONOTONIC 1, MONOTONIC_RAW 4, REALTIME_COARSE 5,
// MONOTONIC_COARSE 6, BOOTTIME 7, TAI 11; of these 0, 5 and 11 are wall clocks.
global_asm!(
    ".pushsection .rodata.vdso,\"a\"",
    ".balign 16",
    ".globl diolkos_vdso_text, diolkos_vdso_end, diolkos_vdso_clock_gettime, diolkos_vdso_clock_getres",
    ".globl diolkos_vdso_gettimeofday, diolkos_vdso_time, diolkos_vdso_getcpu",
    "diolkos_vdso_text:",
    ".set clock_base, diolkos_vdso_text - {distance}",
    ".set clock_mult, clock_base + 8",
    ".set clock_wall, clock_base + 16",
    // rax = monotonic nanoseconds; changes rdx.
    "now:",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, [rip + clock_base]",
    "mul qword ptr [rip + clock_mult]",
    "shrd rax, rdx, 32",
    "ret",
    ".balign 16",
    "diolkos_vdso_clock_gettime:",
    "cmp edi, 12",
    "jae 2f",
    "mov eax, 0x8f3",
    "bt eax, edi",
    "jnc 2f",
    "call now",
    "mov ecx, 0x821",
    "bt ecx, edi",
    "jnc 1f",
    "add rax, [rip + clock_wall]",
    "1:",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "2:",
    "mov eax, 228",
    "syscall",
    "ret",
    ".balign 16",
    "diolkos_vdso_gettimeofday:",
    "test rdi, rdi",
    "jz 1f",
    "call now",
    "add rax, [rip + clock_wall]",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rdi], rax",
    "mov eax, edx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div ecx",
    "mov [rdi + 8], rax",
    "1:",
    "test rsi, rsi",
    "jz 2f",
    "mov qword ptr [rsi], 0",
    "2:",
    "xor eax, eax",
    "ret",
    ".balign 16",
    "diolkos_vdso_time:",
    "call now",
    "add rax, [rip + clock_wall]",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "test rdi, rdi",
    "jz 1f",
    "mov [rdi], rax",
    "1:",
    "ret",
    ".balign 16",
    "diolkos_vdso_clock_getres:",
    "mov eax, 229",
    "syscall",
    "ret",
    ".balign 16",
    // Which processor this is only the kernel knows for sure: ring 3 has no register for it that every host virtualises.
    "diolkos_vdso_getcpu:",
    "mov eax, 309",
    "syscall",
    "ret",
    "diolkos_vdso_end:",
    ".popsection",
    distance = const TEXT + PAGE,
);

unsafe extern "C" {
    static diolkos_vdso_text: [u8; 0];
    static diolkos_vdso_end: [u8; 0];
    static diolkos_vdso_clock_gettime: [u8; 0];
    static diolkos_vdso_gettimeofday: [u8; 0];
    static diolkos_vdso_time: [u8; 0];
    static diolkos_vdso_clock_getres: [u8; 0];
    static diolkos_vdso_getcpu: [u8; 0];
}

const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

/// The functions and their offsets in the code.
fn symbols() -> [(&'static str, usize); 5] {
    let offset = |label: *const [u8; 0]| label as usize - (&raw const diolkos_vdso_text) as usize;
    [
        ("__vdso_clock_gettime", offset(&raw const diolkos_vdso_clock_gettime)),
        ("__vdso_gettimeofday", offset(&raw const diolkos_vdso_gettimeofday)),
        ("__vdso_time", offset(&raw const diolkos_vdso_time)),
        ("__vdso_clock_getres", offset(&raw const diolkos_vdso_clock_getres)),
        ("__vdso_getcpu", offset(&raw const diolkos_vdso_getcpu)),
    ]
}

/// The hash of symbol and version names (System V ABI, "Hash Table").
fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, byte| {
        let h = (h << 4).wrapping_add(byte as u32);
        let high = h & 0xf000_0000;
        (h ^ high >> 24) & !high
    })
}

/// A section being laid down: bytes and where they begin.
struct Layout {
    image: Vec<u8>,
    at: usize,
}

impl Layout {
    fn put(&mut self, align: usize, bytes: &[u8]) -> u64 {
        let start = self.at.next_multiple_of(align);
        self.at = start + bytes.len();
        assert!(self.at <= TEXT, "the tables run into the code");
        self.image[start..self.at].copy_from_slice(bytes);
        start as u64
    }
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Makes the image, one page, to be mapped for reading and executing right above the page with the [`Clock`].
pub fn image() -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    let mut layout = Layout { image: vec![0; PAGE], at: HEADERS };
    let symbols = symbols();

    let mut strings = vec![0u8];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.as_bytes());
        strings.push(0);
        at
    };
    let (soname, version) = (name(SONAME), name(VERSION));
    let mut table = vec![0u8; 24];
    for (symbol, offset) in symbols {
        // st_name; STB_GLOBAL, STT_FUNC; STV_DEFAULT; any section index but SHN_UNDEF; value; size.
        table.extend(name(symbol).to_le_bytes());
        table.extend([0x12, 0, 1, 0]);
        table.extend(words64(&[(TEXT + offset) as u64, 16]));
    }
    let strsz = strings.len() as u64;
    let strtab = layout.put(1, &strings);
    let symtab = layout.put(8, &table);
    // One bucket: the chain runs through all symbols.
    let count = symbols.len() as u32 + 1;
    let mut chains = vec![1, count, 1, 0];
    chains.extend((2..count).chain([0]));
    let hash_table = layout.put(8, &words32(&chains));
    // Version 1 is the object's own name (the base), version 2 is LINUX_2.6 and every symbol's.
    let versym: Vec<u8> = [0u16].into_iter().chain(symbols.map(|_| 2)).flat_map(u16::to_le_bytes).collect();
    let versym = layout.put(2, &versym);
    let verdef = layout.put(8, &[verdef(1, 1, SONAME, soname, false), verdef(0, 2, VERSION, version, true)].concat());

    const DT: [u64; 11] = [14, 4, 5, 6, 10, 11, 0x6fff_fff0, 0x6fff_fffc, 0x6fff_fffd, 0, 0];
    let values = [soname as u64, hash_table, strtab, symtab, strsz, 24, versym, verdef, 2, 0, 0];
    let pairs: Vec<u64> = DT.into_iter().zip(values).flat_map(|(tag, value)| [tag, value]).collect();
    let dynamic = layout.put(8, &words64(&pairs[..20]));

    let mut image = layout.image;
    let (start, end) = (&raw const diolkos_vdso_text, &raw const diolkos_vdso_end);
    let len = end as usize - start as usize;
    // SAFETY: the two labels bound bytes that the assembler laid down in read-only data.
    let code = unsafe { core::slice::from_raw_parts(start.cast::<u8>(), len) };
    image[TEXT..TEXT + len].copy_from_slice(code);
    headers(&mut image, (TEXT + len) as u64, dynamic);
    image
}

/// A version definition with its one name (`Elf64_Verdef`, `Elf64_Verdaux`).
fn verdef(flags: u16, index: u16, name: &str, name_at: u32, last: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = [1u16, flags, index, 1].into_iter().flat_map(u16::to_le_bytes).collect();
    bytes.extend(words32(&[hash(name), 20, if last { 0 } else { 28 }, name_at, 0]));
    bytes
}

/// The file header and the two program headers: everything readable and executable, and the dynamic section.
fn headers(image: &mut [u8], len: u64, dynamic: u64) {
    const ET_DYN: u16 = 3;
    const EM_X86_64: u16 = 62;
    const DYNAMIC_LEN: u64 = 160;
    image[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    image[16..18].copy_from_slice(&ET_DYN.to_le_bytes());
    image[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
    image[20] = 1;
    image[32..40].copy_from_slice(&64u64.to_le_bytes());
    // e_ehsize, e_phentsize, e_phnum; no sections.
    for (at, half) in [(52, 64u16), (54, 56), (56, 2), (58, 64)] {
        image[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    let load = [words32(&[1, 5]), words64(&[0, 0, 0, len, len, 4096])].concat();
    let dynamic = [words32(&[2, 4]), words64(&[dynamic, dynamic, dynamic, DYNAMIC_LEN, DYNAMIC_LEN, 8])].concat();
    image[64..176].copy_from_slice(&[load, dynamic].concat());
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::x86_64::_rdtsc;
    use elf::ElfBytes;
    use elf::endian::LittleEndian;
    use syscalls::{Sysno, syscall};

    /// Finds a symbol by the path glibc and musl take: program headers, dynamic section, hash chain, version.
    fn resolve(image: &[u8], wanted: &str) -> Option<u64> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(image).unwrap();
        let load = file.segments().unwrap().iter().find(|p| p.p_type == 1).unwrap();
        assert_eq!((load.p_vaddr, load.p_offset, load.p_flags), (0, 0, 5));
        let dynamic: Vec<_> = file.dynamic().unwrap().unwrap().iter().collect();
        let value = |tag: i64| dynamic.iter().find(|d| d.d_tag == tag).unwrap().d_val() as usize;
        assert!(dynamic.iter().any(|d| d.d_tag == 0), "DT_NULL ends it");
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_le_bytes(image[at..at + 2].try_into().unwrap());
        let text = |at: u32| {
            let tail = &image[value(5) + at as usize..value(5) + value(10)];
            core::str::from_utf8(tail.split(|b| *b == 0).next().unwrap()).unwrap()
        };
        // The version's index, by hash and name.
        let mut def = value(0x6fff_fffc);
        let index = loop {
            if word(def + 8) == hash("LINUX_2.6") && text(word(def + word(def + 12) as usize)) == "LINUX_2.6" {
                break half(def + 4);
            }
            match word(def + 16) {
                0 => return None,
                next => def += next as usize,
            }
        };
        let table = value(4);
        let mut symbol = word(table + 8 + 4 * (hash(wanted) % word(table)) as usize);
        while symbol != 0 {
            assert!(symbol < word(table + 4), "the chain leaves the table");
            let at = value(6) + symbol as usize * value(11);
            if text(word(at)) == wanted && half(value(0x6fff_fff0) + 2 * symbol as usize) == index {
                assert_eq!((image[at + 4], half(at + 6) != 0), (0x12, true));
                return Some(u64::from_le_bytes(image[at + 8..at + 16].try_into().unwrap()));
            }
            symbol = word(table + 8 + 4 * word(table) as usize + 4 * symbol as usize);
        }
        None
    }

    #[test]
    fn the_version_hash_is_the_one_programs_hard_code() {
        assert_eq!(hash("LINUX_2.6"), 0x03ae_75f6);
    }

    #[test]
    fn every_function_is_found_and_no_other() {
        let image = image();
        for (name, offset) in symbols() {
            assert_eq!(resolve(&image, name), Some((TEXT + offset) as u64));
        }
        assert_eq!(resolve(&image, "__vdso_missing"), None);
    }

    /// Maps the two pages as the kernel does, here on the host, and calls what is in them.
    #[test]
    fn the_code_runs_and_tells_the_time() {
        let clock =
            Clock { base: unsafe_now() - 5_000_000_000, mult: 1 << 32, wall_base_ns: 1_700_000_000_123_456_789 };
        let pages = map(&clock);
        let address = |name| pages + PAGE + resolve(&image(), name).unwrap() as usize;
        // SAFETY: the addresses are functions of these types, in executable memory that stays mapped.
        let (clock_gettime, gettimeofday, time, getcpu) = unsafe {
            (
                core::mem::transmute::<usize, extern "C" fn(i32, *mut [i64; 2]) -> i64>(address(
                    "__vdso_clock_gettime",
                )),
                core::mem::transmute::<usize, extern "C" fn(*mut [i64; 2], *mut [i32; 2]) -> i64>(address(
                    "__vdso_gettimeofday",
                )),
                core::mem::transmute::<usize, extern "C" fn(*mut i64) -> i64>(address("__vdso_time")),
                core::mem::transmute::<usize, extern "C" fn(*mut u32, *mut u32) -> i64>(address("__vdso_getcpu")),
            )
        };
        let expected = |wall: bool| unsafe_now() - clock.base + if wall { clock.wall_base_ns } else { 0 };
        for (id, wall) in [(0, true), (1, false), (4, false), (5, true), (6, false), (7, false), (11, true)] {
            let mut ts = [-1; 2];
            let before = expected(wall);
            assert_eq!(clock_gettime(id, &mut ts), 0);
            let ns = ts[0] as u64 * 1_000_000_000 + ts[1] as u64;
            assert!(
                (0..1_000_000_000).contains(&ts[1]) && (before..=expected(wall)).contains(&ns),
                "clock {id}: {ts:?}"
            );
        }
        // The thread's processor time is none of ours: the kernel (here the host's) answers.
        let mut ts = [-1; 2];
        assert_eq!((clock_gettime(3, &mut ts), ts[0]), (0, 0));
        assert_eq!(clock_gettime(99, &mut ts), -22);
        let (mut tv, mut tz) = ([-1; 2], [-1; 2]);
        assert_eq!(gettimeofday(&mut tv, &mut tz), 0);
        let us = expected(true) / 1000 - (tv[0] as u64 * 1_000_000 + tv[1] as u64);
        assert!(us < 1_000_000 && tz == [0, 0] && (0..1_000_000).contains(&tv[1]));
        assert_eq!(gettimeofday(core::ptr::null_mut(), core::ptr::null_mut()), 0);
        let mut seconds = 0;
        assert_eq!((time(&mut seconds), time(core::ptr::null_mut())), (seconds, seconds));
        assert_eq!(seconds, tv[0]);
        let mut cpu = u32::MAX;
        assert_eq!((getcpu(&mut cpu, core::ptr::null_mut()), cpu < 4096), (0, true));
    }

    fn unsafe_now() -> u64 {
        // SAFETY: rdtsc reads a counter.
        unsafe { _rdtsc() }
    }

    fn map(clock: &Clock) -> usize {
        const RW: usize = 3;
        const RX: usize = 5;
        // SAFETY: a new private mapping, written before it is made executable, and left mapped.
        unsafe {
            let pages = syscall!(Sysno::mmap, 0, 2 * PAGE, RW, 0x22, usize::MAX, 0).unwrap();
            let bytes = clock.to_bytes();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), pages as *mut u8, bytes.len());
            core::ptr::copy_nonoverlapping(image().as_ptr(), (pages + PAGE) as *mut u8, PAGE);
            syscall!(Sysno::mprotect, pages + PAGE, PAGE, RX).unwrap();
            pages
        }
    }
}
