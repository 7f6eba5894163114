//! Who may do what, by owner, group and mode: for whoever the machine does *not* run as.
//!
//! The user whom the machine runs as is judged by the file systems themselves, on a share by the host. But a program with
//! privileges may become somebody else (seteuid(2), setfsuid(2)) or give privileges up (capset(2)), and of that the host
//! hears only the ids. Then Linux' rules are kept here, from the attributes, as Linux' own client of virtio-fs does
//! (`default_permissions`): fs/namei.c and fs/attr.c there. Access control lists are not looked at.

use crate::dentry::Location;
use crate::{Errno, FileType, Inode, Metadata, Name, Result, SetMetadata, SetTime, XattrName};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;

/// What is asked for, with access(2)'s values. `SEARCH` is of directories what `EXECUTE` is of files.
pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const SEARCH: u32 = 1;

/// Capabilities that file systems know (capabilities(7)), as bits.
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const SYS_ADMIN: u64 = 1 << 21;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
const STICKY: u32 = 0o1000;

/// As whom a thread asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user, for file systems.
    pub uid: u32,
    /// The group, for file systems.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
}

static SOURCE: Once<fn() -> Option<Arc<Caller>>> = Once::new();

/// Tells where to learn who is asking: from the running thread. `None` is whoever the machine runs as. The first call counts.
pub fn set_callers(source: fn() -> Option<Arc<Caller>>) {
    SOURCE.call_once(|| source);
}

/// Who is asking; `None` for whoever the machine runs as, whom the file systems judge themselves.
pub fn caller() -> Option<Arc<Caller>> {
    SOURCE.get().and_then(|source| source())
}

impl Caller {
    fn can(&self, capability: u64) -> bool {
        self.capabilities & capability != 0
    }

    fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    fn owns(&self, file: &Metadata) -> bool {
        self.uid == file.uid || self.can(FOWNER)
    }

    /// `generic_permission` of Linux.
    fn may(&self, file: &Metadata, mask: u32) -> bool {
        let shift = match () {
            () if self.uid == file.uid => 6,
            () if self.in_group(file.gid) => 3,
            () => 0,
        };
        if mask & !(file.mode >> shift) == 0 {
            return true;
        }
        let directory = file.file_type() == FileType::Directory;
        let looks = if directory { mask & WRITE == 0 } else { mask == READ };
        // Nobody executes what no one may.
        let overrides = directory || mask & SEARCH == 0 || file.mode & 0o111 != 0;
        looks && self.can(DAC_READ_SEARCH) || overrides && self.can(DAC_OVERRIDE)
    }

    /// `setattr_prepare` of Linux. Takes the set-group-id bit from a mode where the caller may not give it.
    fn check_change(&self, file: &Metadata, change: &mut SetMetadata) -> Result<()> {
        let gives_user = change.uid.is_some_and(|uid| self.uid != file.uid || uid != file.uid);
        let has = |gid| gid == file.gid || self.in_group(gid);
        let gives_group = change.gid.is_some_and(|gid| self.uid != file.uid || !has(gid));
        if (gives_user || gives_group) && !self.can(CHOWN) {
            return Err(Errno::EPERM);
        }
        if let Some(mode) = &mut change.mode {
            if !self.owns(file) {
                return Err(Errno::EPERM);
            }
            if !self.in_group(change.gid.unwrap_or(file.gid)) && !self.can(FSETID) {
                *mode &= !SET_GROUP_ID;
            }
        }
        match (change.atime, change.mtime) {
            (None, None) => Ok(()),
            _ if self.owns(file) => Ok(()),
            // Who may write may also say that it was written now (utimensat(2)).
            (Some(SetTime::Now), Some(SetTime::Now)) if self.may(file, WRITE) => Ok(()),
            (Some(SetTime::Now), Some(SetTime::Now)) => Err(Errno::EACCES),
            _ => Err(Errno::EPERM),
        }
    }

