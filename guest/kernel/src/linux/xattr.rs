//! Extended attributes (xattr(7)): no file system here has any, which is told the way Linux tells it.

use super::fs_context::CWD;
use super::{Call, table::Calls};
use crate::mm::user::read_cstr;
use diolkos_vfs::{Errno, Lookup, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::getxattr, of_path),
    (Sysno::setxattr, of_path),
    (Sysno::removexattr, of_path),
    (Sysno::lgetxattr, of_link),
    (Sysno::lsetxattr, of_link),
    (Sysno::lremovexattr, of_link),
    (Sysno::fgetxattr, of_file),
    (Sysno::fsetxattr, of_file),
    (Sysno::fremovexattr, of_file),
    (Sysno::listxattr, list_of_path),
    (Sysno::llistxattr, list_of_link),
    (Sysno::flistxattr, list_of_file),
];

/// Longest name of an attribute (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;

/// Every call that names an attribute: the name is checked, and then there is no support for it.
fn unsupported(name: u64) -> Result<u64> {
    match read_cstr(name, NAME_MAX) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Ok(_) => Err(Errno::EOPNOTSUPP),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

fn of_path(call: &mut Call<'_>) -> Result<u64> {
    call.place(CWD, call.args[0], Lookup::FOLLOW)?;
    unsupported(call.args[1])
}

fn of_link(call: &mut Call<'_>) -> Result<u64> {
    call.place(CWD, call.args[0], Lookup::empty())?;
    unsupported(call.args[1])
}

fn of_file(call: &mut Call<'_>) -> Result<u64> {
    call.file(call.args[0])?;
    unsupported(call.args[1])
}

/// A list of attributes is empty rather than refused: that is what a file system without handlers gives.
fn list_of_path(call: &mut Call<'_>) -> Result<u64> {
    call.place(CWD, call.args[0], Lookup::FOLLOW)?;
    Ok(0)
}

fn list_of_link(call: &mut Call<'_>) -> Result<u64> {
    call.place(CWD, call.args[0], Lookup::empty())?;
    Ok(0)
}

fn list_of_file(call: &mut Call<'_>) -> Result<u64> {
    call.file(call.args[0])?;
    Ok(0)
}
