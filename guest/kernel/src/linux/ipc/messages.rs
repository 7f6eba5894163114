//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::{IPC_64, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, PermissionsLayout, permissions, seconds, wait};
use crate::ipc::messages::{MESSAGE_MAX, Message, QUEUE_MAX, Queue, Wanted};
use crate::ipc::registry::Registry;
use crate::linux::{Call, table::Calls};
use crate::mm::user::{UserPtr, plain};
use crate::task::WaitQueue;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls =
    &[(Sysno::msgget, msgget), (Sysno::msgsnd, msgsnd), (Sysno::msgrcv, msgrcv), (Sysno::msgctl, msgctl)];

/// Most queues: what they may hold is the kernel's memory.
const MOST_QUEUES: usize = 256;
/// Flags of msgrcv(2), from `linux/msg.h`. `MSG_COPY` is for checkpoints.
const MSG_NOERROR: u64 = 0o10000;
const MSG_EXCEPT: u64 = 0o20000;
const MSG_COPY: u64 = 0o40000;

static QUEUES: Mutex<Registry<Queue>> = Mutex::new(Registry::new(MOST_QUEUES));
/// Rung whenever a message comes or goes, or a queue goes.
static BELL: WaitQueue = WaitQueue::new();

/// `struct msqid64_ds` of x86-64.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Description {
    permissions: PermissionsLayout,
    sent_at: i64,
    received_at: i64,
    changed_at: i64,
    bytes: u64,
    count: u64,
    limit: u64,
    last_sender: i32,
    last_receiver: i32,
    unused: [u64; 2],
}
plain!(Description);
const _: () = assert!(size_of::<Description>() == 120);

/// msgget(2).
fn msgget(call: &mut Call<'_>) -> Result<u64> {
    let [key, flags, ..] = call.args;
    let wanted = permissions(call, key, flags);
    let id = QUEUES.lock().get(wanted, flags as u32, |_| Ok(()), || Ok(Queue::new(seconds())))?;
    Ok(id as u64)
}

/// msgsnd(2): the type, a long, comes before the bytes.
fn msgsnd(call: &mut Call<'_>) -> Result<u64> {
    let [id, message, len, flags, ..] = call.args;
    let (id, pid) = (id as i32, call.process.pid as i32);
    let kind = UserPtr::<i64>::new(message).read()?;
    if len > MESSAGE_MAX as u64 || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let text = UserPtr::<u8>::new(message.saturating_add(8)).read_vec(len as usize)?;
    let mut message = Some(Message { kind, text });
    let mut attempt = || {
        let mut queues = QUEUES.lock();
        let queue = &mut queues.find(id)?.value;
        if !queue.has_room(len as usize) {
            return if flags & IPC_NOWAIT != 0 { Err(Errno::EAGAIN) } else { Ok(None) };
        }
        if let Some(message) = message.take() {
            queue.send(message);
            (queue.last_sender, queue.sent_at) = (pid, seconds());
        }
        Ok(Some(()))
    };
    wait(call.thread, &BELL, None, &mut attempt)?;
    BELL.wake_all();
    Ok(0)
}

/// msgrcv(2).
fn msgrcv(call: &mut Call<'_>) -> Result<u64> {
    let [id, to, room, kind, flags, _] = call.args;
    let (id, pid) = (id as i32, call.process.pid as i32);
    if room > i64::MAX as u64 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 {
        return Err(Errno::ENOSYS);
    }
    let (wanted, cut) = (Wanted::new(kind as i64, flags & MSG_EXCEPT != 0), flags & MSG_NOERROR != 0);
    let mut attempt = || {
        let mut queues = QUEUES.lock();
        let queue = &mut queues.find(id)?.value;
        let message = queue.receive(wanted, room as usize, cut)?;
        if message.is_some() {
            (queue.last_receiver, queue.received_at) = (pid, seconds());
        } else if flags & IPC_NOWAIT != 0 {
            return Err(Errno::ENOMSG);
        }
        Ok(message)
    };
    let message = wait(call.thread, &BELL, None, &mut attempt)?;
    BELL.wake_all();
    UserPtr::new(to).write(message.kind)?;
    UserPtr::new(to.saturating_add(8)).write_slice(&message.text)?;
    Ok(message.text.len() as u64)
}

/// msgctl(2). `IPC_INFO`, `MSG_INFO` and `MSG_STAT` are refused: they are for who looks at all queues of a system.
fn msgctl(call: &mut Call<'_>) -> Result<u64> {
    let [id, command, argument, ..] = call.args;
    let id = id as i32;
    match command as u32 as u64 & !IPC_64 {
        IPC_STAT => {
            let description = {
                let mut queues = QUEUES.lock();
                let object = queues.find(id)?;
                let queue = &object.value;
                Description {
                    permissions: PermissionsLayout::of(&object.permissions),
                    sent_at: queue.sent_at,
                    received_at: queue.received_at,
                    changed_at: queue.changed_at,
                    bytes: queue.bytes(),
                    count: queue.len() as u64,
                    limit: queue.limit,
                    last_sender: queue.last_sender,
                    last_receiver: queue.last_receiver,
                    ..Description::default()
                }
            };
            UserPtr::new(argument).write(description)?;
            Ok(0)
        }
        IPC_SET => {
            let wanted = UserPtr::<Description>::new(argument).read()?;
            {
                let mut queues = QUEUES.lock();
                let object = queues.find(id)?;
                // More would need a privilege (msgctl(2)), and memory of the kernel's.
                if wanted.limit > QUEUE_MAX {
                    return Err(Errno::EPERM);
                }
                wanted.permissions.apply(object);
                object.value.limit = wanted.limit;
                object.value.changed_at = seconds();
            }
            BELL.wake_all();
            Ok(0)
        }
        IPC_RMID => {
            let removed = QUEUES.lock().remove(id)?;
            drop(removed);
            BELL.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
