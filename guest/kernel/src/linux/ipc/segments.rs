//! System V shared memory (shmget(2), shmat(2), shmctl(2)): segments known by number, each a memory file that is mapped
//! shared. With one process there is nobody to share with but other mappings; programs use it all the same.

use super::{IPC_64, IPC_RMID, IPC_SET, IPC_STAT, PermissionsLayout, permissions, seconds};
use crate::fs::devices;
use crate::ipc::registry::{Object, PRIVATE, Registry};
use crate::linux::{Call, table::Calls};
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

// linux/shm.h; linux-raw-sys does not have them.
const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;
const SHM_EXEC: u64 = 0o100000;
const SHM_DEST: u32 = 0o1000;
/// Segments at most (`SHMMNI`, shmget(2)).
const MOST: usize = 4096;

/// `struct shmid64_ds` of x86-64 (asm-generic/shmbuf.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Description {
    permissions: PermissionsLayout,
    size: u64,
    attached_at: i64,
    detached_at: i64,
    changed_at: i64,
    creator: i32,
    last: i32,
    attachments: u64,
    unused: [u64; 2],
}
plain!(Description);
const _: () = assert!(size_of::<Description>() == 112);

struct Segment {
    file: Arc<dyn File>,
    size: u64,
    attached_at: i64,
    detached_at: i64,
    changed_at: i64,
    creator: i32,
    last: i32,
    attachments: u64,
}

struct Table {
    segments: Registry<Segment>,
    /// Where segments are attached: their number and length in bytes.
    attached: BTreeMap<u64, (i32, u64)>,
}

static TABLE: Mutex<Table> = Mutex::new(Table { segments: Registry::new(MOST), attached: BTreeMap::new() });

/// shmget(2).
fn shmget(call: &mut Call<'_>) -> Result<u64> {
    let [key, size, flags, ..] = call.args;
    let creator = call.process.pid as i32;
    let suits = |segment: &Segment| if size > segment.size { Err(Errno::EINVAL) } else { Ok(()) };
    let make = || {
        let bytes = page_up(size).filter(|bytes| *bytes > 0).ok_or(Errno::EINVAL)?;
        let (inode, file) = devices::memory_files().tmpfile(0o600, OpenFlags::RDWR)?;
        inode.set_metadata(&SetMetadata { size: Some(bytes), ..SetMetadata::default() })?;
        let (attached_at, detached_at) = (0, 0);
        let (changed_at, last, attachments) = (seconds(), 0, 0);
        Ok(Segment { file, size, attached_at, detached_at, changed_at, creator, last, attachments })
    };
    let wanted = permissions(call, key, flags);
    TABLE.lock().segments.get(wanted, flags as u32, suits, make).map(|id| id as u64)
}

/// shmat(2).
fn shmat(call: &mut Call<'_>) -> Result<u64> {
    let [id, address, flags, ..] = call.args;
    let id = id as i32;
    let (file, size) = {
        let mut table = TABLE.lock();
        let segment = &table.segments.find(id)?.value;
        (segment.file.clone(), segment.size)
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
    if let Ok(segment) = table.segments.find(id) {
        let segment = &mut segment.value;
        segment.attachments += 1;
        segment.attached_at = seconds();
        segment.last = call.process.pid as i32;
    }
    Ok(start)
}

/// shmdt(2).
fn shmdt(call: &mut Call<'_>) -> Result<u64> {
    let address = call.args[0];
    let (id, size) = TABLE.lock().attached.remove(&address).ok_or(Errno::EINVAL)?;
    call.process.space().unmap(address, size)?;
    // Its memory is freed with no lock held.
    let removed = {
        let mut table = TABLE.lock();
        let segment = table.segments.find(id)?;
        segment.value.attachments -= 1;
        segment.value.detached_at = seconds();
        table.remove_if_unused(id)?
    };
    drop(removed);
    Ok(0)
}

impl Table {
    /// Takes a segment away that is marked for it and attached nowhere.
    fn remove_if_unused(&mut self, id: i32) -> Result<Option<Object<Segment>>> {
        let segment = self.segments.find(id)?;
        if segment.value.attachments > 0 || segment.permissions.mode & SHM_DEST == 0 {
            return Ok(None);
        }
        self.segments.remove(id).map(Some)
    }
}

/// shmctl(2): `IPC_STAT`, `IPC_SET` and `IPC_RMID`; a removed segment lives until it is detached.
fn shmctl(call: &mut Call<'_>) -> Result<u64> {
    let [id, command, buffer, ..] = call.args;
    let id = id as i32;
    let buffer = UserPtr::<Description>::new(buffer);
    match command & !IPC_64 {
        IPC_STAT => {
            let about = describe(TABLE.lock().segments.find(id)?);
            buffer.write(about)?;
        }
        IPC_SET => {
            let wanted = buffer.read()?;
            let mut table = TABLE.lock();
            let segment = table.segments.find(id)?;
            wanted.permissions.apply(segment);
            segment.value.changed_at = seconds();
        }
        IPC_RMID => {
            let removed = {
                let mut table = TABLE.lock();
                let permissions = &mut table.segments.find(id)?.permissions;
                // No longer found by its key.
                permissions.key = PRIVATE;
                permissions.mode |= SHM_DEST;
                table.remove_if_unused(id)?
            };
            drop(removed);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn describe(object: &Object<Segment>) -> Description {
    let Segment { size, attached_at, detached_at, changed_at, creator, last, attachments, .. } = object.value;
    let permissions = PermissionsLayout::of(&object.permissions);
    let unused = [0; 2];
    Description { permissions, size, attached_at, detached_at, changed_at, creator, last, attachments, unused }
}
