//! Extended attributes, space, holes and copies against a real server, and what they do to the window.

mod server;

use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::{Access, Allocation, Errno, OpenFlags, Sought, XattrFlags, XattrName};
use server::*;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

const ANY: XattrFlags = XattrFlags::empty();

fn attribute(name: &str) -> XattrName<'_> {
    XattrName::new(name.as_bytes()).unwrap()
}

#[test]
fn attributes_are_the_hosts() {
    let rig = Setup::default().build();
    let path = rig.put("f", b"x");
    let node = rig.find("f").unwrap();
    let before = node.metadata().unwrap();
    let (colour, mut value) = (attribute("user.colour"), [0; 20]);
    assert_eq!(node.xattr(colour, &mut value), Err(Errno::ENODATA));
    assert_eq!(node.set_xattr(colour, b"blue", XattrFlags::REPLACE), Err(Errno::ENODATA));
    node.set_xattr(colour, b"blue", XattrFlags::CREATE).unwrap();
    assert_eq!(node.set_xattr(colour, b"red", XattrFlags::CREATE), Err(Errno::EEXIST));
    assert!(node.metadata().unwrap().ctime > before.ctime, "the time of change is asked for again");
    assert_eq!((node.xattr(colour, &mut []), node.xattr(colour, &mut value)), (Ok(4), Ok(4)));
    assert_eq!(&value[..5], b"blue\0");
    assert_eq!(node.xattr(colour, &mut [0; 3]), Err(Errno::ERANGE));
    node.set_xattr(attribute("user.empty"), b"", ANY).unwrap();
    assert_eq!(node.xattr(attribute("user.empty"), &mut value), Ok(0));
    let length = node.list_xattrs(&mut []).unwrap();
    let mut list = vec![0; length];
    assert_eq!(node.list_xattrs(&mut list), Ok(length));
    let mut names: Vec<_> = list.split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")).collect();
    names.sort();
    assert_eq!(names, [&b"user.colour"[..], b"user.empty"]);
    assert_eq!(node.list_xattrs(&mut [0; 5]), Err(Errno::ERANGE));
    node.remove_xattr(colour).unwrap();
    assert_eq!(node.remove_xattr(colour), Err(Errno::ENODATA));
    assert_eq!(node.set_xattr(attribute("nothing.at.all"), b"", ANY), Err(Errno::EOPNOTSUPP));
    assert_eq!(node.set_xattr(colour, &[0; 65537], ANY), Err(Errno::E2BIG));
    // The link's own, not what it leads to.
    symlink(&path, rig.path("link")).unwrap();
    let link = rig.find("link").unwrap();
    assert_eq!(link.set_xattr(colour, b"v", ANY), Err(Errno::EPERM));
    assert_eq!(link.xattr(attribute("user.empty"), &mut value), Err(Errno::ENODATA));
}

#[test]
fn a_share_mounted_read_only_asks_nobody_to_change_it() {
    let rig = Setup { writable: false, ..Setup::default() }.build();
    rig.put("f", b"x");
    let node = rig.find("f").unwrap();
    assert_eq!(node.set_xattr(attribute("user.a"), b"v", ANY), Err(Errno::EROFS));
    assert_eq!(node.remove_xattr(attribute("user.a")), Err(Errno::EROFS));
    assert_eq!((rig.count("fuse.SETXATTR"), rig.count("fuse.REMOVEXATTR")), (0, 0));
    let file = node.open(OpenFlags::empty()).unwrap();
    assert_eq!(file.allocate(Allocation::Punch, 0, 1), Err(Errno::EBADF));
}

#[test]
fn what_is_punched_reads_as_zeros_through_a_window_that_stays() {
    for (window, cache) in [(0, CacheMode::Auto), (16 * CHUNK, CacheMode::Auto), (16 * CHUNK, CacheMode::Always)] {
        let rig = Setup { window, cache, ..Setup::default() }.build();
        let (size, hole) = (3 * CHUNK, CHUNK - 8192..CHUNK + 4096);
        let mut content = vec![b'c'; size];
        let path = rig.put("f", &content);
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        assert!(read(&file, 0, size).unwrap() == content);
        let run = file.map(CHUNK as u64, Access::Write).unwrap();
        assert_eq!(run.is_some(), window > 0);
        file.allocate(Allocation::Punch, hole.start as u64, hole.len() as u64).unwrap();
        content[hole].fill(0);
        assert!(read(&file, 0, size).unwrap() == content);
        assert!(std::fs::read(&path).unwrap() == content);
        if let Some(run) = run {
            // The program's mapping leads to the same place, and what it stores there is in the file.
            rig.mapper.as_ref().unwrap().poke((run.phys - PHYS) as usize, b"stored");
            content[CHUNK..CHUNK + 6].copy_from_slice(b"stored");
            assert!(read(&file, 0, size).unwrap() == content && std::fs::read(&path).unwrap() == content);
        }
        assert!(rig.machine.revoked.lock().unwrap().is_empty());
        assert_eq!(path.metadata().unwrap().size(), size as u64);
    }
}

