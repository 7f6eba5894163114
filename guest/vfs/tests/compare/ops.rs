//! Operations, and what they answer.

use diolkos_vfs::{OpenFlags, RenameFlags};

/// A path as bytes, shown as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(pub Vec<u8>);

impl Path {
    pub fn new(path: &str) -> Self {
        Self(path.as_bytes().to_vec())
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        match text.char_indices().nth(60) {
            None => write!(f, "{text:?}"),
            Some((cut, _)) => write!(f, "{:?}…({} bytes)", &text[..cut], self.0.len()),
        }
    }
}

/// One operation. Relative paths start at the working directory of [`Op::Chdir`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Chdir(Path),
    Getcwd,
    /// Opens and, when that works, tells type and size of what was opened, and closes.
    Open(Path, OpenFlags, u32),
    /// Opens for writing and writes this many bytes of this value at this offset (or at the end with `O_APPEND`).
    Write(Path, OpenFlags, u64, usize, u8),
    /// Opens and reads from this offset.
    Read(Path, u64, usize),
    Readdir(Path),
    /// stat(2), or with `false` lstat(2).
    Stat(Path, bool),
    Access(Path, u32),
    Mkdir(Path, u32),
    Mknod(Path, u32),
    Symlink(Path, Path),
    /// The last says whether to follow the old name.
    Link(Path, Path, bool),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, RenameFlags),
    Readlink(Path),
    Truncate(Path, u64),
    Chmod(Path, u32),
    Chown(Path, u32, u32, bool),
    Utimens(Path, i64, u32, bool),
    /// Opens, does the inner operation, and then says what the open file has become: stat and the first bytes.
    Holding(Path, Box<Op>),
}

/// What stat(2) tells and must agree: everything but numbers of inodes and devices, and the times kept by clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub blocks: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Done,
    Bytes(Vec<u8>),
    Count(usize),
    Shown(Shown),
    /// Time of last change of the content, when it was set.
    Time(i64, u32),
    /// Names with their types, sorted.
    Names(Vec<(Vec<u8>, u8)>),
    Held(Box<Answer>, Shown, Vec<u8>),
}

/// A value or an errno.
pub type Answer = Result<Value, i32>;

/// Something operations can be done on.
pub trait World {
    fn run(&self, op: &Op) -> Answer;
}
