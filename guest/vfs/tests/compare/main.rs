//! The same operations on a memory file system of ours and on one of the host's, compared answer by answer:
//! values, and every errno.
//!
//! The host's side runs in a thread with a root directory of its own (chroot(2) after `unshare(CLONE_FS)`), so that
//! absolute paths and `..` mean the same on both sides; that needs the right to chroot, as root has it.

mod guest;
mod host;
mod ops;
mod overlay;
mod random;
mod table;

use ops::{Answer, Op, World};

/// Runs one operation on both and fails with what went before when they differ.
fn agree(guest: &guest::Guest, host: &host::Host, op: &Op, history: &[Op]) {
    let (ours, theirs): (Answer, Answer) = (guest.run(op), host.run(op));
    if ours != theirs {
        let from = history.len().saturating_sub(40);
        for op in &history[from..] {
            eprintln!("  {op:?}");
        }
        panic!("after {} operations, {op:?}\n  here {ours:?}\n  host {theirs:?}", history.len());
    }
}

/// Runs `test` with both worlds, empty.
fn with_worlds(test: impl FnOnce(&guest::Guest, &host::Host) + Send + 'static) {
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can change its root directory and compare with the host");
        return;
    }
    let worker = std::thread::spawn(|| {
        let host = host::Host::new();
        test(&guest::Guest::new(), &host);
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}
