//! What the client does when the host breaks the rules: conversations with a script instead of a server.

use diolkos_common::cmdline::{CacheMode, DaxIo, DaxPolicy};
use diolkos_vfs::{
    Allocation, DirEntry, Errno, File, Inode, Name, OpenFlags, Result, SliceSink, SliceSource, Sought, XattrFlags,
    XattrName,
};
use diolkos_virtiofs::{INODES, Mount, MountOptions, NoDax, Platform, Tally, Transport, WindowMemory, mount};
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
    fn request(&self, request: &[&[u8]], reply: &mut [&mut [u8]]) -> Result<usize> {
        assert!(request.iter().all(|part| !part.is_empty()) && reply.iter().all(|part| !part.is_empty()));
        let request = Request::parse(&request.concat());
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
        Ok(answer.claimed)
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

#[test]
fn an_honest_host_is_understood() {
    let (host, mount) = start(honestly(), CacheMode::Auto);
    let mount = mount.unwrap();
    let root = mount.root();
    assert_eq!(root.lookup(n("l")).unwrap().readlink().unwrap(), b"target");
    assert_eq!(listing(&root).unwrap(), [".", "..", "f", "l"]);
    let file = root.lookup(n("f")).unwrap().open(OpenFlags::empty()).unwrap();
    assert!(read(&file, 10, 2990).unwrap() == [b'W'; 2990]);
    assert_eq!(mount.counters().get(Tally::WindowRead), 2990);
    for (index, result) in everything(&mount).into_iter().enumerate() {
        assert_eq!(result.is_some(), index == 3, "{index}: {result:?}");
    }
    let used: BTreeSet<_> = host.seen.lock().unwrap().iter().copied().collect();
    assert!(used.len() >= 25, "the spoilers below have all of these to spoil: {used:?}");
}

#[test]
fn the_trace_has_a_line_for_each_request() {
    let mount = start(honestly(), CacheMode::Auto).1.unwrap();
    drop(mount.root().lookup(n("f")));
    drop(mount.root().lookup(n("\u{7}x")));
    drop(mount);
    let want = ["t INIT node 0 = 64 bytes", "t GETATTR node 1 = 104 bytes", "t LOOKUP node 1 f = 128 bytes"];
    TRACE.with_borrow(|trace| {
        assert_eq!(trace[..3], want);
        assert_eq!(trace[3], "t LOOKUP node 1 \\x07x = ENOENT");
        assert_eq!(trace[4..], ["t FORGET of 1 nodes", "t DESTROY node 0 = 0 bytes"]);
    });
}

/// Ways to break an answer that no request may survive with a success.
fn broken(unique: u64, honest: &Answer) -> Vec<Answer> {
    let cut = |len: usize| Answer { bytes: honest.bytes[..len.min(honest.bytes.len())].to_vec(), claimed: len };
    let patched = |at: usize, with: &[u8]| {
        let mut answer = honest.clone();
        answer.bytes[at..at + with.len()].copy_from_slice(with);
        answer
    };
    vec![
        cut(0),
        cut(1),
        cut(15),
        Answer { claimed: usize::MAX, ..honest.clone() },
        Answer { claimed: honest.claimed + (1 << 30), ..honest.clone() },
        patched(0, &0u32.to_le_bytes()),
        patched(0, &15u32.to_le_bytes()),
        patched(0, &u32::MAX.to_le_bytes()),
        patched(8, &(unique + 2).to_le_bytes()),
        patched(8, &0u64.to_le_bytes()),
        patched(4, &1i32.to_le_bytes()),
        patched(4, &(-4096i32).to_le_bytes()),
        patched(4, &i32::MIN.to_le_bytes()),
        patched(4, &i32::MAX.to_le_bytes()),
    ]
}

#[test]
fn a_broken_frame_is_an_error_for_every_request() {
    for (opcode, _) in OPCODES.iter().filter(|(name, _)| !name.contains("FORGET")) {
        for way in 0..14 {
            let rule: Rule =
                Box::new(
                    move |request, answer| {
                        if request.is(opcode) { broken(request.unique, &answer).swap_remove(way) } else { answer }
                    },
                );
            let (host, mount) = start(rule, CacheMode::None);
            let Ok(mount) = mount else { continue };
            let results = everything(&mount);
            let asked = host.seen.lock().unwrap().contains(opcode);
            // These have another way, or nobody to tell; or the name is looked up, and it is not there.
            let quiet = ["RELEASE", "RELEASEDIR", "DESTROY", "SETUPMAPPING", "REMOVEMAPPING", "UNLINK", "RENAME"]
                .contains(opcode);
            let failed = results.iter().flatten().filter(|e| **e != Errno::ENOENT).count();
            assert!(!asked || quiet || failed > 0, "{opcode} broken in way {way} was believed");
            assert!(
                results.iter().flatten().all(|e| matches!(*e, Errno::EIO | Errno::ENOENT)),
                "{opcode} {way}: {results:?}"
            );
        }
    }
}

#[test]
fn impossible_answers_about_attributes_and_ranges_are_errors() {
    type Ask = fn(&Mount) -> Option<Errno>;
    fn opened(mount: &Mount) -> Arc<dyn File> {
        mount.root().lookup(n("f")).unwrap().open(OpenFlags::RDWR).unwrap()
    }
    const NAME: &[u8] = b"user.a";
    let value: Ask = |mount| mount.root().xattr(XattrName::new(NAME).unwrap(), &mut [0; 100]).err();
    let length: Ask = |mount| mount.root().xattr(XattrName::new(NAME).unwrap(), &mut []).err();
    let list: Ask = |mount| mount.root().list_xattrs(&mut [0; 100]).err();
    let list_length: Ask = |mount| mount.root().list_xattrs(&mut []).err();
    let seek: Ask = |mount| opened(mount).seek(Sought::Hole, 50).err();
    let copy: Ask = |mount| opened(mount).copy_range(0, &*opened(mount), 0, 10).err();
    let half = |n: u32| [n.to_le_bytes(), [0; 4]].concat();
    let lies: [(&str, Ask, Vec<u8>); 11] = [
        ("GETXATTR", value, vec![b'v'; 101]),
        ("GETXATTR", length, half(65537)),
        ("GETXATTR", length, vec![1; 4]),
        ("LISTXATTR", list, b"user.a".to_vec()),
        ("LISTXATTR", list, b"\0".to_vec()),
        ("LISTXATTR", list, b"user.a\0\0".to_vec()),
        ("LISTXATTR", list_length, half(u32::MAX)),
        ("LSEEK", seek, 49u64.to_le_bytes().to_vec()),
        ("LSEEK", seek, u64::MAX.to_le_bytes().to_vec()),
        ("COPY_FILE_RANGE", copy, half(11)),
        ("COPY_FILE_RANGE", copy, vec![]),
    ];
    for (opcode, ask, lie) in lies {
        let told = lie.clone();
        let (_, mount) = start(spoiling(opcode, move |request| frame(request.unique, 0, &told)), CacheMode::Auto);
        assert_eq!(ask(&mount.unwrap()), Some(Errno::EIO), "{opcode} {lie:?}");
    }
}

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
fn noise_never_does_more_than_fail() {
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..3000u64 {
        let (salt, rate) = (random(), 2 + round % 7);
        let rule: Rule = Box::new(move |request, mut answer| {
            let mut dice = salt ^ request.unique.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut roll = || {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice
            };
            if roll() % rate == 0 && !answer.bytes.is_empty() {
                for _ in 0..1 + roll() % 8 {
                    let at = roll() as usize % answer.bytes.len();
                    answer.bytes[at] = [0, 1, 0x7f, 0x80, 0xff, roll() as u8][roll() as usize % 6];
                }
                if roll() % 4 == 0 {
                    answer.claimed = roll() as usize % 300;
                }
            }
            answer
        });
        let (_, mount) = start(rule, CacheMode::Auto);
        if let Ok(mount) = mount {
            everything(&mount);
        }
    }
}

#[test]
fn what_a_lookup_may_not_say() {
    for bad in [entry(1, REGULAR, 0), entry(2, 0o644, 0), entry(2, REGULAR, 1 << 63)] {
        let rule = spoiling("LOOKUP", move |request| frame(request.unique, 0, &bad));
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        assert_eq!(mount.root().lookup(n("f")).err(), Some(Errno::EIO));
    }
}

#[test]
fn a_negative_entry_holds_for_its_time() {
    let mut nothing = vec![0; 128];
    nothing[16] = 5;
    let rule = spoiling("LOOKUP", move |request| frame(request.unique, 0, &nothing));
    let (host, mount) = start(rule, CacheMode::Auto);
    let mount = mount.unwrap();
    for _ in 0..3 {
        assert_eq!(mount.root().lookup(n("x")).err(), Some(Errno::ENOENT));
    }
    assert_eq!(host.seen.lock().unwrap().iter().filter(|name| **name == "LOOKUP").count(), 1);
}

#[test]
fn an_inode_that_turns_into_something_else_is_stale() {
    let (host, mount) = start(honestly(), CacheMode::None);
    let mount = mount.unwrap();
    let file = mount.root().lookup(n("f")).unwrap();
    let open = file.clone().open(OpenFlags::empty()).unwrap();
    *host.rule.lock().unwrap() = spoiling("GETATTR", |request| frame(request.unique, 0, &attr_out(2, DIRECTORY, 0)));
    assert_eq!(file.metadata().err(), Some(Errno::ESTALE));
    assert_eq!(read(&open, 0, 10).err(), Some(Errno::ESTALE));
    *host.rule.lock().unwrap() = spoiling("LOOKUP", |request| frame(request.unique, 0, &entry(2, DIRECTORY, 0)));
    let new = mount.root().lookup(n("f")).unwrap();
    assert!(!Arc::ptr_eq(&new, &file));
    assert_eq!(file.metadata().err(), Some(Errno::ESTALE), "the old one stays what it was");
}

#[test]
fn another_generation_is_another_inode() {
    let (host, mount) = start(honestly(), CacheMode::None);
    let mount = mount.unwrap();
    let old = mount.root().lookup(n("f")).unwrap();
    *host.rule.lock().unwrap() = spoiling("LOOKUP", |request| {
        let mut entry = entry(2, REGULAR, SIZE);
        entry[8] = 1;
        frame(request.unique, 0, &entry)
    });
    let new = mount.root().lookup(n("f")).unwrap();
    assert_ne!(old.id(), new.id());
    drop((old, new));
    mount.idle();
    let forgotten = host.forgotten.lock().unwrap();
    assert_eq!(forgotten.iter().map(|request| request.name()).collect::<Vec<_>>(), ["BATCH_FORGET"]);
    assert_eq!(forgotten[0].half(0), 2, "each gives back its own lookup");
}

#[test]
fn a_write_reply_may_not_claim_more_than_was_sent() {
    let rule = spoiling("WRITE", |request| frame(request.unique, 0, &[5, 0, 0, 0, 0, 0, 0, 0]));
    let mount = start(rule, CacheMode::Auto).1.unwrap();
    let file = mount.root().lookup(n("f")).unwrap().open(OpenFlags::WRONLY).unwrap();
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"1234")).err(), Some(Errno::EIO));
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"12345")).unwrap(), 5);
    assert_eq!(file.write_at(0, &mut SliceSource::new(b"1234567")).unwrap(), 5, "less is a short write");
}

