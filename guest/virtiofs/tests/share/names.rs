//! Names, links and attributes.

use super::*;

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

#[test]
fn where_a_link_leads_is_asked_once_for_each_link() {
    for (cache, asked) in [(CacheMode::None, 2), (CacheMode::Auto, 1), (CacheMode::Always, 1)] {
        let rig = Setup { cache, ..Setup::default() }.build();
        symlink("old", rig.path("link")).unwrap();
        let held = rig.find("link").unwrap();
        for _ in 0..2 {
            assert_eq!(rig.find("link").unwrap().readlink().unwrap(), b"old");
        }
        assert_eq!(rig.count("fuse.READLINK"), asked, "{cache:?}");
        if cache == CacheMode::Always {
            continue;
        }
        std::fs::remove_file(rig.path("link")).unwrap();
        symlink("new", rig.path("link")).unwrap();
        rig.pass(2);
        assert_eq!(rig.find("link").unwrap().readlink().unwrap(), b"new", "another link has taken its place");
        assert_eq!(held.readlink().ok().as_deref(), Some(&b"old"[..]), "the old one is there as long as it is held");
    }
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
fn who_looks_up_many_names_of_a_directory_gets_the_others_with_them() {
    let rig = Setup::default().build();
    std::fs::create_dir(rig.path("d")).unwrap();
    let names: Vec<String> = (0..1000).map(|i| format!("d/file number {i}")).collect();
    for name in &names {
        rig.put(name, b"abc");
    }
    for name in &names[..5] {
        assert_eq!(rig.find(name).unwrap().metadata().unwrap().size, 3);
    }
    assert_eq!((rig.count("fuse.LOOKUP"), rig.count("fuse.READDIRPLUS")), (6, 0), "five are too few");
    for name in &names {
        assert_eq!(rig.find(name).unwrap().metadata().unwrap().size, 3);
    }
    assert!(rig.find("d/file number 1000").is_err(), "what is not there is asked for");
    let (lookups, brought) = (rig.count("fuse.LOOKUP"), rig.tally(Tally::NamesAhead));
    assert!(lookups < 200, "{lookups} messages for a thousand names");
    assert!((900..1100).contains(&brought), "{brought} entries listed");
    assert_eq!(rig.count("fuse.OPENDIR"), rig.count("fuse.RELEASEDIR"));
    assert!(rig.count("fuse.GETATTR") <= 1, "attributes came with the names");
    drop(rig.mount);
    assert_eq!(rig.server.lookups_held(), 0);
}

#[test]
fn who_has_looked_at_all_of_one_directory_gets_the_next_one_for_a_few_names() {
    let rig = Setup::default().build();
    for directory in ["a", "b", "c"] {
        std::fs::create_dir(rig.path(directory)).unwrap();
        (0..500).for_each(|i| drop(rig.put(&format!("{directory}/{i}"), b"abc")));
    }
    let look = |directory: &str, names: usize| {
        let before = (rig.count("fuse.LOOKUP"), rig.count("fuse.OPENDIR"));
        (0..names).for_each(|i| drop(rig.find(&format!("{directory}/{i}")).unwrap()));
        (rig.count("fuse.LOOKUP") - before.0, rig.count("fuse.OPENDIR") - before.1)
    };
    let (lookups, listings) = look("a", 500);
    assert!(lookups > 30 && listings > 2, "{lookups}, {listings}");
    assert_eq!(look("b", 500), (5, 1), "its own name and four in it");
    assert_eq!(look("c", 3), (4, 0), "three names are no more than a path");
}

#[test]
fn names_beside_those_looked_up_are_not_listed_where_nobody_may_keep_them() {
    let rig = Setup { cache: CacheMode::None, ..Setup::default() }.build();
    for i in 0..100 {
        rig.put(&format!("f{i}"), b"");
    }
    (0..100).for_each(|i| drop(rig.find(&format!("f{i}")).unwrap()));
    assert_eq!((rig.count("fuse.LOOKUP"), rig.count("fuse.OPENDIR")), (100, 0));
}
