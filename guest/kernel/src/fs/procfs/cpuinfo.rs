//! `/proc/cpuinfo` from the processor's own description (cpuid). Pure: the instruction is a parameter.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// eax, ebx, ecx and edx of a leaf.
pub type Leaf = [u32; 4];

/// A feature word: the leaf and subleaf, which register, and Linux' names of its bits (`""`: not shown).
struct Word {
    leaf: (u32, u32),
    register: usize,
    names: [&'static str; 32],
}

const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Linux' names (arch/x86/include/asm/cpufeatures.h), in the order it shows the words in.
const WORDS: [Word; 6] = [
    Word {
        leaf: (1, 0),
        register: EDX,
        names: [
            "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca",
            "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm",
            "ia64", "pbe",
        ],
    },
    Word {
        leaf: (0x8000_0001, 0),
        register: EDX,
        names: [
            "", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "", "mp", "nx", "",
            "mmxext", "", "", "fxsr_opt", "pdpe1gb", "rdtscp", "", "lm", "3dnowext", "3dnow",
        ],
    },
    Word {
        leaf: (1, 0),
        register: ECX,
        names: [
            "pni",
            "pclmulqdq",
            "dtes64",
            "monitor",
            "ds_cpl",
            "vmx",
            "smx",
            "est",
            "tm2",
            "ssse3",
            "cid",
            "sdbg",
            "fma",
            "cx16",
            "xtpr",
            "pdcm",
            "",
            "pcid",
            "dca",
            "sse4_1",
            "sse4_2",
            "x2apic",
            "movbe",
            "popcnt",
            "tsc_deadline_timer",
            "aes",
            "xsave",
            "",
            "avx",
            "f16c",
            "rdrand",
            "hypervisor",
        ],
    },
    Word {
        leaf: (0x8000_0001, 0),
        register: ECX,
        names: [
            "lahf_lm",
            "cmp_legacy",
            "svm",
            "extapic",
            "cr8_legacy",
            "abm",
            "sse4a",
            "misalignsse",
            "3dnowprefetch",
            "osvw",
            "ibs",
            "xop",
            "skinit",
            "wdt",
            "",
            "lwp",
            "fma4",
            "tce",
            "",
            "nodeid_msr",
            "",
            "tbm",
            "topoext",
            "perfctr_core",
            "perfctr_nb",
            "",
            "bpext",
            "ptsc",
            "perfctr_llc",
            "mwaitx",
            "",
            "",
        ],
    },
    Word {
        leaf: (7, 0),
        register: EBX,
        names: [
            "fsgsbase",
            "tsc_adjust",
            "sgx",
            "bmi1",
            "hle",
            "avx2",
            "",
            "smep",
            "bmi2",
            "erms",
            "invpcid",
            "rtm",
            "cqm",
            "",
            "mpx",
            "rdt_a",
            "avx512f",
            "avx512dq",
            "rdseed",
            "adx",
            "smap",
            "avx512ifma",
            "",
            "clflushopt",
            "clwb",
            "intel_pt",
            "avx512pf",
            "avx512er",
            "avx512cd",
            "sha_ni",
            "avx512bw",
            "avx512vl",
        ],
    },
    Word {
        leaf: (7, 0),
        register: ECX,
        names: [
            "",
            "avx512vbmi",
            "umip",
            "pku",
            "ospke",
            "waitpkg",
            "avx512_vbmi2",
            "",
            "gfni",
            "vaes",
            "vpclmulqdq",
            "avx512_vnni",
            "avx512_bitalg",
            "tme",
            "avx512_vpopcntdq",
            "",
            "la57",
            "",
            "",
            "",
            "",
            "",
            "rdpid",
            "",
            "bus_lock_detect",
            "cldemote",
            "",
            "movdiri",
            "movdir64b",
            "enqcmd",
            "sgx_lc",
            "",
        ],
    },
];

fn text_of(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).trim_matches(|c| c == '\0' || c == ' ').into()
}

