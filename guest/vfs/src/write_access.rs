//! Who may write a file and who forbids it: `ETXTBSY`.
//!
//! A file that somebody has open for writing is not executed, and one that is executed is not opened for writing or
//! truncated (`get_write_access` and `deny_write_access` in Linux' include/linux/fs.h). Counted here is what this machine
//! does; that a host's own program runs from a file of a share, the host says itself.

use crate::{Errno, FileType, Inode, InodeId, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::num::NonZeroI32;
use spin::Mutex;

/// Writers of an inode if positive, those who forbid them if negative: never both, as Linux' `i_writecount`.
static COUNTS: Mutex<BTreeMap<InodeId, NonZeroI32>> = Mutex::new(BTreeMap::new());

/// Adds `step`, which is 1 or -1, unless there are some of the other kind.
fn enter(id: InodeId, step: i32) -> Result<()> {
    let mut counts = COUNTS.lock();
    let now = counts.get(&id).map_or(0, |count| count.get());
    if now.signum() == -step {
        return Err(Errno::ETXTBSY);
    }
    let next = now.checked_add(step).and_then(NonZeroI32::new).ok_or(Errno::ENFILE)?;
    counts.insert(id, next);
    Ok(())
}

/// Takes back what [`enter`] added.
fn leave(id: InodeId, step: i32) {
    let mut counts = COUNTS.lock();
    let left = counts.get(&id).and_then(|count| NonZeroI32::new(count.get() - step));
    match left {
        Some(left) => drop(counts.insert(id, left)),
        None => drop(counts.remove(&id)),
    }
}

/// While it lives, the file may be written, and is not executed.
pub struct WriteAccess(Arc<dyn Inode>);

impl WriteAccess {
    /// The right to write a regular file; what is not one needs no right.
    ///
    /// # Errors
    /// `ETXTBSY` while it is executed.
    pub fn get(inode: &Arc<dyn Inode>) -> Result<Option<Self>> {
        if inode.file_type() != FileType::Regular {
            return Ok(None);
        }
        enter(inode.id(), 1)?;
        Ok(Some(Self(inode.clone())))
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        leave(self.0.id(), 1);
    }
}

/// While it lives, nobody may write the file: it is executed.
pub struct WriteDenial(Arc<dyn Inode>);

impl WriteDenial {
    /// Forbids it.
    ///
    /// # Errors
    /// `ETXTBSY` while somebody has it open for writing.
    pub fn new(inode: &Arc<dyn Inode>) -> Result<Self> {
        enter(inode.id(), -1)?;
        Ok(Self(inode.clone()))
    }
}

impl Drop for WriteDenial {
    fn drop(&mut self) {
        leave(self.0.id(), -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{namespace_on, ramfs};
    use crate::{Lookup, OpenFlags};

    #[test]
    fn a_file_is_executed_or_written() {
        let namespace = namespace_on(ramfs(0x7_4000), false);
        let root = namespace.root();
        let open = |flags| namespace.open(&root, b"f", flags, 0o700);
        let (first, second) = (open(OpenFlags::WRONLY | OpenFlags::CREAT).unwrap(), open(OpenFlags::RDWR).unwrap());
        let place = namespace.find(&root, b"f", Lookup::empty()).unwrap();
        assert_eq!(WriteDenial::new(place.inode()).err(), Some(Errno::ETXTBSY));
        drop(first);
        assert_eq!(WriteDenial::new(place.inode()).err(), Some(Errno::ETXTBSY));
        drop(second);
        let (one, two) = (WriteDenial::new(place.inode()).unwrap(), WriteDenial::new(place.inode()).unwrap());
        for flags in [OpenFlags::WRONLY, OpenFlags::RDWR | OpenFlags::CREAT, OpenFlags::TRUNC] {
            assert_eq!(open(flags).err(), Some(Errno::ETXTBSY), "{flags:?}");
        }
        drop(one);
        assert_eq!(place.truncate(0), Err(Errno::ETXTBSY));
        assert!(open(OpenFlags::empty()).is_ok() && open(OpenFlags::PATH).is_ok());
        drop(two);
        assert_eq!(place.truncate(0), Ok(()));
        assert!(open(OpenFlags::WRONLY).is_ok());
        assert!(!COUNTS.lock().contains_key(&place.id()), "nothing is left behind");
    }
}
