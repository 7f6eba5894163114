//! What the client does when the host breaks the rules: conversations with a script instead of a server.

mod answers;
mod frames;
mod lacking;
#[path = "../server/lent.rs"]
mod lent;

use diolkos_common::cmdline::{CacheMode, DaxIo, DaxPolicy};
use diolkos_vfs::{
    Allocation, DirEntry, Errno, File, Inode, Name, OpenFlags, Result, SliceSink, SliceSource, Sought, XattrFlags,
    XattrName,
};
use diolkos_virtiofs::{INODES, Lent, Mount, MountOptions, NoDax, Platform, Tally, Transport, WindowMemory, mount};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const OPCODES: &[(&str, u32)] = &[
    ("LOOKUP", 1),
    ("FORGET", 2),
    ("GETATTR", 3),
    ("SETATTR", 4),
    ("READLINK", 5),
    ("SYMLINK", 6),
    ("MKNOD", 8),
    ("MKDIR", 9),
    ("UNLINK", 10),
    ("RENAME", 12),
    ("LINK", 13),
    ("OPEN", 14),
    ("READ", 15),
    ("WRITE", 16),
    ("STATFS", 17),
    ("RELEASE", 18),
    ("FSYNC", 20),
    ("SETXATTR", 21),
    ("GETXATTR", 22),
    ("LISTXATTR", 23),
    ("REMOVEXATTR", 24),
    ("FLUSH", 25),
    ("INIT", 26),
    ("OPENDIR", 27),
    ("READDIR", 28),
    ("RELEASEDIR", 29),
    ("ACCESS", 34),
    ("CREATE", 35),
    ("DESTROY", 38),
    ("BATCH_FORGET", 42),
    ("FALLOCATE", 43),
    ("READDIRPLUS", 44),
    ("RENAME2", 45),
    ("LSEEK", 46),
    ("COPY_FILE_RANGE", 47),
    ("SETUPMAPPING", 48),
    ("REMOVEMAPPING", 49),
    ("SYNCFS", 50),
    ("TMPFILE", 51),
];

/// A request as the host sees it.
struct Request {
    opcode: u32,
    unique: u64,
    node: u64,
    body: Vec<u8>,
}

impl Request {
    fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(half(0) as usize, bytes.len(), "the length in the header is the length of the message");
        Self { opcode: half(4), unique: word(8), node: word(16), body: bytes[40..].to_vec() }
    }

    fn is(&self, name: &str) -> bool {
        OPCODES.iter().any(|(known, opcode)| *known == name && *opcode == self.opcode)
    }

    fn name(&self) -> &'static str {
        OPCODES.iter().find(|(_, opcode)| *opcode == self.opcode).unwrap().0
    }

    fn half(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.body[at..at + 4].try_into().unwrap())
    }
}

/// An answer on the wire, and the length the device claims.
#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    claimed: usize,
}

fn frame(unique: u64, error: i32, body: &[u8]) -> Answer {
    let mut bytes = Vec::new();
    bytes.extend((16 + body.len() as u32).to_le_bytes());
    bytes.extend(error.to_le_bytes());
    bytes.extend(unique.to_le_bytes());
    bytes.extend(body);
    Answer { claimed: bytes.len(), bytes }
}

