//! Reading, by either way, while the host changes the file.

use super::*;
use diolkos_common::cmdline::DaxIo;
use diolkos_vfs::File;

fn read_everything(setup: Setup, size: usize) -> Rig {
    let rig = setup.build();
    let content = pattern(size);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    assert!(read(&file, 0, size + 1000).unwrap() == content);
    for (offset, len) in [(0, 1), (1, 4096), (CHUNK - 3, 7), (size - 5, 5), (size - 5, 100), (CHUNK, CHUNK)] {
        assert!(
            read(&file, offset as u64, len).unwrap() == content[offset..(offset + len).min(size)],
            "{offset} {len}"
        );
    }
    for offset in [size as u64, size as u64 + 1, i64::MAX as u64, u64::MAX] {
        assert_eq!(read(&file, offset, 10).unwrap(), b"", "{offset}");
    }
    assert_eq!(read(&file, 0, 0).unwrap(), b"");
    rig
}

#[test]
fn reading_without_a_window_uses_messages_as_large_as_agreed() {
    let size = 2 * CHUNK + 12345;
    let rig = read_everything(Setup { window: 0, ..Setup::default() }, size);
    assert_eq!(rig.count("fuse.SETUPMAPPING"), 0);
    assert!(rig.count("fuse.READ") < 20, "{} READs", rig.count("fuse.READ"));
    let rig = read_everything(Setup { window: 0, plain: true, ..Setup::default() }, size);
    assert!(rig.count("fuse.READ") > 33, "128 KiB at a time when the server does not offer more");
}

#[test]
fn reading_through_the_window_sends_no_read() {
    for dax in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let rig = read_everything(Setup { dax, ..Setup::default() }, 3 * CHUNK + 123_456);
        assert_eq!(rig.count("fuse.READ"), 0);
        // A scan by its third chunk: the third comes with the second.
        assert_eq!(rig.count("fuse.SETUPMAPPING"), 3);
        assert_eq!((rig.tally(Tally::Mappings), rig.tally(Tally::Ahead)), (4, 1));
        assert!(rig.tally(Tally::Hits) > 0 && rig.tally(Tally::Evictions) == 0);
    }
}

#[test]
fn a_short_rest_of_a_file_comes_with_the_news_of_its_end() {
    let rig = Setup::default().build();
    rig.put("small", b"a few bytes");
    let file = rig.open("small", RDONLY).unwrap();
    let before = rig.count("fuse.GETATTR");
    assert_eq!(read(&file, 0, 4096).unwrap(), b"a few bytes");
    assert_eq!((rig.count("fuse.READ"), rig.count("fuse.SETUPMAPPING")), (1, 0));
    assert_eq!((rig.count("fuse.GETATTR") - before, rig.tally(Tally::Cheaper)), (0, 1));
    // What does not reach for the end is mapped, and then serves those that do.
    assert_eq!(read(&file, 2, 3).unwrap(), b"few");
    assert_eq!(read(&file, 6, 4096).unwrap(), b"bytes");
    assert_eq!((rig.count("fuse.READ"), rig.count("fuse.SETUPMAPPING")), (1, 1));
    assert_eq!((rig.count("fuse.GETATTR") - before, rig.tally(Tally::WindowRead)), (1, 8));
}

/// What a read that waits for nobody brings.
fn resident(file: &Arc<dyn File>, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut sink = Tolerant { limit: len, ..Tolerant::default() };
    let n = file.read_resident(offset, &mut sink);
    assert_eq!(n.unwrap_or(0), sink.bytes.len(), "{offset} {len}");
    n.map(|_| sink.bytes)
}

