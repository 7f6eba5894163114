//! As whom a process runs (credentials(7)).
//!
//! The machine runs as the user who started it, and what that user may do to files the file systems know: on a share the host
//! does. A program that becomes somebody else, or gives up capabilities, is judged by owner and mode (`diolkos_vfs::Caller`).
//! Ids belong to the process: where Linux' own calls change those of one thread (the C library makes them change all),
//! here they change all.

use super::Call;
use super::table::Calls;
use crate::fs::anon::owner;
use crate::mm::user::{UserPtr, plain};
use crate::task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Caller, Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::getuid, getuid),
    (Sysno::geteuid, geteuid),
    (Sysno::getgid, getgid),
    (Sysno::getegid, getegid),
    (Sysno::getresuid, getresuid),
    (Sysno::getresgid, getresgid),
    (Sysno::setuid, setuid),
    (Sysno::setgid, setgid),
    (Sysno::setreuid, setreuid),
    (Sysno::setregid, setregid),
    (Sysno::setresuid, setresuid),
    (Sysno::setresgid, setresgid),
    (Sysno::setfsuid, setfsuid),
    (Sysno::setfsgid, setfsgid),
    (Sysno::getgroups, getgroups),
    (Sysno::setgroups, setgroups),
    (Sysno::capget, capget),
    (Sysno::capset, capset),
];

/// Four ids of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// For file systems.
    pub fs: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, fs: id }
    }

    fn holds(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }
}

/// The three sets of a process' capabilities (capabilities(7)), a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// That may be put in force.
    pub permitted: u64,
    /// Kept over exec.
    pub inheritable: u64,
}

/// `CAP_CHECKPOINT_RESTORE`, the last there is.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// As whom a process runs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Users.
    pub uid: Ids,
    /// Groups.
    pub gid: Ids,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// As whom file systems are asked: `None` for whoever the machine runs as.
    caller: Option<Arc<Caller>>,
}

impl Credentials {
    /// A user with one group; root has every capability.
    pub fn new(uid: u32, gid: u32) -> Self {
        let all = born_with(uid);
        let capabilities = Capabilities { effective: all, permitted: all, inheritable: 0 };
        Self { uid: Ids::all(uid), gid: Ids::all(gid), groups: Vec::new(), capabilities, caller: None }
    }

    /// To be called after every change.
    fn settle(&mut self) {
        self.caller = self.asking(self.uid.fs, self.gid.fs, self.capabilities.effective);
    }

    fn asking(&self, uid: u32, gid: u32, capabilities: u64) -> Option<Arc<Caller>> {
        let own = (uid, gid) == owner() && capabilities == born_with(uid);
        (!own).then(|| Arc::new(Caller { uid, gid, groups: self.groups.clone(), capabilities }))
    }

    /// As whom access(2) asks: the real user, with the capabilities that user has (`access_override_creds` in Linux'
    /// fs/open.c).
    fn asking_really(&self) -> Option<Arc<Caller>> {
        let capabilities = if self.uid.real == 0 { self.capabilities.permitted } else { 0 };
        self.asking(self.uid.real, self.gid.real, capabilities)
    }

    /// Whether a capability is in force.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities.effective & 1 << capability != 0
    }

    fn privileged(&self) -> bool {
        self.has(CAP_SETUID)
    }

    /// Capabilities follow the user ids (capabilities(7), "Effect of user ID changes").
    fn after_user_change(&mut self, before: Ids) {
        let had_root = before.holds(0);
        if had_root && !self.uid.holds(0) {
            self.capabilities.permitted = 0;
            self.capabilities.effective = 0;
        } else if before.effective == 0 && self.uid.effective != 0 {
            self.capabilities.effective = 0;
        } else if before.effective != 0 && self.uid.effective == 0 {
            self.capabilities.effective = self.capabilities.permitted;
        }
    }
}

const CAP_SETUID: u32 = 7;
/// To be nicer to oneself than others (capabilities(7)).
pub const CAP_SYS_NICE: u32 = 23;

/// The capabilities about files, which setfsuid(2) takes and gives back (`CAP_FS_SET` in Linux' include/linux/capability.h):
/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// The capabilities of a user who has just come.
fn born_with(uid: u32) -> u64 {
    if uid == 0 { ALL_CAPABILITIES } else { 0 }
}

/// As whom the running thread asks file systems.
pub fn caller() -> Option<Arc<Caller>> {
    let thread = task::try_current()?.user.as_ref()?;
    let overridden = thread.asks_as.lock().clone();
    overridden.unwrap_or_else(|| thread.process.credentials.lock().caller.clone())
}

