//! The whole client against a real server on a real directory.

mod server;

use diolkos_common::cmdline::{CacheMode, DaxPolicy};
use diolkos_vfs::{Access, Errno, FileType, OpenFlags, RenameFlags, SetMetadata, SetTime, Timespec};
use diolkos_virtiofs::Tally;
use server::*;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

const RDONLY: OpenFlags = OpenFlags::empty();

#[test]
fn names_lead_to_files_and_are_remembered() {
    let rig = Setup::default().build();
    std::fs::create_dir_all(rig.path("a/b")).unwrap();
    rig.put("a/b/c", b"hello");
    let node = rig.find("a/b/c").unwrap();
    assert_eq!(node.file_type(), FileType::Regular);
    let host = rig.path("a/b/c").metadata().unwrap();
    let guest = node.metadata().unwrap();
    assert_eq!((guest.size, guest.mode, guest.uid, guest.nlink), (5, host.mode(), host.uid(), 1));
    assert_eq!((guest.mtime.sec, guest.dev), (host.mtime(), 0x2a));
    assert_eq!(rig.count("fuse.LOOKUP"), 3);
    assert_eq!(rig.find("a/b/c").unwrap().id(), node.id());
    assert_eq!(rig.count("fuse.LOOKUP"), 3, "the second walk is answered by the cache");
    rig.pass(2);
    assert!(Arc::ptr_eq(&rig.find("a/b/c").unwrap(), &node), "asked again, it is the same object");
    assert_eq!(rig.count("fuse.LOOKUP"), 6);
    assert_eq!(errno(rig.find("a/nope")), Errno::ENOENT);
    assert_eq!(errno(rig.find("a/b/c/d")), Errno::ENOTDIR);
}

#[test]
fn cache_rules_decide_who_is_asked() {
    for (cache, lookups, absent) in [(CacheMode::None, 2, 2), (CacheMode::Auto, 1, 2), (CacheMode::Always, 1, 1)] {
        let rig = Setup { cache, ..Setup::default() }.build();
        rig.put("f", b"x");
        let first = rig.find("f").unwrap();
        assert!(Arc::ptr_eq(&first, &rig.find("f").unwrap()));
        assert_eq!(rig.count("fuse.LOOKUP"), lookups, "{cache:?}");
        assert!(rig.find("g").is_err() && rig.find("g").is_err());
        assert_eq!(rig.count("fuse.LOOKUP"), lookups + absent, "{cache:?}");
    }
    let rig = Setup { cache: CacheMode::Always, ..Setup::default() }.build();
    assert_eq!(errno(rig.find("new")), Errno::ENOENT);
    let (_, file) = rig.mount.root().create(name("new"), 0o644, OpenFlags::RDWR).unwrap();
    assert_eq!(file.inode().id(), rig.find("new").unwrap().id(), "our own change ends a negative entry");
}

#[test]
fn symbolic_links_are_read_not_followed() {
    let rig = Setup::default().build();
    let long = "x/".repeat(2000);
    symlink("../target of it", rig.path("short")).unwrap();
    symlink(&long, rig.path("long")).unwrap();
    assert_eq!(rig.find("short").unwrap().readlink().unwrap(), b"../target of it");
    assert_eq!(rig.find("long").unwrap().readlink().unwrap(), long.as_bytes());
    assert_eq!(errno(rig.open("short", RDONLY)), Errno::ELOOP);
    assert_eq!(errno(rig.mount.root().readlink()), Errno::EINVAL);
}

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

#[test]
fn large_directories_are_listed_whole_whatever_the_step() {
    for cache in [CacheMode::Auto, CacheMode::None] {
        let rig = Setup { cache, ..Setup::default() }.build();
        std::fs::create_dir(rig.path("d")).unwrap();
        let mut wanted: BTreeSet<String> = [".".into(), "..".into()].into();
        for i in 0..3000 {
            let name = format!("file number {i}");
            rig.put(&format!("d/{name}"), b"");
            wanted.insert(name);
        }
        let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
        for step in [1_000_000, 700, 1] {
            let (mut cookie, mut seen) = (0, BTreeSet::new());
            loop {
                let entries = list(&dir, cookie, step).unwrap();
                let Some((_, next)) = entries.last() else { break };
                cookie = *next;
                for (name, _) in entries {
                    assert!(seen.insert(name.clone()), "{name} twice at step {step}");
                }
                if step == 1 && seen.len() > 300 {
                    break;
                }
            }
            assert!(step == 1 || seen == wanted, "{} of {}", seen.len(), wanted.len());
        }
        let (plus, bare) = (rig.count("fuse.READDIRPLUS"), rig.count("fuse.READDIR"));
        match cache {
            CacheMode::None => assert!(plus == 0 && bare > 3, "attributes nobody may keep are not asked for"),
            _ => assert!(plus > 3, "{plus} {bare}"),
        }
        drop(dir);
        drop(rig.mount);
        assert_eq!(rig.server.lookups_held(), 0);
    }
}

