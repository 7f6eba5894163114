//! A real FUSE server (fuse-backend-rs) in this process, on a temporary directory, with a DAX window made of
//! ordinary memory in which it maps files: everything but the device.

#![allow(dead_code, reason = "each test file uses its own part of this harness")]

mod lent;
mod machine;
mod posted;
mod window;

use diolkos_common::cmdline::{CacheMode, DaxIo, DaxPolicy};
use diolkos_vfs::{
    DirEntry, Errno, File, Inode, MemBytes, Name, OpenFlags, Result, Sink, SliceSink, SliceSource, Source,
};
use diolkos_virtiofs::{INODES, Lent, Mount, MountOptions, Parcel, Tally, Transport, WindowMemory, mount};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::passthrough::{Config, PassthroughFs};
use fuse_backend_rs::transport::{FsCacheReqHandler, FuseBuf, FuseDevWriter, Reader};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use machine::{Machine, Memory};
pub use posted::Post;
pub use window::{Mapper, PHYS, Window};

pub const CHUNK: usize = 2 << 20;

type Served = PassthroughFs<()>;

/// The transport: calls the server in the thread of whoever asks.
pub struct InProcess {
    server: Server<Served>,
    mapper: Option<Mapper>,
    /// Nodes and the lookups the server still counts: the entries it gave, less what was forgotten.
    pub lookups: Mutex<BTreeMap<u64, i64>>,
    pub opens: Mutex<i64>,
    /// The flags of every OPEN and OPENDIR, in order.
    pub opened_with: Mutex<Vec<u32>>,
    /// LOOKUP fails with ENFILE while more nodes than this are known.
    pub most_nodes: Mutex<Option<usize>>,
    /// Messages of this opcode fail with this error.
    pub refused: Mutex<Option<(u32, i32)>>,
    /// Requests that nobody waits for.
    pub post: Post,
    /// Answer INIT as the server does, without offering large messages.
    plain: bool,
}

