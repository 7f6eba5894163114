//! The machine around the file system: time, page tables and memory, as far as a test needs them.

use diolkos_virtiofs::{Frames, Mount, Platform};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, Weak};

/// A machine whose clock the test turns and whose revocations it sees.
#[derive(Default)]
pub struct Machine {
    pub frames: Memory,
    pub now: AtomicU64,
    pub revoked: Mutex<Vec<(u64, u64)>>,
    /// Ranges of guest-physical memory whose loss nobody has been told of.
    pub lost: Mutex<Vec<(u64, u64)>>,
    pub mount: OnceLock<Weak<Mount>>,
}

impl Platform for Machine {
    fn now_ns(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn revoke(&self, phys: u64, len: u64) {
        self.revoked.lock().unwrap().push((phys, len));
    }

    fn heed_losses(&self) -> u64 {
        let lost = std::mem::take(&mut *self.lost.lock().unwrap());
        let mount = self.mount.get().and_then(Weak::upgrade).unwrap();
        lost.into_iter().for_each(|(phys, len)| mount.lose(phys, len));
        self.losses()
    }

    fn frames(&self) -> Option<&dyn Frames> {
        self.frames.pages.is_some().then_some(&self.frames)
    }

    fn pause(&self) {
        std::thread::yield_now();
    }
}

/// Memory for the page cache: ordinary memory, at a physical address that is its own.
#[derive(Default)]
pub struct Memory {
    /// How many pages there are; without this, no cache.
    pub pages: Option<usize>,
    pub used: AtomicU64,
    /// Frames taken from page tables.
    pub revoked: Mutex<Vec<u64>>,
}

impl Memory {
    /// Pages in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn layout(order: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(4096 << order, 4096).unwrap()
    }
}

// SAFETY: blocks come from the allocator. They are never given back to it, so that who looks at a page too late is seen:
// given back pages are filled with a pattern.
unsafe impl Frames for Memory {
    fn allocate(&self, order: usize) -> Option<u64> {
        let pages = 1 << order;
        let taken = self.used.fetch_add(pages, Ordering::Relaxed) + pages;
        if taken > self.pages.unwrap() as u64 {
            self.used.fetch_sub(pages, Ordering::Relaxed);
            return None;
        }
        // SAFETY: the layout has a size.
        Some(unsafe { std::alloc::alloc(Self::layout(order)) } as u64)
    }

    fn release(&self, phys: u64, order: usize) {
        // SAFETY: the frames were allocated and are nobody else's by now.
        unsafe { (phys as *mut u8).write_bytes(0xdd, 4096 << order) };
        self.used.fetch_sub(1 << order, Ordering::Relaxed);
    }

    fn at(&self, phys: u64) -> NonNull<u8> {
        NonNull::new(phys as *mut u8).unwrap()
    }

    fn revoke(&self, frames: &[u64]) {
        assert!(frames.is_sorted());
        self.revoked.lock().unwrap().extend(frames);
    }
}