#[test]
fn a_listing_with_attributes_saves_the_lookups() {
    let rig = Setup::default().build();
    for i in 0..50 {
        rig.put(&format!("f{i}"), b"abc");
    }
    let dir = rig.mount.root().open(OpenFlags::DIRECTORY).unwrap();
    let entries = list(&dir, 0, 1000).unwrap();
    assert_eq!(entries.len(), 52);
    for (name, _) in entries.iter().filter(|(name, _)| !name.starts_with('.')) {
        assert_eq!(rig.find(name).unwrap().metadata().unwrap().size, 3);
    }
    assert_eq!((rig.count("fuse.LOOKUP"), rig.count("fuse.GETATTR")), (0, 1));
}

#[test]
fn every_lookup_and_every_open_is_given_back() {
    let rig = Setup { timeout: std::time::Duration::ZERO, ..Setup::default() }.build();
    for i in 0..200 {
        rig.put(&format!("f{i}"), &pattern(5000));
    }
    let root = rig.mount.root();
    let dir = root.clone().open(OpenFlags::DIRECTORY).unwrap();
    list(&dir, 0, 1000).unwrap();
    for i in 0..200 {
        let node = rig.find(&format!("f{i}")).unwrap();
        let again = rig.find(&format!("f{i}")).unwrap();
        assert!(Arc::ptr_eq(&node, &again));
        let file = node.open(RDONLY).unwrap();
        read(&file, 0, 10).unwrap();
    }
    let (made, file) = root.create(name("made"), 0o600, OpenFlags::RDWR).unwrap();
    root.link(name("linked"), &made).unwrap();
    root.symlink(name("s"), b"t").unwrap();
    root.mknod(name("dir"), 0o040755, 0).unwrap();
    root.mknod(name("fifo"), 0o010644, 0).unwrap();
    drop((made, file, dir));
    assert!(rig.count("fuse.BATCH_FORGET") > 0);
    rig.mount.idle();
    assert_eq!(rig.server.lookups_held(), 0, "only the root is still known");
    assert_eq!(*rig.server.opens.lock().unwrap(), 0);
    assert!(rig.mapper.as_ref().unwrap().mapped.lock().unwrap().is_empty(), "and nothing is mapped");
}

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

#[test]
fn names_are_moved_linked_and_removed() {
    let rig = Setup::default().build();
    let root = rig.mount.root();
    rig.put("a", b"A");
    rig.put("b", b"B");
    let (a, b) = (rig.find("a").unwrap(), rig.find("b").unwrap());
    root.rename(name("a"), &root, name("b"), RenameFlags::empty()).unwrap();
    assert_eq!(errno(rig.find("a")), Errno::ENOENT);
    assert!(Arc::ptr_eq(&rig.find("b").unwrap(), &a), "no time has passed");
    drop(b);
    let dir = root.mknod(name("dir"), 0o040755, 0).unwrap();
    root.rename(name("b"), &dir, name("c"), RenameFlags::NOREPLACE).unwrap();
    assert_eq!(rig.count("fuse.RENAME2") + rig.count("fuse.RENAME"), 2);
    dir.link(name("d"), &a).unwrap();
    assert_eq!(a.metadata().unwrap().nlink, 2);
    dir.unlink(name("c")).unwrap();
    assert_eq!(a.metadata().unwrap().nlink, 1);
    assert_eq!(errno(root.rmdir(name("dir"))), Errno::ENOTEMPTY);
    assert_eq!(errno(root.unlink(name("dir"))), Errno::EISDIR);
    dir.unlink(name("d")).unwrap();
    root.rmdir(name("dir")).unwrap();
    assert_eq!(errno(rig.find("dir")), Errno::ENOENT);
    assert!(!exists(&rig.path("dir")));
    let other = Setup::default().build();
    assert_eq!(errno(root.link(name("x"), &other.mount.root())), Errno::EXDEV);
    assert_eq!(errno(root.rename(name("x"), &other.mount.root(), name("y"), RenameFlags::empty())), Errno::EXDEV);
}

