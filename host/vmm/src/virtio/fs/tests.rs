//! The device against hand-made FUSE messages in descriptor chains, with a real directory behind it.

use super::descriptors::Descriptors;
use super::server::FileServer;
use super::share::Share;
use super::window::{DaxWindow, Window};
use super::*;
use crate::virtio::testing::{Driver, Part};
use diolkos_common::cmdline::CacheMode;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

mod hostile;
mod ranges;
mod unnamed;

const HIPRIO: usize = 0;
const REQUESTS: usize = 1;
const WINDOW: u64 = 4 << 20;
const ROOT: u64 = 1;

struct Bench {
    driver: Driver,
    window: Arc<Window>,
    directory: TempDir,
    unique: u64,
}

fn bench(writable: bool) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), b"hello, window").unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    let mut bench = bench_on(directory, writable);
    assert_eq!(bench.init().0, 0);
    bench
}

fn bench_on(directory: TempDir, writable: bool) -> Bench {
    bench_with(directory, writable, Descriptors::of_process())
}

/// A bench whose guest gets its descriptors from `pool`.
fn bench_with(directory: TempDir, writable: bool, pool: Arc<Descriptors>) -> Bench {
    let share = Share::open(directory.path()).unwrap();
    let window = Arc::new(Window::new(WINDOW, writable, 100).unwrap());
    let server = FileServer::with_descriptors(
        share,
        writable,
        CacheMode::Auto,
        Some(window.clone() as Arc<dyn DaxWindow>),
        pool,
    )
    .unwrap();
    let mut driver = Driver::new(Fs::new("root", server), None);
    driver.start(0);
    Bench { driver, window, directory, unique: 0 }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Bench {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn header(&mut self, opcode: u32, node: u64, body: usize) -> Vec<u8> {
        self.unique += 1;
        let mut header = halves(&[40 + body as u32, opcode]);
        header.extend(words(&[self.unique, node]));
        header.extend(halves(&[0, 0, 1, 0]));
        header
    }

    /// Sends a request and returns the error number and the body of the reply.
    fn call_room(&mut self, opcode: u32, node: u64, body: &[u8], room: u32) -> (i32, Vec<u8>) {
        let header = self.header(opcode, node, body.len());
        let reply = self.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(body), Part::In(16), Part::In(room)]);
        assert_eq!(half(&reply, 0) as usize, reply.len(), "length of the reply to {opcode}");
        assert_eq!(word(&reply, 8), self.unique);
        (-(half(&reply, 4) as i32), reply[16..].to_vec())
    }

    fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> (i32, Vec<u8>) {
        self.call_room(opcode, node, body, 4096)
    }

    fn init(&mut self) -> (i32, Vec<u8>) {
        // 7.38; ASYNC_READ, ATOMIC_O_TRUNC, BIG_WRITES, DO_READDIRPLUS, PARALLEL_DIROPS, MAX_PAGES, MAP_ALIGNMENT.
        let mut body = halves(&[7, 38, 1 << 20, 0x0444_2029]);
        body.extend([0; 48]);
        self.call(26, 0, &body)
    }

    fn lookup(&mut self, name: &str) -> Result<u64, i32> {
        match self.call(1, ROOT, format!("{name}\0").as_bytes()) {
            (0, entry) => Ok(word(&entry, 0)),
            (errno, _) => Err(errno),
        }
    }

    fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        match self.call(14, node, &halves(&[flags as u32, 0])) {
            (0, opened) => Ok(word(&opened, 0)),
            (errno, _) => Err(errno),
        }
    }

    fn read(&mut self, node: u64, handle: u64, offset: u64, size: u32) -> (i32, Vec<u8>) {
        let mut body = words(&[handle, offset]);
        body.extend(halves(&[size, 0]));
        body.extend(words(&[0, 0]));
        self.call_room(15, node, &body, size)
    }

    fn list(&mut self, opcode: u32, node: u64, handle: u64, cookie: u64) -> (i32, Vec<u8>) {
        let mut body = words(&[handle, cookie]);
        body.extend(halves(&[2000, 0]));
        body.extend(words(&[0, 0]));
        self.call_room(opcode, node, &body, 2000)
    }

    fn map(&mut self, node: u64, file_offset: u64, len: u64, flags: u64, window_offset: u64) -> i32 {
        self.call(48, node, &words(&[u64::MAX, file_offset, len, flags, window_offset])).0
    }

    fn unmap(&mut self, ranges: &[(u64, u64)]) -> i32 {
        let mut body = halves(&[ranges.len() as u32]);
        body.extend(ranges.iter().flat_map(|(offset, len)| words(&[*offset, *len])));
        self.call(49, 0, &body).0
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn the_configuration_names_the_tag_and_one_queue() {
    let bench = bench(false);
    assert_eq!(bench.driver.read::<6>(0x100), *b"root\0\0");
    assert_eq!(bench.driver.read::<4>(0x124), [1, 0, 0, 0]);
}

#[test]
fn init_offers_large_messages_and_only_what_was_asked_for() {
    let mut bench = bench(false);
    let (errno, reply) = bench.init();
    assert_eq!((errno, half(&reply, 0)), (0, 7));
    // All that was asked for but MAP_ALIGNMENT, which the server does not do.
    assert_eq!(half(&reply, 12), 0x0044_2029);
    assert_eq!(half(&reply, 20), 1 << 20, "max_write");
    let mut body = halves(&[7, 38, 0, 0]);
    body.extend([0; 48]);
    assert_eq!(half(&bench.call(26, 0, &body).1, 12), 0);
}

#[test]
fn files_are_found_and_read() {
    let mut bench = bench(false);
    let node = bench.lookup("file").unwrap();
    let (_, attributes) = bench.call(3, node, &words(&[0, 0]));
    assert_eq!(word(&attributes, 16), inode(&bench.path("file")), "the inode number is the host's");
    assert_eq!(word(&attributes, 24), 13);
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(bench.read(node, handle, 0, 100), (0, b"hello, window".to_vec()));
    assert_eq!(bench.read(node, handle, 7, 3), (0, b"win".to_vec()));
    assert_eq!(bench.read(node, handle, 13, 100), (0, vec![]));
    assert_eq!(bench.read(node, handle, 0, 0), (0, vec![]), "a read of nothing is answered");
    assert_eq!(bench.lookup("missing"), Err(libc::ENOENT));
}

#[test]
fn names_that_climb_are_refused() {
    let mut bench = bench(true);
    let sub = bench.lookup("sub").unwrap();
    for name in ["..", ".", "", "/etc", "a/b", "../etc"] {
        assert_eq!(bench.lookup(name), Err(libc::EINVAL), "{name}");
        let name = format!("{name}\0");
        assert_eq!(bench.call(1, sub, name.as_bytes()).0, libc::EINVAL);
        let mut mkdir = halves(&[0o755, 0]);
        mkdir.extend(name.as_bytes());
        assert_eq!(bench.call(9, ROOT, &mkdir).0, libc::EINVAL, "MKDIR {name}");
    }
}

#[test]
fn forgets_are_taken_by_either_queue_without_a_reply() {
    let mut bench = bench(false);
    let node = bench.lookup("file").unwrap();
    let header = bench.header(2, node, 8);
    assert!(bench.driver.call(HIPRIO, &[Part::Out(&header), Part::Out(&words(&[1]))]).is_empty());
    assert_eq!(bench.call(3, node, &words(&[0, 0])).0, libc::EBADF, "it is forgotten");
    // More than there is, of what is not there, and the root.
    for node in [node, 12345, ROOT] {
        let header = bench.header(2, node, 8);
        bench.driver.call(HIPRIO, &[Part::Out(&header), Part::Out(&words(&[u64::MAX]))]);
    }
    assert!(bench.lookup("file").is_ok());
}

#[test]
fn a_window_shows_the_file_and_the_file_shows_the_window() {
    let mut bench = bench(true);
    let node = bench.lookup("file").unwrap();
    assert_eq!(bench.map(node, 0, 2 << 20, 3, 2 << 20), 0);
    assert_eq!(bench.window.stats().mapped_bytes, 2 << 20);
    // SAFETY: the first page of the range holds the file, which is there for as long as the test.
    unsafe { bench.window.mapping().as_ptr().add(2 << 20).write_volatile(b'H') };
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"Hello, window");
    assert_eq!(bench.unmap(&[(2 << 20, 2 << 20)]), 0);
    assert_eq!(bench.window.stats().mapped_bytes, 0);
}