impl Call<'_> {
    /// Does something as the real user, as access(2) does, instead of the effective one.
    pub fn as_real_user<T>(&self, work: impl FnOnce() -> T) -> T {
        let really = self.process.credentials.lock().asking_really();
        *self.thread.asks_as.lock() = Some(really);
        let result = work();
        *self.thread.asks_as.lock() = None;
        result
    }
}

/// Most further groups (`NGROUPS_MAX`).
const MAX_GROUPS: u64 = 65536;

/// The two kinds of id behave alike.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

fn ids(credentials: &mut Credentials, kind: Kind) -> &mut Ids {
    match kind {
        Kind::User => &mut credentials.uid,
        Kind::Group => &mut credentials.gid,
    }
}

/// -1 leaves an id as it is.
fn optional(value: u64) -> Option<u32> {
    Some(value as u32).filter(|id| *id != u32::MAX)
}

/// Changes ids if `allowed` says so for someone without privileges.
fn change(
    call: &Call<'_>,
    kind: Kind,
    allowed: impl FnOnce(&Ids) -> bool,
    apply: impl FnOnce(&mut Ids, bool),
) -> Result<u64> {
    let mut credentials = call.process.credentials.lock();
    let privileged = credentials.privileged();
    let before = credentials.uid;
    let slot = ids(&mut credentials, kind);
    if !privileged && !allowed(slot) {
        return Err(Errno::EPERM);
    }
    apply(slot, privileged);
    slot.fs = slot.effective;
    credentials.after_user_change(before);
    credentials.settle();
    Ok(0)
}

fn getuid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.credentials.lock().uid.real.into())
}

fn geteuid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.credentials.lock().uid.effective.into())
}

fn getgid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.credentials.lock().gid.real.into())
}

fn getegid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.credentials.lock().gid.effective.into())
}

fn write_three(call: &Call<'_>, ids: Ids) -> Result<u64> {
    for (address, id) in call.args.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        UserPtr::<u32>::new(address).write(id)?;
    }
    Ok(0)
}

fn getresuid(call: &mut Call<'_>) -> Result<u64> {
    let ids = call.process.credentials.lock().uid;
    write_three(call, ids)
}

fn getresgid(call: &mut Call<'_>) -> Result<u64> {
    let ids = call.process.credentials.lock().gid;
    write_three(call, ids)
}

/// setuid(2) and setgid(2): with privileges all ids, else the effective one.
fn set_one(call: &Call<'_>, kind: Kind) -> Result<u64> {
    let id = optional(call.args[0]).ok_or(Errno::EINVAL)?;
    change(
        call,
        kind,
        |now| id == now.real || id == now.saved,
        |now, privileged| {
            if privileged {
                *now = Ids::all(id);
            } else {
                now.effective = id;
            }
        },
    )
}

fn setuid(call: &mut Call<'_>) -> Result<u64> {
    set_one(call, Kind::User)
}

fn setgid(call: &mut Call<'_>) -> Result<u64> {
    set_one(call, Kind::Group)
}

/// setreuid(2) and setregid(2).
fn set_two(call: &Call<'_>, kind: Kind) -> Result<u64> {
    let (real, effective) = (optional(call.args[0]), optional(call.args[1]));
    let allowed = |now: &Ids| {
        real.is_none_or(|id| id == now.real || id == now.effective) && effective.is_none_or(|id| now.holds(id))
    };
    change(call, kind, allowed, |now, _| {
        let old_real = now.real;
        now.real = real.unwrap_or(now.real);
        now.effective = effective.unwrap_or(now.effective);
        if real.is_some() || effective.is_some_and(|id| id != old_real) {
            now.saved = now.effective;
        }
    })
}

fn setreuid(call: &mut Call<'_>) -> Result<u64> {
    set_two(call, Kind::User)
}

fn setregid(call: &mut Call<'_>) -> Result<u64> {
    set_two(call, Kind::Group)
}

/// setresuid(2) and setresgid(2).
fn set_three(call: &Call<'_>, kind: Kind) -> Result<u64> {
    let [real, effective, saved] = [0, 1, 2].map(|i| optional(call.args[i]));
    let allowed = |now: &Ids| [real, effective, saved].into_iter().flatten().all(|id| now.holds(id));
    change(call, kind, allowed, |now, _| {
        now.real = real.unwrap_or(now.real);
        now.effective = effective.unwrap_or(now.effective);
        now.saved = saved.unwrap_or(now.saved);
    })
}

fn setresuid(call: &mut Call<'_>) -> Result<u64> {
    set_three(call, Kind::User)
}

fn setresgid(call: &mut Call<'_>) -> Result<u64> {
    set_three(call, Kind::Group)
}

