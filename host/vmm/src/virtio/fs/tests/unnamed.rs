//! TMPFILE: files without a name.

use super::*;

fn tmpfile(bench: &mut Bench, parent: u64, flags: i32) -> Result<(u64, u64), i32> {
    let mut body = halves(&[flags as u32, 0o640, 0, 0]);
    body.extend(b"/\0");
    match bench.call(51, parent, &body) {
        (0, created) => {
            assert_eq!(created.len(), 144);
            assert_eq!(half(&created, 40 + 60), libc::S_IFREG | 0o640, "mode");
            Ok((word(&created, 0), word(&created, 128)))
        }
        (errno, _) => Err(errno),
    }
}

#[test]
fn a_file_without_a_name_is_written_read_and_given_a_name() {
    let mut bench = bench(true);
    let sub = bench.lookup("sub").unwrap();
    let (node, handle) = tmpfile(&mut bench, sub, libc::O_RDWR).unwrap();
    let write = [words(&[handle, 0]), halves(&[4, 0]), words(&[0, 0]), b"data".to_vec()].concat();
    assert_eq!(bench.call(16, node, &write).0, 0);
    assert_eq!(bench.read(node, handle, 0, 10), (0, b"data".to_vec()));
    assert_eq!(fs::read_dir(bench.path("sub")).unwrap().count(), 0);
    assert_eq!(bench.map(node, 0, 4096, 1, 0), 0, "and mapped");
    let mut link = words(&[node]);
    link.extend(b"named\0");
    assert_eq!(word(&bench.call(13, ROOT, &link).1, 0), node);
    assert_eq!(fs::read(bench.path("named")).unwrap(), b"data");
}

#[test]
fn what_must_stay_unnamed_does() {
    let mut bench = bench(true);
    let (node, _) = tmpfile(&mut bench, ROOT, libc::O_RDWR | libc::O_EXCL).unwrap();
    let mut link = words(&[node]);
    link.extend(b"named\0");
    assert_eq!(bench.call(13, ROOT, &link).0, libc::ENOENT);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let mut writable = bench(true);
    let file = writable.lookup("file").unwrap();
    assert_eq!(tmpfile(&mut writable, file, libc::O_RDWR), Err(libc::ENOTDIR));
    assert_eq!(tmpfile(&mut writable, 999, libc::O_RDWR), Err(libc::EBADF));
    assert_eq!(tmpfile(&mut writable, ROOT, libc::O_RDONLY), Err(libc::EINVAL), "open(2): for writing only");
    assert_eq!(writable.call(51, ROOT, &halves(&[2, 0])).0, libc::EINVAL, "half a body");
    let body = halves(&[libc::O_RDWR as u32, 0o640, 0, 0]);
    assert_eq!(writable.call_room(51, ROOT, &body, 143).0, libc::EINVAL, "no room for the answer");
    assert_eq!(tmpfile(&mut bench(false), ROOT, libc::O_RDWR), Err(libc::EROFS));
}