#[test]
fn hostile_mappings_are_refused() {
    let mut bench = bench(true);
    let node = bench.lookup("file").unwrap();
    let page = 4096;
    for (file_offset, len, offset) in [
        (0, 0, 0),
        (0, 1, 0),
        (0, page, 1),
        (1, page, 0),
        (0, page, WINDOW),
        (0, WINDOW + page, 0),
        (0, page, u64::MAX - page + 1),
        (0, u64::MAX - page + 1, page),
        (u64::MAX - page + 1, page, 0),
        (1 << 63, page, 0),
        (i64::MAX as u64 - 0xfff, page, 0),
    ] {
        let errno = bench.map(node, file_offset, len, 1, offset);
        assert_eq!(errno, libc::EINVAL, "{file_offset:#x} {len:#x} {offset:#x}");
    }
    assert_eq!(bench.map(node, 0, page, 4, 0), libc::EINVAL, "flags nobody knows");
    assert_eq!(bench.map(999, 0, page, 1, 0), libc::EBADF, "a node nobody knows");
    let sub = bench.lookup("sub").unwrap();
    assert_ne!(bench.map(sub, 0, page, 0, 0), 0, "a directory");
    for ranges in [&[(0, 0)][..], &[(1, page)], &[(0, u64::MAX)], &[(0, page), (WINDOW, page)]] {
        assert_eq!(bench.unmap(ranges), libc::EINVAL, "{ranges:?}");
    }
    // More ranges announced than sent; more than fit a message.
    assert_eq!(bench.call(49, 0, &halves(&[7])).0, libc::EINVAL);
    assert_eq!(bench.call(49, 0, &halves(&[u32::MAX])).0, libc::ENOMEM);
    assert_eq!(bench.window.stats(), Default::default());
}

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

