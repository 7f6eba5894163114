//! Whom a file of `/proc` is about. Only numbers are kept, so that no file keeps a process alive.

use crate::linux::process::{Process, UserThread};
use crate::task;
use alloc::sync::Arc;
use diolkos_vfs::{Errno, Result};

/// A process and one of its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The process' number.
    pub pid: u32,
    /// The thread's.
    pub tid: u32,
}

/// The thread that is asking; `ESRCH` for the kernel itself.
pub fn asker() -> Result<Arc<UserThread>> {
    task::try_current().and_then(|thread| thread.user.clone()).ok_or(Errno::ESRCH)
}

impl Subject {
    /// The asking thread and its process.
    ///
    /// # Errors
    /// `ESRCH` for the kernel itself.
    pub fn asker() -> Result<Self> {
        asker().map(|thread| Self { pid: thread.process.pid, tid: thread.tid })
    }

    /// The process. There is one; who asks belongs to it.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn process(self) -> Result<Arc<Process>> {
        asker().map(|thread| thread.process.clone()).ok().filter(|process| process.pid == self.pid).ok_or(Errno::ESRCH)
    }

    /// The thread.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn thread(self) -> Result<Arc<UserThread>> {
        self.process()?.thread(self.tid).ok_or(Errno::ESRCH)
    }
}

/// What a node is about, and with it its inode number: the same at every lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the directory of a process.
    Process(u32),
    /// In the directory of a thread.
    Thread(u32),
    /// A link of `fd`.
    Descriptor(i32),
    /// A file of `fdinfo`.
    DescriptorInfo(i32),
}

impl Place {
    /// The number of entry `index` (below 256) here. Process numbers stay below 2^22 (`pid_max`), descriptors below 2^20.
    pub fn ino(self, index: usize) -> u64 {
        let (kind, id) = match self {
            Self::Process(pid) => (0, u64::from(pid)),
            Self::Thread(tid) => (1, u64::from(tid)),
            Self::Descriptor(fd) => (2, fd as u64),
            Self::DescriptorInfo(fd) => (3, fd as u64),
        };
        kind << 30 | (id & 0x3f_ffff) << 8 | index as u64 & 0xff
    }
}
