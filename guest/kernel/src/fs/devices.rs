//! Device numbers of the file systems without a device, and the file system of memfd_create(2).
//!
//! Linux hands such numbers out as file systems are mounted; ours are few and fixed, so they are listed. Shares get theirs from 0:64 on.

use super::anon::{now, owner};
use super::stat::join_device;
use crate::mm::PHYS_BASE;
use crate::mm::{frames, reclaim};
use alloc::sync::Arc;
use core::ptr::NonNull;
use diolkos_vfs::Inode;
use diolkos_vfs::ramfs::{PageSource, Ramfs, RamfsConfig};
use spin::Once;

/// Memory files.
pub const MEMORY_FILES: u64 = join_device(0, 1);
/// Directories made up for mount points.
pub const SCAFFOLD: u64 = join_device(0, 2);
/// The root, where it is in memory.
pub const ROOT: u64 = join_device(0, 3);
/// `/dev`.
pub const DEV: u64 = join_device(0, 5);
/// Pipes.
pub const PIPES: u64 = join_device(0, 13);
/// Terminals (devpts).
pub const TERMINALS: u64 = join_device(0, 14);
/// Inodes without a name.
pub const ANONYMOUS: u64 = join_device(0, 15);
/// `/proc`.
pub const PROC: u64 = join_device(0, 20);
/// `/dev/shm`.
pub const SHM: u64 = join_device(0, 21);
/// `/tmp`.
pub const TMP: u64 = join_device(0, 22);
/// `/run`.
pub const RUN: u64 = join_device(0, 23);
/// `/sys`.
pub const SYS: u64 = join_device(0, 24);
/// File systems in memory that lists of mounts want; they count on.
pub const FIRST_FURTHER: u64 = join_device(0, 192);
/// The first share; the others count on.
pub const FIRST_SHARE: u64 = join_device(0, 64);

/// Memory files leave this part of the RAM to the program itself: a full disk it can bear, no memory it cannot.
const LEFT_TO_PROGRAM: u64 = 8;

fn allocate_page() -> Option<NonNull<u8>> {
    // What page caches hold is free for whoever asks. A file is locked here, so there is no waiting for the host.
    loop {
        let (free, total) = frames::usage();
        if free >= total / LEFT_TO_PROGRAM
            && let Some(frame) = frames::allocate_for_program(0)
        {
            return NonNull::new(frames::pointer(frame));
        }
        if !reclaim::reclaim(0, false) {
            return None;
        }
    }
}

/// # Safety
/// `page` came from [`allocate_page`], and nobody uses it any more.
unsafe fn release_page(page: NonNull<u8>) {
    frames::release(physical(page.as_ptr()), 0);
}

fn physical(address: *const u8) -> u64 {
    address as u64 - PHYS_BASE
}

// SAFETY: a frame is 4096 bytes, aligned to that and mapped in the direct map, and belongs to who allocated it.
const FRAMES: PageSource = unsafe { PageSource::new(allocate_page, release_page, physical) };

/// What memory holds files: at most half of the RAM, as with tmpfs; all of it together leaves an eighth.
pub fn memory_config(dev: u64, owner: (u32, u32), root_mode: u32) -> RamfsConfig {
    let (_, total) = frames::usage();
    RamfsConfig { limit: total / 2, owner, root_mode, pages: Some(FRAMES), ..RamfsConfig::new(dev, Arc::new(now)) }
}

/// A memory file system.
pub fn memory_fs(dev: u64, owner: (u32, u32), root_mode: u32) -> Ramfs {
    Ramfs::new(memory_config(dev, owner, root_mode))
}

/// The directory memory files are made in, without names.
pub fn memory_files() -> Arc<dyn Inode> {
    static FILES: Once<Ramfs> = Once::new();
    FILES.call_once(|| memory_fs(MEMORY_FILES, owner(), 0o700)).root()
}
