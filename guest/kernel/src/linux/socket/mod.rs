//! Sockets (socket(2) and its kin): local ones and the loopback network. The logic is [`diolkos_net`]'s; here calls are
//! decoded, names are looked up in the file tree, and open files are passed along.

mod message;
mod name;
mod option;

use super::open_file::OpenFile;
use super::pipe::install_pair;
use super::process::Process;
use super::read_write::write_or_signal;
use super::{Call, table::Calls};
use crate::fs::sockets;
use crate::mm::user::UserBuffers;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use diolkos_net::{Address, Family, Kind, Options, ReceiveFlags, SendFlags, Shut, Socket};
use diolkos_vfs::{Errno, File, OpenFlags, Result};
use name::{encode, linked_name, read_name, to_bind};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::socket, socket),
    (Sysno::socketpair, socketpair),
    (Sysno::bind, bind),
    (Sysno::connect, connect),
    (Sysno::listen, listen),
    (Sysno::accept, accept),
    (Sysno::accept4, accept4),
    (Sysno::getsockname, getsockname),
    (Sysno::getpeername, getpeername),
    (Sysno::getsockopt, option::getsockopt),
    (Sysno::setsockopt, option::setsockopt),
    (Sysno::sendto, sendto),
    (Sysno::recvfrom, recvfrom),
    (Sysno::sendmsg, message::sendmsg),
    (Sysno::recvmsg, message::recvmsg),
    (Sysno::sendmmsg, message::sendmmsg),
    (Sysno::recvmmsg, message::recvmmsg),
    (Sysno::shutdown, shutdown),
];

/// The low bits of a type are the type, the others flags.
const TYPE_MASK: u32 = 0xf;
const TYPE_FLAGS: OpenFlags = OpenFlags::CLOEXEC.union(OpenFlags::NONBLOCK);
/// Protocols that a kind of an Internet socket may name (`IPPROTO_TCP`, `IPPROTO_UDP`).
const TCP: u32 = 6;
const UDP: u32 = 17;

/// A socket behind a descriptor.
struct Open(Arc<OpenFile>);

impl Open {
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    fn new(call: &Call<'_>, fd: u64) -> Result<Self> {
        let file = call.file(fd)?;
        if file.inner().as_any().is::<Socket>() { Ok(Self(file)) } else { Err(Errno::ENOTSOCK) }
    }

    fn socket(&self) -> &Socket {
        self.0.inner().as_any().downcast_ref().expect("asked when it was made")
    }
}

/// Whether a descriptor is a socket's that waits no longer than `timeout` of its options.
pub fn has_timeout(process: &Process, fd: u64, timeout: fn(&Options) -> Option<Duration>) -> bool {
    let file = process.files.get(fd as i32);
    file.is_ok_and(|file| {
        file.inner().as_any().downcast_ref::<Socket>().is_some_and(|s| s.with_options(|o| timeout(o).is_some()))
    })
}

/// What a program asks a socket to be.
struct Wanted {
    family: Family,
    kind: Kind,
    flags: OpenFlags,
}

fn wanted(call: &Call<'_>) -> Result<Wanted> {
    let [family, kind, protocol, ..] = call.args.map(|arg| arg as u32);
    let flags = OpenFlags::from_bits_retain(kind & !TYPE_MASK);
    if !TYPE_FLAGS.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let family = u16::try_from(family).ok().and_then(Family::from_raw).ok_or(Errno::EAFNOSUPPORT)?;
    // Raw and other sockets are for a wire.
    let kind = Kind::from_raw(kind & TYPE_MASK).ok_or(Errno::ESOCKTNOSUPPORT)?;
    let fits = match (family, kind, protocol) {
        (_, _, 0) => true,
        (Family::Unix, _, protocol) => protocol == u32::from(Family::Unix.raw()),
        (_, Kind::Stream, protocol) => protocol == TCP,
        (_, _, protocol) => protocol == UDP,
    };
    if fits { Ok(Wanted { family, kind, flags }) } else { Err(Errno::EPROTONOSUPPORT) }
}

