//! What is mapped where: the ordered map of a program's memory areas. Pure bookkeeping, no page tables.

use alloc::string::String;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::any::Any;
use diolkos_vfs::File;

bitflags! {
    /// Protection of an area, with mmap(2)'s values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// May be read.
        const READ = 1;
        /// May be written.
        const WRITE = 2;
        /// May be executed.
        const EXEC = 4;
    }
}

/// Something that its owner knows and an area only keeps.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What an area shows.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes until written.
    Anonymous,
    /// A file from `offset` bytes on (page-aligned).
    File {
        /// The open file, kept open by the mapping.
        file: Arc<dyn File>,
        /// Offset of the area's first byte in the file.
        offset: u64,
        /// What has to stay until the mapping ends. What a descriptor led to, if the mapping was made by one: it counts as
        /// open, so that its locks and its right to write stay, and who watches it is told of its end then.
        held: Option<Held>,
    },
}

/// One area. `start` and `end` are page-aligned, `start < end <= USER_TOP`.
#[derive(Clone)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Present protection.
    pub prot: Prot,
    /// The most protection mprotect may give: a shared mapping of a file not open for writing may never be written.
    pub max_prot: Prot,
    /// Whether writes are seen by others (`MAP_SHARED`).
    pub shared: bool,
    /// Whether it grows down when touched below its start (`MAP_GROWSDOWN`, the main stack).
    pub grows_down: bool,
    /// What it shows.
    pub backing: Backing,
    /// A name for `/proc/self/maps` such as `[heap]`, or the path of the file.
    pub name: Option<Arc<str>>,
}

/// A listing entry for `/proc/self/maps`.
#[derive(Debug, Clone)]
pub struct VmaInfo {
    /// First address and the address after the last.
    pub range: (u64, u64),
    /// Protection.
    pub prot: Prot,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// Offset, device and inode number of a mapped file.
    pub file: Option<(u64, u64, u64)>,
    /// Name or path.
    pub name: String,
}