/// setfsuid(2) and setfsgid(2) return the old id and have no way to say that they failed.
fn set_fs(call: &Call<'_>, kind: Kind) -> Result<u64> {
    let id = call.args[0] as u32;
    let mut credentials = call.process.credentials.lock();
    let privileged = credentials.privileged();
    let slot = ids(&mut credentials, kind);
    let old = slot.fs;
    if id != u32::MAX && (privileged || slot.holds(id) || id == slot.fs) {
        slot.fs = id;
        let sets = &mut credentials.capabilities;
        match kind {
            Kind::User if old == 0 && id != 0 => sets.effective &= !FILE_CAPABILITIES,
            Kind::User if old != 0 && id == 0 => sets.effective |= FILE_CAPABILITIES & sets.permitted,
            _ => {}
        }
        credentials.settle();
    }
    Ok(old.into())
}

fn setfsuid(call: &mut Call<'_>) -> Result<u64> {
    set_fs(call, Kind::User)
}

fn setfsgid(call: &mut Call<'_>) -> Result<u64> {
    set_fs(call, Kind::Group)
}

/// getgroups(2).
fn getgroups(call: &mut Call<'_>) -> Result<u64> {
    let room = call.args[0] as i32;
    let groups = call.process.credentials.lock().groups.clone();
    if room != 0 {
        if room < 0 || (room as usize) < groups.len() {
            return Err(Errno::EINVAL);
        }
        UserPtr::<u32>::new(call.args[1]).write_slice(&groups)?;
    }
    Ok(groups.len() as u64)
}

/// setgroups(2).
fn setgroups(call: &mut Call<'_>) -> Result<u64> {
    let [count, list, ..] = call.args;
    if !call.process.credentials.lock().privileged() {
        return Err(Errno::EPERM);
    }
    if count > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    let groups = UserPtr::<u32>::new(list).read_vec(count as usize)?;
    let mut credentials = call.process.credentials.lock();
    credentials.groups = groups;
    credentials.settle();
    Ok(0)
}

plain!(raw::__user_cap_header_struct, raw::__user_cap_data_struct);

/// Reads the header, and returns how many 32-bit halves each set has in its version. An unknown version is answered
/// with the one preferred (capget(2)).
fn capability_halves(address: u64) -> Result<(usize, i32)> {
    let user = UserPtr::<raw::__user_cap_header_struct>::new(address);
    let header = user.read()?;
    match header.version {
        raw::_LINUX_CAPABILITY_VERSION_1 => Ok((1, header.pid)),
        raw::_LINUX_CAPABILITY_VERSION_2 | raw::_LINUX_CAPABILITY_VERSION_3 => Ok((2, header.pid)),
        _ => {
            user.write(raw::__user_cap_header_struct { version: raw::_LINUX_CAPABILITY_VERSION_3, pid: header.pid })?;
            Err(Errno::EINVAL)
        }
    }
}

/// capget(2).
fn capget(call: &mut Call<'_>) -> Result<u64> {
    let [header, data, ..] = call.args;
    let halves = match capability_halves(header) {
        // Only the version was asked for.
        Err(Errno::EINVAL) if data == 0 => return Ok(0),
        result => result?,
    };
    let (halves, pid) = halves;
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    if pid != 0 && call.process.thread(pid as u32).is_none() {
        return Err(Errno::ESRCH);
    }
    if data == 0 {
        return Ok(0);
    }
    let sets = call.process.credentials.lock().capabilities;
    let half = |i: usize| raw::__user_cap_data_struct {
        effective: (sets.effective >> (32 * i)) as u32,
        permitted: (sets.permitted >> (32 * i)) as u32,
        inheritable: (sets.inheritable >> (32 * i)) as u32,
    };
    UserPtr::new(data).write_slice(&[half(0), half(1)][..halves])?;
    Ok(0)
}

/// capset(2): capabilities can be given up, and those still permitted taken up again.
fn capset(call: &mut Call<'_>) -> Result<u64> {
    let [header, data, ..] = call.args;
    let (halves, pid) = capability_halves(header)?;
    if pid != 0 && pid as u32 != call.process.pid {
        return Err(Errno::EPERM);
    }
    let data = UserPtr::<raw::__user_cap_data_struct>::new(data).read_vec(halves)?;
    let join = |field: fn(&raw::__user_cap_data_struct) -> u32| {
        data.iter().rev().fold(0u64, |set, half| set << 32 | u64::from(field(half))) & ALL_CAPABILITIES
    };
    let new = Capabilities {
        effective: join(|half| half.effective),
        permitted: join(|half| half.permitted),
        inheritable: join(|half| half.inheritable),
    };
    let mut credentials = call.process.credentials.lock();
    let old = credentials.capabilities;
    let raises = new.permitted & !old.permitted != 0 || new.effective & !new.permitted != 0;
    if raises || new.inheritable & !(old.inheritable | old.permitted) != 0 {
        return Err(Errno::EPERM);
    }
    credentials.capabilities = new;
    credentials.settle();
    Ok(0)
}
