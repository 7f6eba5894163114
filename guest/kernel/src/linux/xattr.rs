//! Extended attributes (xattr(7)). Lengths and names are checked here, as Linux does above its file systems; which name
//! spaces there are, and who may change them, is for the file system to say.

use super::fs_context::CWD;
use super::{Call, table::Calls};
use crate::mm::user::{UserPtr, read_cstr};
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Location, Lookup, Result, XATTR_LIST_MAX, XATTR_SIZE_MAX, XattrFlags, XattrName};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::getxattr, |call| get(call, Of::Path)),
    (Sysno::lgetxattr, |call| get(call, Of::Link)),
    (Sysno::fgetxattr, |call| get(call, Of::File)),
    (Sysno::setxattr, |call| set(call, Of::Path)),
    (Sysno::lsetxattr, |call| set(call, Of::Link)),
    (Sysno::fsetxattr, |call| set(call, Of::File)),
    (Sysno::listxattr, |call| list(call, Of::Path)),
    (Sysno::llistxattr, |call| list(call, Of::Link)),
    (Sysno::flistxattr, |call| list(call, Of::File)),
    (Sysno::removexattr, |call| remove(call, Of::Path)),
    (Sysno::lremovexattr, |call| remove(call, Of::Link)),
    (Sysno::fremovexattr, |call| remove(call, Of::File)),
];

/// What the first argument is: each call comes in three forms.
#[derive(Clone, Copy)]
enum Of {
    /// A path, whose last link is followed.
    Path,
    /// A path, whose last link is meant.
    Link,
    /// A descriptor.
    File,
}

/// Where the attributes are.
fn place(call: &Call<'_>, of: Of) -> Result<Location> {
    match of {
        Of::Path => call.place(CWD, call.args[0], Lookup::FOLLOW),
        Of::Link => call.place(CWD, call.args[0], Lookup::empty()),
        Of::File => Ok(call.file(call.args[0])?.location().clone()),
    }
}

/// Reads the argument that names an attribute. One too long is out of range (`import_xattr_name` in Linux' fs/xattr.c).
fn name(address: u64) -> Result<Vec<u8>> {
    read_cstr(address, XattrName::MAX).map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::ERANGE } else { errno })
}

/// Hands `fetch` a buffer for `size` bytes and gives the program what came. Without room only the length is told; with
/// more room than `max` Linux says that the thing is too big, not that the buffer is too small.
fn deliver(to: u64, size: u64, max: usize, fetch: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<u64> {
    let room = usize::try_from(size).unwrap_or(usize::MAX).min(max);
    let mut buffer = vec![0; room];
    let n = match fetch(&mut buffer) {
        Err(Errno::ERANGE) if size >= max as u64 => return Err(Errno::E2BIG),
        result => result?,
    };
    if room > 0 {
        UserPtr::new(to).write_slice(buffer.get(..n).ok_or(Errno::EIO)?)?;
    }
    Ok(n as u64)
}

/// getxattr(2), lgetxattr(2), fgetxattr(2).
fn get(call: &mut Call<'_>, of: Of) -> Result<u64> {
    let [_, attribute, value, size, ..] = call.args;
    let name = name(attribute)?;
    let (place, name) = (place(call, of)?, XattrName::new(&name)?);
    deliver(value, size, XATTR_SIZE_MAX, |buffer| place.xattr(name, buffer))
}

/// listxattr(2), llistxattr(2), flistxattr(2).
fn list(call: &mut Call<'_>, of: Of) -> Result<u64> {
    let [_, list, size, ..] = call.args;
    let place = place(call, of)?;
    deliver(list, size, XATTR_LIST_MAX, |buffer| place.list_xattrs(buffer))
}

/// setxattr(2), lsetxattr(2), fsetxattr(2).
fn set(call: &mut Call<'_>, of: Of) -> Result<u64> {
    let [_, attribute, value, size, flags, _] = call.args;
    let flags = XattrFlags::from_bits(flags as u32).ok_or(Errno::EINVAL)?;
    let name = name(attribute)?;
    let name = XattrName::new(&name)?;
    if size > XATTR_SIZE_MAX as u64 {
        return Err(Errno::E2BIG);
    }
    let value: Vec<u8> = UserPtr::new(value).read_vec(size as usize)?;
    place(call, of)?.set_xattr(name, &value, flags)?;
    Ok(0)
}

/// removexattr(2), lremovexattr(2), fremovexattr(2).
fn remove(call: &mut Call<'_>, of: Of) -> Result<u64> {
    let name = name(call.args[1])?;
    let (name, place) = (XattrName::new(&name)?, place(call, of)?);
    place.remove_xattr(name)?;
    Ok(0)
}
