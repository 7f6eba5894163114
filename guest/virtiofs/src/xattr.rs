//! Extended attributes of an inode: asked of the host each time, never cached.
//!
//! A server without them answers `ENOSYS` once; from then on it is `EOPNOTSUPP` without a message, as a file system says it
//! that has none.

use crate::node::Node;
use crate::ops::Opcode;
use crate::ops::xattr::{GetXattr, ListXattr, RemoveXattr, SetXattr, XattrLength, XattrListLength, is_list};
use diolkos_vfs::{Errno, Result, XATTR_LIST_MAX, XATTR_SIZE_MAX, XattrFlags, XattrName};

/// What a missing operation is called here.
fn supported<T>(result: Result<T>) -> Result<T> {
    result.map_err(|errno| if errno == Errno::ENOSYS { Errno::EOPNOTSUPP } else { errno })
}

impl Node {
    pub(crate) fn get_xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        self.check()?;
        let (session, node) = (&self.fs.session, self.id);
        if value.is_empty() {
            return supported(self.heed(session.call(&XattrLength { node, name })));
        }
        let room = value.len().min(XATTR_SIZE_MAX);
        supported(self.heed(session.fetch(&GetXattr { node, name, room: room as u32 }, &mut value[..room])))
    }

    pub(crate) fn list_all_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        self.check()?;
        let (session, node) = (&self.fs.session, self.id);
        if list.is_empty() {
            return supported(self.heed(session.call(&XattrListLength(node))));
        }
        let room = list.len().min(XATTR_LIST_MAX);
        let n = supported(self.heed(session.fetch(&ListXattr { node, room: room as u32 }, &mut list[..room])))?;
        if !is_list(&list[..n]) {
            return Err(session.nonsense(Opcode::FUSE_LISTXATTR, format_args!("{n} bytes that are no names")));
        }
        Ok(n)
    }

    pub(crate) fn change_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        supported(self.heed(self.fs.session.call(&SetXattr { node: self.id, name, value, flags })))?;
        // The time of change at least; with an access control list the mode too.
        self.touched();
        Ok(())
    }

    pub(crate) fn drop_xattr(&self, name: XattrName<'_>) -> Result<()> {
        supported(self.heed(self.fs.session.call(&RemoveXattr { node: self.id, name })))?;
        self.touched();
        Ok(())
    }
}