#[test]
fn reserving_and_zeroing_make_a_file_longer_only_when_asked_to() {
    let rig = Setup::default().build();
    let path = rig.put("f", b"abc");
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    assert_eq!(read(&file, 0, 3).unwrap(), b"abc");
    let size = || file.inode().metadata().unwrap().size;
    file.allocate(Allocation::Reserve { keep_size: true }, 0, 10_000).unwrap();
    assert_eq!((size(), path.metadata().unwrap().size()), (3, 3));
    file.allocate(Allocation::Reserve { keep_size: false }, 0, 10_000).unwrap();
    assert_eq!((size(), path.metadata().unwrap().size()), (10_000, 10_000));
    assert_eq!(read(&file, 2, 3).unwrap(), b"c\0\0", "and the new part is there to be read");
    file.allocate(Allocation::Reserve { keep_size: false }, 0, 5).unwrap();
    assert_eq!(size(), 10_000, "never shorter");
    file.allocate(Allocation::Zero { keep_size: false }, 1, 20_000).unwrap();
    assert_eq!((size(), read(&file, 0, 3).unwrap()), (20_001, b"a\0\0".to_vec()));
    for (offset, len) in [(i64::MAX as u64, 1), (u64::MAX, 5), (5, u64::MAX)] {
        assert_eq!(file.allocate(Allocation::Reserve { keep_size: false }, offset, len), Err(Errno::EFBIG));
    }
}

#[test]
fn taking_a_range_out_or_putting_one_in_moves_what_is_behind_it() {
    const BLOCK: usize = 4096;
    for window in [0, 16 * CHUNK] {
        let rig = Setup { window, ..Setup::default() }.build();
        let mut content: Vec<u8> = (0..2 * CHUNK + 3 * BLOCK).map(|i| (i / BLOCK) as u8).collect();
        let path = rig.put("f", &content);
        let file = rig.open("f", OpenFlags::RDWR).unwrap();
        assert!(read(&file, 0, content.len()).unwrap() == content);
        let host = std::fs::File::options().write(true).open(&path).unwrap();
        // SAFETY: a plain system call on a descriptor of ours.
        if unsafe { libc::fallocate(std::os::fd::AsRawFd::as_raw_fd(&host), 0x20, 0, BLOCK as i64) } != 0 {
            // The temporary directory's file system cannot do it, and then it is the guest that has to hear so.
            assert_eq!(file.allocate(Allocation::Insert, 0, BLOCK as u64), Err(Errno::EOPNOTSUPP));
            assert_eq!(file.allocate(Allocation::Collapse, 0, BLOCK as u64), Err(Errno::EOPNOTSUPP));
            continue;
        }
        content.splice(0..0, [0; BLOCK]);
        file.allocate(Allocation::Insert, BLOCK as u64, 2 * BLOCK as u64).unwrap();
        content.splice(BLOCK..BLOCK, [0; 2 * BLOCK]);
        assert_eq!(file.inode().metadata().unwrap().size, content.len() as u64);
        assert!(read(&file, 0, content.len()).unwrap() == content);
        // Far enough for the last chunk to be given back.
        file.allocate(Allocation::Collapse, BLOCK as u64, (CHUNK + BLOCK) as u64).unwrap();
        content.drain(BLOCK..CHUNK + 2 * BLOCK);
        assert_eq!(file.inode().metadata().unwrap().size, content.len() as u64);
        assert!(read(&file, 0, 4 * CHUNK).unwrap() == content && std::fs::read(&path).unwrap() == content);
        let size = content.len() as u64;
        assert_eq!(file.allocate(Allocation::Collapse, 1, BLOCK as u64), Err(Errno::EINVAL), "not whole blocks");
        assert_eq!(
            file.allocate(Allocation::Collapse, 0, size.next_multiple_of(4096)),
            Err(Errno::EINVAL),
            "to the end"
        );
        assert_eq!(file.allocate(Allocation::Insert, size.next_multiple_of(4096), 4096), Err(Errno::EINVAL), "past it");
    }
}

#[test]
fn data_and_holes_are_where_the_host_has_them() {
    let rig = Setup::default().build();
    let path = rig.put("f", b"");
    let host = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    host.set_len(1 << 20).unwrap();
    host.write_all_at(&[1; 5000], 300_000).unwrap();
    host.sync_all().unwrap();
    let file = rig.open("f", OpenFlags::empty()).unwrap();
    // What the host itself says, which depends on its file system.
    let ask = |whence, offset| {
        use std::os::fd::AsRawFd;
        // SAFETY: a plain system call on a descriptor of ours.
        let found = unsafe { libc::lseek(host.as_raw_fd(), offset, whence) };
        u64::try_from(found).map_err(|_| Errno::ENXIO)
    };
    for offset in [0, 1, 300_000, 305_000, 400_000, 1 << 20, 1 << 40] {
        assert_eq!(file.seek(Sought::Data, offset), ask(libc::SEEK_DATA, offset as i64), "data from {offset}");
        assert_eq!(file.seek(Sought::Hole, offset), ask(libc::SEEK_HOLE, offset as i64), "hole from {offset}");
    }
}

#[test]
fn copies_the_host_cannot_make_are_left_to_the_caller() {
    let (rig, other) = (Setup::default().build(), Setup::default().build());
    rig.put("f", b"abc");
    other.put("g", b"");
    let (from, to) = (rig.open("f", OpenFlags::RDWR).unwrap(), other.open("g", OpenFlags::RDWR).unwrap());
    assert_eq!(from.copy_range(0, &*to, 0, 3), Err(Errno::EXDEV), "another share");
    assert_eq!(rig.count("fuse.COPY_FILE_RANGE"), 0);
    assert_eq!(from.copy_range(0, &*from, 100, 3), Err(Errno::EOPNOTSUPP), "this server has no such thing");
    let reader = rig.open("f", OpenFlags::empty()).unwrap();
    assert_eq!(from.copy_range(0, &*reader, 100, 3), Err(Errno::EBADF));
}
