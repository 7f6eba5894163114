//! The initrd: an archive that the machine put into memory before the kernel started, and that becomes a file system in
//! memory.

use crate::fs::devices;
use crate::mm::{PAGE_SIZE, frames};
use crate::report;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::slice;
use diolkos_vfs::Inode;
use spin::Mutex;

/// Guest-physical address and length in bytes; nobody's but ours, and `None` once it has been unpacked.
static PLACE: Mutex<Option<(u64, u64)>> = Mutex::new(None);

/// Keeps in mind where it is: memory that the frame allocator was not given.
pub fn found(place: Option<(u64, u64)>) {
    *PLACE.lock() = place;
}

/// Unpacks it into a new file system, of which this is the root, and gives its memory to the program.
///
/// # Errors
/// There is none, or why it cannot be unpacked.
pub fn unpack(owner: (u32, u32)) -> Result<Arc<dyn Inode>, String> {
    let (start, len) = PLACE.lock().take().ok_or("there is no initrd")?;
    // SAFETY: the boot tables map it, the frame allocator does not have it, and taking the place out of `PLACE` made it
    // ours alone.
    let mut archive = unsafe { slice::from_raw_parts(frames::pointer(start).cast_const(), len as usize) };
    let root = devices::memory_fs(devices::ROOT, owner, 0o755).root();
    let summary = diolkos_cpio::unpack(&mut archive, &root).map_err(|error| format!("the initrd: {error}"))?;
    if summary.garbage {
        report::warning(format_args!("the initrd: there is something behind the archive, which is ignored"));
    }
    crate::verbose!("initrd: {} entries, {} KiB of content", summary.entries, summary.bytes >> 10);
    // SAFETY: it was ours alone, and what was unpacked is a copy.
    unsafe { frames::add_reserved(start, (start + len) / PAGE_SIZE * PAGE_SIZE) };
    Ok(root)
}
