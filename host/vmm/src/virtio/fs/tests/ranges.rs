//! Space, holes and copies: every mode the host has, compared with the host's own answer on a twin of the file.

use super::*;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// 64 KiB of data, a hole of as much, and 64 KiB of data.
fn with_hole(path: &Path) -> fs::File {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all_at(&[7; 64 << 10], 0).unwrap();
    file.write_all_at(&[9; 64 << 10], 128 << 10).unwrap();
    file
}

#[test]
fn space_is_given_taken_and_moved_as_the_host_does_it() {
    let mut bench = bench(true);
    let mut worked = 0;
    for mode in (0..0x80).filter(|mode| (mode & 0b100) == 0) {
        for (offset, len) in
            [(0, 4096), (4096, 65536), (1 << 20, 4096), (5, 5), (0, 0), (1 << 63, 1), (1 << 62, 1 << 62)]
        {
            let twin = with_hole(&bench.path("twin"));
            drop(with_hole(&bench.path("ours")));
            let node = bench.lookup("ours").unwrap();
            let handle = bench.open(node, libc::O_RDWR).unwrap();
            let expected = fallocate(&twin, FallocateFlags::from_bits_retain(mode), offset, len);
            let body = [words(&[handle, offset, len]), halves(&[mode, 0])].concat();
            let errno = bench.call(43, node, &body).0;
            assert_eq!(errno, expected.map_or_else(Errno::raw_os_error, |()| 0), "{mode:#x} {offset:#x}+{len:#x}");
            if errno == 0 {
                worked += 1;
                assert!(fs::read(bench.path("ours")).unwrap() == fs::read(bench.path("twin")).unwrap(), "{mode:#x}");
            }
            let release = [words(&[handle]), halves(&[0, 0]), words(&[0])].concat();
            assert_eq!(bench.call(18, node, &release).0, 0);
        }
    }
    assert!(worked >= 6, "{worked} went through");
}

#[test]
fn data_and_holes_are_where_the_host_has_them() {
    let mut bench = bench(false);
    let twin = with_hole(&bench.path("sparse"));
    let node = bench.lookup("sparse").unwrap();
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    for offset in [0, 1, 64 << 10, 100 << 10, 128 << 10, (192 << 10) - 1, 192 << 10, 1 << 40, 1 << 63] {
        for (whence, from) in [(libc::SEEK_DATA, SeekFrom::Data(offset)), (libc::SEEK_HOLE, SeekFrom::Hole(offset))] {
            let body = [words(&[handle, offset]), halves(&[whence as u32, 0])].concat();
            let (errno, reply) = bench.call(46, node, &body);
            let answer = if errno == 0 { Ok(word(&reply, 0)) } else { Err(errno) };
            assert_eq!(answer, seek(&twin, from).map_err(Errno::raw_os_error), "{from:?}");
        }
    }
    let body = [words(&[handle, 0]), halves(&[libc::SEEK_END as u32, 0])].concat();
    assert_eq!(bench.call(46, node, &body).0, libc::EINVAL, "a guest knows its own position");
}