#[test]
fn a_link_target_is_what_the_reply_holds() {
    for (bytes, want) in [(&b"abc"[..], Some(&b"abc"[..])), (b"", None), (b"a\0b", None), (&[b'x'; 4096], None)] {
        let rule = spoiling("READLINK", move |request| frame(request.unique, 0, bytes));
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        let target = mount.root().lookup(n("l")).unwrap().readlink();
        assert_eq!(target.ok().as_deref(), want);
    }
}

#[test]
fn listings_with_nonsense_in_them_fail_where_it_begins() {
    for bad in [dirent(1, 5, "a/b"), dirent(1, 0, "x"), vec![1; 20], dirent(1, 0x7fff_ffff_0000_0001, "x")] {
        let reply = [dirent(1, 3, "good"), bad].concat();
        let rule: Rule = Box::new(move |request, answer| match request.name() {
            "READDIR" if request.half(8) == 0 => frame(request.unique, 0, &reply),
            "READDIR" => frame(request.unique, 0, &reply[32..]),
            _ => answer,
        });
        let mount = start(rule, CacheMode::None).1.unwrap();
        assert_eq!(listing(&mount.root()).err(), Some(Errno::EIO));
    }
}

#[test]
fn cookies_of_listings_are_the_hosts_in_any_order_and_all_64_bits_of_them() {
    const LAST: u64 = u64::MAX - 5;
    let rule: Rule = Box::new(|request, answer| {
        let cookie = |request: &Request| u64::from(request.half(8)) | u64::from(request.half(12)) << 32;
        match request.name() {
            "READDIR" => frame(
                request.unique,
                0,
                &match cookie(request) {
                    0 => dirent(2, LAST, "first"),
                    LAST => dirent(3, 1 << 63, "second"),
                    0x8000_0000_0000_0000 => dirent(4, 7, "third"),
                    7 => Vec::new(),
                    other => panic!("{other:#x} is no cookie of ours"),
                },
            ),
            _ => answer,
        }
    });
    let mount = start(rule, CacheMode::None).1.unwrap();
    assert_eq!(listing(&mount.root()).unwrap(), [".", "..", "first", "second", "third"]);
}

