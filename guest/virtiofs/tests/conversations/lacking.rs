//! Servers that do not have everything.

use super::*;

#[test]
fn what_a_server_does_not_have_is_asked_for_once() {
    const NAME: &[u8] = b"user.a";
    let missing = ["GETXATTR", "SETXATTR", "LISTXATTR", "REMOVEXATTR", "FALLOCATE", "COPY_FILE_RANGE", "TMPFILE"];
    let rule: Rule = Box::new(move |request, answer| match request.name() {
        name if missing.contains(&name) => frame(request.unique, -38, &[]),
        "LSEEK" | "SYNCFS" => frame(request.unique, -38, &[]),
        _ => answer,
    });
    let (host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    let (root, name) = (mount.root(), XattrName::new(NAME).unwrap());
    let file = root.lookup(n("f")).unwrap().open(OpenFlags::RDWR).unwrap();
    for _ in 0..3 {
        let unsupported = [
            root.xattr(name, &mut []).err(),
            root.xattr(name, &mut [0; 9]).err(),
            root.list_xattrs(&mut [0; 9]).err(),
            root.set_xattr(name, b"v", XattrFlags::empty()).err(),
            root.remove_xattr(name).err(),
            file.allocate(Allocation::Punch, 0, 1).err(),
            file.copy_range(0, &*file, 100, 10).err(),
            root.tmpfile(0o600, OpenFlags::RDWR).err(),
        ];
        assert_eq!(unsupported, [Some(Errno::EOPNOTSUPP); 8]);
        assert_eq!((file.seek(Sought::Data, 7), file.seek(Sought::Hole, 7)), (Ok(7), Ok(SIZE)));
        assert_eq!((file.seek(Sought::Hole, SIZE), root.sync_fs()), (Err(Errno::ENXIO), Ok(())));
    }
    let seen = host.seen.lock().unwrap();
    for name in missing.iter().chain(&["LSEEK", "SYNCFS"]) {
        assert_eq!(seen.iter().filter(|seen| *seen == name).count(), 1, "{name}");
    }
}

#[test]
fn what_qemus_daemon_leaves_to_linux_is_checked_here() {
    // It says EIO for a name that it cannot find, and does not know ACCESS.
    let rule: Rule = Box::new(|request, answer| match request.name() {
        "UNLINK" | "RENAME" => frame(request.unique, -5, &[]),
        "ACCESS" => frame(request.unique, -38, &[]),
        _ => answer,
    });
    let (_host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    let root = mount.root();
    let rename = |from| root.rename(n(from), &root, n("b"), diolkos_vfs::RenameFlags::empty());
    assert_eq!((root.unlink(n("a")), rename("a")), (Err(Errno::ENOENT), Err(Errno::ENOENT)));
    assert_eq!((root.unlink(n("f")), rename("f")), (Err(Errno::EIO), Err(Errno::EIO)));
    let file = root.lookup(n("f")).unwrap();
    assert_eq!((file.access(4), file.access(1)), (Ok(()), Err(Errno::EACCES)));
    assert_eq!(root.access(1), Ok(()));
}

#[test]
fn operations_a_server_lacks_are_asked_for_once() {
    let lacking = ["ACCESS", "FLUSH", "FSYNC", "CREATE", "READDIRPLUS", "SETUPMAPPING", "RENAME2"];
    let rule: Rule = Box::new(move |request, mut answer| {
        if request.is("INIT") {
            // FUSE_READDIRPLUS_AUTO: without it every listing asks for attributes.
            answer.bytes[16 + 13] &= !0x40;
        }
        if lacking.contains(&request.name()) { frame(request.unique, -38, &[]) } else { answer }
    });
    let (host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    let root = mount.root();
    let new = entry(20, REGULAR, 0);
    for _ in 0..3 {
        root.access(4).unwrap();
        assert_eq!(listing(&root).unwrap(), [".", "..", "f", "l"]);
        let file = root.lookup(n("f")).unwrap().open(OpenFlags::RDWR).unwrap();
        assert_eq!(read(&file, 0, 10).unwrap(), [b'F'; 10]);
        file.flush().unwrap();
        file.fsync(false).unwrap();
        let flags = diolkos_vfs::RenameFlags::EXCHANGE;
        assert_eq!(root.rename(n("d"), &root, n("f"), flags).err(), Some(Errno::EINVAL));
        let new = new.clone();
        *host.rule.lock().unwrap() = Box::new(move |request, answer| match request.name() {
            "MKNOD" => frame(request.unique, 0, &new),
            name if lacking.contains(&name) => frame(request.unique, -38, &[]),
            _ => answer,
        });
        root.create(n("made"), 0o600, OpenFlags::RDWR).unwrap();
    }
    let seen = host.seen.lock().unwrap();
    for name in lacking {
        assert_eq!(seen.iter().filter(|seen| **seen == name).count(), 1, "{name}");
    }
    assert_eq!(mount.no_dax(), Some(NoDax::Unsupported));
}

#[test]
fn a_mount_says_no_to_what_it_cannot_speak_to() {
    let init = |major: u8, minor: u8| {
        spoiling("INIT", move |request| {
            let mut out = vec![0; 64];
            (out[0], out[4]) = (major, minor);
            frame(request.unique, 0, &out)
        })
    };
    assert_eq!(start(init(8, 0), CacheMode::Auto).1.err(), Some(Errno::EIO));
    assert_eq!(start(init(7, 12), CacheMode::Auto).1.err(), Some(Errno::EIO));
    assert!(start(init(7, 31), CacheMode::Auto).1.is_ok());
    let rule = spoiling("GETATTR", |request| frame(request.unique, 0, &attr_out(1, REGULAR, 0)));
    assert_eq!(start(rule, CacheMode::Auto).1.err(), Some(Errno::ENOTDIR));
}

#[test]
fn a_window_that_cannot_be_used_is_left_alone() {
    let rule: Rule = Box::new(|request, mut answer| {
        if request.is("INIT") {
            answer.bytes[16 + 30] = 22;
        }
        answer
    });
    let (host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    assert_eq!(mount.no_dax(), Some(NoDax::Alignment));
    let file = mount.root().lookup(n("f")).unwrap().open(OpenFlags::empty()).unwrap();
    assert_eq!(read(&file, 5, 10).unwrap(), [b'F'; 10]);
    assert!(!host.seen.lock().unwrap().contains(&"SETUPMAPPING"));
}