#[test]
fn what_is_in_the_window_is_read_without_waiting() {
    for io in [DaxIo::Window, DaxIo::Auto] {
        let rig = Setup { io, ..Setup::default() }.build();
        let content = pattern(2 * CHUNK);
        rig.put("f", &content);
        let file = rig.open("f", RDONLY).unwrap();
        assert_eq!(resident(&file, 0, 4096), None, "it is not mapped yet");
        // By message first, where that is cheaper, and some day no more.
        while rig.tally(Tally::WindowRead) == 0 {
            assert!(read(&file, 0, 8192).unwrap() == content[..8192]);
        }
        let requests = rig.count("fuse.READ") + rig.count("fuse.GETATTR") + rig.count("fuse.SETUPMAPPING");
        for (offset, len) in [(0, 1), (0, 8192), (4095, 2), (100, 4096)] {
            let bytes = resident(&file, offset as u64, len);
            assert!(bytes.is_some_and(|bytes| bytes == content[offset..offset + len]), "{io:?} {offset} {len}");
        }
        // A page that was never used costs its first use, which has to be weighed.
        assert_eq!(resident(&file, 64 << 10, 4096).is_some(), io == DaxIo::Window);
        let size = content.len() as u64;
        for (offset, len) in [(0, 0), (CHUNK as u64 - 1, 2), (size - 1, 2), (size, 1), (u64::MAX, 1)] {
            assert_eq!(resident(&file, offset, len), None, "{offset} {len}");
        }
        // When the size cannot be believed any more, the host has to be asked.
        rig.pass(2);
        assert_eq!(resident(&file, 0, 4096), None);
        assert_eq!(
            rig.count("fuse.READ") + rig.count("fuse.GETATTR") + rig.count("fuse.SETUPMAPPING"),
            requests,
            "{io:?}"
        );
        assert!(read(&file, 0, 4096).unwrap() == content[..4096]);
        assert!(resident(&file, 0, 4096).is_some());
        // Nothing stays pinned: it can go.
        let before = rig.count("fuse.REMOVEMAPPING");
        rig.open("f", OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
        assert_eq!(rig.count("fuse.REMOVEMAPPING"), before + 1);
        assert_eq!(resident(&file, 0, 4096), None);
    }
}

#[test]
fn what_is_lost_is_not_read_without_waiting() {
    let rig = Setup::default().build();
    rig.put("f", &pattern(CHUNK));
    let file = rig.open("f", RDONLY).unwrap();
    assert_eq!(read(&file, 0, 4096).unwrap().len(), 4096);
    assert!(resident(&file, 0, 4096).is_some());
    rig.machine.lost.lock().unwrap().push((PHYS, 4096));
    assert_eq!(resident(&file, 0, 4096), None);
    assert_eq!(rig.tally(Tally::Lost), 1);
}

#[test]
fn who_may_not_read_does_not_without_waiting_either() {
    let rig = Setup::default().build();
    rig.put("f", &pattern(CHUNK));
    let file = rig.open("f", RDONLY).unwrap();
    assert_eq!(read(&file, 0, 4096).unwrap().len(), 4096);
    let other = rig.open("f", OpenFlags::WRONLY).unwrap();
    assert_eq!(resident(&other, 0, 4096), None);
    // With a window of no use there is nothing to read from.
    let none = Setup { window: 0, ..Setup::default() }.build();
    none.put("f", &pattern(CHUNK));
    let file = none.open("f", RDONLY).unwrap();
    assert_eq!(read(&file, 0, 4096).unwrap().len(), 4096);
    assert_eq!(resident(&file, 0, 4096), None);
}

#[test]
fn files_larger_than_the_window_are_read_through_it() {
    for dax in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let rig = read_everything(Setup { window: 2 * CHUNK, dax, ..Setup::default() }, 5 * CHUNK + 77);
        assert_eq!(rig.count("fuse.READ"), 0);
        assert!(rig.tally(Tally::Evictions) >= 4);
        assert_eq!(rig.count("fuse.REMOVEMAPPING"), 0, "a new mapping replaces the old by itself");
        assert!(rig.mapper.as_ref().unwrap().mapped.lock().unwrap().len() <= 2 * CHUNK / 4096);
    }
}

#[test]
fn switched_off_and_missing_windows_say_why() {
    let off = Setup { dax: DaxPolicy::Off, ..Setup::default() }.build();
    assert_eq!(off.mount.no_dax().unwrap().to_string(), "the window is switched off");
    assert!(Setup { window: 0, ..Setup::default() }.build().mount.no_dax().is_some());
    assert!(Setup { window: CHUNK / 2, ..Setup::default() }.build().mount.no_dax().is_some());
    assert_eq!(Setup::default().build().mount.no_dax(), None);
}

#[test]
fn a_file_the_host_will_not_map_is_read_by_message_from_then_on() {
    let rig = Setup::default().build();
    let content = pattern(100_000);
    rig.put("f", &content);
    *rig.mapper.as_ref().unwrap().refuse.lock().unwrap() = Some(libc::ENODEV);
    let file = rig.open("f", RDONLY).unwrap();
    for _ in 0..3 {
        assert!(read(&file, 0, 200_000).unwrap() == content);
    }
    assert_eq!((rig.count("fuse.SETUPMAPPING"), rig.tally(Tally::FallbackRefused)), (1, 1));
    assert!(file.map(0, Access::Read).unwrap().is_none());

    *rig.mapper.as_ref().unwrap().refuse.lock().unwrap() = Some(libc::ENOMEM);
    rig.put("g", &content);
    let file = rig.open("g", RDONLY).unwrap();
    assert!(read(&file, 0, 200_000).unwrap() == content);
    *rig.mapper.as_ref().unwrap().refuse.lock().unwrap() = None;
    assert!(read(&file, 0, 200_000).unwrap() == content);
    assert_eq!(rig.tally(Tally::Mappings), 1, "an error of the moment is not held against the file");
}

