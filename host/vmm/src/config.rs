//! What a machine is made from.

use crate::virtio::console::Stdio;
use diolkos_common::cmdline::{BootOptions, CacheMode};
use diolkos_common::report::Record;
use std::borrow::Cow;
use std::path::PathBuf;

/// A directory to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    /// Its virtio-fs tag, 1 to 36 bytes, different from the others'.
    pub tag: String,
    /// The directory.
    pub source: PathBuf,
    /// Whether the guest may change it.
    pub writable: bool,
    /// Size of its DAX window in bytes, a multiple of 2 MiB; 0 for none.
    pub window: u64,
    /// How long the guest may believe names and attributes.
    pub cache: CacheMode,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// A raw image, or a block device of the host.
    pub source: PathBuf,
    /// Whether the guest may change it.
    pub writable: bool,
}

/// Most processors a machine can have. The kernel has places for as many.
pub const MAX_CPUS: u32 = 64;

/// A machine to be.
pub struct MachineConfig {
    /// Processors, 1 to [`MAX_CPUS`].
    pub cpus: u32,
    /// RAM in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// The kernel: an ELF64 file with the PVH note.
    pub kernel: Cow<'static, [u8]>,
    /// What to tell the kernel. `cpus`, `ecam`, `losses`, `report_memory`, `tsc_khz` and `clock` are filled in by the machine.
    pub boot: BootOptions,
    /// A file to hand over in memory.
    pub initrd: Option<PathBuf>,
    /// The shares, in the order of their devices on the bus.
    pub shares: Vec<ShareConfig>,
    /// The disks; the guest finds them in this order.
    pub disks: Vec<DiskConfig>,
    /// The files behind the console.
    pub stdio: Stdio,
    /// Called with every record of the report but the end, as it arrives, on a thread of the machine.
    pub on_record: Box<dyn FnMut(Record) + Send>,
}
