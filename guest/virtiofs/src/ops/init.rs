//! INIT and DESTROY: what the two sides agree on.

use super::{Call, Message, NodeId, Opcode};
use bitflags::bitflags;
use fuse_abi::linux::{self as abi, fuse_init_in, fuse_init_out};

bitflags! {
    /// The features this client understands (`FUSE_*` flags of INIT). It advertises all of them and uses those
    /// that come back.
    ///
    /// Not among them, on purpose: EXPORT_SUPPORT (we never look up `.` and `..`), WRITEBACK_CACHE and CACHE_SYMLINKS
    /// (there is no such cache), NO_OPEN_SUPPORT (a handle is kept for every open file), HAS_INODE_DAX (with it a
    /// server may turn the window off file by file; a file that cannot be mapped is found out by trying), DONT_MASK
    /// and POSIX_ACL (the umask has been applied by the system call), HANDLE_KILLPRIV_V2 (we would have to say on
    /// each write who may keep set-user-id bits; HANDLE_KILLPRIV leaves it to the host, which knows).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Features: u32 {
        /// Several reads of one file may be under way.
        const ASYNC_READ = abi::FUSE_ASYNC_READ;
        /// The server has record locks.
        const POSIX_LOCKS = abi::FUSE_POSIX_LOCKS;
        /// OPEN may truncate.
        const ATOMIC_O_TRUNC = abi::FUSE_ATOMIC_O_TRUNC;
        /// WRITE may carry more than a page.
        const BIG_WRITES = abi::FUSE_BIG_WRITES;
        /// The server has flock(2).
        const FLOCK_LOCKS = abi::FUSE_FLOCK_LOCKS;
        /// The server clears set-user-id bits on write, chown and truncate.
        const HANDLE_KILLPRIV = abi::FUSE_HANDLE_KILLPRIV;
        /// READDIRPLUS exists.
        const DO_READDIRPLUS = abi::FUSE_DO_READDIRPLUS;
        /// The client may choose between READDIR and READDIRPLUS.
        const READDIRPLUS_AUTO = abi::FUSE_READDIRPLUS_AUTO;
        /// Several operations in one directory may be under way.
        const PARALLEL_DIROPS = abi::FUSE_PARALLEL_DIROPS;
        /// The reply says how many pages a message may carry.
        const MAX_PAGES = abi::FUSE_MAX_PAGES;
        /// The reply says how mappings must be aligned.
        const MAP_ALIGNMENT = abi::FUSE_MAP_ALIGNMENT;
    }
}

/// Most bytes of file content in one message, either way.
pub(crate) const MAX_DATA: u32 = 1 << 20;

/// Oldest minor version of protocol 7 that is spoken. Virtio-fs servers are younger (upstream virtiofsd demands
/// 27 of its clients too), and from 23 on the reply to INIT has the one length we accept.
const MIN_MINOR: u32 = 27;

/// Pages a message may carry when the server does not say (Linux' `FUSE_DEFAULT_MAX_PAGES_PER_REQ`).
const DEFAULT_PAGES: u32 = 32;

const PAGE: u32 = 4096;

/// What INIT settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Offered by both.
    pub(crate) features: Features,
    /// Most bytes one READ may ask for, 4 KiB to 1 MiB.
    pub(crate) max_read: u32,
    /// Most bytes one WRITE may carry, 4 KiB to 1 MiB.
    pub(crate) max_write: u32,
    /// Alignment in bytes that file and window offsets of a mapping must have; `None` when no number can say it.
    pub(crate) map_alignment: Option<u64>,
}

/// FUSE_INIT.
pub(crate) struct Init;

impl Message for Init {
    const OPCODE: Opcode = Opcode::FUSE_INIT;
    type Request = fuse_init_in;

    fn node(&self) -> NodeId {
        NodeId(0)
    }

    fn request(&self) -> fuse_init_in {
        fuse_init_in {
            major: abi::FUSE_KERNEL_VERSION,
            minor: abi::FUSE_KERNEL_MINOR_VERSION,
            max_readahead: MAX_DATA,
            flags: Features::all().bits(),
            ..fuse_init_in::default()
        }
    }
}

impl Call for Init {
    type Wire = fuse_init_out;
    type Reply = Agreement;

    fn parse(&self, out: fuse_init_out) -> Option<Agreement> {
        if out.major != abi::FUSE_KERNEL_VERSION || out.minor < MIN_MINOR {
            return None;
        }
        // Flags we did not offer are not ours to obey.
        let features = Features::from_bits_truncate(out.flags);
        let pages = match features.contains(Features::MAX_PAGES) {
            true => u32::from(out.max_pages).clamp(1, MAX_DATA / PAGE),
            false => DEFAULT_PAGES,
        };
        let max_write = match features.contains(Features::BIG_WRITES) {
            true => out.max_write.clamp(PAGE, pages * PAGE),
            false => PAGE,
        };
        let map_alignment = match features.contains(Features::MAP_ALIGNMENT) {
            true => 1u64.checked_shl(out.map_alignment.into()),
            false => Some(1),
        };
        Some(Agreement { features, max_read: pages * PAGE, max_write, map_alignment })
    }
}

/// FUSE_DESTROY. Some servers answer it, some do not.
pub(crate) struct Destroy;

impl Message for Destroy {
    const OPCODE: Opcode = Opcode::FUSE_DESTROY;
    type Request = ();

    fn node(&self) -> NodeId {
        NodeId(0)
    }

    fn request(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> fuse_init_out {
        fuse_init_out { major: 7, minor: 31, max_write: 1 << 20, max_pages: 256, ..fuse_init_out::default() }
    }

    #[test]
    fn only_what_both_offered_counts() {
        let out = fuse_init_out { flags: u32::MAX, flags2: u32::MAX, ..reply() };
        assert_eq!(Init.parse(out).unwrap().features, Features::all());
        let none = Init.parse(reply()).unwrap();
        assert_eq!((none.features, none.max_read, none.max_write), (Features::empty(), 128 << 10, 4096));
    }

    #[test]
    fn sizes_stay_in_bounds_whatever_the_host_says() {
        let flags = Features::all().bits();
        for (max_pages, max_write, want) in
            [(0, 0, (4096, 4096)), (u16::MAX, u32::MAX, (1 << 20, 1 << 20)), (2, 1 << 20, (8192, 8192))]
        {
            let got = Init.parse(fuse_init_out { flags, max_pages, max_write, ..reply() }).unwrap();
            assert_eq!((got.max_read, got.max_write), want);
        }
    }

    #[test]
    fn map_alignment_is_a_power_of_two_or_out_of_reach() {
        let flags = Features::all().bits();
        let of = |map_alignment| Init.parse(fuse_init_out { flags, map_alignment, ..reply() }).unwrap().map_alignment;
        assert_eq!((of(0), of(12), of(63), of(64), of(u16::MAX)), (Some(1), Some(4096), Some(1 << 63), None, None));
    }

    #[test]
    fn other_versions_are_refused() {
        assert_eq!(Init.parse(fuse_init_out { major: 8, ..reply() }), None);
        assert_eq!(Init.parse(fuse_init_out { major: 6, ..reply() }), None);
        assert_eq!(Init.parse(fuse_init_out { minor: 26, ..reply() }), None);
        assert!(Init.parse(fuse_init_out { minor: u32::MAX, ..reply() }).is_some());
    }
}
