//! The seam to the kernel: how a socket's users sleep and wake, and what stands for a socket in stat(2).

use alloc::sync::Arc;
use core::time::Duration;
use diolkos_vfs::{Inode, Result};

/// Threads waiting for something at one socket. The kernel implements it with its scheduler, tests with `std`.
pub trait Bell: Send + Sync {
    /// Sleeps until `ready` gives `true`, calling it at least once and again after every [`Bell::ring`] that comes after its
    /// last call began. With `most` it gives up after that time, with `Ok(false)`.
    ///
    /// # Errors
    /// `EINTR` when a signal arrived first.
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool, most: Option<Duration>) -> Result<bool>;

    /// Lets every waiter look again. Called after the change, with no lock held.
    fn ring(&self);
}

/// What a socket needs of the kernel.
pub trait Surroundings: Send + Sync {
    /// A new bell, that nobody waits at.
    fn bell(&self) -> Arc<dyn Bell>;

    /// A new inode of type socket, without a name.
    fn inode(&self) -> Arc<dyn Inode>;
}
