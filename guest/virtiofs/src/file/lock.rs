//! Advisory locks of an open file or directory, passed on to the host.

use crate::node::Node;
use crate::ops::data::OpenNode;
use crate::ops::init::Features;
use crate::ops::lock::{GetLk, SetLk};
use diolkos_vfs::{Errno, ForeignLock, LockFamily, LockMode, LockRequest, Result};

impl Node {
    /// The lock as the host is to have it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the server keeps no locks of this family.
    fn for_host(&self, lock: &LockRequest) -> Result<LockRequest> {
        let needed = match lock.family {
            LockFamily::Record => Features::POSIX_LOCKS,
            LockFamily::Flock => Features::FLOCK_LOCKS,
        };
        if !self.fs.agreement.features.contains(needed) {
            return Err(Errno::EOPNOTSUPP);
        }
        // Who may change nothing excludes those who do with a shared lock; other readers are no harm to it.
        let mode = if self.fs.writable || lock.mode == LockMode::Unlocked { lock.mode } else { LockMode::Shared };
        Ok(LockRequest { mode, ..*lock })
    }

    /// As [`diolkos_vfs::File::set_lock`].
    pub(crate) fn set_lock(&self, file: OpenNode, lock: &LockRequest) -> Result<()> {
        let lock = self.for_host(lock)?;
        match self.fs.session.call(&SetLk { file, lock: &lock }) {
            Err(Errno::ENOSYS) => Err(Errno::EOPNOTSUPP),
            Ok(()) if lock.mode != LockMode::Unlocked => {
                // Whoever had the lock before may have changed the file, and others that the lock stands for: SQLite locks
                // the index of its log and then goes by the size of the log.
                self.fs.distrust_attributes();
                Ok(())
            }
            result => result,
        }
    }

    /// As [`diolkos_vfs::File::find_lock`].
    pub(crate) fn find_lock(&self, file: OpenNode, lock: &LockRequest) -> Result<Option<ForeignLock>> {
        match self.for_host(lock) {
            Err(_) => Ok(None),
            Ok(lock) => match self.fs.session.call(&GetLk { file, lock: &lock }) {
                Err(Errno::ENOSYS) => Ok(None),
                result => result,
            },
        }
    }
}
