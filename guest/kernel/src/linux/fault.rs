//! Exceptions of the program that are its own fault, as signals.

use super::signal;
use crate::abi::siginfo::{SI_KERNEL, SigInfo};
use crate::abi::signal_set::Signal;
use crate::arch::Frame;
use crate::mm::space::FaultError;
use crate::{report, task};
use diolkos_common::report::End;
use linux_raw_sys::general as raw;

/// Turns an exception into a signal for the thread that caused it. `page` is what memory management said of a page fault.
/// The signal is delivered on the way back, by [`super::before_user`].
pub fn fault(frame: &mut Frame, page: Option<FaultError>) {
    let Some(thread) = task::try_current().and_then(|thread| thread.user.as_ref()) else {
        panic!("exception {} at {:#x} in a thread without a program", frame.vector, frame.rip);
    };
    let info = match page {
        Some(FaultError::NotMapped) => SigInfo::fault(Signal::SEGV, raw::SEGV_MAPERR as i32, frame.cr2),
        Some(FaultError::Forbidden) => SigInfo::fault(Signal::SEGV, raw::SEGV_ACCERR as i32, frame.cr2),
        Some(FaultError::NoPage) => SigInfo::fault(Signal::BUS, raw::BUS_ADRERR as i32, frame.cr2),
        // The program ends on the way out (`out_of_memory`).
        Some(FaultError::OutOfMemory) => return,
        None => exception(frame),
    };
    if let Some(signal) = Signal::new(info.signo as u64) {
        crate::verbose!(
            "SIG{} in thread {}: exception {} at {:#x}, address {:#x}, stack {:#x}",
            signal.name(),
            thread.tid,
            frame.vector,
            frame.rip,
            info.fields[0],
            frame.rsp
        );
        signal::force(thread, signal, info);
    }
}

/// Ends a program for which there is no memory left.
pub fn out_of_memory() -> ! {
    // First, so that it is said once.
    task::sched::stop_others();
    report::warning(format_args!("the program needs more memory than the machine has; give it more with --memory"));
    crate::boot::finish(End::Killed(Signal::KILL.number()))
}

/// The signal for an exception other than a page fault, with Linux' codes (arch/x86/kernel/traps.c).
fn exception(frame: &Frame) -> SigInfo {
    let at = frame.rip;
    match frame.vector {
        0 => SigInfo::fault(Signal::FPE, raw::FPE_INTDIV as i32, at),
        1 => SigInfo::fault(Signal::TRAP, raw::TRAP_TRACE as i32, at),
        3 => SigInfo::kernel(Signal::TRAP),
        6 => SigInfo::fault(Signal::ILL, raw::ILL_ILLOPN as i32, at),
        16 => SigInfo::fault(Signal::FPE, x87_code(), at),
        17 => SigInfo::fault(Signal::BUS, raw::BUS_ADRALN as i32, 0),
        19 => SigInfo::fault(Signal::FPE, float_code(frame.mxcsr as u32, (frame.mxcsr >> 7) as u32), at),
        11 | 12 => SigInfo::kernel(Signal::BUS),
        // General protection, bounds, overflow and the rest: an address is not known.
        _ => SigInfo::fault(Signal::SEGV, SI_KERNEL, 0),
    }
}

/// `FPE_*` for the unmasked exceptions among `flags`; both in the order of the x87 status and control words.
fn float_code(flags: u32, masks: u32) -> i32 {
    let raised = flags & !masks;
    let code = match raised {
        _ if raised & 1 != 0 => raw::FPE_FLTINV,
        _ if raised & 4 != 0 => raw::FPE_FLTDIV,
        _ if raised & 8 != 0 => raw::FPE_FLTOVF,
        _ if raised & 0x12 != 0 => raw::FPE_FLTUND,
        _ if raised & 0x20 != 0 => raw::FPE_FLTRES,
        _ => 0,
    };
    code as i32
}

fn x87_code() -> i32 {
    let (mut status, mut control) = (0u16, 0u16);
    // SAFETY: both store a word of the x87's state, which is still the program's, and change nothing.
    unsafe {
        core::arch::asm!("fnstsw [{}]", "fnstcw [{}]", in(reg) &mut status, in(reg) &mut control, options(nostack));
    }
    float_code(status.into(), control.into())
}
