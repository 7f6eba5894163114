//! Pages of files that have no memory of their own to map (no DAX): read once, shared by all mappings.
//!
//! A cache lives as long as something maps the file. A mapping made after the file changed (its size or time) gets a
//! new cache, so that a program that opens again sees the change; mappings made before keep what they have, as
//! MAP_PRIVATE allows.

use super::{PAGE_SIZE, frames};
use crate::stats;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use diolkos_vfs::{Errno, File, InodeId, Metadata, Result, SliceSink, Timespec};
use spin::Mutex;

/// Frames read at once: 128 KiB.
const READ_ORDER: usize = 5;
const READ_PAGES: u64 = 1 << READ_ORDER;

/// Which content a cache holds.
type Version = (u64, Timespec);

/// The pages of one version of one file.
pub struct PageCache {
    version: Version,
    /// Physical addresses by page number.
    pages: Mutex<BTreeMap<u64, u64>>,
}

static CACHES: Mutex<BTreeMap<InodeId, Weak<PageCache>>> = Mutex::new(BTreeMap::new());

impl PageCache {
    /// The cache for a file as it is now.
    ///
    /// # Errors
    /// What asking for the metadata gives.
    pub fn of(file: &dyn File) -> Result<Arc<Self>> {
        let Metadata { size, mtime, .. } = file.inode().metadata()?;
        let id = file.inode().id();
        let mut caches = CACHES.lock();
        if let Some(cache) = caches.get(&id).and_then(Weak::upgrade).filter(|c| c.version == (size, mtime)) {
            return Ok(cache);
        }
        caches.retain(|_, cache| cache.strong_count() > 0);
        let cache = Arc::new(Self { version: (size, mtime), pages: Mutex::new(BTreeMap::new()) });
        caches.insert(id, Arc::downgrade(&cache));
        Ok(cache)
    }

    /// The frame of page number `page`, if it is there.
    pub fn get(&self, page: u64) -> Option<u64> {
        self.pages.lock().get(&page).copied()
    }

    /// The frame of page number `page`, read from the file if it is not there. The end of the file reads as zeroes.
    ///
    /// # Errors
    /// `ENOMEM`, or what reading gives.
    pub fn load(&self, file: &dyn File, page: u64) -> Result<u64> {
        if let Some(frame) = self.get(page) {
            return Ok(frame);
        }
        let first = page & !(READ_PAGES - 1);
        if let Some(block) = frames::allocate_for_program(READ_ORDER) {
            self.read_into(file, first, block, READ_ORDER)?;
        } else {
            let block = frames::allocate_for_program(0).ok_or(Errno::ENOMEM)?;
            self.read_into(file, page, block, 0)?;
        }
        self.get(page).ok_or(Errno::EIO)
    }

    /// Reads a block's worth of pages from page number `first` on and keeps those that hold a byte of the file.
    fn read_into(&self, file: &dyn File, first: u64, block: u64, order: usize) -> Result<()> {
        let bytes = (PAGE_SIZE << order) as usize;
        // SAFETY: the frames were just allocated; nobody else knows them.
        let memory = unsafe { core::slice::from_raw_parts_mut(frames::pointer(block), bytes) };
        let mut sink = SliceSink::new(memory);
        let read = match file.read_at(first * PAGE_SIZE, &mut sink) {
            Ok(read) => read,
            Err(errno) => {
                frames::release(block, order);
                return Err(errno);
            }
        };
        memory[read..].fill(0);
        let mut pages = self.pages.lock();
        for i in 0..1 << order {
            let frame = block + i * PAGE_SIZE;
            let used = i * PAGE_SIZE < (read as u64).max(1) && !pages.contains_key(&(first + i));
            if used {
                pages.insert(first + i, frame);
                stats::CACHE_PAGES.count();
            } else {
                frames::release(frame, 0);
            }
        }
        Ok(())
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        for frame in self.pages.get_mut().values() {
            frames::release(*frame, 0);
        }
    }
}
