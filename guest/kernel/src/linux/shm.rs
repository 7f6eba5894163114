//! System V shared memory (shmget(2), shmat(2), shmctl(2)): segments known by number, each a memory file that is mapped
//! shared. With one process there is nobody to share with but other mappings; programs use it all the same.

use super::ipc::{IPC_64, IPC_RMID, IPC_SET, IPC_STAT};
use super::{Call, table::Calls};
use crate::fs::anon::now;
use crate::fs::devices;
use crate::mm::space::{MapRequest, Place};
use crate::mm::user::{UserPtr, plain};
use crate::mm::vma::{Backing, Prot};
use crate::mm::{PAGE_SIZE, page_up};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use diolkos_vfs::{Errno, File, OpenFlags, Result, SetMetadata};
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls =
    &[(Sysno::shmget, shmget), (Sysno::shmat, shmat), (Sysno::shmdt, shmdt), (Sysno::shmctl, shmctl)];

// linux/ipc.h and linux/shm.h; linux-raw-sys does not have them.
const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: u64 = 0o1000;
const IPC_EXCL: u64 = 0o2000;
const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;
const SHM_EXEC: u64 = 0o100000;
const SHM_DEST: u32 = 0o1000;
/// Segments at most (`SHMMNI`, shmget(2)).
const MOST: usize = 4096;

/// `struct shmid64_ds` of x86-64 (asm-generic/shmbuf.h), flattened.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Description {
    key: i32,
    uid: u32,
    gid: u32,
    creator_uid: u32,
    creator_gid: u32,
    mode: u32,
    sequence: u16,
    padding: u16,
    unused: [u64; 2],
    size: u64,
    attached_at: i64,
    detached_at: i64,
    changed_at: i64,
    creator: i32,
    last: i32,
    attachments: u64,
    unused_too: [u64; 2],
}
plain!(Description);
const _: () = assert!(size_of::<Description>() == 112);

struct Segment {
    file: Arc<dyn File>,
    about: Description,
}

struct Table {
    segments: BTreeMap<i32, Segment>,
    /// Where segments are attached: their number and length in bytes.
    attached: BTreeMap<u64, (i32, u64)>,
    next: i32,
}

static TABLE: Mutex<Table> = Mutex::new(Table { segments: BTreeMap::new(), attached: BTreeMap::new(), next: 0 });

/// shmget(2).
fn shmget(call: &mut Call<'_>) -> Result<u64> {
    let [key, size, flags, ..] = call.args;
    let key = key as i32;
    if key != IPC_PRIVATE {
        let table = TABLE.lock();
        let found = table.segments.iter().find(|(_, segment)| segment.about.key == key);
        match found {
            Some(_) if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL => return Err(Errno::EEXIST),
            Some((_, segment)) if size > segment.about.size => return Err(Errno::EINVAL),
            Some((id, _)) => return Ok(*id as u64),
            None if flags & IPC_CREAT == 0 => return Err(Errno::ENOENT),
            None => {}
        }
    }
    let bytes = page_up(size).filter(|bytes| *bytes > 0).ok_or(Errno::EINVAL)?;
    let (inode, file) = devices::memory_files().tmpfile(0o600, OpenFlags::RDWR)?;
    inode.set_metadata(&SetMetadata { size: Some(bytes), ..SetMetadata::default() })?;
    let ids = crate::boot::options().ids;
    let about = Description {
        key,
        uid: ids.0,
        gid: ids.1,
        creator_uid: ids.0,
        creator_gid: ids.1,
        mode: flags as u32 & 0o777,
        size,
        changed_at: now().sec,
        creator: call.process.pid as i32,
        ..Description::default()
    };
    let mut table = TABLE.lock();
    if table.segments.len() >= MOST {
        return Err(Errno::ENOSPC);
    }
    let id = table.next;
    table.next = table.next.checked_add(1).ok_or(Errno::ENOSPC)?;
    table.segments.insert(id, Segment { file, about });
    Ok(id as u64)
}

/// shmat(2).
fn shmat(call: &mut Call<'_>) -> Result<u64> {
    let [id, address, flags, ..] = call.args;
    let id = id as i32;
    let (file, size) = {
        let table = TABLE.lock();
        let segment = table.segments.get(&id).ok_or(Errno::EINVAL)?;
        (segment.file.clone(), segment.about.size)
    };
    let place = match address {
        0 => Place::Anywhere(0),
        _ if !address.is_multiple_of(PAGE_SIZE) && flags & SHM_RND == 0 => return Err(Errno::EINVAL),
        _ if flags & SHM_REMAP != 0 => Place::Fixed(address & !(PAGE_SIZE - 1)),
        _ => Place::FixedNoReplace(address & !(PAGE_SIZE - 1)),
    };
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, flags & SHM_RDONLY == 0);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let request = MapRequest {
        place,
        len: size,
        prot,
        max_prot: Prot::all(),
        shared: true,
        grows_down: false,
        backing: Backing::File { file, offset: 0, _held: None },
        name: Some(format!("/SYSV{id:08x} (deleted)").into()),
        populate: false,
    };
    let start = call.process.space().map(request).map_err(|errno| match errno {
        Errno::EEXIST => Errno::EINVAL,
        other => other,
    })?;
    let mut table = TABLE.lock();
    table.attached.insert(start, (id, size));
    if let Some(segment) = table.segments.get_mut(&id) {
        segment.about.attachments += 1;
        segment.about.attached_at = now().sec;
        segment.about.last = call.process.pid as i32;
    }
    Ok(start)
}

/// shmdt(2).
fn shmdt(call: &mut Call<'_>) -> Result<u64> {
    let address = call.args[0];
    let (id, size) = TABLE.lock().attached.remove(&address).ok_or(Errno::EINVAL)?;
    call.process.space().unmap(address, size)?;
    let removed = {
        let mut table = TABLE.lock();
        let gone = table.segments.get_mut(&id).is_some_and(|segment| {
            segment.about.attachments -= 1;
            segment.about.detached_at = now().sec;
            segment.about.attachments == 0 && segment.about.mode & SHM_DEST != 0
        });
        if gone { table.segments.remove(&id) } else { None }
    };
    drop(removed);
    Ok(0)
}

/// shmctl(2): `IPC_STAT`, `IPC_SET` (the permission bits) and `IPC_RMID`; a removed segment lives until it is detached.
fn shmctl(call: &mut Call<'_>) -> Result<u64> {
    let [id, command, buffer, ..] = call.args;
    let id = id as i32;
    let buffer = UserPtr::<Description>::new(buffer);
    match command & !IPC_64 {
        IPC_STAT => {
            let about = TABLE.lock().segments.get(&id).ok_or(Errno::EINVAL)?.about;
            buffer.write(about)?;
            Ok(0)
        }
        IPC_SET => {
            let wanted = buffer.read()?;
            let mut table = TABLE.lock();
            let segment = table.segments.get_mut(&id).ok_or(Errno::EINVAL)?;
            segment.about.mode = segment.about.mode & !0o777 | wanted.mode & 0o777;
            segment.about.changed_at = now().sec;
            Ok(0)
        }
        IPC_RMID => {
            let removed = {
                let mut table = TABLE.lock();
                let segment = table.segments.get_mut(&id).ok_or(Errno::EINVAL)?;
                // No longer found by its key.
                segment.about.key = IPC_PRIVATE;
                segment.about.mode |= SHM_DEST;
                let unused = segment.about.attachments == 0;
                if unused { table.segments.remove(&id) } else { None }
            };
            drop(removed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
