//! The content of a regular file: pages by their number, and holes where there are none.

use super::{PAGE, Shared};
use crate::{Errno, Result};
use alloc::alloc::{alloc, dealloc};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

const LAYOUT: Layout = match Layout::from_size_align(PAGE, PAGE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a power of two"),
};

/// A page of memory. Programs may have it mapped, and readers and writers copy without a lock: nobody ever
/// forms a reference to its bytes.
pub(crate) struct Page {
    start: NonNull<u8>,
    shared: Arc<Shared>,
}

// SAFETY: a page owns its memory; its bytes are touched by raw copies only, from any thread.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros.
    ///
    /// # Errors
    /// `ENOSPC` at the limit of the file system, or without memory.
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let limit = shared.limit_pages();
        let charge = |pages: u64| (pages < limit).then(|| pages + 1);
        shared.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge).map_err(|_| Errno::ENOSPC)?;
        let start = match &shared.config.pages {
            Some(source) => (source.allocate)(),
            // SAFETY: the layout has a size.
            None => NonNull::new(unsafe { alloc(LAYOUT) }),
        };
        let Some(start) = start else {
            shared.pages.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        };
        // SAFETY: a whole page, and ours alone (by the layout, or the promise of `PageSource`).
        unsafe { start.write_bytes(0, PAGE) };
        Ok(Arc::new(Self { start, shared: shared.clone() }))
    }

    /// The address of byte `offset`, which lies in the page.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < PAGE, "offset {offset} is outside a page");
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Copies a page's worth of bytes in.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        assert!(bytes.len() <= PAGE, "{} bytes are more than a page", bytes.len());
        // SAFETY: as many bytes lie in memory this page owns, which no reference of anybody's overlaps.
        unsafe { self.at(0).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Zeroes the bytes from `start` up to `end`, at most [`PAGE`].
    pub(crate) fn zero(&self, start: usize, end: usize) {
        assert!(end <= PAGE, "byte {end} is outside a page");
        // SAFETY: the range lies in memory this page owns, and is touched by raw copies only.
        unsafe { self.at(start).write_bytes(0, end.saturating_sub(start)) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        match &self.shared.config.pages {
            // SAFETY: it came from this source in `new`, and nobody else holds the page.
            Some(source) => unsafe { (source.release)(self.start) },
            // SAFETY: allocated with this layout in `new`, and nobody else holds the page.
            None => unsafe { dealloc(self.start.as_ptr(), LAYOUT) },
        }
        self.shared.pages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Size and pages of a regular file.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) pages: BTreeMap<u64, Arc<Page>>,
}

/// The page number and the byte in that page of a file offset.
pub(crate) fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

impl Content {
    /// Largest size of a file, that of `off_t`.
    pub(crate) const MAX: u64 = i64::MAX as u64;

    /// The page of this number; `None` for a hole.
    pub(crate) fn page(&self, number: u64) -> Option<Arc<Page>> {
        self.pages.get(&number).cloned()
    }

    /// The page of this number, made if it is a hole.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(crate) fn page_or_new(&mut self, number: u64, shared: &Arc<Shared>) -> Result<Arc<Page>> {
        if let Some(page) = self.page(number) {
            return Ok(page);
        }
        let page = Page::new(shared)?;
        self.pages.insert(number, page.clone());
        Ok(page)
    }

    /// Sets the size and gives back the pages cut off, to be dropped by the caller when no lock is held.
    ///
    /// # Errors
    /// `EFBIG` beyond [`Content::MAX`].
    pub(crate) fn resize(&mut self, size: u64) -> Result<BTreeMap<u64, Arc<Page>>> {
        if size > Self::MAX {
            return Err(Errno::EFBIG);
        }
        let mut cut = BTreeMap::new();
        if size < self.size {
            cut = self.pages.split_off(&size.div_ceil(PAGE as u64));
            let (number, rest) = split(size);
            if let Some(page) = self.pages.get(&number).filter(|_| rest > 0) {
                page.zero(rest, PAGE);
            }
        }
        self.size = size;
        Ok(cut)
    }

    /// Number of pages held.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.len() as u64
    }
}
