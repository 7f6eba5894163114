//! Another process' memory: process_vm_readv(2) and process_vm_writev(2). The only process is one's own.

use super::read_write::many_buffers;
use super::thread::find;
use super::{Call, table::Calls};
use crate::mm::user::UserBuffers;
use alloc::vec;
use diolkos_vfs::{Errno, Result, Sink, Source};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::process_vm_readv, readv), (Sysno::process_vm_writev, writev)];

/// Bytes moved at a time.
const PIECE: usize = 64 << 10;

/// The two lists of buffers, own and other's; `None` when there is nothing to move.
fn lists(call: &Call<'_>) -> Result<Option<(UserBuffers, UserBuffers)>> {
    let [tid, own, own_count, other, other_count, flags] = call.args;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = many_buffers(own, own_count)?;
    if own.room() == 0 {
        return Ok(None);
    }
    let other = many_buffers(other, other_count)?;
    if other.room() == 0 {
        return Ok(None);
    }
    if tid as i32 <= 0 {
        return Err(Errno::ESRCH);
    }
    find(call.process, call.thread, tid as u32)?;
    Ok(Some((own, other)))
}

/// Moves as much as both have room for. An error counts only if nothing was moved.
fn transfer(mut from: UserBuffers, mut to: UserBuffers) -> Result<u64> {
    let len = from.remaining().min(to.room());
    let mut buffer = vec![0; len.min(PIECE)];
    let mut done = 0;
    while done < len {
        let piece = &mut buffer[..(len - done).min(PIECE)];
        let moved = from.take(piece).and_then(|read| {
            let written = to.put((&piece[..read]).into())?;
            Ok((written, written == piece.len()))
        });
        match moved {
            Ok((n, whole)) => {
                done += n;
                if !whole {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done as u64)
}

/// process_vm_readv(2).
fn readv(call: &mut Call<'_>) -> Result<u64> {
    lists(call)?.map_or(Ok(0), |(own, other)| transfer(other, own))
}

/// process_vm_writev(2).
fn writev(call: &mut Call<'_>) -> Result<u64> {
    lists(call)?.map_or(Ok(0), |(own, other)| transfer(own, other))
}