    /// `may_delete` of Linux: also what is renamed is removed.
    fn check_removal(&self, dir: &Metadata, file: &Metadata) -> Result<()> {
        if !self.may(dir, WRITE | SEARCH) {
            return Err(Errno::EACCES);
        }
        let kept = dir.mode & STICKY != 0 && self.uid != file.uid && self.uid != dir.uid;
        if kept && !self.can(FOWNER) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// `xattr_permission` of Linux.
    fn check_xattr(&self, file: &Metadata, name: XattrName<'_>, mask: u32) -> Result<()> {
        let name = name.as_bytes();
        let hidden = if mask & WRITE != 0 { Errno::EPERM } else { Errno::ENODATA };
        if name.starts_with(b"trusted.") {
            return if self.can(SYS_ADMIN) { Ok(()) } else { Err(hidden) };
        }
        if name.starts_with(b"security.") {
            return if mask & WRITE == 0 || self.can(SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
        }
        if name.starts_with(b"user.") {
            let sticky = file.file_type() == FileType::Directory && file.mode & STICKY != 0;
            match file.file_type() {
                FileType::Regular | FileType::Directory => {}
                _ => return Err(hidden),
            }
            if sticky && mask & WRITE != 0 && !self.owns(file) {
                return Err(Errno::EPERM);
            }
        }
        if self.may(file, mask) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// Whom to judge by the mode of this inode, if anybody.
fn judged(inode: &Arc<dyn Inode>) -> Option<Arc<Caller>> {
    caller().filter(|_| inode.is_guarded())
}

/// Whether somebody other than whom the machine runs as may do to `inode` what `mask` says; `None` when it is not for us
/// to say.
pub(crate) fn judge(inode: &Arc<dyn Inode>, mask: u32) -> Option<Result<()>> {
    let caller = judged(inode)?;
    let may = |file: Metadata| if caller.may(&file, mask) { Ok(()) } else { Err(Errno::EACCES) };
    Some(inode.metadata().and_then(may))
}

/// # Errors
/// `EACCES` for who may not do to `inode` what `mask` says.
pub(crate) fn permit(inode: &Arc<dyn Inode>, mask: u32) -> Result<()> {
    judge(inode, mask).unwrap_or(Ok(()))
}

/// # Errors
/// `EPERM` for who is not the owner: `O_NOATIME` is the owner's (open(2)).
pub(crate) fn permit_owner(inode: &Arc<dyn Inode>) -> Result<()> {
    match judged(inode) {
        Some(caller) if !caller.owns(&inode.metadata()?) => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// The change that is allowed of the one asked for.
///
/// # Errors
/// `EPERM`, `EACCES`.
pub(crate) fn permit_change(inode: &Arc<dyn Inode>, change: &SetMetadata) -> Result<SetMetadata> {
    let mut allowed = *change;
    if let Some(caller) = judged(inode) {
        caller.check_change(&inode.metadata()?, &mut allowed)?;
    }
    Ok(allowed)
}

/// # Errors
/// `EACCES`, `EPERM` in a sticky directory; `ENOENT`, which comes first, for a name that is not there.
pub(crate) fn permit_removal(dir: &Location, name: &[u8]) -> Result<()> {
    match judged(dir.inode()) {
        Some(caller) => {
            let file = dir.inode().lookup(Name::new(name)?)?;
            caller.check_removal(&dir.inode().metadata()?, &file.metadata()?)
        }
        None => Ok(()),
    }
}

/// Takes the set-id bits from a file that is about to be written or resized, as a program that runs with them must not be changed by
/// just anybody (`file_remove_privs` in Linux' fs/inode.c).
///
/// # Errors
/// What the file system says.
pub fn remove_privileges(inode: &Arc<dyn Inode>) -> Result<()> {
    let Some(caller) = judged(inode) else { return Ok(()) };
    if caller.can(FSETID) || inode.file_type() != FileType::Regular {
        return Ok(());
    }
    let Metadata { mode, gid, .. } = inode.metadata()?;
    // Without the right to execute it, set-group-id has meant another thing once.
    let group = mode & GROUP_EXECUTE != 0 || !caller.in_group(gid);
    let taken = mode & (SET_USER_ID | if group { SET_GROUP_ID } else { 0 });
    if taken != 0 {
        let mode = Some((mode & !taken) & 0o7777);
        inode.set_metadata(&SetMetadata { mode, ..SetMetadata::default() })?;
    }
    Ok(())
}

/// # Errors
/// `EACCES`, `EPERM`, `ENODATA`.
pub(crate) fn permit_xattr(inode: &Arc<dyn Inode>, name: XattrName<'_>, mask: u32) -> Result<()> {
    match judged(inode) {
        Some(caller) => caller.check_xattr(&inode.metadata()?, name, mask),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