#[test]
fn growth_on_the_host_is_seen_at_the_end_of_the_file() {
    for window in [0, 16 * CHUNK] {
        let rig = Setup { window, ..Setup::default() }.build();
        let path = rig.put("f", b"one");
        let file = rig.open("f", RDONLY).unwrap();
        assert_eq!(read(&file, 0, 10).unwrap(), b"one");
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b" two").unwrap();
        assert_eq!(read(&file, 3, 10).unwrap(), b" two", "window {window}: no time has passed");
    }
}

#[test]
fn a_file_cut_on_the_host_ends_where_it_ends_now() {
    for window in [0, 16 * CHUNK] {
        let rig = Setup { window, ..Setup::default() }.build();
        let content = pattern(CHUNK + 9000);
        let path = rig.put("f", &content);
        let file = rig.open("f", RDONLY).unwrap();
        assert_eq!(read(&file, 0, CHUNK + 9000).unwrap().len(), CHUNK + 9000);
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
        rig.pass(2);
        assert!(read(&file, 0, 5000).unwrap() == content[..100]);
        assert_eq!(file.inode().metadata().unwrap().size, 100);
        if window > 0 {
            assert_eq!(rig.count("fuse.REMOVEMAPPING"), 1, "the chunk past the end is let go");
        }
    }
}

#[test]
fn a_file_cut_under_a_read_gives_a_short_read() {
    let rig = Setup::default().build();
    let content = pattern(100 << 12);
    let path = rig.put("f", &content);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let try_read = |offset: u64, limit: usize| {
        let mut sink = Tolerant { bytes: Vec::new(), limit };
        file.read_at(offset, &mut sink).map(|n| (n, sink.bytes))
    };
    assert!(try_read(0, 90 << 12).unwrap().1 == content[..90 << 12]);
    let host = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    host.set_len(10 << 12).unwrap();
    // No time has passed: the size in the cache is wrong, and the pages past the new end fault.
    let (n, bytes) = try_read(0, 90 << 12).unwrap();
    assert!(n == 10 << 12 && bytes == content[..10 << 12]);
    host.set_len(5 << 12).unwrap();
    assert_eq!(try_read(7 << 12, 100).unwrap(), (0, Vec::new()));
    host.set_len(50 << 12).unwrap();
    assert_eq!(file.inode().set_metadata(&SetMetadata::default()).unwrap().size, 50 << 12);
    host.set_len(5 << 12).unwrap();
    let mut source = Tolerant { bytes: b"written anyway".to_vec(), limit: 0 };
    assert_eq!(file.write_at(20 << 12, &mut source).unwrap(), 14);
    assert_eq!(std::fs::read(rig.path("f")).unwrap()[20 << 12..], *b"written anyway");
    assert_eq!((rig.count("fuse.WRITE"), rig.tally(Tally::WindowWritten)), (1, 0));
}

#[test]
fn a_loss_that_nobody_was_told_of_yet_is_heeded_before_the_window_is_read() {
    let rig = Setup::default().build();
    let content = pattern(2 * CHUNK);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    assert!(read(&file, 0, 100).unwrap() == content[..100]);
    rig.machine.lost.lock().unwrap().push((PHYS, 4096));
    assert!(read(&file, 0, 100).unwrap() == content[..100]);
    assert_eq!((rig.tally(Tally::Lost), rig.tally(Tally::Mappings)), (1, 2), "what is there now is mapped anew");
}

#[test]
fn a_file_replaced_on_the_host_is_another_file() {
    let rig = Setup::default().build();
    rig.put("f", b"old content");
    let old = rig.open("f", RDONLY).unwrap();
    assert_eq!(read(&old, 0, 100).unwrap(), b"old content");
    rig.put("new", b"new");
    std::fs::rename(rig.path("new"), rig.path("f")).unwrap();
    rig.pass(2);
    let new = rig.open("f", RDONLY).unwrap();
    assert_ne!(old.inode().id(), new.inode().id());
    assert_eq!(read(&new, 0, 100).unwrap(), b"new");
    assert_eq!(read(&old, 0, 100).unwrap(), b"old content");
}

#[test]
fn a_file_that_claims_to_be_empty_is_asked_for_its_content() {
    // The host's procfs says size 0 for everything and maps nothing.
    let rig = Setup::default().build();
    rig.put("empty", b"");
    let file = rig.open("empty", RDONLY).unwrap();
    assert_eq!(read(&file, 0, 100).unwrap(), b"");
    assert_eq!((rig.count("fuse.READ"), rig.count("fuse.SETUPMAPPING")), (1, 0));
    assert_eq!(rig.tally(Tally::FallbackEmpty), 1);
    std::fs::write(rig.path("empty"), b"now it has some").unwrap();
    assert_eq!(read(&file, 0, 100).unwrap(), b"now it has some");
}