#[test]
fn malformed_requests_are_answered_or_dropped() {
    let mut bench = bench(true);
    assert!(bench.driver.call(REQUESTS, &[Part::Out(&[1; 39]), Part::In(100)]).is_empty(), "half a header");
    assert!(bench.driver.call(REQUESTS, &[Part::In(100)]).is_empty(), "no header");
    for opcode in [0, 7, 19, 53, 4096, u32::MAX] {
        assert_eq!(bench.call(opcode, ROOT, &[]).0, libc::ENOSYS, "opcode {opcode}");
    }
    // No body at all, and a body that is all ones, for everything there is.
    for opcode in (1..=51).filter(|opcode| ![2, 36, 38, 42].contains(opcode)) {
        for body in [&[][..], &[0xff; 120]] {
            let header = bench.header(opcode, ROOT, body.len());
            let reply =
                bench.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(body), Part::In(16), Part::In(4096)]);
            assert!(reply.len() >= 16 || reply.is_empty(), "opcode {opcode}");
        }
    }
    // A header that lies about its length, and no room for a reply.
    let mut header = bench.header(1, ROOT, 0);
    for len in [0, 39, 41, u32::MAX] {
        header[..4].copy_from_slice(&len.to_le_bytes());
        bench.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(b"file\0"), Part::In(200)]);
        bench.driver.call(REQUESTS, &[Part::Out(&header), Part::In(3)]);
        bench.driver.call(REQUESTS, &[Part::Out(&header)]);
    }
    assert!(bench.lookup("file").is_ok(), "and the server still serves");
}

#[test]
fn directories_are_listed_in_pieces_with_and_without_nodes() {
    let mut bench = bench(true);
    for i in 0..200 {
        fs::write(bench.path(&format!("entry-{i:03}")), "").unwrap();
    }
    let mut expected: Vec<(String, u64)> = fs::read_dir(bench.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), inode(&entry.path())))
        .collect();
    expected.extend([".", ".."].map(|name| (name.into(), inode(&bench.path(name)))));
    expected.sort();
    let (errno, opened) = bench.call(27, ROOT, &halves(&[0, 0]));
    assert_eq!(errno, 0);
    let handle = word(&opened, 0);
    for (opcode, head) in [(28, 0), (44, 128)] {
        let (mut found, mut cookie) = (Vec::new(), 0);
        loop {
            let (errno, piece) = bench.list(opcode, ROOT, handle, cookie);
            assert_eq!(errno, 0);
            if piece.is_empty() {
                break;
            }
            let mut at = 0;
            while at < piece.len() {
                let len = half(&piece, at + head + 16) as usize;
                let name = &piece[at + head + 24..at + head + 24 + len];
                found.push((String::from_utf8(name.to_vec()).unwrap(), word(&piece, at + head)));
                if opcode == 44 {
                    // A guest knows these two, and has no use for a node of theirs.
                    assert_eq!(word(&piece, at) == 0, matches!(name, b"." | b".."), "a node");
                }
                cookie = word(&piece, at + head + 8);
                at += (head + 24 + len).next_multiple_of(8);
            }
        }
        found.sort();
        assert_eq!(found, expected, "opcode {opcode}");
    }
    assert_eq!(bench.list(28, 77, handle, 0).0, libc::EBADF, "another node's handle");
    assert_ne!(bench.list(28, ROOT, handle, u64::MAX).0, 0, "a cookie from nowhere");
    assert_eq!(bench.call(29, ROOT, &[words(&[handle]), halves(&[0, 0]), words(&[0])].concat()).0, 0);
    assert_eq!(bench.list(28, ROOT, handle, 0).0, libc::EBADF, "closed");
}

