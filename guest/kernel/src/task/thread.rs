//! The thread: a kernel stack and what is saved while it does not run.

use crate::linux::process::UserThread;
use crate::mm::AddressSpace;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// A thread of the kernel. One with a [`UserThread`] runs a program too.
pub struct Thread {
    /// The address space it runs in; a kernel thread uses whichever is loaded.
    pub space: Option<Arc<AddressSpace>>,
    /// The program's side of it.
    pub user: Option<Arc<UserThread>>,
}

/// Makes a thread and puts it into the run queue.
///
/// # Errors
/// `ENOMEM`.
pub fn spawn(
    _space: Option<Arc<AddressSpace>>,
    _user: Option<Arc<UserThread>>,
    _body: Box<dyn FnOnce() + Send>,
) -> diolkos_vfs::Result<Arc<Thread>> {
    todo!()
}
