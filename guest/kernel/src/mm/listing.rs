//! What can be asked about the areas of a space: what lies at an address, all of them as `/proc/self/maps` has them, and sums.

use super::space::{AddressSpace, Inner};
use super::vma::{Backing, Held, Marks, Prot, Vma, VmaInfo};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::File;

/// The device that shared anonymous memory is shown to lie on, as Linux shows its nameless memory files.
const SHARED_MEMORY: u64 = 1;

/// Sums over the areas of a space, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// All that is mapped.
    pub mapped: u64,
    /// RAM in use by anonymous and copied pages.
    pub owned: u64,
    /// Locked by mlock(2).
    pub locked: u64,
    /// Private, writable and not a stack.
    pub data: u64,
    /// Areas that grow down.
    pub stack: u64,
    /// Code: executable and not writable.
    pub code: u64,
}

impl AddressSpace {
    /// Some areas in order, from the one on that holds `start` or comes after it.
    pub fn areas_from(&self, start: u64) -> Vec<VmaInfo> {
        const PIECE: usize = 256;
        let (areas, names): (Vec<Vma>, _) = {
            let inner = self.inner.lock();
            (inner.areas.overlapping(start, u64::MAX).take(PIECE).cloned().collect(), Places::of(&inner))
        };
        // Files are asked without the lock.
        areas.iter().map(|vma| info(vma, &names)).collect()
    }

    /// Where the area begins that holds an address.
    pub fn start_of_area(&self, address: u64) -> Option<u64> {
        self.inner.lock().areas.find(address).map(|vma| vma.start)
    }

    /// Whether areas cover a range without a hole.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        self.inner.lock().areas.covers(start, end)
    }

    /// The files that are mapped to be shared somewhere in a range: what msync(2) concerns.
    pub fn shared_files(&self, start: u64, end: u64) -> Vec<Arc<dyn File>> {
        let inner = self.inner.lock();
        let shared = inner.areas.overlapping(start, end).filter(|vma| vma.shared);
        shared
            .filter_map(|vma| match &vma.backing {
                Backing::File { file, .. } => Some(file.clone()),
                Backing::Anonymous => None,
            })
            .collect()
    }

    /// The file and the offset in it that an address shows, if it is mapped shared there.
    pub fn shared_place(&self, address: u64) -> Option<(Arc<dyn File>, u64)> {
        let inner = self.inner.lock();
        let vma = inner.areas.find(address).filter(|vma| vma.shared)?;
        match &vma.backing {
            Backing::File { file, offset, .. } => Some((file.clone(), offset + (address - vma.start))),
            Backing::Anonymous => None,
        }
    }

    /// What the area keeps that begins at an address, and with it what it shows.
    pub fn held_from(&self, address: u64) -> Option<Held> {
        let inner = self.inner.lock();
        match &inner.areas.find(address).filter(|vma| vma.start == address)?.backing {
            Backing::File { held, offset: 0, .. } => held.clone(),
            _ => None,
        }
    }

    /// Where the heap starts.
    pub fn heap_start(&self) -> u64 {
        self.inner.lock().brk.0
    }

    /// What its areas come to (`/proc/self/status`, getrusage).
    pub fn usage(&self) -> Usage {
        let inner = self.inner.lock();
        let mut usage = Usage { owned: inner.owned, ..Usage::default() };
        for vma in inner.areas.iter() {
            let len = vma.end - vma.start;
            let (write, exec) = (vma.prot.contains(Prot::WRITE), vma.prot.contains(Prot::EXEC));
            let stack = vma.marks.contains(Marks::GROWS_DOWN);
            usage.mapped += len;
            for (counts, sum) in [
                (vma.marks.contains(Marks::LOCKED), &mut usage.locked),
                (write && !vma.shared && !stack, &mut usage.data),
                (stack, &mut usage.stack),
                (exec && !write && !stack, &mut usage.code),
            ] {
                *sum += if counts { len } else { 0 };
            }
        }
        usage
    }
}

/// What has its name from where it lies: `name_of` below.
struct Places {
    heap: (u64, u64),
    stack: u64,
}

impl Places {
    fn of(inner: &Inner) -> Self {
        Self { heap: inner.brk, stack: inner.stack.0 }
    }

    /// Linux names no area `[heap]` or `[stack]` but those that hold a byte of the heap, or the place where the stack began
    /// (`get_vma_name` in fs/proc/task_mmu.c).
    fn name_of(&self, vma: &Vma) -> &'static str {
        if vma.start < self.heap.1 && self.heap.0 < vma.end {
            "[heap]"
        } else if vma.start <= self.stack && self.stack <= vma.end {
            "[stack]"
        } else {
            ""
        }
    }
}

fn info(vma: &Vma, places: &Places) -> VmaInfo {
    let mut name = match &vma.name {
        Some(name) => String::from(&**name),
        None => places.name_of(vma).to_owned(),
    };
    let file = match (&vma.backing, vma.owner) {
        (Backing::Anonymous, Some(owner)) if vma.shared => {
            Some((vma.start.wrapping_sub(vma.moved), SHARED_MEMORY, owner.0))
        }
        (Backing::Anonymous, _) => None,
        (Backing::File { file, offset, .. }, _) => file.inode().metadata().ok().map(|about| {
            const DELETED: &str = " (deleted)";
            if about.nlink == 0 && !name.ends_with(DELETED) {
                name.push_str(DELETED);
            }
            (*offset, about.dev, about.ino)
        }),
    };
    VmaInfo { range: (vma.start, vma.end), prot: vma.prot, shared: vma.shared, file, name }
}
