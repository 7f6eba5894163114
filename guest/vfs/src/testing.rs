//! What tests of several modules need.

use crate::ramfs::{Ramfs, RamfsConfig};
use crate::{
    Clock, DirStream, File, Inode, Location, MountSpec, Namespace, NamespaceConfig, OpenFlags, Result, SliceSink,
    SliceSource, Timespec, WaitQueue, WaitQueues,
};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex};

/// A wait queue of `std`. The count of wakeups is what makes none of them lost.
#[derive(Default)]
pub struct StdQueue {
    wakeups: Mutex<u64>,
    changed: Condvar,
}

impl WaitQueue for StdQueue {
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool) -> Result<()> {
        loop {
            let seen = *self.wakeups.lock().unwrap();
            if ready() {
                return Ok(());
            }
            let mut wakeups = self.wakeups.lock().unwrap();
            while *wakeups == seen {
                wakeups = self.changed.wait(wakeups).unwrap();
            }
        }
    }

    fn wake_all(&self) {
        *self.wakeups.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

pub fn queues() -> Arc<dyn WaitQueues> {
    Arc::new(|| Arc::new(StdQueue::default()) as Arc<dyn WaitQueue>)
}

/// A clock that goes on by a second at every look.
pub fn ticking() -> Arc<dyn Clock> {
    let next = AtomicI64::new(1);
    Arc::new(move || Timespec { sec: next.fetch_add(1, Ordering::Relaxed), nsec: 0 })
}

pub fn spec(source: &str, read_only: bool) -> MountSpec {
    MountSpec { source: source.into(), fs_type: "tmpfs".into(), read_only, ..MountSpec::default() }
}

pub fn ramfs(dev: u64) -> Arc<dyn Inode> {
    Ramfs::new(RamfsConfig::new(dev, ticking())).root()
}

/// A namespace over this root.
pub fn namespace_on(root: Arc<dyn Inode>, read_only: bool) -> Namespace {
    let config = NamespaceConfig { scaffold_dev: 1000, clock: ticking(), wait_queues: queues() };
    Namespace::new(root, spec("root", read_only), config).unwrap()
}

/// Writable, on a memory file system of device number 1.
pub fn namespace() -> Namespace {
    namespace_on(ramfs(1), false)
}

pub fn write(namespace: &Namespace, path: &str, content: &[u8]) -> Result<()> {
    let flags = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::WRONLY;
    let opened = namespace.open(&namespace.root(), path.as_bytes(), flags, 0o644)?;
    assert_eq!(opened.file.write_at(0, &mut SliceSource::new(content))?, content.len());
    Ok(())
}

pub fn read_file(file: &dyn File, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let n = file.read_at(offset, &mut SliceSink::new(&mut bytes))?;
    bytes.truncate(n);
    Ok(bytes)
}

pub fn read(namespace: &Namespace, start: &Location, path: &str) -> Result<Vec<u8>> {
    read_file(&*namespace.open(start, path.as_bytes(), OpenFlags::empty(), 0)?.file, 0, 1 << 16)
}

/// Name and inode number of each entry, `chunk` entries to a call.
pub fn list(namespace: &Namespace, path: &str, chunk: usize) -> Result<Vec<(Vec<u8>, u64)>> {
    let opened = namespace.open(&namespace.root(), path.as_bytes(), OpenFlags::DIRECTORY, 0)?;
    let stream = DirStream::new(opened.file, opened.location);
    let (mut entries, mut cookie) = (Vec::new(), 0);
    loop {
        let before = entries.len();
        stream.read(namespace, cookie, &mut |entry| {
            if entries.len() - before == chunk {
                return false;
            }
            entries.push((entry.name.to_vec(), entry.ino));
            cookie = entry.next;
            true
        })?;
        if entries.len() == before {
            return Ok(entries);
        }
    }
}

/// A small linear congruential generator (Knuth's MMIX constants): the sequence must be the same for ever.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
