//! sendmsg(2) and recvmsg(2): several buffers, an address, and control messages beside the bytes (cmsg(3)). Two kinds of
//! those are here: open files (`SCM_RIGHTS`) and, where it was asked for, the sender (`SCM_CREDENTIALS`).

use super::super::Call;
use super::super::open_file::OpenFile;
use super::super::timeout::Timeout;
use super::name::read_name;
use super::{Open, receive_flags, send_flags, send_or_signal};
use crate::mm::user::{UserBuffers, UserPtr, plain};
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_net::{Address, Family, ReceiveFlags, Received, Right, SendFlags};
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::net::{self as raw, cmsghdr, mmsghdr, msghdr, ucred};

plain!(msghdr, mmsghdr, cmsghdr);

/// Most control bytes of one message (`net.core.optmem_max`).
const CONTROL_MAX: usize = 20_480;
/// Most open files of one message (`SCM_MAX_FD`).
const RIGHTS_MAX: usize = 253;
/// From `linux/socket.h`, which the bindings lack.
const MSG_CTRUNC: u32 = 0x8;
const MSG_TRUNC: u32 = 0x20;
const MSG_WAITFORONE: u64 = 0x10000;
/// `SCM_CREDENTIALS`.
const SCM_CREDENTIALS: u32 = 2;
const HEADER: usize = size_of::<cmsghdr>();

