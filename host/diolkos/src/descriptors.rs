//! How many inodes the guest may keep known to a file server, by the descriptors that its process may have.
//!
//! A server holds a descriptor for each. Our own server raises its soft limit to the hard one, and a daemon is told
//! to; so the hard limit is what counts, for all shares together on KVM, and for each daemon on QEMU.

use rustix::process::{Resource, getrlimit};

/// What a server's process needs beside: the machine's own descriptors and a few dozen files that the program has open.
const RESERVE: u64 = 128;
/// More would speed up nothing that we know of: the guest's own bound.
const MOST: u64 = 8192;
/// Without these the guest would forget the beginning of a path at its end.
const FEWEST: u64 = 32;

/// The most descriptors this process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// The bound on inodes of each of `shares` that one process of `limit` descriptors serves. The other half is for what
/// the program opens.
pub fn inodes(limit: u64, shares: usize) -> u32 {
    let each = limit.saturating_sub(RESERVE) / 2 / (shares as u64).max(1);
    each.clamp(FEWEST, MOST) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_left_is_shared_out() {
        assert_eq!((inodes(1024, 1), inodes(1024, 4)), (448, 112));
        assert_eq!((inodes(u64::MAX, 1), inodes(20, 9), inodes(1 << 20, 0)), (8192, 32, 8192));
    }
}
