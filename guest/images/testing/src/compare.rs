//! Comparing what is in an image with the tree it was made of.

use crate::tree::c;
use diolkos_images::Format;
use diolkos_vfs::FileType;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How exactly times of change are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond.
    Exact,
    /// To the second, but of the root directory, which `mke2fs` gives the time of its run.
    Seconds,
    /// Not at all.
    Lost,
}

/// The extended attributes of a file on the host.
fn list_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (path, mut names) = (c(path), vec![0; 65536]);
    // SAFETY: the path ends in NUL and the buffer is as long as said.
    let len = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let mut found = BTreeMap::new();
    for name in names[..len as usize].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let (c_name, mut value) = (CString::new(name).unwrap(), vec![0; 65536]);
        // SAFETY: as above.
        let len = unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(len as usize);
        found.insert(name.to_vec(), value);
    }
    found
}

/// Reads content in pieces of an odd size, as nobody does, and from the end.
fn content<F: Format>(fs: &F, inode: &F::Inode, piece: usize) -> Vec<u8> {
    let mut bytes = vec![0; fs.metadata(inode).size as usize];
    let starts: Vec<usize> = (0..bytes.len()).step_by(piece).collect();
    for start in starts.into_iter().rev() {
        let end = (start + piece).min(bytes.len());
        fs.read(inode, start as u64, &mut bytes[start..end]).unwrap();
    }
    bytes
}

/// Compares everything below a directory with the host's. How many inodes there were.
pub fn compare<F: Format>(fs: &F, number: u64, host: &Path, times: Times) -> usize {
    let inode = fs.inode(number).unwrap();
    let (found, meta) = (fs.metadata(&inode), fs::symlink_metadata(host).unwrap());
    let at = host.display();
    assert_eq!((found.mode, found.uid, found.gid), (meta.mode(), meta.uid(), meta.gid()), "{at}");
    let (time, nanoseconds) = ((found.mtime.sec, i64::from(found.mtime.nsec)), meta.mtime_nsec());
    match times {
        Times::Exact => assert_eq!(time, (meta.mtime(), nanoseconds), "{at}"),
        Times::Seconds if number != fs.root() => assert_eq!(time.0, meta.mtime(), "{at}"),
        Times::Seconds | Times::Lost => {}
    }
    let mine: BTreeMap<_, _> = fs.xattrs(&inode).unwrap().into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
    assert_eq!(mine, list_xattrs(host), "{at}");
    let kind = meta.file_type();
    if kind.is_dir() {
        return 1 + compare_names(fs, &inode, host, times);
    }
    assert_eq!(u64::from(found.nlink), meta.nlink(), "{at}");
    if kind.is_symlink() {
        assert_eq!(fs.target(&inode).unwrap(), fs::read_link(host).unwrap().as_os_str().as_bytes(), "{at}");
    } else if kind.is_file() {
        let expected = fs::read(host).unwrap();
        for piece in [usize::MAX >> 1, 100_003] {
            assert!(content(fs, &inode, piece) == expected, "{at}: content in pieces of {piece}");
        }
    } else {
        assert_eq!(found.rdev, meta.rdev(), "{at}");
    }
    1
}

/// Entries that are in every image and in no tree: what `mke2fs` makes for what gets lost.
const EXTRA: &[u8] = b"lost+found";

fn compare_names<F: Format>(fs: &F, inode: &F::Inode, host: &Path, times: Times) -> usize {
    let mut listed = BTreeMap::new();
    fs.list(inode, 0, &mut |entry, _| {
        assert!(listed.insert(entry.name.to_vec(), (entry.nid, entry.file_type)).is_none());
        true
    })
    .unwrap();
    assert_eq!(listed.remove(&b"."[..]).unwrap().0, fs.metadata(inode).ino);
    listed.remove(&b".."[..]).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(host).unwrap() {
        let name = entry.unwrap().file_name();
        let (number, kind) = listed.remove(name.as_bytes()).unwrap();
        assert_eq!(fs.lookup(inode, name.as_bytes()).unwrap(), Some(number));
        assert_eq!(kind, FileType::from_mode(fs.metadata(&fs.inode(number).unwrap()).mode));
        count += compare(fs, number, &host.join(name), times);
    }
    listed.remove(EXTRA);
    assert!(listed.is_empty(), "names that are not there: {listed:?}");
    count
}
