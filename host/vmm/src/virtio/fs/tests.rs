//! The device against hand-made FUSE messages in descriptor chains, with a real directory behind it.

mod changes;
mod hostile;
mod listings;
mod queues;
mod ranges;
mod seen;
mod unnamed;
mod window;

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
    let mut bench = bench_on(directory(), writable);
    assert_eq!(bench.init().0, 0);
    bench
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), b"hello, window").unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    directory
}

/// A writable bench with a window that the test has made.
fn bench_on_window(window: Arc<Window>) -> Bench {
    let mut bench = bench_of(directory(), true, Descriptors::of_process(), window);
    assert_eq!(bench.init().0, 0);
    bench
}

fn bench_on(directory: TempDir, writable: bool) -> Bench {
    bench_with(directory, writable, Descriptors::of_process())
}

/// A bench whose guest gets its descriptors from `pool`.
fn bench_with(directory: TempDir, writable: bool, pool: Arc<Descriptors>) -> Bench {
    let window = Arc::new(Window::new(WINDOW, writable, 100).unwrap());
    bench_of(directory, writable, pool, window)
}

fn bench_of(directory: TempDir, writable: bool, pool: Arc<Descriptors>, window: Arc<Window>) -> Bench {
    let share = Share::open(directory.path()).unwrap();
    let server = FileServer::with_descriptors(
        share,
        writable,
        CacheMode::Auto,
        Some(window.clone() as Arc<dyn DaxWindow>),
        pool,
    )
    .unwrap();
    let mut driver = Driver::new(Fs::new("root", server, 1), None);
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
fn the_device_drains_what_was_sent_without_a_ring() {
    use crate::pci::PciDevice;
    let mut bench = bench(false);
    let header = bench.header(17, ROOT, 0);
    // A server that has just begun looks for requests for a while.
    std::thread::sleep(Duration::from_millis(50));
    bench.driver.add(REQUESTS, &[Part::Out(&header), Part::In(200)]);
    assert_eq!(bench.driver.try_used(REQUESTS, Duration::from_millis(20)), None);
    bench.driver.pci.drain();
    assert!(bench.driver.used(REQUESTS).1.len() > 16);
    bench.driver.wait("the worker ends", |_| true);
}
