//! Replies in a good frame that say what cannot be, or less than was asked for.

use super::*;
use diolkos_vfs::SetMetadata;

#[test]
fn impossible_answers_about_attributes_and_ranges_are_errors() {
    type Ask = fn(&Mount) -> Option<Errno>;
    fn opened(mount: &Mount) -> Arc<dyn File> {
        mount.root().lookup(n("f")).unwrap().open(OpenFlags::RDWR).unwrap()
    }
    const NAME: &[u8] = b"user.a";
    let value: Ask = |mount| mount.root().xattr(XattrName::new(NAME).unwrap(), &mut [0; 100]).err();
    let length: Ask = |mount| mount.root().xattr(XattrName::new(NAME).unwrap(), &mut []).err();
    let list: Ask = |mount| mount.root().list_xattrs(&mut [0; 100]).err();
    let list_length: Ask = |mount| mount.root().list_xattrs(&mut []).err();
    let seek: Ask = |mount| opened(mount).seek(Sought::Hole, 50).err();
    let copy: Ask = |mount| opened(mount).copy_range(0, &*opened(mount), 0, 10).err();
    let half = |n: u32| [n.to_le_bytes(), [0; 4]].concat();
    let lies: [(&str, Ask, Vec<u8>); 11] = [
        ("GETXATTR", value, vec![b'v'; 101]),
        ("GETXATTR", length, half(65537)),
        ("GETXATTR", length, vec![1; 4]),
        ("LISTXATTR", list, b"user.a".to_vec()),
        ("LISTXATTR", list, b"\0".to_vec()),
        ("LISTXATTR", list, b"user.a\0\0".to_vec()),
        ("LISTXATTR", list_length, half(u32::MAX)),
        ("LSEEK", seek, 49u64.to_le_bytes().to_vec()),
        ("LSEEK", seek, u64::MAX.to_le_bytes().to_vec()),
        ("COPY_FILE_RANGE", copy, half(11)),
        ("COPY_FILE_RANGE", copy, vec![]),
    ];
    for (opcode, ask, lie) in lies {
        let told = lie.clone();
        let (_, mount) = start(spoiling(opcode, move |request| frame(request.unique, 0, &told)), CacheMode::Auto);
        assert_eq!(ask(&mount.unwrap()), Some(Errno::EIO), "{opcode} {lie:?}");
    }
}

#[test]
fn what_a_lookup_may_not_say() {
    for bad in [entry(1, REGULAR, 0), entry(2, 0o644, 0), entry(2, REGULAR, 1 << 63)] {
        let rule = spoiling("LOOKUP", move |request| frame(request.unique, 0, &bad));
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        assert_eq!(mount.root().lookup(n("f")).err(), Some(Errno::EIO));
    }
}

#[test]
fn a_negative_entry_holds_for_its_time() {
    let mut nothing = vec![0; 128];
    nothing[16] = 5;
    let rule = spoiling("LOOKUP", move |request| frame(request.unique, 0, &nothing));
    let (host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    for _ in 0..3 {
        assert_eq!(mount.root().lookup(n("x")).err(), Some(Errno::ENOENT));
    }
    assert_eq!(host.seen.lock().unwrap().iter().filter(|name| **name == "LOOKUP").count(), 1);
}

#[test]
fn an_inode_that_turns_into_something_else_is_stale() {
    let (host, mount) = start(honestly(), CacheMode::None);
    let mount = mount.unwrap();
    let file = mount.root().lookup(n("f")).unwrap();
    let open = file.clone().open(OpenFlags::empty()).unwrap();
    *host.rule.lock().unwrap() = spoiling("GETATTR", |request| frame(request.unique, 0, &attr_out(2, DIRECTORY, 0)));
    assert_eq!(file.metadata().err(), Some(Errno::ESTALE));
    assert_eq!(read(&open, 0, 10).err(), Some(Errno::ESTALE));
    *host.rule.lock().unwrap() = spoiling("LOOKUP", |request| frame(request.unique, 0, &entry(2, DIRECTORY, 0)));
    let new = mount.root().lookup(n("f")).unwrap();
    assert!(!Arc::ptr_eq(&new, &file));
    assert_eq!(file.metadata().err(), Some(Errno::ESTALE), "the old one stays what it was");
}

#[test]
fn an_inode_that_the_host_has_lost_sight_of_is_found_again_by_its_name() {
    type Ask = fn(&Arc<dyn Inode>) -> Option<Errno>;
    let asks: [(&str, Ask); 4] = [
        ("OPEN", |file| file.clone().open(OpenFlags::empty()).err()),
        ("SETATTR", |file| file.set_metadata(&SetMetadata { mode: Some(0o600), ..SetMetadata::default() }).err()),
        ("ACCESS", |file| file.access(4).err()),
        ("STATFS", |file| file.statfs().err()),
    ];
    for (opcode, ask) in asks {
        let (host, mount) = start(honestly(), CacheMode::Always);
        let mount = mount.unwrap();
        let file = mount.root().lookup(n("f")).unwrap();
        *host.rule.lock().unwrap() = spoiling(opcode, |request| frame(request.unique, -116, &[]));
        assert_eq!(ask(&file), Some(Errno::ESTALE), "{opcode}");
        assert_eq!(file.metadata().err(), Some(Errno::ESTALE), "{opcode}");
        *host.rule.lock().unwrap() = honestly();
        let again = mount.root().lookup(n("f")).unwrap();
        assert!(Arc::ptr_eq(&again, &file) && again.metadata().is_ok(), "{opcode}");
        assert_eq!(host.seen.lock().unwrap().iter().filter(|name| **name == "LOOKUP").count(), 2, "{opcode}");
    }
}

#[test]
fn another_generation_is_another_inode() {
    let (host, mount) = start(honestly(), CacheMode::None);
    let mount = mount.unwrap();
    let old = mount.root().lookup(n("f")).unwrap();
    *host.rule.lock().unwrap() = spoiling("LOOKUP", |request| {
        let mut entry = entry(2, REGULAR, SIZE);
        entry[8] = 1;
        frame(request.unique, 0, &entry)
    });
    let new = mount.root().lookup(n("f")).unwrap();
    assert_ne!(old.id(), new.id());
    drop((old, new));
    mount.idle();
    let forgotten = host.forgotten.lock().unwrap();
    assert_eq!(forgotten.iter().map(|request| request.name()).collect::<Vec<_>>(), ["BATCH_FORGET"]);
    assert_eq!(forgotten[0].half(0), 2, "each gives back its own lookup");
}

#[test]
fn a_write_reply_may_not_claim_more_than_was_sent() {
    let rule = spoiling("WRITE", |request| frame(request.unique, 0, &[5, 0, 0, 0, 0, 0, 0, 0]));
    let mount = start(rule, CacheMode::Auto).1.unwrap();
    let file = mount.root().lookup(n("f")).unwrap().open(OpenFlags::WRONLY).unwrap();
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"1234")).err(), Some(Errno::EIO));
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"12345")).unwrap(), 5);
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"1234567")).unwrap(), 5, "less is a short write");
}