#[test]
fn link_counts_follow_names_that_were_never_looked_up() {
    let rig = Setup::default().build();
    rig.put("f", b"x");
    rig.put("other", b"y");
    std::fs::hard_link(rig.path("f"), rig.path("removed")).unwrap();
    std::fs::hard_link(rig.path("f"), rig.path("replaced")).unwrap();
    let (root, node) = (rig.mount.root(), rig.find("f").unwrap());
    assert_eq!(node.metadata().unwrap().nlink, 3);
    root.unlink(name("removed")).unwrap();
    assert_eq!(node.metadata().unwrap().nlink, 2);
    root.rename(name("other"), &root, name("replaced"), RenameFlags::empty()).unwrap();
    assert_eq!(node.metadata().unwrap().nlink, 1);
    assert_eq!(errno(root.unlink(name("removed"))), Errno::ENOENT);
}

#[test]
fn attributes_are_changed_on_the_host() {
    let rig = Setup::default().build();
    rig.put("f", b"x");
    let node = rig.find("f").unwrap();
    let time = Timespec { sec: -5, nsec: 7 };
    let change = SetMetadata {
        mode: Some(0o4711),
        uid: Some(12),
        gid: Some(34),
        mtime: Some(SetTime::To(time)),
        atime: Some(SetTime::Now),
        ..SetMetadata::default()
    };
    let changed = node.set_metadata(&change).unwrap();
    let host = rig.path("f").metadata().unwrap();
    assert_eq!((host.mode() & 0o777, host.uid(), host.gid()), (0o711, 12, 34));
    assert_eq!((host.mtime(), host.mtime_nsec(), changed.mtime), (-5, 7, time));
    assert_eq!(node.statfs().unwrap().namelen, 255);
    node.access(4).unwrap();
    assert_eq!(
        errno(rig.find("f").unwrap().set_metadata(&SetMetadata { size: Some(1 << 63), ..change })),
        Errno::EFBIG
    );
}

#[test]
fn read_only_mounts_refuse_before_the_host_is_asked() {
    let rig = Setup { writable: false, ..Setup::default() }.build();
    rig.put("f", b"x");
    let (root, node) = (rig.mount.root(), rig.find("f").unwrap());
    let f = name("f");
    for refused in [
        errno(root.create(name("g"), 0o644, OpenFlags::WRONLY)),
        errno(root.mknod(name("g"), 0o040755, 0)),
        errno(root.symlink(name("g"), b"t")),
        errno(root.link(name("g"), &node)),
        errno(root.unlink(f)),
        errno(root.rmdir(f)),
        errno(root.rename(f, &root, name("g"), RenameFlags::empty())),
        errno(node.set_metadata(&SetMetadata { mode: Some(0), ..SetMetadata::default() })),
        errno(node.clone().open(OpenFlags::RDWR)),
        errno(node.clone().open(OpenFlags::TRUNC)),
        errno(node.access(2)),
    ] {
        assert_eq!(refused, Errno::EROFS);
    }
    let file = node.open(RDONLY).unwrap();
    assert_eq!(errno(write(&file, 0, b"y")), Errno::EBADF);
    assert_eq!(errno(file.map(0, Access::Write)), Errno::EACCES);
    let sent: u64 = ["fuse.CREATE", "fuse.WRITE", "fuse.SETATTR", "fuse.UNLINK"].iter().map(|c| rig.count(c)).sum();
    assert_eq!(sent, 0);
}

