//! The machine's sockets: [`diolkos_net`] with our scheduler and our inodes.

use super::anon::{AnonInode, owner};
use super::readiness;
use crate::task;
use crate::time;
use alloc::sync::Arc;
use core::time::Duration;
use diolkos_net::{Bell, Credentials, Net, Surroundings};
use diolkos_vfs::{FileType, Inode, Result};
use spin::Once;

struct Queue(task::WaitQueue);

impl Bell for Queue {
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool, most: Option<Duration>) -> Result<bool> {
        let nanos = most.map(|most| u64::try_from(most.as_nanos()).unwrap_or(u64::MAX));
        let deadline = nanos.map(|nanos| time::monotonic_ns().saturating_add(nanos));
        self.0.wait_until(ready, deadline, true)
    }

    fn ring(&self) {
        self.0.wake_all();
        readiness::changed();
    }
}

struct Kernel;

impl Surroundings for Kernel {
    fn bell(&self) -> Arc<dyn Bell> {
        Arc::new(Queue(task::WaitQueue::new()))
    }

    fn inode(&self) -> Arc<dyn Inode> {
        AnonInode::new(FileType::Socket.mode_bits() | 0o777, 0)
    }
}

/// The machine's sockets, owned by process `pid`.
pub fn net(pid: u32) -> &'static Arc<Net> {
    static NET: Once<Arc<Net>> = Once::new();
    NET.call_once(|| {
        let (uid, gid) = owner();
        Net::new(Arc::new(Kernel), Credentials { pid, uid, gid })
    })
}