#[test]
fn a_short_read_reply_brings_its_bytes_and_no_others() {
    for short in [0, 1, 99] {
        let rule: Rule = Box::new(move |request, answer| match request.name() {
            "SETUPMAPPING" => frame(request.unique, -38, &[]),
            "READ" if request.half(8) == 1000 => frame(request.unique, 0, &vec![b'S'; short]),
            _ => answer,
        });
        let mount = start(rule, CacheMode::Auto).1.unwrap();
        let file = mount.root().lookup(n("f")).unwrap().open(OpenFlags::empty()).unwrap();
        assert_eq!(read(&file, 0, 100).unwrap(), [b'F'; 100]);
        // The program's memory keeps what was there, and the reply's buffer what the read before left in it.
        let mut memory = [b'.'; 100];
        assert_eq!(file.read_at(1000, &mut SliceSink::new(&mut memory)).unwrap(), short);
        assert!(memory[..short].iter().all(|byte| *byte == b'S') && memory[short..].iter().all(|byte| *byte == b'.'));
        assert_eq!(read(&file, 2000, 100).unwrap(), [b'F'; 100], "and it was not taken for the end of everything");
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
    let rule: Rule = Box::new(
        move |request, answer| {
            if lacking.contains(&request.name()) { frame(request.unique, -38, &[]) } else { answer }
        },
    );
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
