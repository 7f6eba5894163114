//! Sockets: there is no network yet, and of the local ones only a connected pair of streams.

use super::open_file::OpenFile;
use super::pipe::install_pair;
use super::read_write::write_or_signal;
use super::{Call, table::Calls};
use crate::fs::socket_pair::{self, End};
use crate::mm::user::{UserBuffers, UserPtr};
use alloc::sync::Arc;
use diolkos_vfs::{Errno, OpenFlags, Poll, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::socket, socket),
    (Sysno::socketpair, socketpair),
    (Sysno::bind, not_here),
    (Sysno::connect, not_here),
    (Sysno::listen, not_here),
    (Sysno::accept, not_here),
    (Sysno::accept4, not_here),
    (Sysno::getsockname, not_here),
    (Sysno::getpeername, not_here),
    (Sysno::getsockopt, not_here),
    (Sysno::setsockopt, not_here),
    (Sysno::sendto, sendto),
    (Sysno::recvfrom, recvfrom),
    (Sysno::sendmsg, not_here),
    (Sysno::recvmsg, not_here),
    (Sysno::sendmmsg, not_here),
    (Sysno::recvmmsg, not_here),
    (Sysno::shutdown, shutdown),
];

/// From `linux/net.h`, which the bindings lack: the family of local sockets, and the type with its two flags.
const AF_UNIX: u32 = 1;
const SOCK_STREAM: u32 = 1;
const SOCK_TYPE_MASK: u32 = 0xf;
const SOCK_FLAGS: OpenFlags = OpenFlags::CLOEXEC.union(OpenFlags::NONBLOCK);

/// socket(2): no family is there that a socket could reach anybody in.
fn socket(_call: &mut Call<'_>) -> Result<u64> {
    Err(Errno::EAFNOSUPPORT)
}

/// socketpair(2) for local streams.
fn socketpair(call: &mut Call<'_>) -> Result<u64> {
    let [family, kind, protocol, to, ..] = call.args;
    if family as u32 != AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    let flags = OpenFlags::from_bits_retain(kind as u32 & !SOCK_TYPE_MASK);
    if !SOCK_FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if kind as u32 & SOCK_TYPE_MASK != SOCK_STREAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if !matches!(protocol as u32, 0 | AF_UNIX) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let status = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    let pair = socket_pair::pair().map(|(end, shown)| OpenFile::unnamed(Arc::new(end), &shown, status));
    install_pair(call, pair, flags.contains(OpenFlags::CLOEXEC), to)
}

/// Addresses, options and messages are not there yet.
fn not_here(call: &mut Call<'_>) -> Result<u64> {
    end_of(&*call.file(call.args[0])?)?;
    Err(Errno::EOPNOTSUPP)
}

fn end_of(file: &OpenFile) -> Result<&End> {
    file.inner().as_any().downcast_ref().ok_or(Errno::ENOTSOCK)
}

/// Flags of send(2) and recv(2), from `linux/socket.h`.
const MSG_DONTWAIT: u32 = 0x40;
const MSG_NOSIGNAL: u32 = 0x4000;

/// Refuses to wait where the call asked for that; the open file's own mode is the stream's business.
fn check_ready(file: &OpenFile, flags: u32, wanted: Poll) -> Result<()> {
    if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let ready = flags & MSG_DONTWAIT == 0 || file.inner().poll().intersects(wanted);
    if ready { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// send(2), as sendto without an address: the pair is connected.
fn sendto(call: &mut Call<'_>) -> Result<u64> {
    let [fd, from, len, flags, address, _] = call.args;
    let file = call.file(fd)?;
    end_of(&file)?;
    if address != 0 {
        return Err(Errno::EISCONN);
    }
    let flags = flags as u32;
    check_ready(&file, flags, Poll::OUT)?;
    let mut buffer = UserBuffers::new(from, usize::try_from(len).map_err(|_| Errno::EINVAL)?)?;
    if flags & MSG_NOSIGNAL != 0 {
        return file.write(&mut buffer).map(|n| n as u64);
    }
    write_or_signal(call, || file.write(&mut buffer))
}

/// recv(2), as recvfrom. The peer has no name: an address asked for has length 0.
fn recvfrom(call: &mut Call<'_>) -> Result<u64> {
    let [fd, to, len, flags, _, address_len] = call.args;
    let file = call.file(fd)?;
    end_of(&file)?;
    check_ready(&file, flags as u32, Poll::IN)?;
    let mut buffer = UserBuffers::new(to, usize::try_from(len).map_err(|_| Errno::EINVAL)?)?;
    let n = file.read(&mut buffer)?;
    if let Some(address_len) = UserPtr::<u32>::nullable(address_len) {
        address_len.write(0)?;
    }
    Ok(n as u64)
}

/// shutdown(2).
fn shutdown(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let (reading, writing) = match call.args[1] as u32 {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    end_of(&file)?.shutdown(reading, writing);
    Ok(0)
}
