//! Acting as another user for one call, so that what it makes belongs to that user and is allowed to be made.

use crate::virtio::fs::guard::refuse;
use fuse_backend_rs::api::filesystem::Context;
use std::io;

/// While it lives, the thread has another effective user and group than root.
#[derive(Debug)]
pub struct Acting {
    user: bool,
    group: bool,
}

/// "No change", for setresuid(2).
const KEEP: u32 = u32::MAX;

impl Acting {
    /// As the user and group of `ctx`; nothing is changed where they are 0, which is what a server without privileges
    /// always gets.
    ///
    /// # Errors
    /// `EINVAL` for ids that mean "no change" to Linux; what the host says.
    pub fn as_user(ctx: &Context) -> io::Result<Self> {
        if ctx.uid == KEEP || ctx.gid == KEEP {
            return Err(refuse(libc::EINVAL));
        }
        // The group first: a thread that is not root any more may not choose one. What was changed when the second call
        // fails is undone by the drop.
        let mut acting = Self { user: false, group: false };
        if ctx.gid != 0 {
            set(libc::SYS_setresgid, ctx.gid)?;
            acting.group = true;
        }
        if ctx.uid != 0 {
            set(libc::SYS_setresuid, ctx.uid)?;
            acting.user = true;
        }
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let user = if self.user { set(libc::SYS_setresuid, 0) } else { Ok(()) };
        let group = if self.group { set(libc::SYS_setresgid, 0) } else { Ok(()) };
        if let Err(error) = user.and(group) {
            // The real user is root, so only a host without memory refuses. All later requests would be served as
            // somebody they do not come from.
            tracing::error!("cannot become root again: {error}");
            std::process::abort();
        }
    }
}

/// Sets the effective id of this thread alone; the C library's own function would set every thread's.
fn set(call: i64, id: u32) -> io::Result<()> {
    // SAFETY: setresuid(2) and setresgid(2) touch no memory.
    if unsafe { libc::syscall(call, KEEP, id, KEEP) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
