//! What is given back, and when.

use super::*;

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
    assert!((1..=2).contains(&rig.tally(Tally::LetGo)), "names are given back all at once");
    // What is in use cannot be given back: then the program hears of it.
    *rig.server.most_nodes.lock().unwrap() = Some(0);
    assert_eq!(errno(rig.find("f299-none")), Errno::ENFILE);
}

#[test]
fn a_file_that_is_opened_again_for_reading_costs_no_message() {
    let rig = Setup::default().build();
    rig.put("f", &pattern(5000));
    rig.put("g", b"g");
    for _ in 0..10 {
        let [one, other] = [(); 2].map(|()| rig.open("f", RDONLY).unwrap());
        assert_eq!(read(&one, 10, 100).unwrap(), read(&other, 10, 100).unwrap());
    }
    assert_eq!((rig.count("fuse.OPEN"), rig.count("fuse.RELEASE")), (1, 0));
    // Who writes has a file of its own.
    let before = rig.count("fuse.OPEN");
    drop(rig.open("f", OpenFlags::RDWR).unwrap());
    drop(rig.open("f", OpenFlags::RDWR).unwrap());
    assert_eq!(rig.count("fuse.OPEN"), before + 2);
}

#[test]
fn to_lock_a_file_changes_nothing_of_it() {
    let rig = Setup::default().build();
    rig.put("f", b"old");
    // Both are for reading, and may not be what locks are asked for with: the first would be cut again, and
    // the second cannot be made again.
    let cut = rig.open("f", OpenFlags::TRUNC).unwrap();
    let (_, made) = rig.mount.root().create(name("made"), 0o600, OpenFlags::empty()).unwrap();
    rig.put("f", b"new");
    for (file, owner) in [(cut, 1), (made, 2)] {
        let family = LockFamily::Flock;
        let lock = LockRequest { family, owner, first: 0, last: LockRequest::TO_END, mode: LockMode::Shared };
        // The server behind these tests keeps no locks; what counts is how it is asked for them.
        assert_eq!(errno(file.set_lock(&lock)), Errno::EOPNOTSUPP);
    }
    assert_eq!(std::fs::read(rig.path("f")).unwrap(), b"new");
    let opened: Vec<u32> = rig.server.opened_with.lock().unwrap().iter().rev().take(2).copied().collect();
    assert_eq!(opened, [0, 0], "what OPEN was sent with");
}

#[test]
fn what_is_kept_open_goes_when_the_inode_changes_or_others_come() {
    let rig = Setup { inodes: 256, ..Setup::default() }.build();
    let held = || *rig.server.opens.lock().unwrap();
    rig.put("f", b"abc");
    let open = || drop(rig.open("f", RDONLY).unwrap());
    open();
    assert_eq!(held(), 1);
    let node = rig.find("f").unwrap();
    node.set_metadata(&SetMetadata { mode: Some(0o600), ..SetMetadata::default() }).unwrap();
    open();
    assert_eq!((rig.count("fuse.OPEN"), held()), (2, 1), "its permissions may be others now");
    rig.mount.root().unlink(name("f")).unwrap();
    assert_eq!(held(), 0, "its memory is the host's again");
    for i in 0..100 {
        rig.put(&format!("f{i}"), b"");
        drop(rig.open(&format!("f{i}"), RDONLY).unwrap());
    }
    assert_eq!(held(), 32, "an eighth of the inodes that may be known");
    let before = rig.count("fuse.OPEN");
    (68..100).for_each(|i| drop(rig.open(&format!("f{i}"), RDONLY).unwrap()));
    assert_eq!(rig.count("fuse.OPEN"), before, "those that were opened last");
    drop(rig.open("f67", RDONLY).unwrap());
    assert_eq!((rig.count("fuse.OPEN"), held()), (before + 1, 32));
    drop(rig.open("f69", RDONLY).unwrap());
    assert_eq!(rig.count("fuse.OPEN"), before + 1, "the one that was not used for longest went");
    rig.mount.unmount();
    assert_eq!(held(), 0);
}