/// Control messages start at multiples of 8.
fn aligned(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn buffers(header: &msghdr) -> Result<UserBuffers> {
    // One over the limit is told apart from a bad one.
    if header.msg_iovlen > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    UserBuffers::from_iovec(header.msg_iov.addr() as u64, header.msg_iovlen)
}

/// The open files that a message's control bytes name.
fn rights(call: &Call<'_>, header: &msghdr) -> Result<Vec<Right>> {
    if header.msg_control.is_null() || header.msg_controllen < HEADER {
        return Ok(Vec::new());
    }
    if header.msg_controllen > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let control = UserPtr::<u8>::new(header.msg_control.addr() as u64).read_vec(header.msg_controllen)?;
    let mut files: Vec<Right> = Vec::new();
    let mut rest = &control[..];
    while rest.len() >= HEADER {
        let number = |at: usize| i32::from_ne_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let len = usize::from_ne_bytes(rest[..8].try_into().expect("eight bytes"));
        let (level, kind) = (number(8) as u32, number(12) as u32);
        let content = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        match (level, kind) {
            (raw::SOL_SOCKET, raw::SCM_RIGHTS) => {
                let numbers = content.chunks_exact(4).map(|fd| i32::from_ne_bytes(fd.try_into().expect("four bytes")));
                for fd in numbers {
                    files.push(call.file_or_path(fd as u64)?);
                }
            }
            // There is one process: whatever it may claim to be, it is.
            (raw::SOL_SOCKET, SCM_CREDENTIALS) if content.len() == size_of::<ucred>() => {}
            _ => return Err(Errno::EINVAL),
        }
        if files.len() > RIGHTS_MAX {
            return Err(Errno::EINVAL);
        }
        rest = rest.get(aligned(len)..).unwrap_or_default();
    }
    Ok(files)
}

fn send_one(call: &Call<'_>, open: &Open, header: &msghdr, flags: SendFlags) -> Result<usize> {
    let socket = open.socket();
    let name = match header.msg_name.addr() {
        0 => None,
        address => read_name(call, socket, address as u64, header.msg_namelen as u64)?,
    };
    let mut source = buffers(header)?;
    let rights = rights(call, header)?;
    if !rights.is_empty() && socket.family() != Family::Unix {
        return Err(Errno::EINVAL);
    }
    socket.send(&mut source, name.as_ref(), rights, flags)
}

/// sendmsg(2).
pub fn sendmsg(call: &mut Call<'_>) -> Result<u64> {
    let [fd, header, flags, ..] = call.args;
    let open = Open::new(call, fd)?;
    let flags = send_flags(flags)?;
    let header = UserPtr::<msghdr>::new(header).read()?;
    send_or_signal(call, flags, || send_one(call, &open, &header, flags))
}

/// sendmmsg(2): an error after the first message ends the call without being told.
pub fn sendmmsg(call: &mut Call<'_>) -> Result<u64> {
    let [fd, list, count, flags, ..] = call.args;
    let open = Open::new(call, fd)?;
    let flags = send_flags(flags)?;
    let list = UserPtr::<mmsghdr>::new(list);
    let mut sent = 0;
    while sent < (count as u32 as usize).min(1024) {
        let result = list.add(sent).read().and_then(|mut entry| {
            let n = send_or_signal(call, flags, || send_one(call, &open, &entry.msg_hdr, flags))?;
            entry.msg_len = n as u32;
            list.add(sent).write(entry)
        });
        match result {
            Ok(()) => sent += 1,
            Err(errno) if sent == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(sent as u64)
}

/// Writes control messages into a program's buffer, as far as it goes.
struct Control {
    to: u64,
    room: usize,
    written: usize,
    cut: bool,
}

impl Control {
    fn put(&mut self, kind: u32, content: &[u8]) -> Result<()> {
        let room = self.room - self.written;
        let Some(most) = room.checked_sub(HEADER) else {
            self.cut = true;
            return Ok(());
        };
        self.cut |= most < content.len();
        let content = &content[..most.min(content.len())];
        let len = HEADER + content.len();
        let header = cmsghdr { cmsg_len: len, cmsg_level: raw::SOL_SOCKET as i32, cmsg_type: kind as i32 };
        let at = self.to.saturating_add(self.written as u64);
        UserPtr::new(at).write(header)?;
        UserPtr::new(at.saturating_add(HEADER as u64)).write_slice(content)?;
        self.written += aligned(len).min(room);
        Ok(())
    }

    /// Enters open files in the process' table, as many as there is room for; the others are closed.
    fn put_rights(&mut self, call: &Call<'_>, rights: Vec<Right>, close_on_exec: bool) -> Result<()> {
        let most = (self.room - self.written).saturating_sub(HEADER) / 4;
        self.cut |= rights.len() > most;
        let mut numbers = Vec::new();
        for right in rights.into_iter().take(most) {
            let file: Arc<OpenFile> = right.downcast().expect("only open files are sent");
            match call.process.files.insert(file, close_on_exec) {
                Ok(fd) => numbers.extend_from_slice(&fd.to_ne_bytes()),
                // No number is left: the rest is lost, as in Linux.
                Err(_) => {
                    self.cut = true;
                    break;
                }
            }
        }
        if numbers.is_empty() { Ok(()) } else { self.put(raw::SCM_RIGHTS, &numbers) }
    }
}

/// Receives one message and writes everything but its bytes back to the program's header.
fn receive_one(call: &Call<'_>, open: &Open, user: UserPtr<msghdr>, flags: ReceiveFlags) -> Result<usize> {
    let socket = open.socket();
    let mut header = user.read()?;
    let mut sink = buffers(&header)?;
    let Received { copied, whole, rights, from } = socket.receive(&mut sink, flags)?;
    let mut control = Control {
        to: header.msg_control.addr() as u64,
        room: if header.msg_control.is_null() { 0 } else { header.msg_controllen },
        written: 0,
        cut: false,
    };
    if socket.with_options(|options| options.is_on(diolkos_net::PASSCRED)) {
        let owner = socket.net().credentials();
        let numbers = [owner.pid, owner.uid, owner.gid].map(u32::to_ne_bytes);
        control.put(SCM_CREDENTIALS, numbers.as_flattened())?;
    }
    if !rights.is_empty() {
        control.put_rights(call, rights, flags.contains(ReceiveFlags::CMSG_CLOEXEC))?;
    }
    let mut told = 0;
    if whole > copied {
        told |= MSG_TRUNC;
    }
    if control.cut {
        told |= MSG_CTRUNC;
    }
    let name = from.filter(|from| *from != Address::Unnamed);
    let name = name.map(|name| name.encode(socket.family())).unwrap_or_default();
    if !header.msg_name.is_null() {
        let room = usize::try_from(header.msg_namelen).map_err(|_| Errno::EINVAL)?;
        UserPtr::new(header.msg_name.addr() as u64).write_slice(&name[..name.len().min(room)])?;
        header.msg_namelen = name.len() as i32;
    }
    header.msg_controllen = control.written;
    header.msg_flags = told | (flags & ReceiveFlags::CMSG_CLOEXEC).bits();
    user.write(header)?;
    Ok(if flags.contains(ReceiveFlags::TRUNC) { whole } else { copied })
}

/// recvmsg(2).
pub fn recvmsg(call: &mut Call<'_>) -> Result<u64> {
    let [fd, header, flags, ..] = call.args;
    let open = Open::new(call, fd)?;
    receive_one(call, &open, UserPtr::new(header), receive_flags(flags)?).map(|n| n as u64)
}

/// recvmmsg(2). The timeout is looked at after each message only, as its BUGS section tells of Linux.
pub fn recvmmsg(call: &mut Call<'_>) -> Result<u64> {
    let [fd, list, count, flags, timeout, _] = call.args;
    let open = Open::new(call, fd)?;
    let wait_for_one = flags & MSG_WAITFORONE != 0;
    let mut flags = receive_flags(flags & !MSG_WAITFORONE)?;
    let timeout = Timeout::from_timespec(timeout)?;
    let list = UserPtr::<mmsghdr>::new(list);
    let mut received = 0;
    while received < (count as u32 as usize).min(1024) {
        let entry = list.add(received);
        // The header is the first field.
        let result = receive_one(call, &open, entry.cast(), flags).and_then(|n| {
            let mut whole = entry.read()?;
            whole.msg_len = n as u32;
            entry.write(whole)
        });
        match result {
            Ok(()) => received += 1,
            Err(errno) if received == 0 => return Err(errno),
            Err(_) => break,
        }
        if wait_for_one {
            flags |= ReceiveFlags::DONTWAIT;
        }
        if timeout.deadline().is_some_and(|deadline| time::monotonic_ns() >= deadline) {
            break;
        }
    }
    Ok(received as u64)
}