#[test]
fn maps_show_the_file_and_are_revoked_before_the_memory_is_used_again() {
    // Sixteen chunks of 256 KiB.
    let (rig, small) = (Setup { window: 2 * CHUNK, ..Setup::default() }.build(), CHUNK as u64 / 8);
    let content = pattern(CHUNK + 8192);
    rig.put("f", &content);
    rig.put("g", &pattern(4 * CHUNK));
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let run = file.map(CHUNK as u64 + 50, Access::Read).unwrap().unwrap();
    assert_eq!((run.offset, run.len, run.writable), (CHUNK as u64, small, false));
    let at = (run.phys - PHYS) as usize;
    let window = rig.mapper.as_ref().unwrap().mapped.lock().unwrap().clone();
    assert!(window.contains(&(at as u64)));
    assert_eq!(errno(file.map(CHUNK as u64 + 8192, Access::Read)), Errno::EINVAL);
    // Pinned, it stays whatever else is read.
    let other = rig.open("g", RDONLY).unwrap();
    assert_eq!(read(&other, 0, 4 * CHUNK).unwrap().len(), 4 * CHUNK);
    assert!(rig.machine.revoked.lock().unwrap().is_empty());
    let again = file.map(CHUNK as u64 + 4096, Access::Read).unwrap().unwrap();
    assert_eq!(again.phys, run.phys);
    drop((run, again));
    assert_eq!(read(&other, 0, 4 * CHUNK).unwrap().len(), 4 * CHUNK);
    let revoked = rig.machine.revoked.lock().unwrap().clone();
    assert!(revoked.iter().any(|(phys, len)| (*phys..phys + len).contains(&(PHYS + at as u64))), "{revoked:x?}");
}

#[test]
fn writable_maps_write_to_the_file() {
    let rig = Setup::default().build();
    rig.put("f", &[b'.'; 8192]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    assert_eq!(read(&file, 0, 4).unwrap(), b"....");
    let run = file.map(4096, Access::Write).unwrap().unwrap();
    assert!(run.writable && run.offset == 0);
    assert_eq!(rig.count("fuse.SETUPMAPPING"), 2, "the readable chunk was mapped again, writable");
    let mapper = rig.mapper.as_ref().unwrap();
    mapper.poke((run.phys - PHYS) as usize + 5000, b"mark");
    assert_eq!(&std::fs::read(rig.path("f")).unwrap()[4999..5005], b".mark.");
    let reader = rig.open("f", RDONLY).unwrap();
    assert_eq!(errno(reader.map(0, Access::Write)), Errno::EACCES);
}

#[test]
fn when_every_chunk_is_pinned_messages_do_the_work() {
    let rig = Setup { window: CHUNK, ..Setup::default() }.build();
    let content = pattern(2 * CHUNK);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    let first_half = (0..CHUNK as u64).step_by(CHUNK / 16);
    let _pinned: Vec<_> = first_half.map(|at| file.map(at, Access::Read).unwrap().unwrap()).collect();
    // Another fault would wait for one of these to be over.
    assert!(read(&file, 0, 2 * CHUNK).unwrap() == content);
    assert_eq!(rig.count("fuse.READ"), 16);
    assert_eq!(rig.tally(Tally::FallbackBusy), 16);
}

#[test]
fn a_chunk_outlives_its_file_while_it_is_pinned() {
    let rig = Setup { window: CHUNK, timeout: std::time::Duration::ZERO, ..Setup::default() }.build();
    rig.put("f", &pattern(100));
    rig.put("g", &pattern(200));
    rig.put("h", &pattern(CHUNK));
    let run = rig.open("f", RDONLY).unwrap().map(0, Access::Read).unwrap().unwrap();
    rig.mount.idle();
    assert_eq!(rig.server.lookups_held(), 0);
    let rest = rig.open("h", RDONLY).unwrap();
    let others = (0..CHUNK as u64).step_by(CHUNK / 16).take(15);
    let _pinned: Vec<_> = others.map(|at| rest.map(at, Access::Read).unwrap().unwrap()).collect();
    let other = rig.open("g", RDONLY).unwrap();
    assert!(read(&other, 0, 200).unwrap() == pattern(200));
    assert_eq!(rig.count("fuse.READ"), 1, "the last chunk is taken");
    let before = rig.machine.revoked.lock().unwrap().len();
    drop(run);
    assert!(read(&other, 0, 200).unwrap() == pattern(200));
    assert_eq!(rig.count("fuse.READ"), 1);
    assert_eq!(
        rig.machine.revoked.lock().unwrap().len(),
        before + 1,
        "page tables may have been filled after the first time"
    );
}

#[test]
fn many_threads_find_one_inode_and_map_each_chunk_once() {
    let rig = Setup { timeout: std::time::Duration::ZERO, ..Setup::default() }.build();
    let content = pattern(4 * CHUNK);
    rig.put("f", &content);
    let keep = rig.find("f").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let node = rig.find("f").unwrap();
                    assert!(Arc::ptr_eq(&node, &keep));
                    let file = node.open(RDONLY).unwrap();
                    assert!(read(&file, 0, 4 * CHUNK).unwrap() == content);
                }
            });
        }
    });
    assert_eq!(rig.tally(Tally::Mappings), 4);
    drop(keep);
    rig.mount.idle();
    assert_eq!(rig.server.lookups_held(), 0);
}

