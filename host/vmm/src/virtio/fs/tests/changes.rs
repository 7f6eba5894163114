//! What a share that may be written takes, and one that may not refuses.

use super::*;

#[test]
fn a_read_only_share_refuses_every_change() {
    let mut bench = bench(false);
    let node = bench.lookup("file").unwrap();
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC, libc::O_TMPFILE | libc::O_RDWR] {
        assert_eq!(bench.open(node, flags), Err(libc::EROFS), "{flags:#o}");
        assert_eq!(bench.call(27, ROOT, &halves(&[flags as u32, 0])).0, libc::EROFS, "OPENDIR {flags:#o}");
    }
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(bench.map(node, 0, 4096, 1, 0), libc::EROFS, "SETUPMAPPING for writing");
    assert_eq!(bench.map(node, 0, 4096, 2, 0), 0, "and for reading");
    assert_eq!(bench.call(34, node, &halves(&[libc::W_OK as u32, 0])).0, libc::EROFS, "ACCESS");
    let name = |head: &[u8], name: &str| [head, name.as_bytes(), b"\0"].concat();
    let write = [words(&[handle, 0]), halves(&[1, 0]), words(&[0, 0]), b"x".to_vec()].concat();
    let changes: [(u32, u64, Vec<u8>); 15] = [
        (4, node, [halves(&[8, 0]), vec![0; 80]].concat()),
        (6, ROOT, b"new\0target\0".to_vec()),
        (8, ROOT, name(&halves(&[0o100644, 0, 0, 0]), "new")),
        (9, ROOT, name(&halves(&[0o755, 0]), "new")),
        (10, ROOT, b"file\0".to_vec()),
        (11, ROOT, b"sub\0".to_vec()),
        (12, ROOT, name(&words(&[ROOT]), "file\0new")),
        (13, ROOT, name(&words(&[node]), "new")),
        (16, node, write),
        (21, node, name(&halves(&[1, 0]), "user.x\0y")[..16].to_vec()),
        (24, node, b"user.x\0".to_vec()),
        (35, ROOT, name(&halves(&[libc::O_RDWR as u32, 0o644, 0, 0]), "new")),
        (39, node, [words(&[handle]), halves(&[0, 0]), words(&[0]), halves(&[0, 0])].concat()),
        (43, node, [words(&[handle, 0, 100]), halves(&[0, 0])].concat()),
        (47, node, words(&[handle, 0, node, handle, 100, 5, 0])),
    ];
    for (opcode, node, body) in changes {
        assert_eq!(bench.call(opcode, node, &body).0, libc::EROFS, "opcode {opcode}");
    }
    let rename2 = name(&[words(&[ROOT]), halves(&[0, 0])].concat(), "file\0new");
    assert_eq!(bench.call(45, ROOT, &rename2).0, libc::EROFS);
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"hello, window");
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 2);
}

#[test]
fn a_writable_share_takes_changes_but_no_devices() {
    let mut bench = bench(true);
    let mut body = halves(&[(libc::O_RDWR | libc::O_TRUNC) as u32, 0o644, 0, 0]);
    body.extend(b"new\0");
    let (errno, created) = bench.call(35, ROOT, &body);
    assert_eq!(errno, 0);
    let (node, handle) = (word(&created, 0), word(&created, 128));
    let write = [words(&[handle, 3]), halves(&[4, 0]), words(&[0, 0]), b"data".to_vec()].concat();
    assert_eq!(bench.call(16, node, &write).0, 0);
    assert_eq!(fs::read(bench.path("new")).unwrap(), b"\0\0\0data");
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let mut mknod = halves(&[kind | 0o666, 0x103, 0, 0]);
        mknod.extend(b"device\0");
        assert_eq!(bench.call(8, ROOT, &mknod).0, libc::EPERM);
    }
    assert!(!bench.path("device").exists());
    // What could block the server for ever, or do something, is never opened.
    let mut fifo = halves(&[libc::S_IFIFO | 0o666, 0, 0, 0]);
    fifo.extend(b"fifo\0");
    assert_eq!(bench.call(8, ROOT, &fifo).0, 0);
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("socket")).unwrap();
    std::os::unix::fs::symlink("file", bench.path("link")).unwrap();
    for name in ["fifo", "socket", "link"] {
        let node = bench.lookup(name).unwrap();
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR | libc::O_TRUNC] {
            assert!(bench.open(node, flags).is_err(), "{name} {flags:#o}");
        }
        assert_ne!(bench.map(node, 0, 4096, 1, 0), 0, "{name}");
        let truncate = [halves(&[8, 0]), vec![0; 80]].concat();
        assert_ne!(bench.call(4, node, &truncate).0, 0, "SETATTR of the size of {name}");
    }
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"hello, window");
}

