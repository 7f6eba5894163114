//! `/dev`: the memory devices (null(4), full(4), random(4)), the terminal, disks, and the links to the standard streams.

use super::anon::now;
use super::block_device;
use super::devices::DEV;
use super::procfs::number;
use super::pty::pair;
use super::stat::join_device;
use super::tty::Terminal;
use crate::drivers::rng;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use diolkos_vfs::generated::{Listed, NodeBuilder, Tree};
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

/// `/dev/pts`: the user's terminal if there is one, the slaves of all pairs, and another way to make one.
fn terminals(tree: &Arc<Tree>, terminal: Option<&Arc<Terminal>>, ptmx: Arc<dyn Inode>) -> Arc<dyn Inode> {
    /// Where the entry of `ptmx` stands in the list, before all numbers.
    const PTMX_INO: u64 = 2;
    let (own, is_here) = (terminal.cloned(), terminal.is_some());
    let listed = |key: u64, name: String, ino: u64| Listed { key, name, file_type: FileType::CharDevice, ino };
    tree.node(0o755).computed_dir(
        move || {
            let numbers = is_here.then_some(0).into_iter().chain(pair::numbers());
            let slaves = numbers.map(u64::from).map(|n| listed(n + 1, format!("{n}"), pair::FIRST_INO + n));
            Ok([listed(0, "ptmx".into(), PTMX_INO)].into_iter().chain(slaves).collect())
        },
        move |name| match (name.as_bytes(), &own) {
            (b"ptmx", _) => Ok(ptmx.clone()),
            (b"0", Some(terminal)) => Ok(terminal.clone()),
            _ => pair::slave(number(name)?),
        },
    )
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
    let first_number = u32::from(terminal.is_some());
    let ptmx = |node: NodeBuilder| {
        node.device(FileType::CharDevice, join_device(5, 2), move |inode, _| pair::open_master(inode, first_number))
    };
    entries.push(("ptmx", ptmx(device())));
    entries.push(("pts", terminals(&tree, terminal, ptmx(tree.node(0o000)))));
    let disks = block_device::nodes(&tree);
    entries.extend(disks.iter().map(|(name, node)| (name.as_str(), node.clone())));
    tree.node(0o755).dir(entries)
}
