//! What a program file must look like before any of it is mapped.
//!
//! Only 64-bit x86-64 programs are taken: fixed (`ET_EXEC`) or position-independent (`ET_DYN`). Every number in the
//! file is hostile; an [`Image`] holds only what has been checked: segments lie in order below the limit given,
//! do not overlap, lie inside the file, and are aligned so that they can be mapped page by page. Reading and
//! mapping happen elsewhere.

use alloc::vec::Vec;
use core::fmt;
use elf::abi;
use elf::endian::{EndianParse, LittleEndian};
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;

/// Bytes of a 64-bit file header.
pub const HEADER_SIZE: usize = 64;
/// Bytes of a program header.
pub const PHDR_SIZE: usize = 56;
/// Largest program header table (`load_elf_phdrs` in Linux' fs/binfmt_elf.c).
const MAX_TABLE: usize = 65536;
/// Longest interpreter path with its NUL (`PATH_MAX`).
const MAX_INTERPRETER: u64 = 4096;
/// Largest alignment honoured; a larger one is as good as this.
const MAX_ALIGN: u64 = 1 << 30;
const PAGE: u64 = 4096;

/// Why a file is not a program this machine can run. Displayed after the file's name and a colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfError {
    /// It does not begin as an ELF file.
    NotElf,
    /// It is for another processor.
    Foreign(Machine),
    /// It is an ELF file but no program.
    NotProgram,
    /// A field contradicts the rest.
    Corrupt(&'static str),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF program"),
            Self::Foreign(machine) => write!(f, "is for {machine}, this machine runs x86-64"),
            Self::NotProgram => f.write_str("is an ELF file but not a program"),
            Self::Corrupt(what) => write!(f, "is a corrupt ELF file: {what}"),
        }
    }
}

/// The processor an ELF file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    number: u16,
    bits: u8,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.bits) {
            (abi::EM_386, _) => f.write_str("32-bit x86"),
            (abi::EM_X86_64, _) => f.write_str("x32"),
            (abi::EM_ARM, _) => f.write_str("arm"),
            (abi::EM_AARCH64, _) => f.write_str("aarch64"),
            (abi::EM_RISCV, bits) => write!(f, "riscv{bits}"),
            (abi::EM_PPC64, _) => f.write_str("ppc64"),
            (abi::EM_S390, _) => f.write_str("s390x"),
            (abi::EM_MIPS, _) => f.write_str("mips"),
            (number, _) => write!(f, "ELF machine {number}"),
        }
    }
}

/// The checked file header: where the program headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether it may be loaded anywhere (`ET_DYN`).
    pub relocatable: bool,
    /// Offset of the program header table in the file.
    pub table_offset: u64,
    /// Number of program headers, not zero.
    pub table_len: u16,
    entry: u64,
}

impl Header {
    /// Reads a header from the file's first bytes.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn parse(head: &[u8]) -> Result<Self, ElfError> {
        if !head.starts_with(&abi::ELFMAGIC) || head.len() < abi::EI_NIDENT {
            return Err(ElfError::NotElf);
        }
        let short = ElfError::Corrupt("its header is cut short");
        // A big-endian file is for another machine, which only its own byte order can name.
        if head[abi::EI_DATA] == abi::ELFDATA2MSB {
            let number = head.get(18..20).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
            return Err(ElfError::Foreign(Machine { number, bits: 64 }));
        }
        let ident =
            parse_ident::<LittleEndian>(head).map_err(|_| ElfError::Corrupt("its identification is invalid"))?;
        let class = ident.1;
        let file = FileHeader::parse_tail(ident, &head[abi::EI_NIDENT..]).map_err(|_| short)?;
        if class != Class::ELF64 || file.e_machine != abi::EM_X86_64 {
            let bits = if class == Class::ELF64 { 64 } else { 32 };
            return Err(ElfError::Foreign(Machine { number: file.e_machine, bits }));
        }
        let relocatable = match file.e_type {
            abi::ET_EXEC => false,
            abi::ET_DYN => true,
            _ => return Err(ElfError::NotProgram),
        };
        if file.e_phentsize as usize != PHDR_SIZE {
            return Err(ElfError::Corrupt("its program headers have an unknown size"));
        }
        if file.e_phnum == 0 || file.e_phnum as usize * PHDR_SIZE > MAX_TABLE {
            return Err(ElfError::Corrupt("it has no or too many program headers"));
        }
        Ok(Self { relocatable, table_offset: file.e_phoff, table_len: file.e_phnum, entry: file.e_entry })
    }

    /// Bytes of the program header table.
    pub fn table_bytes(&self) -> usize {
        self.table_len as usize * PHDR_SIZE
    }
}

