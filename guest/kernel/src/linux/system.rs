//! What a program asks about the system, and what only its administrator may do.

use super::Call;
use super::table::Calls;
use crate::drivers::rng;
use crate::mm::frames;
use crate::mm::user::{UserPtr, plain};
use crate::time;
use alloc::string::String;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use spin::Once;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::uname, uname),
    (Sysno::sysinfo, sysinfo),
    (Sysno::getrandom, getrandom),
    (Sysno::personality, personality),
    (Sysno::syslog, not_permitted),
    (Sysno::ptrace, not_permitted),
    (Sysno::sethostname, not_permitted),
    (Sysno::setdomainname, not_permitted),
    (Sysno::reboot, not_permitted),
    (Sysno::mount, not_permitted),
    (Sysno::umount2, not_permitted),
    (Sysno::pivot_root, not_permitted),
    (Sysno::swapon, not_permitted),
    (Sysno::swapoff, not_permitted),
    (Sysno::acct, not_permitted),
    (Sysno::iopl, not_permitted),
    (Sysno::ioperm, not_permitted),
    (Sysno::unshare, not_permitted),
    (Sysno::setns, not_permitted),
    (Sysno::vhangup, not_permitted),
];

/// `uname -s`.
pub const SYSNAME: &str = "Linux";
/// `uname -r`: the Linux whose interface this is, and what it is.
pub const RELEASE: &str = "6.1.0-diolkos";
/// `uname -v`.
pub const VERSION: &str = concat!("#1 Diolkos ", env!("CARGO_PKG_VERSION"));
/// `uname -m`.
pub const MACHINE: &str = "x86_64";

static HOSTNAME: Once<String> = Once::new();

/// Sets the host name, once; an empty one becomes `diolkos`.
pub fn set_hostname(name: &str) {
    HOSTNAME.call_once(|| if name.is_empty() { "diolkos".into() } else { name.into() });
}

/// The host name.
pub fn hostname() -> &'static str {
    HOSTNAME.get().map_or("diolkos", String::as_str)
}

/// uname(2).
fn uname(call: &mut Call<'_>) -> Result<u64> {
    const FIELD: usize = 65;
    let mut bytes = [0; FIELD * 6];
    for (slot, text) in bytes.chunks_exact_mut(FIELD).zip([SYSNAME, hostname(), RELEASE, VERSION, MACHINE, "(none)"]) {
        let len = text.len().min(FIELD - 1);
        slot[..len].copy_from_slice(&text.as_bytes()[..len]);
    }
    UserPtr::<u8>::new(call.args[0]).write_slice(&bytes)?;
    Ok(0)
}

/// The kernel's `struct sysinfo` on x86-64.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    pad: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    end: u32,
}
plain!(SysInfo);
const _: () = assert!(size_of::<SysInfo>() == 112);

/// sysinfo(2).
fn sysinfo(call: &mut Call<'_>) -> Result<u64> {
    let (free, total) = frames::usage();
    let info = SysInfo {
        uptime: (time::monotonic_ns() / super::clock::SECOND) as i64,
        total_ram: total,
        free_ram: free,
        processes: call.process.thread_count().min(u16::MAX.into()) as u16,
        unit: 1,
        ..SysInfo::default()
    };
    UserPtr::new(call.args[0]).write(info)?;
    Ok(0)
}

/// getrandom(2). Randomness is always ready, so the flags change nothing.
fn getrandom(call: &mut Call<'_>) -> Result<u64> {
    /// What is made at a time.
    const PIECE: usize = 1024;
    /// Most bytes of one call (getrandom(2): 32 MiB - 1).
    const MAX: u64 = 33_554_431;
    let [address, len, flags, ..] = call.args;
    let known = raw::GRND_NONBLOCK | raw::GRND_RANDOM | raw::GRND_INSECURE;
    let flags = flags as u32;
    // Secure and insecure at once makes no sense to Linux either.
    if flags & !known != 0 || flags & (raw::GRND_RANDOM | raw::GRND_INSECURE) == raw::GRND_RANDOM | raw::GRND_INSECURE {
        return Err(Errno::EINVAL);
    }
    let len = len.min(MAX);
    let mut bytes = [0; PIECE];
    let mut done = 0;
    while done < len {
        let piece = &mut bytes[..(len - done).min(PIECE as u64) as usize];
        rng::fill(piece);
        match UserPtr::<u8>::new(address.wrapping_add(done)).write_slice(piece) {
            Ok(()) => done += piece.len() as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// personality(2): Linux, and nothing else; asking is free.
fn personality(call: &mut Call<'_>) -> Result<u64> {
    match call.args[0] as u32 {
        0 | u32::MAX => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// What nobody may do here, whoever they are.
fn not_permitted(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::EPERM)
}
