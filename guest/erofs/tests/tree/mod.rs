//! What tests of images have in common: trees on the host, images of them, and comparisons.

use diolkos_erofs::{Erofs, Inode};
use diolkos_vfs::block::Block;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// An image in a file.
pub struct FileBlock(pub File, pub u64);

impl Block for FileBlock {
    fn len(&self) -> u64 {
        self.1
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> diolkos_vfs::Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|_| diolkos_vfs::Errno::EIO)
    }
}

/// A directory that goes when this does, with a tree in `tree` and images beside it.
pub struct Scene(tempfile::TempDir);

/// Bytes that compress somewhat, and differ from place to place.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (state >> 33) as u32;
        match word % 4 {
            0 => bytes.extend(word.to_le_bytes()),
            1 => bytes.extend(b"the quick brown fox "),
            2 => bytes.extend([b' '; 7]),
            _ => bytes.extend(format!("{} ", word % 1000).bytes()),
        }
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let name = CString::new(name).unwrap();
    // SAFETY: both strings end in NUL, and the value is as long as said.
    let result = unsafe { libc::lsetxattr(c(path).as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(result, 0, "{}: {}", path.display(), std::io::Error::last_os_error());
}

fn set_mtime(path: &Path, sec: i64, nsec: i64) {
    let times = [libc::timespec { tv_sec: sec, tv_nsec: nsec }; 2];
    // SAFETY: the path ends in NUL and there are two times.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    assert_eq!(result, 0);
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir_in("/var/tmp").unwrap());
        fs::create_dir(scene.tree()).unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(content).unwrap();
    }

    /// Something of everything.
    pub fn fill(&self) {
        let tree = self.tree();
        for len in [0, 1, 100, 4000, 4095, 4096, 4097, 8192, 20_000, 300_000, 3_000_001] {
            self.write(&format!("text/{len}"), &text(len as u64, len));
            self.write(&format!("noise/{len}"), &noise(len as u64, len));
        }
        self.write("zeros", &vec![0; 5_000_000]);
        let mixed: Vec<u8> = (0..40).flat_map(|i| [text(i, 30_000), noise(i, 9_000)].concat()).collect();
        self.write("mixed", &mixed);
        for i in 0..2000 {
            self.write(&format!("many/a file with quite a long name, number {i}"), format!("{i}").as_bytes());
        }
        fs::create_dir_all(tree.join("empty")).unwrap();
        fs::hard_link(tree.join("mixed"), tree.join("another name")).unwrap();
        symlink("text/../mixed", tree.join("link")).unwrap();
        symlink("x".repeat(3000), tree.join("long link")).unwrap();
        // mkfs.erofs 1.5 fails on names of 255 bytes.
        self.write(&format!("{}/{}", "d".repeat(254), "f".repeat(254)), b"long names");
        self.write("not ÄSCII", b"and not");
        let sparse = File::create(tree.join("sparse")).unwrap();
        sparse.set_len(40 << 20).unwrap();
        sparse.write_all_at(b"in the middle", 17 << 20).unwrap();
        for (name, mode, dev) in [
            ("fifo", libc::S_IFIFO, 0),
            ("socket", libc::S_IFSOCK, 0),
            ("char", libc::S_IFCHR, libc::makedev(5, 1)),
            ("block", libc::S_IFBLK, libc::makedev(259, 70_000)),
        ] {
            // SAFETY: the path ends in NUL.
            assert_eq!(unsafe { libc::mknod(c(&tree.join(name)).as_ptr(), mode | 0o640, dev) }, 0, "tests run as root");
        }
        for (i, name) in ["text/100", "text/20000", "mixed", "empty"].into_iter().enumerate() {
            let path = tree.join(name);
            set_xattr(&path, "user.own", &text(i as u64, 50 + i));
            for name in ["user.shared", "trusted.shared", "security.shared"] {
                set_xattr(&path, name, b"the same everywhere");
            }
            std::os::unix::fs::lchown(&path, Some(1000 + 70_000 * i as u32), Some(100_000)).unwrap();
            set_mtime(&path, 1_000_000_000 + i as i64, 123_456_789);
        }
        set_mtime(&tree.join("link"), -5, 7);
        fs::set_permissions(tree.join("text/1"), std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    }

    /// An image of the tree.
    pub fn image(&self, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        let made =
            Command::new("mkfs.erofs").arg("--quiet").args(options).arg(&image).arg(self.tree()).output().unwrap();
        assert!(made.status.success(), "mkfs.erofs {options:?}: {}", String::from_utf8_lossy(&made.stderr));
        image
    }
}