/// The text, for `cpus` processors that run at `khz` and describe themselves by `cpuid(leaf, subleaf)`.
pub fn cpuinfo(cpus: usize, khz: u64, cpuid: impl Fn(u32, u32) -> Leaf) -> String {
    let [highest, b, c, d] = cpuid(0, 0);
    let highest_extended = cpuid(0x8000_0000, 0)[0];
    let has = |leaf: u32| if leaf >= 0x8000_0000 { leaf <= highest_extended } else { leaf <= highest };
    let ask = |leaf: u32, sub: u32| if has(leaf) { cpuid(leaf, sub) } else { [0; 4] };
    let signature = ask(1, 0)[0];
    let base_family = signature >> 8 & 0xf;
    let family = if base_family == 0xf { base_family + (signature >> 20 & 0xff) } else { base_family };
    let model = if base_family >= 6 { signature >> 12 & 0xf0 | signature >> 4 & 0xf } else { signature >> 4 & 0xf };
    let brand: Vec<u32> = (0x8000_0002..=0x8000_0004).flat_map(|leaf| ask(leaf, 0)).collect();
    let clflush = (ask(1, 0)[EBX] >> 8 & 0xff) * 8;
    let sizes = ask(0x8000_0008, 0)[0];
    let mut flags = String::new();
    for word in &WORDS {
        let bits = ask(word.leaf.0, word.leaf.1)[word.register];
        for (bit, name) in word.names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if bits >> bit & 1 != 0 {
                let _ = write!(flags, " {name}");
            }
        }
    }
    let mut text = String::new();
    for cpu in 0..cpus {
        let _ = write!(
            text,
            "processor\t: {cpu}\nvendor_id\t: {}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {}\n\
             stepping\t: {}\ncpu MHz\t\t: {}.{:03}\nphysical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {cpu}\n\
             cpu cores\t: {cpus}\napicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\n\
             cpuid level\t: {highest}\nwp\t\t: yes\nflags\t\t:{flags}\nbogomips\t: {}.{:02}\nclflush size\t: {clflush}\n\
             cache_alignment\t: {clflush}\naddress sizes\t: {} bits physical, {} bits virtual\npower management:\n\n",
            text_of(&[b, d, c]),
            text_of(&brand),
            signature & 0xf,
            khz / 1000,
            khz % 1000,
            khz / 500,
            khz / 5 % 100,
            sizes & 0xff,
            sizes >> 8 & 0xff,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An invented processor: family 25, model 17, stepping 1.
    fn fake(leaf: u32, _sub: u32) -> Leaf {
        let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
        match leaf {
            0 => [7, word(b"Auth"), word(b"cAMD"), word(b"enti")],
            1 => [0x00a1_0f11, 8 << 8, 1 << 28 | 1, 1 | 1 << 4],
            7 => [0, 1 << 5, 0, 0],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            0x8000_0001 => [0, 0, 1, 1 << 29],
            0x8000_0002 => [word(b"AMD "), word(b"EPYC"), 0, 0],
            0x8000_0008 => [0x3030, 0, 0, 0],
            _ => [0; 4],
        }
    }

    #[test]
    fn a_processor_is_described_as_linux_does() {
        let text = cpuinfo(2, 2_596_144, fake);
        let value = |key: &str| {
            text.lines().find_map(|line| line.split_once(':').filter(|(k, _)| k.trim() == key)).unwrap().1.trim()
        };
        assert_eq!(value("vendor_id"), "AuthenticAMD");
        assert_eq!((value("cpu family"), value("model"), value("stepping")), ("25", "17", "1"));
        assert_eq!(value("model name"), "AMD EPYC");
        assert_eq!(value("flags"), "fpu tsc lm pni avx lahf_lm avx2");
        assert_eq!((value("cpu MHz"), value("bogomips")), ("2596.144", "5192.28"));
        assert_eq!(value("address sizes"), "48 bits physical, 48 bits virtual");
        assert_eq!(value("clflush size"), "64");
        assert_eq!(text.matches("processor\t: ").count(), 2);
    }

    #[test]
    fn leaves_that_are_not_there_are_not_asked() {
        let text = cpuinfo(1, 0, |leaf, _| match leaf {
            0 => [1, 0, 0, 0],
            1 => [0, 0, 0, 1],
            0x8000_0000 => [0; 4],
            other => panic!("leaf {other:#x} does not exist"),
        });
        assert!(text.contains("flags\t\t: fpu\n"));
    }
}
