//! Bounded caches: lines of the image for what is read of it in small pieces, and decompressed clusters.
//!
//! Both are direct-mapped: a line has one place where it may be, and whoever comes there next takes it. That costs a few
//! more misses than keeping account of use would, and no account.

use crate::pieces::{Pieces, zeros};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::block::Block;
use spin::Mutex;

/// Bytes read from the device at once for metadata: neighbours are wanted soon.
const LINE: u64 = 16 << 10;
/// Lines kept: 4 MiB.
const LINES: usize = 256;

/// Clusters kept, at most.
const CLUSTERS: usize = 64;
/// Of clusters longer than this one is kept, the last: so all others together are no more than 8 MiB.
const CLUSTER_MOST: usize = 128 << 10;

/// The longest image: 2^32 blocks of 64 KiB. What a longer device has behind is none of it, and sums of addresses that lie
/// in the image stay far from the end of 64 bits.
const LEN_MAX: u64 = 1 << 48;

/// A key, and what it stands for, which does not change.
type Entry<T> = (u64, Arc<T>);

/// Entries, each in the one place it may be.
struct DirectMapped<T> {
    slots: Mutex<Vec<Option<Entry<T>>>>,
}

impl<T> DirectMapped<T> {
    fn new(slots: usize) -> Self {
        Self { slots: Mutex::new((0..slots).map(|_| None).collect()) }
    }

    fn place(slots: usize, key: u64) -> usize {
        // Fibonacci hashing: keys are near each other or multiples of a power of two.
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % slots
    }

    fn get(&self, key: u64) -> Option<Arc<T>> {
        let slots = self.slots.lock();
        let (there, value) = slots[Self::place(slots.len(), key)].as_ref()?;
        (*there == key).then(|| value.clone())
    }

    fn insert(&self, key: u64, value: Arc<T>) {
        // What was there is dropped without the lock.
        let _before = {
            let mut slots = self.slots.lock();
            let place = Self::place(slots.len(), key);
            slots[place].replace((key, value))
        };
    }
}

/// The image, with what was read of it lately.
pub(crate) struct Image {
    device: Arc<dyn Block>,
    lines: DirectMapped<Vec<u8>>,
    clusters: DirectMapped<Pieces>,
    long: DirectMapped<Pieces>,
}

impl Image {
    pub(crate) fn new(device: Arc<dyn Block>) -> Self {
        let (clusters, long) = (DirectMapped::new(CLUSTERS), DirectMapped::new(1));
        Self { device, lines: DirectMapped::new(LINES), clusters, long }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.device.len().min(LEN_MAX)
    }

    /// Fills `buffer` from byte `at` on, past the cache: content of files.
    pub(crate) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(at, buffer.len())?;
        self.device.read(at, buffer).map_err(Error::Device)
    }

    /// Fills `buffer` from byte `at` on, through the cache: metadata.
    pub(crate) fn metadata(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(at, buffer.len())?;
        let mut done = 0;
        while done < buffer.len() {
            let here = at + done as u64;
            let line = self.line(here / LINE)?;
            let from = (here % LINE) as usize;
            let n = (line.len() - from).min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&line[from..from + n]);
            done += n;
        }
        Ok(())
    }

    fn check(&self, at: u64, len: usize) -> Result<()> {
        let end = at.checked_add(len as u64).ok_or(Error::Corrupt("an address past every end"))?;
        if end > self.len() { Err(Error::Corrupt("an address past the end of the image")) } else { Ok(()) }
    }

    fn line(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        if let Some(line) = self.lines.get(number) {
            return Ok(line);
        }
        let start = number * LINE;
        let mut bytes = zeros(LINE.min(self.len() - start) as usize)?;
        self.device.read(start, &mut bytes).map_err(Error::Device)?;
        let line = Arc::new(bytes);
        self.lines.insert(number, line.clone());
        Ok(line)
    }

    /// What the cluster at byte `at` decompresses to, `len` bytes, made by `make` unless it is there.
    pub(crate) fn cluster(&self, at: u64, len: usize, make: impl FnOnce() -> Result<Pieces>) -> Result<Arc<Pieces>> {
        let kept = if len <= CLUSTER_MOST { &self.clusters } else { &self.long };
        if let Some(cluster) = kept.get(at).filter(|cluster| cluster.len() == len) {
            return Ok(cluster);
        }
        let cluster = Arc::new(make()?);
        kept.insert(at, cluster.clone());
        Ok(cluster)
    }
}