#[test]
fn attributes_are_kept_but_not_those_of_the_host() {
    let mut bench = bench(true);
    let node = bench.lookup("file").unwrap();
    let set = |name: &str, value: &[u8]| {
        [halves(&[value.len() as u32, 0]), name.as_bytes().to_vec(), vec![0], value.to_vec()].concat()
    };
    let get = |size: u32, name: &str| [halves(&[size, 0]), name.as_bytes().to_vec(), vec![0]].concat();
    assert_eq!(bench.call(21, node, &set("user.colour", b"blue")).0, 0);
    assert_eq!(bench.call(22, node, &get(0, "user.colour")), (0, halves(&[4, 0])));
    assert_eq!(bench.call(22, node, &get(100, "user.colour")), (0, b"blue".to_vec()));
    assert_eq!(bench.call(22, node, &get(3, "user.colour")).0, libc::ERANGE);
    assert_eq!(bench.call(22, node, &get(1 << 30, "user.colour")).0, libc::EINVAL, "a reply no message has room for");
    assert_eq!(bench.call(23, node, &halves(&[100, 0])), (0, b"user.colour\0".to_vec()));
    assert_eq!(bench.call(24, node, b"user.colour\0").0, 0);
    assert_eq!(bench.call(22, node, &get(100, "user.colour")).0, libc::ENODATA);
    for name in ["security.capability", "trusted.overlay.opaque", "security.x"] {
        assert_eq!(bench.call(21, node, &set(name, b"y")).0, libc::EPERM, "{name}");
        assert_eq!(bench.call(24, node, &[name.as_bytes(), b"\0"].concat()).0, libc::EPERM, "{name}");
    }
    let mut lying = set("user.colour", b"blue");
    lying[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(bench.call(21, node, &lying).0, libc::EINVAL, "a value of another length than it says");
}

#[test]
fn copies_are_made_by_the_host_within_the_share() {
    let mut bench = bench(true);
    fs::write(bench.path("copy"), b"0123456789").unwrap();
    let (from, to) = (bench.lookup("file").unwrap(), bench.lookup("copy").unwrap());
    let copied = |reply: &(i32, Vec<u8>)| (reply.0, reply.1.first().copied());
    // Handle, offset, node, handle, offset, length, flags.
    let reply = bench.call(47, from, &words(&[0, 7, to, 0, 2, 100, 0]));
    assert_eq!(copied(&reply), (0, Some(6)));
    assert_eq!(fs::read(bench.path("copy")).unwrap(), b"01window89");
    assert_eq!(copied(&bench.call(47, from, &words(&[0, 13, to, 0, 0, u64::MAX, 0]))), (0, Some(0)), "at the end");
    let sub = bench.lookup("sub").unwrap();
    for (node, body, errno) in [
        (from, [0, 0, to, 0, 0, 5, 1], libc::EINVAL),
        (from, [0, u64::MAX, to, 0, 0, 5, 0], libc::EINVAL),
        (from, [0, 0, to, 0, 1 << 63, 5, 0], libc::EINVAL),
        (from, [0, 0, from, 0, 1, 5, 0], libc::EINVAL),
        (from, [0, 0, 999, 0, 0, 5, 0], libc::EBADF),
        (999, [0, 0, to, 0, 0, 5, 0], libc::EBADF),
        (sub, [0, 0, to, 0, 0, 5, 0], libc::EISDIR),
        (from, [0, 0, sub, 0, 0, 5, 0], libc::EISDIR),
    ] {
        assert_eq!(bench.call(47, node, &words(&body)).0, errno, "{node} {body:?}");
    }
    assert_eq!(bench.call(47, from, &words(&[0, 0, to])).0, libc::EINVAL, "half a body");
    assert_eq!(bench.call_room(47, from, &words(&[0, 0, to, 0, 0, 5, 0]), 7).0, libc::EINVAL, "no room for the answer");
    for node in [ROOT, from, 999] {
        assert_eq!(bench.call(50, node, &words(&[0])), (0, vec![]), "SYNCFS of node {node}");
    }
}