#[test]
fn an_entry_that_cannot_be_looked_up_is_listed_all_the_same() {
    use super::guard::{Guard, Privilege};
    use super::listing::Listings;
    use fuse_backend_rs::api::filesystem::{Context, Entry, FileSystem, OpenOptions};
    use fuse_backend_rs::transport::FsCacheReqHandler;
    use std::os::fd::AsRawFd;

    /// A directory where nothing can be looked up.
    struct Unlucky(fs::File);
    impl FileSystem for Unlucky {
        type Inode = u64;
        type Handle = u64;
        fn opendir(&self, _: &Context, _: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
            Ok((Some(5), OpenOptions::empty()))
        }
        fn setupmapping(
            &self,
            _: &Context,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            window: &mut dyn FsCacheReqHandler,
        ) -> io::Result<()> {
            window.map(0, 0, 0, 0, self.0.as_raw_fd())
        }
        fn lookup(&self, _: &Context, _: u64, _: &std::ffi::CStr) -> io::Result<Entry> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "").unwrap();
    fs::write(directory.path().join("b"), "").unwrap();
    let server = Guard(Listings::new(Unlucky(fs::File::open(directory.path()).unwrap())), Privilege::current());
    let context = Context::new();
    server.opendir(&context, ROOT, 0).unwrap();
    let mut found = Vec::new();
    let mut add = |entry: fuse_backend_rs::api::filesystem::DirEntry<'_>, node: Entry| {
        found.push((entry.name.to_vec(), entry.ino, node.inode));
        Ok(1)
    };
    server.readdirplus(&context, ROOT, 5, 4096, 0, &mut add).unwrap();
    found.sort();
    let expected = [".", "..", "a", "b"].map(|name| (name.into(), inode(&directory.path().join(name)), 0));
    assert_eq!(found, expected);
}

#[test]
fn a_directory_that_vanishes_gives_errors() {
    let mut bench = bench(false);
    let node = bench.lookup("file").unwrap();
    fs::remove_dir_all(bench.directory.path()).unwrap();
    assert_eq!(bench.lookup("file"), Err(libc::ENOENT));
    assert_eq!(bench.lookup("sub"), Err(libc::ENOENT));
    // What the guest still holds is still there, as an open file is.
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(bench.read(node, handle, 0, 5), (0, b"hello".to_vec()));
    assert_eq!(bench.init().0, 0, "even from the start");
    assert_eq!(bench.lookup("file"), Err(libc::ENOENT));
}

#[test]
fn a_directory_that_is_replaced_stays_the_old_one() {
    let parent = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir_in(parent.path()).unwrap();
    let path = directory.path().to_owned();
    let moved = parent.path().join("moved");
    fs::write(path.join("file"), "old").unwrap();
    let mut bench = bench_on(directory, false);
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("other"), "new").unwrap();
    bench.init();
    assert!(bench.lookup("file").is_ok());
    assert_eq!(bench.lookup("other"), Err(libc::ENOENT));
}

#[test]
fn destroy_and_reset_empty_the_window() {
    let mut bench = bench(false);
    for way in ["destroy", "reset"] {
        let node = bench.lookup("file").unwrap();
        assert_eq!(bench.map(node, 0, 4096, 2, 0), 0);
        if way == "destroy" {
            assert_eq!(bench.call(38, 0, &[]).0, 0);
        } else {
            bench.driver.reset();
            bench.driver.start(0);
        }
        assert_eq!(bench.window.stats().mapped_bytes, 0, "{way}");
        assert_eq!(bench.init().0, 0);
    }
}

#[test]
fn the_device_drains_what_was_sent_without_a_ring() {
    use crate::pci::PciDevice;
    let mut bench = bench(false);
    let header = bench.header(17, ROOT, 0);
    bench.driver.add(REQUESTS, &[Part::Out(&header), Part::In(200)]);
    assert_eq!(bench.driver.try_used(REQUESTS, Duration::from_millis(20)), None);
    bench.driver.pci.drain();
    assert!(bench.driver.used(REQUESTS).1.len() > 16);
    bench.driver.wait("the worker ends", |_| true);
}