impl InProcess {
    fn exchange(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> usize {
        let mut message = request.concat();
        message.extend(lent::sent(lent));
        if let Some(errno) = self.refusal(message[4].into()) {
            let unique = &message[8..16];
            reply[0].copy_from_slice(&[&16u32.to_le_bytes(), &(-errno).to_le_bytes(), unique].concat());
            return 16;
        }
        let room: usize = reply.iter().map(|part| part.len()).sum::<usize>() + lent::room(lent);
        // SAFETY: a new descriptor that `from_raw_fd` takes over.
        let mut wire = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"reply".as_ptr(), 0)) };
        let mut space = vec![0; room.max(1)];
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(&mut message)).unwrap();
        let writer = FuseDevWriter::<()>::new(wire.as_raw_fd(), &mut space).unwrap();
        let mut mapper = self.mapper.clone();
        let handler = mapper.as_mut().map(|m| m as &mut dyn FsCacheReqHandler);
        // An error means that there is no reply, or that it said so itself.
        let _ = self.server.handle_message(reader, writer.into(), handler, None);
        let mut answer = Vec::new();
        wire.rewind().unwrap();
        wire.read_to_end(&mut answer).unwrap();
        if message[4] == 26 && !self.plain {
            offer_large_messages(&mut answer);
        }
        let mut rest = &answer[..];
        for part in reply {
            let (now, later) = rest.split_at(part.len().min(rest.len()));
            part[..now.len()].copy_from_slice(now);
            rest = later;
        }
        lent::fill(lent, rest);
        self.keep_books(&message, &answer);
        answer.len()
    }

    /// The error that a message gets instead of an answer.
    fn refusal(&self, opcode: u32) -> Option<i32> {
        if let Some((refused, errno)) = *self.refused.lock().unwrap()
            && refused == opcode
        {
            return Some(errno);
        }
        let full = opcode == 1 && self.most_nodes.lock().unwrap().is_some_and(|most| self.nodes_held() >= most);
        full.then_some(libc::ENFILE)
    }

    /// Counts lookups as the server does, from what goes over the wire.
    fn keep_books(&self, message: &[u8], answer: &[u8]) {
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let short = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let opcode = short(message, 4);
        let mut lookups = self.lookups.lock().unwrap();
        let mut forget = |node: u64, n: u64| {
            let left = lookups.entry(node).or_default();
            *left -= n as i64;
            assert!(*left >= 0, "node {node} forgotten too often");
        };
        match opcode {
            2 => return forget(word(message, 16), word(message, 40)),
            42 => {
                for one in message[48..].chunks_exact(16) {
                    forget(word(one, 0), word(one, 8));
                }
                return;
            }
            _ if answer.len() < 16 || short(answer, 4) != 0 => return,
            14 | 27 => {
                self.opened_with.lock().unwrap().push(short(message, 40));
                *self.opens.lock().unwrap() += 1;
            }
            18 | 29 => *self.opens.lock().unwrap() -= 1,
            35 => *self.opens.lock().unwrap() += 1,
            _ => {}
        }
        match opcode {
            1 | 6 | 8 | 9 | 13 | 35 => *lookups.entry(word(answer, 16)).or_default() += 1,
            44 => {
                let mut rest = &answer[16..];
                while rest.len() >= 152 {
                    let name = short(rest, 144) as usize;
                    if word(rest, 0) != 0 {
                        *lookups.entry(word(rest, 0)).or_default() += 1;
                    }
                    rest = rest.get((152 + name).next_multiple_of(8)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }

    /// Nodes the server still holds.
    pub fn nodes_held(&self) -> usize {
        self.lookups.lock().unwrap().values().filter(|lookups| **lookups > 0).count()
    }

    /// Lookups the server still holds, in all.
    pub fn lookups_held(&self) -> i64 {
        self.lookups.lock().unwrap().values().sum()
    }
}

impl Transport for InProcess {
    fn request(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> Result<usize> {
        Ok(self.exchange(request, reply, lent))
    }

    fn post(&self, parcels: Vec<Parcel>) {
        self.take_in(parcels);
    }

    fn wait_for(&self, over: &dyn Fn() -> bool) {
        while !over() {
            if !self.deliver() {
                std::thread::yield_now();
            }
        }
    }

    fn most_pieces(&self) -> usize {
        4
    }

    fn forget(&self, message: &[u8]) {
        assert_eq!(self.exchange(&[message], &mut [], Lent::Nothing), 0);
    }
}

/// What `PassthroughFs` leaves out of its answer to INIT though `Server` can do it: messages of 1 MiB.
fn offer_large_messages(answer: &mut [u8]) {
    let body = &mut answer[16..];
    let flags = u32::from_le_bytes(body[12..16].try_into().unwrap());
    body[12..16].copy_from_slice(&(flags | 1 << 5 | 1 << 22).to_le_bytes());
    body[20..24].copy_from_slice(&(1u32 << 20).to_le_bytes());
    body[28..30].copy_from_slice(&256u16.to_le_bytes());
}

/// How to build a [`Rig`].
pub struct Setup {
    pub window: usize,
    pub dax: DaxPolicy,
    pub io: DaxIo,
    pub cache: CacheMode,
    pub writable: bool,
    pub timeout: Duration,
    /// Inodes kept without need.
    pub inodes: usize,
    /// Pages of memory for the page cache; without it there is none.
    pub memory: Option<usize>,
    /// Leave out the features that make messages large.
    pub plain: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            window: 16 * CHUNK,
            dax: DaxPolicy::Clock,
            io: DaxIo::Window,
            cache: CacheMode::Auto,
            writable: true,
            timeout: Duration::from_secs(1),
            inodes: INODES,
            memory: None,
            plain: false,
        }
    }
}

/// A directory, a server on it, and a mount of it.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub server: Arc<InProcess>,
    pub machine: Arc<Machine>,
    pub mapper: Option<Mapper>,
    pub mount: Arc<Mount>,
}

impl Setup {
    pub fn build(self) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            root_dir: dir.path().to_str().unwrap().into(),
            attr_timeout: self.timeout,
            entry_timeout: self.timeout,
            xattr: true,
            ..Config::default()
        };
        let inner = Served::new(config).unwrap();
        inner.import().unwrap();
        let window = Arc::new(Window::new(self.window.max(4096)));
        let mapper = (self.window > 0).then(|| Mapper {
            window: window.clone(),
            refuse: Arc::default(),
            mapped: Arc::default(),
        });
        let server = Arc::new(InProcess {
            server: Server::new(inner),
            mapper: mapper.clone(),
            lookups: Mutex::default(),
            opens: Mutex::default(),
            opened_with: Mutex::default(),
            most_nodes: Mutex::default(),
            refused: Mutex::default(),
            post: Post::default(),
            plain: self.plain,
        });
        let frames = Memory { pages: self.memory, ..Memory::default() };
        let machine = Arc::new(Machine { frames, ..Machine::default() });
        machine.now.store(1, Ordering::Relaxed);
        // SAFETY: the memory is reserved for good, and the tests read only what the server has mapped.
        let memory = unsafe { WindowMemory::new(PHYS, window.start, window.len as u64) }.unwrap();
        let options = MountOptions {
            tag: "test".into(),
            dev: 0x2a,
            writable: self.writable,
            cache: self.cache,
            inodes: self.inodes,
            dax: self.dax,
            dax_io: self.io,
            ids: (0, 0),
            trace: None,
        };
        let mount = mount(server.clone(), machine.clone(), (self.window > 0).then_some(memory), options).unwrap();
        let mount = Arc::new(mount);
        machine.mount.set(Arc::downgrade(&mount)).unwrap();
        Rig { dir, server, machine, mapper, mount }
    }
}

