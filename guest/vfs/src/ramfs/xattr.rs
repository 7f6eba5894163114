//! Extended attributes of an inode in memory: those that a program or the machine's root may make up, as tmpfs keeps them.

use super::node::Node;
use crate::{Errno, FileType, Result, XATTR_LIST_MAX, XattrFlags, XattrName};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Most bytes of names and values one inode may have. It bounds what a program can put where no limit of the file system
/// counts it.
const MOST: usize = 128 << 10;

/// The attributes of one inode.
#[derive(Default)]
pub(crate) struct Xattrs {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Bytes of all names, each with its NUL.
    names: usize,
    /// Bytes of all values.
    content: usize,
}

/// Copies into a buffer, or only says how much there is to copy.
fn fill(buffer: &mut [u8], bytes: &[u8]) -> Result<usize> {
    if !buffer.is_empty() {
        buffer.get_mut(..bytes.len()).ok_or(Errno::ERANGE)?.copy_from_slice(bytes);
    }
    Ok(bytes.len())
}

impl Xattrs {
    fn set(&mut self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        let old = self.values.get(name.as_bytes()).map(|value| value.len());
        match old {
            Some(_) if flags.contains(XattrFlags::CREATE) => return Err(Errno::EEXIST),
            None if flags.contains(XattrFlags::REPLACE) => return Err(Errno::ENODATA),
            _ => {}
        }
        let names = self.names + if old.is_none() { name.as_bytes().len() + 1 } else { 0 };
        let content = self.content - old.unwrap_or(0) + value.len();
        if names > XATTR_LIST_MAX || names + content > MOST {
            return Err(Errno::ENOSPC);
        }
        (self.names, self.content) = (names, content);
        self.values.insert(name.as_bytes().into(), value.into());
        Ok(())
    }

    fn remove(&mut self, name: XattrName<'_>) -> Result<()> {
        let value = self.values.remove(name.as_bytes()).ok_or(Errno::ENODATA)?;
        self.names -= name.as_bytes().len() + 1;
        self.content -= value.len();
        Ok(())
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(self.names);
        }
        let mut at = 0;
        for name in self.values.keys() {
            at += fill(buffer.get_mut(at..at + name.len()).ok_or(Errno::ERANGE)?, name)?;
            *buffer.get_mut(at).ok_or(Errno::ERANGE)? = 0;
            at += 1;
        }
        Ok(at)
    }
}

/// Whether there is a name space of this name, and a name in it.
fn known(name: XattrName<'_>) -> Result<()> {
    let space = [&b"user."[..], b"trusted.", b"security."].into_iter().find(|s| name.as_bytes().starts_with(s));
    match space {
        None => Err(Errno::EOPNOTSUPP),
        Some(space) if space == name.as_bytes() => Err(Errno::EINVAL),
        Some(_) => Ok(()),
    }
}

impl Node {
    /// User attributes are for files and directories (xattr(7)); on anything else there are none, and none can be made.
    fn takes(&self, name: XattrName<'_>, refusal: Errno) -> Result<()> {
        let for_users = name.as_bytes().starts_with(b"user.");
        let holds = matches!(self.kind, FileType::Regular | FileType::Directory);
        if for_users && !holds { Err(refusal) } else { known(name) }
    }

    /// Takes over an attribute of an inode of another file system, if memory has that kind of attribute.
    pub(crate) fn take_xattr(&self, name: XattrName<'_>, value: &[u8]) -> Result<()> {
        match self.takes(name, Errno::EPERM) {
            Ok(()) => self.inner().xattrs.set(name, value, XattrFlags::empty()),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn get_xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        self.takes(name, Errno::ENODATA)?;
        fill(value, self.inner().xattrs.values.get(name.as_bytes()).ok_or(Errno::ENODATA)?)
    }

    pub(super) fn list_all_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        self.inner().xattrs.list(list)
    }

    pub(super) fn change_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        self.takes(name, Errno::EPERM)?;
        self.inner().xattrs.set(name, value, flags)?;
        self.touch_change();
        Ok(())
    }

    pub(super) fn drop_xattr(&self, name: XattrName<'_>) -> Result<()> {
        self.takes(name, Errno::EPERM)?;
        self.inner().xattrs.remove(name)?;
        self.touch_change();
        Ok(())
    }
}
