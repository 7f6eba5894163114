//! getsockopt(2) and setsockopt(2): the options with a meaning or a shape of their own; the rest are plain numbers that
//! [`diolkos_net::Options`] keeps.

use super::super::Call;
use super::Open;
use crate::mm::user::{Plain, UserPtr, plain};
use core::time::Duration;
use diolkos_net::{Family, Kind, Socket};
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general::__kernel_old_timeval as Timeval;
use linux_raw_sys::net::{self as raw, linger, ucred};

plain!(linger, ucred);

/// Protocol numbers (`IPPROTO_TCP`, `IPPROTO_UDP`); local sockets have none.
fn protocol(socket: &Socket) -> i32 {
    match (socket.family(), socket.kind()) {
        (Family::Unix, _) => 0,
        (_, Kind::Datagram) => super::UDP as i32,
        _ => super::TCP as i32,
    }
}

/// A value read out of a socket, in the shape the option has.
enum Shape {
    Number(i32),
    Time(Option<Duration>),
    Linger((i32, i32)),
    Owner,
}

fn current(socket: &Socket, level: u32, name: u32) -> Result<Shape> {
    if level != raw::SOL_SOCKET {
        let id = (level, name);
        return socket.with_options(|options| options.get(socket.family(), socket.kind(), id)).map(Shape::Number);
    }
    Ok(match name {
        raw::SO_TYPE => Shape::Number(socket.kind().raw() as i32),
        raw::SO_DOMAIN => Shape::Number(socket.family().raw().into()),
        raw::SO_PROTOCOL => Shape::Number(protocol(socket)),
        raw::SO_ACCEPTCONN => Shape::Number(socket.is_listening().into()),
        raw::SO_ERROR => Shape::Number(socket.take_error().map_or(0, Errno::into_raw)),
        raw::SO_LINGER => Shape::Linger(socket.with_options(|options| options.linger)),
        raw::SO_RCVTIMEO => Shape::Time(socket.with_options(|options| options.receive_timeout)),
        raw::SO_SNDTIMEO => Shape::Time(socket.with_options(|options| options.send_timeout)),
        raw::SO_PEERCRED if socket.family() == Family::Unix => Shape::Owner,
        name => {
            let value = socket.with_options(|options| options.get(socket.family(), socket.kind(), (level, name)));
            Shape::Number(value?)
        }
    })
}

/// getsockopt(2).
pub fn getsockopt(call: &mut Call<'_>) -> Result<u64> {
    let [fd, level, name, to, len, _] = call.args;
    let open = Open::new(call, fd)?;
    let value = current(open.socket(), level as u32, name as u32)?;
    match value {
        Shape::Number(number) => write_cut(to, len, number),
        Shape::Linger((l_onoff, l_linger)) => write_cut(to, len, linger { l_onoff, l_linger }),
        Shape::Time(time) => {
            let time = time.unwrap_or_default();
            write_cut(to, len, Timeval { tv_sec: time.as_secs() as i64, tv_usec: time.subsec_micros().into() })
        }
        Shape::Owner => {
            let owner = open.socket().net().credentials();
            write_cut(to, len, ucred { pid: owner.pid, uid: owner.uid, gid: owner.gid })
        }
    }
}

/// Writes as much of a value as the program has room for, and how much that was.
fn write_cut<T: Plain>(to: u64, len: u64, value: T) -> Result<u64> {
    let len = UserPtr::<i32>::new(len);
    let room = usize::try_from(len.read()?).map_err(|_| Errno::EINVAL)?;
    let now = room.min(size_of::<T>());
    // SAFETY: a Plain value may be shown byte by byte, and is alive here.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const value).cast::<u8>(), now) };
    UserPtr::new(to).write_slice(bytes)?;
    len.write(now as i32)?;
    Ok(0)
}

/// setsockopt(2).
pub fn setsockopt(call: &mut Call<'_>) -> Result<u64> {
    let [fd, level, name, from, len, _] = call.args;
    let open = Open::new(call, fd)?;
    let socket = open.socket();
    let (level, name) = (level as u32, name as u32);
    match (level, name) {
        (raw::SOL_SOCKET, raw::SO_LINGER) => {
            let linger { l_onoff, l_linger } = read_whole(from, len)?;
            socket.with_options(|options| options.linger = (i32::from(l_onoff != 0), l_linger));
        }
        (raw::SOL_SOCKET, raw::SO_RCVTIMEO) => {
            let timeout = timeout(read_whole(from, len)?)?;
            socket.with_options(|options| options.receive_timeout = timeout);
        }
        (raw::SOL_SOCKET, raw::SO_SNDTIMEO) => {
            let timeout = timeout(read_whole(from, len)?)?;
            socket.with_options(|options| options.send_timeout = timeout);
        }
        // What only getsockopt has.
        (
            raw::SOL_SOCKET,
            raw::SO_TYPE | raw::SO_DOMAIN | raw::SO_PROTOCOL | raw::SO_ACCEPTCONN | raw::SO_ERROR | raw::SO_PEERCRED,
        ) => return Err(Errno::ENOPROTOOPT),
        _ => {
            let number: i32 = read_whole(from, len)?;
            socket.set_option((level, name), number)?;
        }
    }
    Ok(0)
}

/// Reads an option's value, which may not be shorter than its type.
fn read_whole<T: Plain>(from: u64, len: u64) -> Result<T> {
    if (len as i32) < size_of::<T>() as i32 {
        return Err(Errno::EINVAL);
    }
    UserPtr::new(from).read()
}

/// A time to wait at most; zero is no limit (socket(7)).
fn timeout(time: Timeval) -> Result<Option<Duration>> {
    let micros = u32::try_from(time.tv_usec).ok().filter(|micros| *micros < 1_000_000).ok_or(Errno::EDOM)?;
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let time = Duration::new(seconds, micros * 1000);
    Ok((!time.is_zero()).then_some(time))
}