#[test]
fn threads_in_a_window_too_small_for_them_read_the_right_bytes() {
    for dax in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let rig = Setup { window: 2 * CHUNK, dax, ..Setup::default() }.build();
        let content = pattern(6 * CHUNK);
        rig.put("f", &content);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (rig, content) = (&rig, &content);
                scope.spawn(move || {
                    let file = rig.open("f", RDONLY).unwrap();
                    for round in 0..60 {
                        let at = (thread * 7919 + round * 104_729) * 97 % (content.len() - 70_000);
                        assert!(read(&file, at as u64, 70_000).unwrap() == content[at..at + 70_000]);
                    }
                });
            }
        });
        assert!(rig.tally(Tally::Evictions) > 0);
    }
}

#[test]
fn after_unmounting_nothing_is_left_and_nothing_works() {
    let rig = Setup::default().build();
    rig.put("f", b"abc");
    let file = rig.open("f", RDONLY).unwrap();
    assert_eq!(read(&file, 0, 3).unwrap(), b"abc");
    rig.mount.unmount();
    assert_eq!(rig.count("fuse.DESTROY"), 1);
    assert!(rig.mapper.as_ref().unwrap().mapped.lock().unwrap().is_empty());
    assert_eq!(errno(rig.mount.root().lookup(name("f"))), Errno::EIO);
    rig.mount.unmount();
    assert_eq!(rig.count("fuse.DESTROY"), 1);
}

#[test]
fn what_is_kept_of_a_large_tree_stays_within_the_bound() {
    let rig = Setup { inodes: 2048, ..Setup::default() }.build();
    for dir in 0..6 {
        std::fs::create_dir(rig.path(&format!("d{dir}"))).unwrap();
        for file in 0..500 {
            rig.put(&format!("d{dir}/f{file}"), b"");
        }
    }
    let mut most = 0;
    for dir in 0..6 {
        let open = rig.open(&format!("d{dir}"), RDONLY).unwrap();
        let mut cookie = 0;
        loop {
            let entries = list(&open, cookie, 100).unwrap();
            most = most.max(rig.server.nodes_held());
            let Some((_, last)) = entries.last() else { break };
            cookie = *last;
            for (entry, _) in entries.iter().filter(|(entry, _)| !entry.starts_with('.')) {
                rig.find(&format!("d{dir}/{entry}")).unwrap().metadata().unwrap();
                most = most.max(rig.server.nodes_held());
            }
        }
    }
    assert!(rig.count("fuse.READDIRPLUS") > 0, "entries with nodes are the hard case");
    assert!((1024..=2048).contains(&most), "{most} inodes known at once");
    assert!(rig.count("fuse.BATCH_FORGET") >= 1000 / 64, "forgotten together");
    assert_eq!(rig.count("fuse.FORGET"), 0);
    let tight = Setup { inodes: 64, ..Setup::default() }.build();
    for file in 0..300 {
        tight.put(&format!("f{file}"), b"");
    }
    let open = tight.mount.root().open(RDONLY).unwrap();
    assert_eq!(list(&open, 0, 1000).unwrap().len(), 302);
    assert_eq!(tight.count("fuse.READDIRPLUS"), 0, "with so few names the attributes would be gone before use");
}

#[test]
fn a_host_without_descriptors_gets_back_what_is_held_without_need() {
    let rig = Setup { cache: CacheMode::Always, ..Setup::default() }.build();
    for file in 0..300 {
        rig.put(&format!("f{file}"), b"x");
    }
    *rig.server.most_nodes.lock().unwrap() = Some(200);
    for file in 0..300 {
        let open = rig.open(&format!("f{file}"), RDONLY).unwrap();
        assert_eq!(read(&open, 0, 10).unwrap(), b"x");
    }
    assert_eq!(rig.count("fuse.times_out_of_descriptors"), rig.tally(Tally::LetGo));
    assert_eq!(rig.tally(Tally::LetGo), 1, "200 names were given back at once");
    // What is in use cannot be given back: then the program hears of it.
    *rig.server.most_nodes.lock().unwrap() = Some(0);
    assert_eq!(errno(rig.find("f299-none")), Errno::ENFILE);
}