fn attr(ino: u64, mode: u32, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [ino, size, 8, 1, 2, 3] {
        bytes.extend(word.to_le_bytes());
    }
    for half in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

fn attr_out(ino: u64, mode: u32, size: u64) -> Vec<u8> {
    [vec![0; 16], attr(ino, mode, size)].concat()
}

/// An entry that may be kept for ten seconds.
fn entry(node: u64, mode: u32, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [node, 0, 10, 10, 0] {
        bytes.extend(u64::to_le_bytes(word));
    }
    bytes.extend(attr(node, mode, size));
    bytes
}

fn dirent(ino: u64, next: u64, name: &str) -> Vec<u8> {
    let mut bytes = [ino.to_le_bytes(), next.to_le_bytes()].concat();
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

const REGULAR: u32 = 0o100644;
const DIRECTORY: u32 = 0o040755;
const SYMLINK: u32 = 0o120777;
const SIZE: u64 = 3000;

/// A host that keeps to the rules: `f` is a regular file (node 2) of 3,000 bytes `F`, `l` a link (node 3), `d` a
/// directory (node 4).
fn honest(request: &Request) -> std::result::Result<Vec<u8>, i32> {
    let of_node = || match request.node {
        3 => attr_out(3, SYMLINK, 6),
        2 => attr_out(2, REGULAR, SIZE),
        node => attr_out(node, DIRECTORY, 0),
    };
    Ok(match request.name() {
        "INIT" => {
            let mut out = vec![0; 64];
            out[0] = 7;
            out[4] = 38;
            out[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
            out[20..24].copy_from_slice(&65536u32.to_le_bytes());
            out[28] = 16;
            out[30] = 12;
            out
        }
        "GETATTR" | "SETATTR" => of_node(),
        "LOOKUP" => match &request.body[..] {
            b"f\0" => entry(2, REGULAR, SIZE),
            b"l\0" => entry(3, SYMLINK, 6),
            b"d\0" => entry(4, DIRECTORY, 0),
            _ => return Err(-2),
        },
        "READLINK" => b"target".to_vec(),
        "OPEN" | "OPENDIR" => vec![0; 16],
        "CREATE" => [entry(9, REGULAR, 0), vec![0; 16]].concat(),
        "TMPFILE" => [entry(12, REGULAR, 0), vec![0; 16]].concat(),
        "GETXATTR" if request.half(0) == 0 => vec![5, 0, 0, 0, 0, 0, 0, 0],
        "GETXATTR" => b"value".to_vec(),
        "LISTXATTR" if request.half(0) == 0 => vec![7, 0, 0, 0, 0, 0, 0, 0],
        "LISTXATTR" => b"user.a\0".to_vec(),
        "LSEEK" => request.body[8..16].to_vec(),
        "COPY_FILE_RANGE" => [&request.body[40..44], &[0; 4]].concat(),
        "SYMLINK" => entry(10, SYMLINK, 1),
        "MKDIR" => entry(11, DIRECTORY, 0),
        "LINK" => entry(2, REGULAR, SIZE),
        "READ" => {
            let (offset, size) = (request.half(8) as usize, request.half(16) as usize);
            vec![b'F'; size.min((SIZE as usize).saturating_sub(offset))]
        }
        "WRITE" => [request.half(16).to_le_bytes(), [0; 4]].concat(),
        "STATFS" => vec![1; 80],
        "READDIR" if request.half(8) == 0 => [dirent(2, 1, "f"), dirent(3, 2, "l")].concat(),
        "READDIRPLUS" if request.half(8) == 0 => {
            [entry(2, REGULAR, SIZE), dirent(2, 1, "f"), vec![0; 128], dirent(3, 2, "l")].concat()
        }
        _ => Vec::new(),
    })
}

type Rule = Box<dyn Fn(&Request, Answer) -> Answer + Send + Sync>;

/// The host: honest, but for a rule that may spoil its answers.
struct Host {
    rule: Mutex<Rule>,
    seen: Mutex<Vec<&'static str>>,
    forgotten: Mutex<Vec<Request>>,
}

impl Transport for Host {
    fn request(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> Result<usize> {
        assert!(request.iter().all(|part| !part.is_empty()) && reply.iter().all(|part| !part.is_empty()));
        let request = Request::parse(&[request.concat(), lent::sent(lent)].concat());
        self.seen.lock().unwrap().push(request.name());
        let answer = match honest(&request) {
            Ok(body) => frame(request.unique, 0, &body),
            Err(error) => frame(request.unique, error, &[]),
        };
        let answer = (self.rule.lock().unwrap())(&request, answer);
        let mut rest = &answer.bytes[..];
        for part in reply {
            let (now, later) = rest.split_at(part.len().min(rest.len()));
            part[..now.len()].copy_from_slice(now);
            rest = later;
        }
        lent::fill(lent, rest);
        Ok(answer.claimed)
    }

    fn wait_for(&self, over: &dyn Fn() -> bool) {
        while !over() {
            std::thread::yield_now();
        }
    }

    fn most_pieces(&self) -> usize {
        1
    }

    fn forget(&self, message: &[u8]) {
        self.forgotten.lock().unwrap().push(Request::parse(message));
    }
}

#[derive(Default)]
struct Machine(AtomicU64);

impl Platform for Machine {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn revoke(&self, _phys: u64, _len: u64) {}

    fn pause(&self) {
        std::thread::yield_now();
    }
}

const WINDOW: usize = 4 << 20;

thread_local! {
    static TRACE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// One window a test: nothing here maps anything real.
fn window() -> WindowMemory {
    thread_local! {
        static START: NonNull<u8> = {
            let window = Vec::leak(vec![b'W'; WINDOW + 4096]);
            NonNull::new(window.as_mut_ptr().wrapping_add(window.as_ptr().align_offset(4096))).unwrap()
        };
    }
    // SAFETY: memory leaked for good, of which `WINDOW` bytes lie after the aligned start.
    unsafe { WindowMemory::new(0, START.with(|start| *start), WINDOW as u64) }.unwrap()
}

fn start(rule: Rule, cache: CacheMode) -> (Arc<Host>, Result<Mount>) {
    let host = Arc::new(Host { rule: Mutex::new(rule), seen: Mutex::default(), forgotten: Mutex::default() });
    let options = MountOptions {
        tag: "t".into(),
        dev: 1,
        writable: true,
        cache,
        inodes: INODES,
        dax: DaxPolicy::Clock,
        dax_io: DaxIo::Window,
        ids: (0, 0),
        trace: Some(|line| TRACE.with_borrow_mut(|trace| trace.push(line.to_string()))),
    };
    let mounted = mount(host.clone(), Arc::new(Machine::default()), Some(window()), options);
    (host, mounted)
}

fn honestly() -> Rule {
    Box::new(|_, answer| answer)
}

/// Spoils every answer to one opcode.
fn spoiling(name: &'static str, spoil: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Rule {
    Box::new(move |request, answer| if request.is(name) { spoil(request) } else { answer })
}

fn n(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let got = file.read_at(offset, &mut SliceSink::new(&mut buffer))?;
    buffer.truncate(got);
    Ok(buffer)
}

fn listing(dir: &Arc<dyn Inode>) -> Result<Vec<String>> {
    let (dir, mut names, mut cookie) = (dir.clone().open(OpenFlags::DIRECTORY)?, Vec::new(), 0);
    loop {
        let before = names.len();
        dir.readdir(cookie, &mut |entry: &DirEntry<'_>| {
            cookie = entry.next;
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            names.len() < 100
        })?;
        if names.len() == before || names.len() >= 100 {
            return Ok(names);
        }
    }
}

/// One of everything. The results do not matter, only that it comes back.
fn everything(mount: &Mount) -> Vec<Option<Errno>> {
    let root = mount.root();
    let mut results = Vec::new();
    let mut note = |errno: Option<Errno>| results.push(errno);
    note(root.metadata().err());
    note(root.statfs().err());
    note(root.access(4).err());
    note(root.lookup(n("absent")).err());
    note(listing(&root).err());
    if let Ok(link) = root.lookup(n("l")) {
        note(link.readlink().err());
    }
    note(root.symlink(n("s"), b"x").err());
    note(root.mknod(n("m"), 0o040755, 0).err());
    note(root.create(n("c"), 0o644, OpenFlags::RDWR).err());
    note(root.rename(n("d"), &root, n("b"), diolkos_vfs::RenameFlags::empty()).err());
    note(root.unlink(n("d")).err());
    note(root.sync_fs().err());
    note(root.tmpfile(0o600, OpenFlags::RDWR).err());
    let attribute = XattrName::new(b"user.a").unwrap();
    for room in [0, 100] {
        note(root.xattr(attribute, &mut vec![0; room]).err());
        note(root.list_xattrs(&mut vec![0; room]).err());
    }
    note(root.set_xattr(attribute, b"value", XattrFlags::CREATE).err());
    note(root.remove_xattr(attribute).err());
    if let Ok(file) = root.lookup(n("f")) {
        note(root.link(n("k"), &file).err());
        note(file.set_metadata(&diolkos_vfs::SetMetadata { size: Some(5), ..Default::default() }).err());
        match file.open(OpenFlags::RDWR) {
            Ok(file) => {
                for offset in [0, 1000, SIZE, 1 << 40] {
                    note(read(&file, offset, 5000).err());
                }
                note(file.map(0, diolkos_vfs::Access::Write).err());
                note(file.write_at(1 << 20, &mut SliceSource::new(b"growth")).err());
                note(file.write_at(SIZE - 2, &mut SliceSource::new(b"1234")).err());
                for what in [Allocation::Reserve { keep_size: false }, Allocation::Punch] {
                    note(file.allocate(what, 10, 20).err());
                }
                note(file.seek(Sought::Data, 5).err());
                note(file.copy_range(0, &*file, 5000, 10).err());
                note(file.fsync(true).err());
                note(file.flush().err());
            }
            Err(errno) => note(Some(errno)),
        }
    }
    mount.unmount();
    results
}
