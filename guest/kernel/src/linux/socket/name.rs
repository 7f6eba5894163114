//! Socket addresses as calls carry them, and the socket files that local ones name.

use super::super::Call;
use super::super::fs_context::CWD;
use crate::mm::user::UserPtr;
use alloc::vec::Vec;
use diolkos_net::{Address, Family, Name, Socket};
use diolkos_vfs::{Errno, FileType, Lookup, Result};

/// Longest `struct sockaddr` of any family (`struct sockaddr_storage`).
const ADDRESS_MAX: u64 = 128;
/// `AF_UNSPEC`.
const UNSPECIFIED: [u8; 2] = 0u16.to_ne_bytes();

fn read_bytes(address: u64, len: u64) -> Result<Vec<u8>> {
    let len = len as u32;
    if u64::from(len) > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    UserPtr::<u8>::new(address).read_vec(len as usize)
}

fn existing(call: &Call<'_>, address: Address) -> Result<Name> {
    const W_OK: u32 = 2;
    match address {
        Address::Unnamed => Err(Errno::EINVAL),
        Address::Abstract(name) => Ok(Name::Abstract(name)),
        Address::Inet(address) => Ok(Name::Inet(address)),
        Address::Path(path) => {
            let place = call.find(CWD, &path, Lookup::FOLLOW)?;
            place.access(W_OK)?;
            match place.inode().file_type() {
                FileType::Socket => Ok(Name::Path { path, inode: place.inode().clone() }),
                _ => Err(Errno::ECONNREFUSED),
            }
        }
    }
}

/// Reads the name of a socket that is to be sent to; a length of 0 names none.
pub fn read_name(call: &Call<'_>, socket: &Socket, address: u64, len: u64) -> Result<Option<Name>> {
    let bytes = read_bytes(address, len)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    existing(call, Address::parse(socket.family(), &bytes)?).map(Some)
}

/// Reads the name of a socket to connect to; `None` for the family that ends a connection.
pub fn linked_name(call: &Call<'_>, socket: &Socket, address: u64, len: u64) -> Result<Option<Name>> {
    let bytes = read_bytes(address, len)?;
    if bytes.starts_with(&UNSPECIFIED) {
        return Ok(None);
    }
    existing(call, Address::parse(socket.family(), &bytes)?).map(Some)
}

/// Reads the name to bind a socket to, and makes the socket file of a path; `None` lets the machine choose.
pub fn to_bind(call: &Call<'_>, socket: &Socket, address: u64, len: u64) -> Result<Option<Name>> {
    let bytes = read_bytes(address, len)?;
    match Address::parse(socket.family(), &bytes)? {
        Address::Unnamed => Ok(None),
        Address::Path(path) => {
            let mode = FileType::Socket.mode_bits() | 0o777 & !call.process.fs.umask();
            let start = call.start(CWD, &path)?;
            call.namespace().mknod(&start, &path, mode, 0).map_err(|errno| match errno {
                Errno::EEXIST => Errno::EADDRINUSE,
                other => other,
            })?;
            let inode = call.find(CWD, &path, Lookup::empty())?.inode().clone();
            Ok(Some(Name::Path { path, inode }))
        }
        address => existing(call, address).map(Some),
    }
}

/// Writes an address to a program's buffer, cut to the length at `len`, and its full length there (accept(2)).
pub fn encode(address: &Address, family: Family, to: u64, len: u64) -> Result<()> {
    let room = UserPtr::<i32>::new(len).read()?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = address.encode(family);
    UserPtr::new(to).write_slice(&bytes[..bytes.len().min(room)])?;
    UserPtr::new(len).write(bytes.len() as i32)
}

/// Says that there is no address, as a connected socket does to recvfrom(2).
pub fn encode_nothing(len: u64) -> Result<()> {
    UserPtr::new(len).write(0i32)
}
