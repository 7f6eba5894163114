//! Requests by opcode: their names, and how many came.

use super::locks::{FLUSH, GETLK, RELEASE, SETLK, SETLKW};
use super::range::{COPY_FILE_RANGE, SYNCFS};
use super::unnamed::TMPFILE;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// `FUSE_FORGET`.
pub const FORGET: u32 = 2;
/// `FUSE_INIT`.
pub const INIT: u32 = 26;
/// `FUSE_DESTROY`.
pub const DESTROY: u32 = 38;
/// `FUSE_BATCH_FORGET`.
pub const BATCH_FORGET: u32 = 42;

/// The opcodes the server is asked to handle; what is not here is answered with `ENOSYS` by us.
const NAMES: [(u32, &str); 49] = [
    (1, "LOOKUP"),
    (FORGET, "FORGET"),
    (3, "GETATTR"),
    (4, "SETATTR"),
    (5, "READLINK"),
    (6, "SYMLINK"),
    (8, "MKNOD"),
    (9, "MKDIR"),
    (10, "UNLINK"),
    (11, "RMDIR"),
    (12, "RENAME"),
    (13, "LINK"),
    (14, "OPEN"),
    (15, "READ"),
    (16, "WRITE"),
    (17, "STATFS"),
    (RELEASE, "RELEASE"),
    (20, "FSYNC"),
    (21, "SETXATTR"),
    (22, "GETXATTR"),
    (23, "LISTXATTR"),
    (24, "REMOVEXATTR"),
    (FLUSH, "FLUSH"),
    (INIT, "INIT"),
    (27, "OPENDIR"),
    (28, "READDIR"),
    (29, "RELEASEDIR"),
    (30, "FSYNCDIR"),
    (GETLK, "GETLK"),
    (SETLK, "SETLK"),
    (SETLKW, "SETLKW"),
    (34, "ACCESS"),
    (35, "CREATE"),
    (36, "INTERRUPT"),
    (37, "BMAP"),
    (DESTROY, "DESTROY"),
    (39, "IOCTL"),
    (40, "POLL"),
    (41, "NOTIFY_REPLY"),
    (BATCH_FORGET, "BATCH_FORGET"),
    (43, "FALLOCATE"),
    (44, "READDIRPLUS"),
    (45, "RENAME2"),
    (46, "LSEEK"),
    (COPY_FILE_RANGE, "COPY_FILE_RANGE"),
    (48, "SETUPMAPPING"),
    (49, "REMOVEMAPPING"),
    (SYNCFS, "SYNCFS"),
    (TMPFILE, "TMPFILE"),
];

/// Counters by opcode.
#[derive(Debug)]
pub struct Requests {
    counts: [AtomicU64; NAMES.len()],
    unknown: AtomicU64,
}

impl Default for Requests {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; NAMES.len()], unknown: AtomicU64::new(0) }
    }
}

impl Requests {
    /// Counts a request. False when the opcode is not one the server knows.
    pub fn count(&self, opcode: u32) -> bool {
        let place = NAMES.binary_search_by_key(&opcode, |(code, _)| *code);
        place.map_or(&self.unknown, |i| &self.counts[i]).fetch_add(1, Ordering::Relaxed);
        place.is_ok()
    }

    /// How many of each name came; names that did not come are left out.
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let known = NAMES.iter().zip(&self.counts).map(|((_, name), count)| (*name, count));
        known
            .chain([("UNKNOWN", &self.unknown)])
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_opcode_counts_under_its_name() {
        assert!(NAMES.is_sorted_by_key(|(code, _)| *code));
        let requests = Requests::default();
        assert!(requests.count(1) && requests.count(49) && requests.count(49));
        for opcode in [0, 7, 19, 53, u32::MAX] {
            assert!(!requests.count(opcode));
        }
        let expected = BTreeMap::from([("LOOKUP", 1), ("REMOVEMAPPING", 2), ("UNKNOWN", 5)]);
        assert_eq!(requests.by_name(), expected);
    }
}
