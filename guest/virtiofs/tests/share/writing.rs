//! Writing, appending and cutting files.

use super::*;

#[test]
fn files_are_made_written_and_read_back() {
    for window in [0, 4 * CHUNK] {
        let rig = Setup { window, ..Setup::default() }.build();
        let root = rig.mount.root();
        let (node, file) = root.create(name("f"), 0o640, OpenFlags::RDWR).unwrap();
        assert_eq!(rig.path("f").metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(errno(root.create(name("f"), 0o640, OpenFlags::RDWR)), Errno::EEXIST);
        let content = pattern(3 << 20);
        assert_eq!(write(&file, 0, &content).unwrap(), content.len());
        assert_eq!(rig.count("fuse.WRITE"), 3);
        assert_eq!(node.metadata().unwrap().size, content.len() as u64);
        assert!(read(&file, 0, content.len() + 1).unwrap() == content);
        assert_eq!(write(&file, 100, b"overwritten").unwrap(), 11);
        assert_eq!(read(&file, 98, 15).unwrap()[2..13], *b"overwritten");
        assert_eq!(write(&file, content.len() as u64 + 10, b"gap").unwrap(), 3);
        assert_eq!(read(&file, content.len() as u64, 100).unwrap(), b"\0\0\0\0\0\0\0\0\0\0gap");
        assert_eq!(write(&file, 0, b"").unwrap(), 0);
        file.fsync(false).unwrap();
        file.flush().unwrap();
        let host = std::fs::read(rig.path("f")).unwrap();
        assert!(
            host.len() == content.len() + 13
                && host[100..111] == *b"overwritten"
                && host[111..][..1000] == content[111..1111]
        );
        if window > 0 {
            assert_eq!(
                rig.tally(Tally::WindowWritten),
                11,
                "what does not grow the file and is mapped needs no message"
            );
        }
    }
}

#[test]
fn appending_finds_the_end_wherever_it_is() {
    let rig = Setup::default().build();
    let path = rig.put("log", b"1");
    let file = rig.open("log", OpenFlags::WRONLY | OpenFlags::APPEND).unwrap();
    let mut source = diolkos_vfs::SliceSource::new(b"22");
    assert_eq!(file.append(&mut source).unwrap(), (2, 3));
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"host").unwrap();
    assert_eq!(file.append(&mut diolkos_vfs::SliceSource::new(b"33")).unwrap(), (2, 9));
    assert_eq!(std::fs::read(&path).unwrap(), b"122host33");
    // fcntl(2) may take O_APPEND away, and pwritev2(2) may append to any file.
    assert_eq!(write(&file, 0, b"A").unwrap(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), b"A22host33");
    let plain = rig.open("log", OpenFlags::WRONLY).unwrap();
    assert_eq!(plain.append(&mut diolkos_vfs::SliceSource::new(b"44")).unwrap(), (2, 11));
    assert_eq!(write(&plain, 1, b"B").unwrap(), 1);
    assert_eq!(std::fs::read(path).unwrap(), b"AB2host3344");
    assert_eq!(errno(read(&file, 0, 1)), Errno::EBADF);
}

#[test]
fn truncation_by_the_guest_reaches_the_host_and_the_window() {
    let rig = Setup::default().build();
    let content = pattern(2 * CHUNK + 5);
    rig.put("f", &content);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    assert!(read(&file, 0, content.len()).unwrap() == content);
    let run = file.map(0, Access::Read).unwrap().unwrap();
    drop(run);
    let change = SetMetadata { size: Some(10), ..SetMetadata::default() };
    assert_eq!(file.inode().set_metadata(&change).unwrap().size, 10);
    assert_eq!(*rig.machine.revoked.lock().unwrap(), [(PHYS, CHUNK as u64)], "the page past the end must fault");
    assert_eq!(rig.mapper.as_ref().unwrap().mapped.lock().unwrap().len(), CHUNK / 4096, "the first chunk");
    assert!(read(&file, 0, 100).unwrap() == content[..10]);
    drop(rig.open("f", OpenFlags::RDWR | OpenFlags::TRUNC).unwrap());
    assert_eq!(rig.path("f").metadata().unwrap().len(), 0);
    assert_eq!(read(&file, 0, 100).unwrap(), b"");
    assert!(rig.mapper.as_ref().unwrap().mapped.lock().unwrap().is_empty());
}