pub fn open(image: &Path) -> Erofs {
    let file = File::open(image).unwrap();
    let len = file.metadata().unwrap().len();
    Erofs::open(Arc::new(FileBlock(file, len))).unwrap()
}

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

/// Reads content in pieces of an odd size, as nobody does, and from the end, as well as in one piece.
fn content(fs: &Erofs, inode: &Inode, piece: usize) -> Vec<u8> {
    let mut bytes = vec![0; inode.size as usize];
    let starts: Vec<usize> = (0..bytes.len()).step_by(piece).collect();
    for start in starts.into_iter().rev() {
        let end = (start + piece).min(bytes.len());
        fs.read(inode, start as u64, &mut bytes[start..end]).unwrap();
    }
    bytes
}

/// Compares everything below a directory with the host's. How many inodes there were.
pub fn compare(fs: &Erofs, nid: u64, host: &Path, times: bool) -> usize {
    let inode = fs.inode(nid).unwrap();
    let meta = fs::symlink_metadata(host).unwrap();
    let at = host.display();
    assert_eq!(inode.mode, meta.mode(), "{at}");
    assert_eq!((inode.uid, inode.gid), (meta.uid(), meta.gid()), "{at}");
    if times {
        assert_eq!((inode.mtime.sec, i64::from(inode.mtime.nsec)), (meta.mtime(), meta.mtime_nsec()), "{at}");
    }
    let mine: BTreeMap<_, _> = fs.xattrs(&inode).unwrap().into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
    assert_eq!(mine, list_xattrs(host), "{at}");
    let kind = meta.file_type();
    if kind.is_dir() {
        return 1 + compare_names(fs, &inode, host, times);
    }
    assert_eq!(u64::from(inode.nlink), meta.nlink(), "{at}");
    if kind.is_symlink() {
        assert_eq!(fs.target(&inode).unwrap(), fs::read_link(host).unwrap().as_os_str().as_bytes(), "{at}");
    } else if kind.is_file() {
        let expected = fs::read(host).unwrap();
        for piece in [usize::MAX >> 1, 100_003] {
            assert!(content(fs, &inode, piece) == expected, "{at}: content in pieces of {piece}");
        }
    } else {
        assert_eq!(inode.rdev, meta.rdev(), "{at}");
    }
    1
}

fn compare_names(fs: &Erofs, inode: &Inode, host: &Path, times: bool) -> usize {
    let mut listed = BTreeMap::new();
    fs.list(inode, 0, &mut |entry, _| {
        assert!(listed.insert(entry.name.to_vec(), (entry.nid, entry.file_type)).is_none());
        true
    })
    .unwrap();
    assert_eq!(listed.remove(&b"."[..]).unwrap().0, inode.nid);
    listed.remove(&b".."[..]).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(host).unwrap() {
        let name = entry.unwrap().file_name();
        let (nid, kind) = listed.remove(name.as_bytes()).unwrap();
        assert_eq!(fs.lookup(inode, name.as_bytes()).unwrap(), Some(nid));
        assert_eq!(kind, Some(fs.inode(nid).unwrap().file_type()));
        count += compare(fs, nid, &host.join(name), times);
    }
    assert!(listed.is_empty(), "names that are not there: {listed:?}");
    count
}
