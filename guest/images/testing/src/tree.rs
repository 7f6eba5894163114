//! Trees on the host, and images of them.

use diolkos_vfs::block::Block;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// An image in a file.
pub struct FileBlock(File, u64);

impl FileBlock {
    /// The image at `path`.
    pub fn open(path: &Path) -> Arc<Self> {
        let file = File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Arc::new(Self(file, len))
    }
}

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

pub(crate) fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Gives a file an extended attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let name = CString::new(name).unwrap();
    // SAFETY: both strings end in NUL, and the value is as long as said.
    let result = unsafe { libc::lsetxattr(c(path).as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    assert_eq!(result, 0, "{}: {}", path.display(), std::io::Error::last_os_error());
}

/// Gives a file, or a symbolic link itself, a time.
pub fn set_mtime(path: &Path, sec: i64, nsec: i64) {
    let times = [libc::timespec { tv_sec: sec, tv_nsec: nsec }; 2];
    // SAFETY: the path ends in NUL and there are two times.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    assert_eq!(result, 0);
}

impl Scene {
    /// An empty tree.
    #[expect(clippy::new_without_default, reason = "it makes directories")]
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir_in("/var/tmp").unwrap());
        fs::create_dir(scene.tree()).unwrap();
        scene
    }

    /// A place beside the tree.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The tree.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// Puts a file into the tree.
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

    /// An EROFS image of the tree.
    pub fn erofs(&self, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        run(Command::new("mkfs.erofs").arg("--quiet").args(options).arg(&image).arg(self.tree()));
        image
    }

    /// An image of the tree of ext2, ext3 or ext4, and of this size (as mke2fs knows it: `64M`).
    pub fn ext4(&self, name: &str, size: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        let _ = fs::remove_file(&image);
        run(Command::new("mke2fs").args(["-q", "-d"]).arg(self.tree()).args(options).arg(&image).arg(size));
        image
    }
}

/// Runs a program that must be there and succeed; what it said.
pub fn run(command: &mut Command) -> String {
    let outcome = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; .ci/run names its package"));
    assert!(outcome.status.success(), "{command:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}