impl Rig {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn find(&self, path: &str) -> Result<Arc<dyn Inode>> {
        path.split('/').try_fold(self.mount.root(), |dir, part| dir.lookup(Name::new(part.as_bytes())?))
    }

    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<dyn File>> {
        self.find(path)?.open(flags)
    }

    pub fn count(&self, counter: &str) -> u64 {
        let mut found = 0;
        self.mount.counters().for_each(&mut |name, n| {
            if name == counter {
                found = n;
            }
        });
        found
    }

    pub fn tally(&self, tally: Tally) -> u64 {
        self.mount.counters().get(tally)
    }

    /// Lets so many seconds pass.
    pub fn pass(&self, seconds: u64) {
        self.machine.now.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }
}

pub fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0xee; len];
    let mut sink = SliceSink::new(&mut buffer);
    let n = file.read_at(offset, &mut sink)?;
    assert_eq!(n, sink.filled());
    buffer.truncate(n);
    Ok(buffer)
}

pub fn write(file: &Arc<dyn File>, offset: u64, data: &[u8]) -> Result<usize> {
    file.write_at(offset, &mut SliceSource::new(data))
}

fn span(start: *const u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
}

/// What the kernel's copies are: a fault on the other side ends them, and nothing else.
/// `process_vm_readv` on ourselves does that.
#[derive(Default)]
pub struct Tolerant {
    pub bytes: Vec<u8>,
    pub limit: usize,
}

impl Sink for Tolerant {
    fn room(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn put(&mut self, from: MemBytes<'_>) -> Result<usize> {
        let mut buffer = vec![0; from.len().min(self.room())];
        let (to, from) = (span(buffer.as_ptr(), buffer.len()), span(from.as_ptr(), buffer.len()));
        // SAFETY: the kernel checks the far side, and the near side is `buffer`.
        let n = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
        let n = usize::try_from(n).map_err(|_| Errno::EIO)?;
        buffer.truncate(n);
        self.bytes.append(&mut buffer);
        Ok(n)
    }
}

impl Source for Tolerant {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len().min(self.bytes.len());
        buffer[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes.drain(..n);
        Ok(n)
    }

    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let len = len.min(self.bytes.len());
        let (from, to) = (span(self.bytes.as_ptr(), len), span(to, len));
        // SAFETY: the kernel checks the far side, and the near side is our own vector.
        let n = unsafe { libc::process_vm_writev(libc::getpid(), &from, 1, &to, 1, 0) };
        let n = usize::try_from(n).map_err(|_| Errno::EIO)?;
        self.bytes.drain(..n);
        Ok(n)
    }
}

pub fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// One getdents-like call: up to `max` entries from a cookie.
pub fn list(dir: &Arc<dyn File>, cookie: u64, max: usize) -> Result<Vec<(String, u64)>> {
    let mut entries = Vec::new();
    dir.readdir(cookie, &mut |entry: &DirEntry<'_>| {
        let room = entries.len() < max;
        if room {
            entries.push((String::from_utf8(entry.name.to_vec()).unwrap(), entry.next));
        }
        room
    })?;
    Ok(entries)
}

/// Bytes that differ from page to page and repeat nowhere near.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

pub fn errno<T>(result: Result<T>) -> Errno {
    result.err().expect("an error")
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
