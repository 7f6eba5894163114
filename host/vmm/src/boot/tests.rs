use super::*;
use crate::memory::Ram;

const RAM: u64 = 8 * MIB;

fn ram() -> Ram {
    Ram::new(&[RamRange { base: 0, len: RAM }]).unwrap()
}

/// An ELF file of one segment and, if wanted, a note.
fn kernel(address: u64, memory_size: u64, note: Option<&[u8]>) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([0; 8]);
    file.extend(64u64.to_le_bytes());
    file.extend([0; 12]);
    file.extend([64, 0, 56, 0, 1 + u8::from(note.is_some()), 0, 64, 0, 0, 0, 0, 0]);
    let data = 64 + 2 * 56;
    let mut header = |kind: u32, offset: u64, address: u64, file_size: u64, memory_size: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        for word in [offset, address, address, file_size, memory_size, 4] {
            file.extend(word.to_le_bytes());
        }
    };
    let note = note.map(|desc| {
        let mut note = Vec::new();
        for word in [4, desc.len() as u32, 18] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"Xen\0");
        note.extend(desc);
        note
    });
    header(1, data, address, 4, memory_size);
    if let Some(note) = &note {
        header(4, data + 4, 0, note.len() as u64, 0);
    } else {
        header(0, 0, 0, 0, 0);
    }
    file.extend(b"code");
    file.extend(note.unwrap_or_default());
    file
}

#[test]
fn segments_and_entry_are_found() {
    let ram = ram();
    for note in [&0x10_0004u32.to_le_bytes()[..], &0x10_0004u64.to_le_bytes()] {
        let loaded = load(ram.memory(), RAM, &kernel(MIB, 0x2345, Some(note))).unwrap();
        assert_eq!(loaded, Loaded { entry: 0x10_0004, end: MIB + 0x2345 });
    }
    assert_eq!(ram.memory().read_obj::<[u8; 4]>(GuestAddress(MIB)).unwrap(), *b"code");
}

#[test]
fn bad_kernels_are_refused() {
    let ram = ram();
    let load = |kernel: &[u8]| load(ram.memory(), RAM, kernel).unwrap_err();
    let note = 0u32.to_le_bytes();
    assert!(matches!(load(b""), BootError::Elf(_)));
    assert!(matches!(load(&kernel(MIB, 4, Some(&note))[..100]), BootError::Elf(_)));
    assert!(matches!(load(&kernel(MIB, 4, None)), BootError::NoEntry));
    assert!(matches!(load(&kernel(MIB, 4, Some(&u64::MAX.to_le_bytes()))), BootError::NoEntry));
    for (address, size) in [(0, 4), (MIB, RAM), (RAM, 4), (u64::MAX, 4), (MIB, u64::MAX), (MIB, 3)] {
        let error = load(&kernel(address, size, Some(&note)));
        assert!(matches!(error, BootError::Segment { .. }), "{address:#x} {size:#x}: {error}");
    }
    let mut other = kernel(MIB, 4, Some(&note));
    other[18] = 0xb7;
    assert!(matches!(load(&other), BootError::Machine));
}

#[test]
fn long_command_lines_go_behind_the_kernel() {
    let loaded = Loaded { entry: 0, end: MIB + 5 };
    assert_eq!(place_command_line(10, &loaded, RAM).unwrap(), COMMAND_LINE);
    let room = (LOW_AREA_END - COMMAND_LINE) as usize;
    assert_eq!(place_command_line(room - 1, &loaded, RAM).unwrap(), COMMAND_LINE);
    assert_eq!(place_command_line(room, &loaded, RAM).unwrap(), MIB + 4096);
    let most = (RAM - MIB - 4096) as usize;
    assert_eq!(place_command_line(most - 1, &loaded, RAM).unwrap(), MIB + 4096);
    for len in [most, usize::MAX] {
        assert!(matches!(place_command_line(len, &loaded, RAM), Err(BootError::CommandLine(_))));
    }
}

#[test]
fn the_information_is_where_pvh_says() {
    let ram = ram();
    let ranges = [RamRange { base: 0, len: RAM }, RamRange { base: 4 << 30, len: MIB }];
    write_information(ram.memory(), &ranges, COMMAND_LINE, "a b", None).unwrap();
    let long = |at| ram.memory().read_obj::<u64>(GuestAddress(at)).unwrap();
    assert_eq!(long(START_INFO), 0x1_336e_c578);
    assert_eq!((long(START_INFO + 24), long(START_INFO + 40)), (COMMAND_LINE, MEMORY_MAP));
    assert_eq!(ram.memory().read_obj::<[u8; 4]>(GuestAddress(COMMAND_LINE)).unwrap(), *b"a b\0");
    let map: Vec<_> = (0..long(START_INFO + 48) & 0xffff_ffff)
        .map(|i| MEMORY_MAP + 24 * i)
        .map(|at| (long(at), long(at + 8), long(at + 16)))
        .collect();
    let expected = [(0, LOW_AREA_END, 1), (MIB, RAM - MIB, 1), (4 << 30, MIB, 1), (ECAM, DOORBELLS_END - ECAM, 2)];
    assert_eq!(map, expected);
    assert_eq!(long(START_INFO + 8) >> 32, 0, "no modules");
    let initrd = Initrd { start: 0x20_0000, len: 5000 };
    write_information(ram.memory(), &ranges, COMMAND_LINE, "a b", Some(initrd)).unwrap();
    assert_eq!((long(START_INFO + 8) >> 32, long(START_INFO + 16)), (1, MODULES));
    assert_eq!([0, 8, 16, 24].map(|at| long(MODULES + at)), [0x20_0000, 5000, 0, 0]);
}
