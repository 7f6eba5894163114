//! System calls: seccomp(2) allows those the machine makes, by the part that makes them, and no other.
//!
//! Any other fails with `ENOSYS`, as on a kernel that does not have it: a newer C library that tries a newer call first
//! then falls back on an older one, which is in the list, and the run goes on.

use super::{ConfineError, Front, failed};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// Memory: RAM, windows, the heap, thread stacks.
const MEMORY: [i64; 8] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
];

/// Threads, their signals, their ends.
const THREADS: [i64; 18] = [
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_gettid,
    // How often others wanted the processor (`polling`).
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Time and chance.
const CLOCKS: [i64; 6] = [
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

/// Open descriptors: streams, events, files, disks.
const DESCRIPTORS: [i64; 20] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    // As writing, it needs a descriptor that is open for it: a disk's (discarding), a file's of a writable share.
    libc::SYS_fallocate,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_eventfd2,
    // The watch over Ctrl-C is a pair of sockets, made before; more cannot be made.
    libc::SYS_recvfrom,
];

/// Reading a share.
const READING: [i64; 13] = [
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getxattr,
    libc::SYS_listxattr,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
];

/// Changing one, and the identity in which it is changed.
const WRITING: [i64; 19] = [
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_removexattr,
    libc::SYS_copy_file_range,
    libc::SYS_syncfs,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
];

/// Hearing a front-end, answering it, and hanging up on it. No socket can be made, or connected.
const SOCKETS: [i64; 5] =
    [libc::SYS_accept4, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_shutdown, libc::SYS_getsockopt];

/// `KVMIO`, the type of every ioctl of KVM's (linux/kvm.h), where ioctl(2) numbers have their type.
const KVM_IOCTLS: u64 = 0xae << 8;
const IOCTL_TYPE: u64 = 0xff << 8;

/// A condition on one argument.
struct Only {
    index: u8,
    width: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
}

/// All 32 bits of argument `index` are `value`: a process, a number of a call's own.
fn word(index: u8, value: u64) -> Only {
    Only { index, width: SeccompCmpArgLen::Dword, operator: SeccompCmpOp::Eq, value }
}

/// The bits of `mask` in argument `index` are those of `value`.
fn bits(index: u8, mask: u64, value: u64) -> Only {
    Only { index, width: SeccompCmpArgLen::Dword, operator: SeccompCmpOp::MaskedEq(mask), value }
}

/// The pointer in argument `index` is null.
fn null(index: u8) -> Only {
    Only { index, width: SeccompCmpArgLen::Qword, operator: SeccompCmpOp::Eq, value: 0 }
}

/// Calls allowed for some of their arguments only: each of the alternatives is conditions that hold together.
fn particular(front: Front) -> Vec<(i64, Vec<Vec<Only>>)> {
    let ourselves = u64::from(std::process::id());
    let thread = libc::CLONE_THREAD as u64;
    let mut calls = vec![
        // clone3(2) hides its flags from us, so it is left out, and the C library uses this.
        (libc::SYS_clone, vec![vec![bits(0, thread, thread)]]),
        (libc::SYS_prctl, vec![vec![word(0, libc::PR_SET_NAME as u64)]]),
        // The limits of ourselves, and only to look.
        (libc::SYS_prlimit64, vec![vec![word(0, 0), null(2)]]),
        (libc::SYS_tgkill, vec![vec![word(0, ourselves)]]),
        // On a socket that is connected, to nobody else: what wakes the watch over Ctrl-C.
        (libc::SYS_sendto, vec![vec![null(4)]]),
    ];
    match front {
        Front::Machine => calls.extend([
            (libc::SYS_ioctl, vec![vec![bits(1, IOCTL_TYPE, KVM_IOCTLS)], vec![word(1, libc::TCGETS)]]),
            // Looking for lost pages of a window.
            (libc::SYS_process_vm_readv, vec![vec![word(0, ourselves)]]),
        ]),
        Front::Socket => calls.push((libc::SYS_ioctl, vec![vec![word(1, libc::TCGETS)]])),
    }
    calls
}

fn allowed(writable: bool, front: Front) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let writing: &[i64] = if writable { &WRITING } else { &[] };
    let sockets: &[i64] = if front == Front::Socket { &SOCKETS } else { &[] };
    let lists: [&[i64]; 7] = [&MEMORY, &THREADS, &CLOCKS, &DESCRIPTORS, &READING, writing, sockets];
    // A call without rules is allowed whatever its arguments.
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        lists.iter().flat_map(|list| list.iter()).map(|call| (*call, Vec::new())).collect();
    for (call, alternatives) in particular(front) {
        let rules = alternatives.into_iter().map(|together| {
            let conditions = together
                .into_iter()
                .map(|only| SeccompCondition::new(only.index, only.width, only.operator, only.value))
                .collect::<Result<_, _>>()?;
            SeccompRule::new(conditions)
        });
        calls.insert(call, rules.collect::<Result<_, _>>()?);
    }
    Ok(calls)
}

/// What the keeper may do: wait for a descriptor, close some, and end.
///
/// # Errors
/// The rules cannot be put into the kernel's words.
pub fn keeper_rules() -> Result<BpfProgram, seccompiler::BackendError> {
    let calls = [libc::SYS_ppoll, libc::SYS_close_range, libc::SYS_exit_group].map(|call| (call, Vec::new())).into();
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(calls, refuse, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Forbids the calling thread, and those it starts, every other call.
///
/// # Errors
/// The kernel refuses, or has no seccomp.
pub fn restrict(writable: bool, front: Front) -> Result<(), ConfineError> {
    let step = "seccomp";
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    let program: BpfProgram = allowed(writable, front)
        .and_then(|calls| SeccompFilter::new(calls, refuse, SeccompAction::Allow, TargetArch::x86_64))
        .and_then(TryInto::try_into)
        .map_err(failed(step))?;
    apply_filter(&program).map_err(failed(step))
}