#[test]
fn a_link_target_is_what_the_reply_holds() {
    for (bytes, want) in [(&b"abc"[..], Some(&b"abc"[..])), (b"", None), (b"a\0b", None), (&[b'x'; 4096], None)] {
        let rule = spoiling("READLINK", move |request| frame(request.unique, 0, bytes));
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        let target = mount.root().lookup(n("l")).unwrap().readlink();
        assert_eq!(target.ok().as_deref(), want);
    }
}

#[test]
fn listings_with_nonsense_in_them_fail_where_it_begins() {
    for bad in [dirent(1, 5, "a/b"), dirent(1, 0, "x"), vec![1; 20], dirent(1, 0x7fff_ffff_0000_0001, "x")] {
        let reply = [dirent(1, 3, "good"), bad].concat();
        let rule: Rule = Box::new(move |request, answer| match request.name() {
            "READDIR" if request.half(8) == 0 => frame(request.unique, 0, &reply),
            "READDIR" => frame(request.unique, 0, &reply[32..]),
            _ => answer,
        });
        let mount = start(rule, CacheMode::None).1.unwrap();
        assert_eq!(listing(&mount.root()).err(), Some(Errno::EIO));
    }
}

#[test]
fn cookies_of_listings_are_the_hosts_in_any_order_and_all_64_bits_of_them() {
    const LAST: u64 = u64::MAX - 5;
    let rule: Rule = Box::new(|request, answer| {
        let cookie = |request: &Request| u64::from(request.half(8)) | u64::from(request.half(12)) << 32;
        match request.name() {
            "READDIR" => frame(
                request.unique,
                0,
                &match cookie(request) {
                    0 => dirent(2, LAST, "first"),
                    LAST => dirent(3, 1 << 63, "second"),
                    0x8000_0000_0000_0000 => dirent(4, 7, "third"),
                    7 => Vec::new(),
                    other => panic!("{other:#x} is no cookie of ours"),
                },
            ),
            _ => answer,
        }
    });
    let mount = start(rule, CacheMode::None).1.unwrap();
    assert_eq!(listing(&mount.root()).unwrap(), [".", "..", "first", "second", "third"]);
}

#[test]
fn a_short_read_reply_brings_its_bytes_and_no_others() {
    for short in [0, 1, 99] {
        let rule: Rule = Box::new(move |request, answer| match request.name() {
            "SETUPMAPPING" => frame(request.unique, -38, &[]),
            "READ" if request.half(8) == 1000 => frame(request.unique, 0, &vec![b'S'; short]),
            _ => answer,
        });
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        let file = mount.root().lookup(n("f")).unwrap().open(OpenFlags::empty()).unwrap();
        assert_eq!(read(&file, 0, 100).unwrap(), [b'F'; 100]);
        // The program's memory keeps what was there, and the reply's buffer what the read before left in it.
        let mut memory = [b'.'; 100];
        assert_eq!(file.read_at(1000, &mut SliceSink::new(&mut memory)).unwrap(), short);
        assert!(memory[..short].iter().all(|byte| *byte == b'S') && memory[short..].iter().all(|byte| *byte == b'.'));
        assert_eq!(read(&file, 2000, 100).unwrap(), [b'F'; 100], "and it was not taken for the end of everything");
    }
}