/// A socket as an open file.
fn opened(socket: Arc<Socket>, flags: OpenFlags) -> OpenFile {
    let number = socket.inode().metadata().map_or(0, |meta| meta.ino);
    let shown = format!("socket:[{number}]");
    OpenFile::unnamed(socket, &shown, (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR)
}

/// socket(2).
fn socket(call: &mut Call<'_>) -> Result<u64> {
    let Wanted { family, kind, flags } = wanted(call)?;
    let socket = Socket::new(sockets::net(call.process.pid), family, kind)?;
    call.install(opened(socket, flags), flags.contains(OpenFlags::CLOEXEC))
}

/// socketpair(2): local ones only, as in Linux.
fn socketpair(call: &mut Call<'_>) -> Result<u64> {
    let Wanted { family, kind, flags } = wanted(call)?;
    if family != Family::Unix {
        return Err(Errno::EOPNOTSUPP);
    }
    let pair = Socket::pair(sockets::net(call.process.pid), kind).map(|socket| opened(socket, flags));
    install_pair(call, pair, flags.contains(OpenFlags::CLOEXEC), call.args[3])
}

/// bind(2).
fn bind(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    // Asked before a socket file is made in vain.
    if open.socket().is_bound() {
        return Err(Errno::EINVAL);
    }
    let name = to_bind(call, open.socket(), call.args[1], call.args[2])?;
    open.socket().bind(name).map(|()| 0)
}

/// connect(2).
fn connect(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    match linked_name(call, open.socket(), call.args[1], call.args[2])? {
        Some(name) => open.socket().connect(&name)?,
        None => open.socket().disconnect()?,
    }
    Ok(0)
}

/// listen(2).
fn listen(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    open.socket().listen(call.args[1] as i32).map(|()| 0)
}

/// accept(2).
fn accept(call: &mut Call<'_>) -> Result<u64> {
    accept_with(call, OpenFlags::empty())
}

/// accept4(2).
fn accept4(call: &mut Call<'_>) -> Result<u64> {
    let flags = OpenFlags::from_bits_retain(call.args[3] as u32);
    if TYPE_FLAGS.contains(flags) { accept_with(call, flags) } else { Err(Errno::EINVAL) }
}

fn accept_with(call: &Call<'_>, flags: OpenFlags) -> Result<u64> {
    let [fd, to, len, ..] = call.args;
    let open = Open::new(call, fd)?;
    let accepted = open.socket().accept()?;
    if to != 0 {
        encode(&accepted.address, accepted.socket.family(), to, len)?;
    }
    call.install(opened(accepted.socket, flags), flags.contains(OpenFlags::CLOEXEC))
}

/// getsockname(2).
fn getsockname(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    encode(&open.socket().local_address(), open.socket().family(), call.args[1], call.args[2]).map(|()| 0)
}

/// getpeername(2).
fn getpeername(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    encode(&open.socket().peer_address()?, open.socket().family(), call.args[1], call.args[2]).map(|()| 0)
}

/// shutdown(2).
fn shutdown(call: &mut Call<'_>) -> Result<u64> {
    let open = Open::new(call, call.args[0])?;
    let what = match call.args[1] as u32 {
        0 => Shut::Receiving,
        1 => Shut::Sending,
        2 => Shut::Both,
        _ => return Err(Errno::EINVAL),
    };
    open.socket().shutdown(what).map(|()| 0)
}

/// Flags that a wire would be needed for (`MSG_OOB` and others) are refused.
fn send_flags(flags: u64) -> Result<SendFlags> {
    SendFlags::from_bits(flags as u32).ok_or(Errno::EOPNOTSUPP)
}

fn receive_flags(flags: u64) -> Result<ReceiveFlags> {
    ReceiveFlags::from_bits(flags as u32).ok_or(Errno::EOPNOTSUPP)
}

/// Sends, and raises SIGPIPE when nobody is left to receive, unless it was told not to (send(2)).
fn send_or_signal(call: &Call<'_>, flags: SendFlags, send: impl FnOnce() -> Result<usize>) -> Result<u64> {
    if flags.contains(SendFlags::NOSIGNAL) { send().map(|n| n as u64) } else { write_or_signal(call, send) }
}

fn one_buffer(address: u64, len: u64) -> Result<UserBuffers> {
    UserBuffers::new(address, usize::try_from(len).map_err(|_| Errno::EINVAL)?)
}

/// sendto(2), and send(2) without an address.
fn sendto(call: &mut Call<'_>) -> Result<u64> {
    let [fd, from, len, flags, address, address_len] = call.args;
    let open = Open::new(call, fd)?;
    let flags = send_flags(flags)?;
    let name = match address {
        0 => None,
        address => read_name(call, open.socket(), address, address_len)?,
    };
    let mut buffer = one_buffer(from, len)?;
    send_or_signal(call, flags, || open.socket().send(&mut buffer, name.as_ref(), Vec::new(), flags))
}

/// recvfrom(2), and recv(2) without an address.
fn recvfrom(call: &mut Call<'_>) -> Result<u64> {
    let [fd, to, len, flags, address, address_len] = call.args;
    let open = Open::new(call, fd)?;
    let flags = receive_flags(flags)?;
    let mut buffer = one_buffer(to, len)?;
    let received = open.socket().receive(&mut buffer, flags)?;
    if address != 0 {
        match &received.from {
            // A sender without a name, and a connection's peer, are not told (recv(2)).
            None | Some(Address::Unnamed) => name::encode_nothing(address_len)?,
            Some(from) => encode(from, open.socket().family(), address, address_len)?,
        }
    }
    Ok(if flags.contains(ReceiveFlags::TRUNC) { received.whole } else { received.copied } as u64)
}
