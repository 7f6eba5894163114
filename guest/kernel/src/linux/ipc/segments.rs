//! System V shared memory (shmget(2), shmat(2), shmctl(2)): segments known by number, each a memory file that is mapped
//! shared. With one process there is nobody to share with but other mappings; programs use it all the same.

use super::{IPC_64, IPC_RMID, IPC_SET, IPC_STAT, PermissionsLayout, permissions, seconds};
use crate::fs::devices;
use crate::ipc::registry::{Object, PRIVATE, Registry};
use crate::linux::{Call, table::Calls};
use crate::mm::space::{MapRequest, Place};
use crate::mm::user::{UserPtr, plain};
use crate::mm::vma::{Backing, Marks, Prot};
use crate::mm::{PAGE_SIZE, page_up};
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

static SEGMENTS: Mutex<Registry<Segment>> = Mutex::new(Registry::new(MOST));

/// What the areas keep that show a segment where it was attached: with the last of them the attachment ends, however
/// they go.
struct Attachment {
    id: i32,
    size: u64,
}

impl Attachment {
    fn new(id: i32, pid: i32) -> Result<Self> {
        let mut segments = SEGMENTS.lock();
        let segment = &mut segments.find(id)?.value;
        segment.attachments += 1;
        segment.attached_at = seconds();
        segment.last = pid;
        Ok(Self { id, size: segment.size })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The segment's memory is freed with no lock held.
        let _removed = {
            let mut segments = SEGMENTS.lock();
            if let Ok(segment) = segments.find(self.id) {
                segment.value.attachments -= 1;
                segment.value.detached_at = seconds();
            }
            remove_if_unused(&mut segments, self.id)
        };
    }
}

/// Takes a segment away that is marked for it and attached nowhere.
fn remove_if_unused(segments: &mut Registry<Segment>, id: i32) -> Result<Option<Object<Segment>>> {
    let segment = segments.find(id)?;
    if segment.value.attachments > 0 || segment.permissions.mode & SHM_DEST == 0 {
        return Ok(None);
    }
    segments.remove(id).map(Some)
}

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
    SEGMENTS.lock().get(wanted, flags as u32, suits, make).map(|id| id as u64)
}

/// shmat(2).
fn shmat(call: &mut Call<'_>) -> Result<u64> {
    let [id, address, flags, ..] = call.args;
    let id = id as i32;
    let place = match address {
        0 if flags & SHM_REMAP != 0 => return Err(Errno::EINVAL),
        0 => Place::Anywhere(0),
        _ if !address.is_multiple_of(PAGE_SIZE) && flags & SHM_RND == 0 => return Err(Errno::EINVAL),
        _ if flags & SHM_REMAP != 0 => Place::Fixed(address & !(PAGE_SIZE - 1)),
        _ => Place::FixedNoReplace(address & !(PAGE_SIZE - 1)),
    };
    let (file, key) = {
        let mut segments = SEGMENTS.lock();
        let segment = segments.find(id)?;
        (segment.value.file.clone(), segment.permissions.key)
    };
    let attachment = Attachment::new(id, call.process.pid as i32)?;
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, flags & SHM_RDONLY == 0);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let request = MapRequest {
        place,
        len: attachment.size,
        prot,
        max_prot: Prot::all(),
        shared: true,
        marks: Marks::empty(),
        backing: Backing::File { file, offset: 0, held: Some(Arc::new(attachment)) },
        name: Some(format!("/SYSV{key:08x} (deleted)").into()),
        populate: false,
    };
    call.process.space().map(request).map_err(|errno| match errno {
        Errno::EEXIST => Errno::EINVAL,
        other => other,
    })
}

/// shmdt(2).
fn shmdt(call: &mut Call<'_>) -> Result<u64> {
    let address = call.args[0];
    let space = call.process.space();
    let held = space.held_from(address).ok_or(Errno::EINVAL)?;
    let size = held.downcast_ref::<Attachment>().ok_or(Errno::EINVAL)?.size;
    // What was moved away or split off stays attached, and what came into its place is not touched.
    space.unmap_held(address, page_up(size).ok_or(Errno::EINVAL)?, &held)?;
    Ok(0)
}

/// shmctl(2): `IPC_STAT`, `IPC_SET` and `IPC_RMID`; a removed segment lives until it is detached.
fn shmctl(call: &mut Call<'_>) -> Result<u64> {
    let [id, command, buffer, ..] = call.args;
    let id = id as i32;
    let buffer = UserPtr::<Description>::new(buffer);
    match command & !IPC_64 {
        IPC_STAT => {
            let about = describe(SEGMENTS.lock().find(id)?);
            buffer.write(about)?;
        }
        IPC_SET => {
            let wanted = buffer.read()?;
            let mut segments = SEGMENTS.lock();
            let segment = segments.find(id)?;
            wanted.permissions.apply(segment);
            segment.value.changed_at = seconds();
        }
        IPC_RMID => {
            let removed = {
                let mut segments = SEGMENTS.lock();
                let permissions = &mut segments.find(id)?.permissions;
                // No longer found by its key.
                permissions.key = PRIVATE;
                permissions.mode |= SHM_DEST;
                remove_if_unused(&mut segments, id)?
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
