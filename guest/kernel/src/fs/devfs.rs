//! `/dev`: the memory devices (null(4), full(4), random(4)), the terminal, and the links to the standard streams.

use super::anon::now;
use super::devices::DEV;
use super::stat::join_device;
use super::tty::Terminal;
use crate::drivers::rng;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use diolkos_vfs::generated::{NodeBuilder, Tree};
use diolkos_vfs::{Errno, File, FileType, Inode, Result, Sink, Source};

/// `TMPFS_MAGIC`: what statfs(2) of Linux' devtmpfs shows.
const MAGIC: u64 = 0x0102_1994;
/// Bytes of a device moved at a time; a signal is not asked after in between.
const PIECE: usize = 4096;

/// What a memory device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
}

struct MemoryDevice {
    inode: Arc<dyn Inode>,
    kind: Kind,
}

impl File for MemoryDevice {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        match self.kind {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => sink.put_zeros(sink.room()),
            Kind::Random => put_random(sink),
        }
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        match self.kind {
            // Not even looked at, as on Linux.
            Kind::Null | Kind::Zero => Ok(source.remaining()),
            Kind::Full => Err(Errno::ENOSPC),
            // Adds to the pool on Linux; ours is fed by the host's and needs none.
            Kind::Random => {
                let (mut buffer, mut done) = ([0; PIECE], 0);
                while source.remaining() > 0 {
                    match source.take(&mut buffer) {
                        Ok(n) => done += n,
                        Err(_) if done > 0 => break,
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(done)
            }
        }
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.write_at(0, source).map(|n| (n, 0))
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn put_random(sink: &mut dyn Sink) -> Result<usize> {
    let mut done = 0;
    while sink.room() > 0 {
        let mut bytes = [0; PIECE];
        let piece = &mut bytes[..sink.room().min(PIECE)];
        rng::fill(piece);
        match sink.put((&*piece).into()) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn memory_device(node: NodeBuilder, minor: u32, kind: Kind) -> Arc<dyn Inode> {
    node.device(FileType::CharDevice, join_device(1, minor), move |inode, _| Ok(Arc::new(MemoryDevice { inode, kind })))
}

/// Without a terminal, opening one fails as for a process that has none (tty(4)).
fn terminal_device(node: NodeBuilder, rdev: u64, terminal: Option<&Arc<Terminal>>) -> Arc<dyn Inode> {
    let terminal = terminal.cloned();
    node.device(FileType::CharDevice, rdev, move |_, flags| match &terminal {
        Some(terminal) => terminal.clone().open(flags),
        None => Err(Errno::ENXIO),
    })
}

/// The root of `/dev`. `shm` and the like are mounted on it.
pub fn root(terminal: Option<&Arc<Terminal>>) -> Arc<dyn Inode> {
    let tree = Tree::new(DEV, MAGIC, now());
    let device = || tree.node(0o666);
    let link = |target: &'static str| tree.node(0o777).link(move || Ok(target.into()));
    let mut entries: Vec<(&str, Arc<dyn Inode>)> = vec![
        ("null", memory_device(device(), 3, Kind::Null)),
        ("zero", memory_device(device(), 5, Kind::Zero)),
        ("full", memory_device(device(), 7, Kind::Full)),
        ("random", memory_device(device(), 8, Kind::Random)),
        ("urandom", memory_device(device(), 9, Kind::Random)),
        ("tty", terminal_device(device(), join_device(5, 0), terminal)),
        ("console", terminal_device(tree.node(0o600), join_device(5, 1), terminal)),
        ("fd", link("/proc/self/fd")),
        ("stdin", link("/proc/self/fd/0")),
        ("stdout", link("/proc/self/fd/1")),
        ("stderr", link("/proc/self/fd/2")),
    ];
    let pts = terminal.map(|terminal| ("0", terminal.clone() as Arc<dyn Inode>));
    entries.push(("pts", tree.node(0o755).dir(pts.into_iter().collect())));
    tree.node(0o755).dir(entries)
}