/// A segment to be loaded. `vaddr` is relative to the load bias; `vaddr % 4096 == offset % 4096` where anything comes
/// from the file, `filesz <= memsz`, and neither sum overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// First address.
    pub vaddr: u64,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// Bytes that come from the file.
    pub filesz: u64,
    /// Bytes in memory, not zero; the rest are zeroes.
    pub memsz: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
}

impl Load {
    /// The address after the last byte.
    pub fn end(&self) -> u64 {
        self.vaddr + self.memsz
    }
}

/// A program that may be mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Whether a load bias may be added to all addresses.
    pub relocatable: bool,
    /// Address of the first instruction, inside an executable segment.
    pub entry: u64,
    /// The segments, ascending.
    pub loads: Vec<Load>,
    /// Address of the program headers in memory; `None` when no segment holds them.
    pub phdrs: Option<u64>,
    /// Number of program headers.
    pub phnum: u16,
    /// Offset and length in the file of the interpreter's path with its NUL (2 to 4096 bytes).
    pub interpreter: Option<(u64, usize)>,
    /// Alignment the load bias must have: a power of two, at least a page.
    pub align: u64,
    /// Whether the stack must be executable.
    pub exec_stack: bool,
}

impl Image {
    /// Checks the program headers in `table` against a file of `file_len` bytes. No segment ends above `limit`.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn parse(header: &Header, table: &[u8], file_len: u64, limit: u64) -> Result<Self, ElfError> {
        let mut image = Self {
            relocatable: header.relocatable,
            entry: header.entry,
            loads: Vec::new(),
            phdrs: None,
            phnum: header.table_len,
            interpreter: None,
            align: PAGE,
            exec_stack: false,
        };
        let mut at = 0;
        for _ in 0..header.table_len {
            let phdr = ProgramHeader::parse_at(
                LittleEndian::from_ei_data(abi::ELFDATA2LSB).expect("a constant"),
                Class::ELF64,
                &mut at,
                table,
            )
            .map_err(|_| ElfError::Corrupt("its program headers are cut short"))?;
            match phdr.p_type {
                abi::PT_LOAD => image.add_load(&phdr, file_len, limit)?,
                abi::PT_INTERP if image.interpreter.is_none() => {
                    if !(2..=MAX_INTERPRETER).contains(&phdr.p_filesz) || !inside(&phdr, file_len) {
                        return Err(ElfError::Corrupt("its interpreter's name is too long or outside the file"));
                    }
                    image.interpreter = Some((phdr.p_offset, phdr.p_filesz as usize));
                }
                abi::PT_GNU_STACK => image.exec_stack = phdr.p_flags & abi::PF_X != 0,
                _ => {}
            }
        }
        image.phdrs = image.loads.iter().find_map(|load| {
            let into = header.table_offset.checked_sub(load.offset)?;
            (into.checked_add(header.table_bytes() as u64)? <= load.filesz).then(|| load.vaddr + into)
        });
        if image.loads.is_empty() {
            return Err(ElfError::Corrupt("it has nothing to load"));
        }
        let holds_entry = |load: &Load| load.exec && (load.vaddr..load.end()).contains(&image.entry);
        if !image.loads.iter().any(holds_entry) {
            return Err(ElfError::Corrupt("its entry point is outside its code"));
        }
        Ok(image)
    }

    fn add_load(&mut self, phdr: &ProgramHeader, file_len: u64, limit: u64) -> Result<(), ElfError> {
        if phdr.p_filesz > phdr.p_memsz {
            return Err(ElfError::Corrupt("a segment is larger in the file than in memory"));
        }
        if phdr.p_memsz == 0 {
            return Ok(());
        }
        if phdr.p_vaddr.checked_add(phdr.p_memsz).is_none_or(|end| end > limit) {
            return Err(ElfError::Corrupt("a segment lies outside the address space"));
        }
        if phdr.p_filesz > 0 && !inside(phdr, file_len) {
            return Err(ElfError::Corrupt("a segment reaches past the end of the file"));
        }
        if phdr.p_filesz > 0 && phdr.p_vaddr % PAGE != phdr.p_offset % PAGE {
            return Err(ElfError::Corrupt("a segment is not aligned to pages"));
        }
        if self.loads.last().is_some_and(|last| phdr.p_vaddr < last.end()) {
            return Err(ElfError::Corrupt("its segments overlap or are out of order"));
        }
        // Linux ignores an alignment that is not a power of two.
        if phdr.p_align.is_power_of_two() {
            self.align = self.align.max(phdr.p_align.min(MAX_ALIGN));
        }
        self.loads.push(Load {
            vaddr: phdr.p_vaddr,
            offset: phdr.p_offset,
            filesz: phdr.p_filesz,
            memsz: phdr.p_memsz,
            read: phdr.p_flags & abi::PF_R != 0,
            write: phdr.p_flags & abi::PF_W != 0,
            exec: phdr.p_flags & abi::PF_X != 0,
        });
        Ok(())
    }

    /// The page-aligned range of addresses from the first segment to the end of the last, before any bias.
    pub fn span(&self) -> (u64, u64) {
        let first = self.loads.first().map_or(0, |load| load.vaddr & !(PAGE - 1));
        let last = self.loads.last().map_or(0, Load::end);
        (first, last.next_multiple_of(PAGE))
    }

    /// Where code and data are said to begin and end, before any bias: code from the first executable segment to the end of
    /// the last, data from the start of the highest segment to the end of what files hold (`load_elf_binary` in Linux'
    /// fs/binfmt_elf.c).
    pub fn code_and_data(&self) -> ((u64, u64), (u64, u64)) {
        let end = |load: &Load| load.vaddr + load.filesz;
        let code = || self.loads.iter().filter(|load| load.exec);
        let code = (code().map(|load| load.vaddr).min(), code().map(end).max());
        let data = (self.loads.iter().map(|load| load.vaddr).max(), self.loads.iter().map(end).max());
        let known = |(start, end): (Option<u64>, Option<u64>)| (start.unwrap_or(0), end.unwrap_or(0));
        (known(code), known(data))
    }
}

