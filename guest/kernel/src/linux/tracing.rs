//! `--trace syscalls`: hands the calls to [`crate::abi::trace`] and its lines to the report.

use super::table;
use crate::abi::trace::{Memory, line};
use crate::mm::PAGE_SIZE;
use crate::mm::user::UserPtr;
use crate::report;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::Result;
use syscalls::Sysno;

static ON: AtomicBool = AtomicBool::new(false);

/// Turns the trace on.
pub fn enable() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether it is on.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

struct Program;

impl Memory for Program {
    fn string(&self, address: u64, max: usize) -> Option<(Vec<u8>, bool)> {
        let mut string = Vec::new();
        while string.len() < max {
            let at = address.checked_add(string.len() as u64)?;
            // The next page may not be there, and need not be.
            let piece = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(max - string.len()).min(64);
            let bytes = self.bytes(at, piece)?;
            match bytes.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    string.extend_from_slice(&bytes[..end]);
                    return Some((string, true));
                }
                None => string.extend_from_slice(&bytes),
            }
        }
        Some((string, false))
    }

    fn bytes(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        UserPtr::<u8>::new(address).read_vec(len).ok()
    }
}

/// Calls that may not return, or after which the arguments are gone: they are shown before they happen.
fn ends_here(number: u64) -> bool {
    let ending = [Sysno::exit, Sysno::exit_group, Sysno::execve, Sysno::execveat, Sysno::rt_sigreturn];
    ending.iter().any(|sysno| *sysno as u64 == number) && table::handler(number).is_some()
}

/// Before a call.
pub fn before(number: u64, args: &[u64; 6]) {
    if is_on() && ends_here(number) {
        report::trace(line(number, args, None, &Program));
    }
}

/// After a call. Of those shown before only a failure is told.
pub fn after(number: u64, args: &[u64; 6], result: Result<u64>) {
    if is_on() && (!ends_here(number) || result.is_err()) {
        report::trace(line(number, args, Some(result), &Program));
    }
}
