//! What the kernel adds to the file systems: `/proc`, `/dev`, the standard streams and other files without a
//! name, and the pure bookkeeping of the file calls ([`crate::linux`] has the calls themselves).
//!
//! The parts that need nothing of the guest are tested on the host.

#[cfg(guest)]
pub mod anon;
#[cfg(guest)]
pub mod block_device;
#[cfg(guest)]
pub mod devfs;
#[cfg(guest)]
pub mod devices;
pub mod dirent;
#[cfg(guest)]
pub mod eventfd;
pub mod fd_table;
#[cfg_attr(test, allow(dead_code, reason = "the tests do not mount"))]
pub mod fstab;
pub mod procfs;
pub mod pty;
#[cfg(guest)]
pub mod readiness;
#[cfg(guest)]
pub mod sockets;
pub mod stat;
#[cfg(guest)]
pub mod sysfs;
#[cfg(guest)]
pub mod timerfd;
#[cfg(guest)]
pub mod tty;
#[cfg(guest)]
pub mod waiting;