fn inside(phdr: &ProgramHeader, file_len: u64) -> bool {
    phdr.p_offset.checked_add(phdr.p_filesz).is_some_and(|end| end <= file_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 0x5800_0000_0000;
    const LEN: u64 = 0x10000;

    struct Phdr {
        kind: u32,
        flags: u32,
        offset: u64,
        vaddr: u64,
        filesz: u64,
        memsz: u64,
        align: u64,
    }

    fn load(flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Phdr {
        Phdr { kind: abi::PT_LOAD, flags, offset, vaddr, filesz, memsz, align: PAGE }
    }

    fn good() -> Vec<Phdr> {
        let mut phdrs = vec![load(5, 0, 0x400000, 0x2000, 0x2000), load(6, 0x2010, 0x402010, 0x100, 0x5000)];
        phdrs.push(Phdr {
            kind: abi::PT_INTERP,
            flags: 4,
            offset: 0x200,
            vaddr: 0x400200,
            filesz: 0x1c,
            memsz: 0x1c,
            align: 1,
        });
        phdrs
    }

    fn header(count: u16) -> Vec<u8> {
        let mut head = vec![0u8; HEADER_SIZE];
        head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        head[16..18].copy_from_slice(&abi::ET_EXEC.to_le_bytes());
        head[18..20].copy_from_slice(&abi::EM_X86_64.to_le_bytes());
        head[20] = 1;
        head[24..32].copy_from_slice(&0x400800u64.to_le_bytes());
        head[32..40].copy_from_slice(&64u64.to_le_bytes());
        head[54..56].copy_from_slice(&56u16.to_le_bytes());
        head[56..58].copy_from_slice(&count.to_le_bytes());
        head
    }

    fn table(phdrs: &[Phdr]) -> Vec<u8> {
        let mut table = Vec::new();
        for p in phdrs {
            table.extend(p.kind.to_le_bytes());
            table.extend(p.flags.to_le_bytes());
            for field in [p.offset, p.vaddr, p.vaddr, p.filesz, p.memsz, p.align] {
                table.extend(field.to_le_bytes());
            }
        }
        table
    }

    fn parse(phdrs: &[Phdr]) -> Result<Image, ElfError> {
        let header = Header::parse(&header(phdrs.len() as u16))?;
        Image::parse(&header, &table(phdrs), LEN, LIMIT)
    }

    #[test]
    fn a_good_program_is_understood() {
        let image = parse(&good()).unwrap();
        assert_eq!(image.loads.len(), 2);
        assert_eq!(image.phdrs, Some(0x400040));
        assert_eq!(image.interpreter, Some((0x200, 0x1c)));
        assert_eq!(image.span(), (0x400000, 0x408000));
        assert_eq!(image.code_and_data(), ((0x400000, 0x402000), (0x402010, 0x402110)));
        assert!(!image.relocatable && !image.exec_stack && image.align == PAGE && image.phnum == 3);
    }

    #[test]
    fn the_test_itself_is_a_good_program() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let header = Header::parse(&file[..HEADER_SIZE]).unwrap();
        let at = header.table_offset as usize;
        let image = Image::parse(&header, &file[at..at + header.table_bytes()], file.len() as u64, LIMIT).unwrap();
        let (offset, len) = image.interpreter.unwrap();
        assert!(file[offset as usize..][..len].ends_with(b".so.2\0"));
        assert!(image.relocatable && image.phdrs.is_some());
    }

    /// Each change makes the good program bad, and the message says what is wrong.
    #[test]
    fn corrupt_segments_are_refused() {
        type Change = fn(&mut Vec<Phdr>);
        let table: [(Change, &str); 12] = [
            (|p| p[1].filesz = 0x5001, "larger in the file"),
            (|p| p[1].memsz = u64::MAX, "outside the address space"),
            (|p| p[1].vaddr = LIMIT - 0xff0, "outside the address space"),
            (|p| p[1].offset = u64::MAX - 0xfef, "past the end"),
            (|p| p[0].filesz = LEN + 1, "larger in the file"),
            (|p| (p[0].filesz, p[0].memsz) = (LEN + 1, LEN + 1), "past the end"),
            (|p| p[1].vaddr += 8, "not aligned"),
            (|p| p[1].vaddr = 0x401010, "overlap"),
            (|p| p.swap(0, 1), "overlap"),
            (|p| p[2].filesz = 4097, "interpreter"),
            (|p| p[2].offset = u64::MAX, "interpreter"),
            (|p| p[0].flags = 4, "entry point"),
        ];
        for (i, (change, says)) in table.into_iter().enumerate() {
            let mut phdrs = good();
            change(&mut phdrs);
            let error = std::format!("{}", parse(&phdrs).unwrap_err());
            assert!(error.contains(says), "case {i}: {error}");
        }
        assert!(matches!(parse(&good()[2..]), Err(ElfError::Corrupt("it has nothing to load"))));
    }

    #[test]
    fn corrupt_headers_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut head = header(1);
            change(&mut head);
            std::format!("{}", Header::parse(&head).unwrap_err())
        };
        assert_eq!(refused(&|h| h[0] = b'#'), "not an ELF program");
        assert_eq!(refused(&|h| h.truncate(4)), "not an ELF program");
        assert!(refused(&|h| h.truncate(40)).contains("cut short"));
        assert!(refused(&|h| h[18] = 183).contains("is for aarch64, this machine runs x86-64"));
        assert!(refused(&|h| (h[4], h[18]) = (1, 3)).contains("32-bit x86"));
        assert!(refused(&|h| (h[5], h[18], h[19]) = (2, 0, 22)).contains("s390x"));
        assert!(refused(&|h| h[4] = 9).contains("identification"));
        assert!(refused(&|h| h[16] = 1).contains("not a program"));
        assert!(refused(&|h| h[54] = 55).contains("unknown size"));
        assert!(refused(&|h| h[56] = 0).contains("too many"));
        assert!(refused(&|h| (h[56], h[57]) = (255, 255)).contains("too many"));
    }

    #[test]
    fn a_short_table_and_odd_alignments_do_no_harm() {
        let head = Header::parse(&header(3)).unwrap();
        let cut = table(&good());
        assert!(Image::parse(&head, &cut[..cut.len() - 1], LEN, LIMIT).is_err());
        let mut phdrs = good();
        (phdrs[0].align, phdrs[1].align) = (3, 1 << 40);
        assert_eq!(parse(&phdrs).unwrap().align, MAX_ALIGN);
        phdrs.push(Phdr { kind: abi::PT_GNU_STACK, flags: 7, offset: 0, vaddr: 0, filesz: 0, memsz: 0, align: 16 });
        assert!(parse(&phdrs).unwrap().exec_stack);
    }

    /// Random bytes over a good file never make the parser panic, and what it accepts keeps its promises.
    #[test]
    fn random_damage_is_survived() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut accepted = 0;
        for _ in 0..20_000 {
            let (mut head, mut body) = (header(3), table(&good()));
            for _ in 0..random() % 4 {
                let at = random() as usize % (head.len() + body.len());
                let value = random() as u8;
                if at < head.len() { head[at] = value } else { body[at - HEADER_SIZE] = value }
            }
            let Ok(header) = Header::parse(&head) else { continue };
            let Ok(image) = Image::parse(&header, &body, LEN, LIMIT) else { continue };
            accepted += 1;
            for load in &image.loads {
                assert!(
                    load.end() <= LIMIT && load.filesz <= load.memsz && load.offset.checked_add(load.filesz).is_some()
                );
            }
        }
        assert!(accepted > 100);
    }
}
