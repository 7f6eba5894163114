//! semget(2), semop(2), semctl(2). `SEM_UNDO` is accepted: the process ends with the machine, and then nobody is left whom
//! an undone operation could concern.

use super::{IPC_64, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, PermissionsLayout, permissions, seconds, wait};
use crate::ipc::registry::Registry;
use crate::ipc::semaphores::{Obstacle, Operation, Set};
use crate::linux::clock::read_timespec;
use crate::linux::{Call, table::Calls};
use crate::mm::user::{UserPtr, plain};
use crate::task::WaitQueue;
use crate::time;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls =
    &[(Sysno::semget, semget), (Sysno::semop, semop), (Sysno::semtimedop, semtimedop), (Sysno::semctl, semctl)];

/// Most sets (`SEMMNI`), semaphores in all of them (`SEMMNS`), and operations of a call (`SEMOPM`). The first two are the
/// kernel's memory, and lower than on Linux.
const MOST_SETS: usize = 4096;
const MOST_SEMAPHORES: usize = 256_000;
const MOST_OPERATIONS: u64 = 500;
/// Commands of semctl(2), from `linux/sem.h`.
const GETPID: u64 = 11;
const GETVAL: u64 = 12;
const GETALL: u64 = 13;
const GETNCNT: u64 = 14;
const GETZCNT: u64 = 15;
const SETVAL: u64 = 16;
const SETALL: u64 = 17;

static SETS: Mutex<Registry<Set>> = Mutex::new(Registry::new(MOST_SETS));
/// Rung whenever a value changes or a set goes.
static BELL: WaitQueue = WaitQueue::new();

/// `struct sembuf`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SemBuf {
    index: u16,
    add: i16,
    flags: i16,
}

/// `struct semid64_ds` of x86-64.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Description {
    permissions: PermissionsLayout,
    operated_at: i64,
    unused: u64,
    changed_at: i64,
    unused_too: u64,
    count: u64,
    reserved: [u64; 2],
}
plain!(SemBuf, Description);
const _: () = assert!(size_of::<SemBuf>() == 6 && size_of::<Description>() == 104);

/// semget(2).
fn semget(call: &mut Call<'_>) -> Result<u64> {
    let [key, count, flags, ..] = call.args;
    // A negative number is more than any set has.
    let count = count as u32 as usize;
    let suits = |set: &Set| if count > set.semaphores().len() { Err(Errno::EINVAL) } else { Ok(()) };
    let wanted = permissions(call, key, flags);
    let mut sets = SETS.lock();
    let used: usize = sets.values().map(|set| set.semaphores().len()).sum();
    let make = || if count > MOST_SEMAPHORES - used { Err(Errno::ENOSPC) } else { Set::new(count, seconds()) };
    let id = sets.get(wanted, flags as u32, suits, make)?;
    Ok(id as u64)
}

/// semop(2).
fn semop(call: &mut Call<'_>) -> Result<u64> {
    operate(call, None)
}

/// semtimedop(2).
fn semtimedop(call: &mut Call<'_>) -> Result<u64> {
    let deadline = match call.args[3] {
        0 => None,
        address => Some(time::monotonic_ns().saturating_add(read_timespec(address)?)),
    };
    operate(call, deadline)
}

fn operate(call: &Call<'_>, deadline: Option<u64>) -> Result<u64> {
    let [id, list, count, ..] = call.args;
    let (id, pid) = (id as i32, call.process.pid as i32);
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if count > MOST_OPERATIONS {
        return Err(Errno::E2BIG);
    }
    let given = UserPtr::<SemBuf>::new(list).read_vec(count as usize)?;
    let operations: Vec<_> = given.iter().map(|one| Operation { index: one.index, add: one.add }).collect();
    let mut obstacle: Option<Obstacle> = None;
    let mut attempt = || {
        let mut sets = SETS.lock();
        let set = &mut sets.find(id)?.value;
        set.note(obstacle.take(), None);
        match set.operate(&operations, pid)? {
            Ok(()) => {
                set.operated_at = seconds();
                Ok(Some(()))
            }
            Err(in_the_way) if given[in_the_way.at].flags as u64 & IPC_NOWAIT != 0 => Err(Errno::EAGAIN),
            Err(in_the_way) => {
                obstacle = Some(in_the_way);
                set.note(None, obstacle);
                Ok(None)
            }
        }
    };
    let done = wait(call.thread, &BELL, deadline, &mut attempt);
    if done.is_err()
        && let Ok(object) = SETS.lock().find(id)
    {
        object.value.note(obstacle, None);
    }
    if given.iter().any(|one| one.add != 0) {
        BELL.wake_all();
    }
    done.map(|()| 0)
}

/// semctl(2). `IPC_INFO`, `SEM_INFO` and `SEM_STAT` are refused: they are for who looks at all sets of a system.
fn semctl(call: &mut Call<'_>) -> Result<u64> {
    let [id, index, command, argument, ..] = call.args;
    let (id, index, pid) = (id as i32, index as u32 as usize, call.process.pid as i32);
    let find = |read: &dyn Fn(&Set) -> Result<u64>| read(&SETS.lock().find(id)?.value);
    let one = |set: &Set| set.semaphores().get(index).copied().ok_or(Errno::EINVAL);
    match command as u32 as u64 & !IPC_64 {
        GETVAL => find(&|set| Ok(one(set)?.value.into())),
        GETPID => find(&|set| Ok(one(set)?.pid as u64)),
        GETNCNT => find(&|set| one(set).map(|_| set.waiting(index, false) as u64)),
        GETZCNT => find(&|set| one(set).map(|_| set.waiting(index, true) as u64)),
        GETALL => {
            let values: Vec<u16> =
                SETS.lock().find(id)?.value.semaphores().iter().map(|semaphore| semaphore.value).collect();
            UserPtr::new(argument).write_slice(&values)?;
            Ok(0)
        }
        SETVAL => {
            let value = u16::try_from(argument as i32).map_err(|_| Errno::ERANGE)?;
            change(id, |set| set.set(index, &[value], pid))
        }
        SETALL => {
            let count = SETS.lock().find(id)?.value.semaphores().len();
            let values: Vec<u16> = UserPtr::new(argument).read_vec(count)?;
            change(id, |set| set.set(0, &values, pid))
        }
        IPC_STAT => {
            let description = {
                let mut sets = SETS.lock();
                let object = sets.find(id)?;
                Description {
                    permissions: PermissionsLayout::of(&object.permissions),
                    operated_at: object.value.operated_at,
                    changed_at: object.value.changed_at,
                    count: object.value.semaphores().len() as u64,
                    ..Description::default()
                }
            };
            UserPtr::new(argument).write(description)?;
            Ok(0)
        }
        IPC_SET => {
            let wanted = UserPtr::<Description>::new(argument).read()?;
            let mut sets = SETS.lock();
            let object = sets.find(id)?;
            wanted.permissions.apply(object);
            object.value.changed_at = seconds();
            Ok(0)
        }
        IPC_RMID => {
            let removed = SETS.lock().remove(id)?;
            drop(removed);
            BELL.wake_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn change(id: i32, change: impl FnOnce(&mut Set) -> Result<()>) -> Result<u64> {
    {
        let mut sets = SETS.lock();
        let set = &mut sets.find(id)?.value;
        change(set)?;
        set.changed_at = seconds();
    }
    BELL.wake_all();
    Ok(0)
}
