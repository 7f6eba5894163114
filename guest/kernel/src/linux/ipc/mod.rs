//! System V semaphores, message queues and shared memory: the calls. What the first two do is in [`crate::ipc`]; here
//! threads wait and structures are packed. With one process, threads are all that can meet there; programs use them all the same.

pub mod messages;
pub mod segments;
pub mod semaphores;

use super::Call;
use super::process::UserThread;
use super::signal;
use crate::fs::anon::now;
use crate::ipc::registry::{Object, Permissions};
use crate::task::WaitQueue;
use diolkos_vfs::{Errno, Result};

/// Commands and flags, from `linux/ipc.h`, which the bindings lack; `IPC_64` is the flag of the 64-bit structures in a command.
const IPC_64: u64 = 0x100;
const IPC_RMID: u64 = 0;
const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;
const IPC_NOWAIT: u64 = 0o4000;

/// `struct ipc64_perm` of x86-64.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct PermissionsLayout {
    key: i32,
    uid: u32,
    gid: u32,
    creator_uid: u32,
    creator_gid: u32,
    mode: u32,
    sequence: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}
const _: () = assert!(size_of::<PermissionsLayout>() == 48);

impl PermissionsLayout {
    fn of(permissions: &Permissions) -> Self {
        let Permissions { key, uid, gid, creator_uid, creator_gid, mode } = *permissions;
        Self { key, uid, gid, creator_uid, creator_gid, mode, ..Self::default() }
    }

    /// What `IPC_SET` changes: owner, group, and permission bits.
    fn apply<T>(&self, object: &mut Object<T>) {
        let Permissions { uid, gid, mode, .. } = &mut object.permissions;
        (*uid, *gid) = (self.uid, self.gid);
        *mode = *mode & !0o777 | self.mode & 0o777;
    }
}

/// Seconds since the epoch.
fn seconds() -> i64 {
    now().sec
}

/// What a new object belongs to: the caller.
fn permissions(call: &Call<'_>, key: u64, flags: u64) -> Permissions {
    let credentials = call.process.credentials.lock();
    let (uid, gid) = (credentials.uid.effective, credentials.gid.effective);
    Permissions { key: key as i32, uid, gid, creator_uid: uid, creator_gid: gid, mode: flags as u32 & 0o777 }
}

/// Tries until it succeeds, asleep in between. An object that is gone meanwhile is `EIDRM` to who has waited for it.
///
/// # Errors
/// What `attempt` says, `EINTR`; `EAGAIN` at the deadline.
fn wait<T>(
    thread: &UserThread,
    bell: &WaitQueue,
    deadline: Option<u64>,
    attempt: &mut dyn FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut outcome = attempt().transpose();
    if outcome.is_none() {
        let mut ready = || {
            // Asked once more after success, it must not act twice.
            if outcome.is_none() {
                let again = attempt().map_err(|errno| if errno == Errno::EINVAL { Errno::EIDRM } else { errno });
                outcome = again.transpose();
            }
            outcome.is_some()
        };
        signal::wait::sleep(thread, bell, &mut ready, deadline)?;
    }
    outcome.unwrap_or(Err(Errno::EAGAIN))
}
