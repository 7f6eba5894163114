//! The device an image lies on, with a bounded cache of lines of it for what is read in small pieces.
//!
//! It is direct-mapped: a line has one place where it may be, and whoever comes there next takes it. That costs a few
//! more misses than keeping account of use would, and no account.

use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::Errno;
use diolkos_vfs::block::Block;
use spin::Mutex;

/// Bytes read from the device at once for metadata: neighbours are wanted soon.
const LINE: u64 = 16 << 10;
/// Lines kept: 4 MiB.
const LINES: usize = 256;

/// The longest image: 2^32 blocks of 64 KiB. What a longer device has behind is none of it, and sums of addresses that lie
/// in the image stay far from the end of 64 bits.
const LEN_MAX: u64 = 1 << 48;

/// A key, and what it stands for, which does not change.
type Entry<T> = (u64, Arc<T>);

/// A cache of values that do not change, each in the one place it may be.
pub struct DirectMapped<T> {
    slots: Mutex<Vec<Option<Entry<T>>>>,
}

impl<T> DirectMapped<T> {
    /// A cache of at most `slots` values, at least one.
    pub fn new(slots: usize) -> Self {
        Self { slots: Mutex::new((0..slots).map(|_| None).collect()) }
    }

    fn place(slots: usize, key: u64) -> usize {
        // Fibonacci hashing: keys are near each other or multiples of a power of two.
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % slots
    }

    /// What `key` stands for, if it is there.
    pub fn get(&self, key: u64) -> Option<Arc<T>> {
        let slots = self.slots.lock();
        let (there, value) = slots[Self::place(slots.len(), key)].as_ref()?;
        (*there == key).then(|| value.clone())
    }

    /// Keeps a value, in the place of another perhaps.
    pub fn insert(&self, key: u64, value: Arc<T>) {
        // What was there is dropped without the lock.
        let _before = {
            let mut slots = self.slots.lock();
            let place = Self::place(slots.len(), key);
            slots[place].replace((key, value))
        };
    }
}

/// The device of an image, with what was read of it lately.
pub struct Device {
    block: Arc<dyn Block>,
    lines: DirectMapped<Vec<u8>>,
}

impl Device {
    /// Nothing is read yet.
    pub fn new(block: Arc<dyn Block>) -> Self {
        Self { block, lines: DirectMapped::new(LINES) }
    }

    /// Length in bytes of what can be an image.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        self.block.len().min(LEN_MAX)
    }

    /// Fills `buffer` from byte `at` on, past the cache: content of files.
    ///
    /// # Errors
    /// It does not lie in the image, or the device fails.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(at, buffer.len())?;
        self.block.read(at, buffer).map_err(Error::Device)
    }

    /// Fills `buffer` from byte `at` on, through the cache: metadata.
    ///
    /// # Errors
    /// It does not lie in the image, or the device fails.
    pub fn metadata(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
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
        self.block.read(start, &mut bytes).map_err(Error::Device)?;
        let line = Arc::new(bytes);
        self.lines.insert(number, line.clone());
        Ok(line)
    }
}

/// Memory for `len` bytes, which are zeros.
///
/// # Errors
/// There is not so much in one piece: the guest's heap has at most 4 MiB.
pub fn zeros(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::Device(Errno::ENOMEM))?;
    bytes.resize(len, 0);
    Ok(bytes)
}
