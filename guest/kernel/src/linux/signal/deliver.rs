//! Delivery: what is due before a thread runs on in its program, and the way back from a handler.

use super::state::{Action, ActionFlags, Disposition, Restart};
use super::{force, kill_now};
use crate::abi::siginfo::SigInfo;
use crate::abi::signal_frame::{
    FLAGS_CLEARED, FLAGS_RESTORED, LEGACY_SIZE, Placement, SS_AUTODISARM, SigContext, SigFrame, UC_FLAGS, UContext,
    XSTATE_BV, announces_xstate, place, seal_xstate,
};
use crate::abi::signal_set::{DefaultAction, Signal, SignalSet};
use crate::arch::{Frame, xstate};
use crate::linux::fault::out_of_memory;
use crate::linux::process::UserThread;
use crate::mm::USER_TOP;
use crate::mm::space::is_exhausted;
use crate::mm::user::{UserPtr, plain};
use crate::task;
use alloc::vec;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};

plain!(SigFrame, [u8; LEGACY_SIZE]);

/// Length of the instruction a call is made again with.
const SYSCALL_LEN: u64 = 2;

/// Called on every way back to the program.
pub fn before_user(frame: &mut Frame) {
    let Some(thread) = task::try_current().and_then(|thread| thread.user.as_ref()) else { return };
    if is_exhausted() {
        out_of_memory();
    }
    if !thread.attention.load(Ordering::SeqCst) {
        return;
    }
    if thread.exiting.load(Ordering::SeqCst) {
        super::super::thread::end_current();
    }
    deliver_all(thread, frame);
}

fn deliver_all(thread: &UserThread, frame: &mut Frame) {
    // Cleared first: a signal sent from here on sets it again.
    thread.attention.store(false, Ordering::SeqCst);
    if let Some(kernel) = thread.kernel() {
        kernel.take_interrupt();
    }
    while let Some((signal, info, action)) = next(thread) {
        match action.disposition() {
            Disposition::Ignore => {}
            Disposition::Default if signal.default_action() == DefaultAction::Ignore => {}
            Disposition::Default => kill_now(signal),
            Disposition::Handler => {
                restart(thread, frame, Some(&action));
                if enter_handler(thread, frame, signal, &info, &action).is_err() {
                    crate::verbose!(
                        "the handler of SIG{} could not be entered: its stack is not usable",
                        signal.name()
                    );
                    if signal == Signal::SEGV {
                        thread.process.signals.lock().reset(signal);
                    }
                    force(thread, Signal::SEGV, SigInfo::kernel(Signal::SEGV));
                }
            }
        }
    }
    restart(thread, frame, None);
    let mut own = thread.signals.lock();
    if let Some(mask) = own.saved_mask.take() {
        own.mask = mask;
        thread.attention.store(true, Ordering::SeqCst);
        drop(own);
        // The old mask may let through what the temporary one did not.
        if thread.has_signal() {
            deliver_all(thread, frame);
        }
    }
}

/// The next signal to act upon, with the action as it is now.
fn next(thread: &UserThread) -> Option<(Signal, SigInfo, Action)> {
    let mut process = thread.process.signals.lock();
    let mut own = thread.signals.lock();
    let open = !own.mask;
    let (signal, info) = match own.pending.take(open) {
        Some(taken) => taken,
        None => process.pending.take(open)?,
    };
    thread.process.timers.delivered(&info);
    let action = *process.action(signal);
    if action.disposition() == Disposition::Handler && action.flags().contains(ActionFlags::RESETHAND) {
        process.reset(signal);
    }
    Some((signal, info, action))
}

/// Makes an interrupted call again, if that is due: `handler` is the action about to run, if one is.
fn restart(thread: &UserThread, frame: &mut Frame, handler: Option<&Action>) {
    let Some(call) = thread.signals.lock().interrupted.take() else { return };
    let again = handler.is_none_or(|action| match call.rule {
        Restart::Always => true,
        Restart::Flag => action.flags().contains(ActionFlags::RESTART),
        Restart::NoHandler => false,
    });
    if again {
        frame.rax = call.number;
        frame.rip -= SYSCALL_LEN;
    }
}

/// Saves the context on the program's stack and turns the frame to the handler.
fn enter_handler(
    thread: &UserThread,
    frame: &mut Frame,
    signal: Signal,
    info: &SigInfo,
    action: &Action,
) -> Result<()> {
    let flags = action.flags();
    // x86-64 has no trampoline of its own: a handler without a restorer is a fault in Linux too.
    if !flags.contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let (mask, alternate) = {
        let mut own = thread.signals.lock();
        (own.saved_mask.take().unwrap_or(own.mask), own.alternate)
    };
    let (size, components) = xstate::layout();
    let mut area = vec![0; size];
    xstate::save_user(frame, &mut area);
    seal_xstate(&mut area, components);
    let Placement { frame: at, xstate: xstate_at } =
        place(frame.rsp, &alternate, flags.contains(ActionFlags::ONSTACK), area.len()).ok_or(Errno::EFAULT)?;
    let context = UContext {
        flags: UC_FLAGS,
        link: 0,
        stack: alternate.describe(frame.rsp),
        context: SigContext { oldmask: mask.0, fpstate: xstate_at, ..context_of(frame) },
        mask: mask.0,
    };
    UserPtr::new(xstate_at).write_slice(&area)?;
    UserPtr::new(at).write(SigFrame { restorer: action.restorer, context, info: *info })?;

    let mut own = thread.signals.lock();
    own.mask |= SignalSet(action.mask).blockable();
    if !flags.contains(ActionFlags::NODEFER) {
        own.mask |= SignalSet::only(signal).blockable();
    }
    if alternate.autodisarm {
        own.alternate = Default::default();
    }
    drop(own);
    frame.rdi = signal.number().into();
    frame.rsi = at + core::mem::offset_of!(SigFrame, info) as u64;
    frame.rdx = at + core::mem::offset_of!(SigFrame, context) as u64;
    frame.rax = 0;
    frame.rsp = at;
    frame.rip = action.handler;
    frame.rflags &= !FLAGS_CLEARED;
    reset_xstate(frame);
    Ok(())
}

/// A handler starts with the initial extended state, as in Linux.
fn reset_xstate(frame: &mut Frame) {
    frame.xmm = [0; 16];
    frame.mxcsr = 0x1f80;
    xstate::load(&xstate::Area::initial());
    xstate::set_kernel_mxcsr();
}

fn context_of(frame: &Frame) -> SigContext {
    SigContext {
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rdi: frame.rdi,
        rsi: frame.rsi,
        rbp: frame.rbp,
        rbx: frame.rbx,
        rdx: frame.rdx,
        rax: frame.rax,
        rcx: frame.rcx,
        rsp: frame.rsp,
        rip: frame.rip,
        rflags: frame.rflags,
        cs: frame.cs as u16,
        ss: frame.ss as u16,
        // Only an exception's frame has these; for a system call they are zero in Linux too.
        err: if frame.vector < 32 { frame.error } else { 0 },
        trapno: if frame.vector < 32 { frame.vector } else { 0 },
        cr2: if frame.vector == 14 { frame.cr2 } else { 0 },
        ..SigContext::default()
    }
}

/// rt_sigreturn(2): takes everything back from the frame that the stack pointer points into.
///
/// # Errors
/// `EFAULT` when there is no such frame, or one that the processor would not take; the program is sent SIGSEGV.
pub fn sigreturn(thread: &UserThread, frame: &mut Frame) -> Result<u64> {
    // The restorer was "returned to", which took the first word off.
    let saved = UserPtr::<SigFrame>::new(frame.rsp.wrapping_sub(8)).read()?;
    let context = &saved.context.context;
    if context.rip >= USER_TOP {
        return Err(Errno::EFAULT);
    }
    restore_xstate(frame, context.fpstate)?;
    {
        let mut own = thread.signals.lock();
        own.mask = SignalSet(saved.context.mask).blockable();
        let stack = saved.context.stack;
        // Only a stack that was forgotten on entry comes back; the rest never changed.
        if stack.flags & SS_AUTODISARM != 0 {
            let base = stack.sp;
            own.alternate = crate::abi::signal_frame::AltStack { base, size: stack.size, autodisarm: true };
        }
    }
    thread.attention.store(true, Ordering::SeqCst);
    frame.r8 = context.r8;
    frame.r9 = context.r9;
    frame.r10 = context.r10;
    frame.r11 = context.r11;
    frame.r12 = context.r12;
    frame.r13 = context.r13;
    frame.r14 = context.r14;
    frame.r15 = context.r15;
    frame.rdi = context.rdi;
    frame.rsi = context.rsi;
    frame.rbp = context.rbp;
    frame.rbx = context.rbx;
    frame.rdx = context.rdx;
    frame.rcx = context.rcx;
    frame.rsp = context.rsp;
    frame.rip = context.rip;
    frame.rflags = frame.rflags & !FLAGS_RESTORED | context.rflags & FLAGS_RESTORED;
    Ok(context.rax)
}

fn restore_xstate(frame: &mut Frame, address: u64) -> Result<()> {
    if address == 0 {
        reset_xstate(frame);
        return Ok(());
    }
    let (size, _) = xstate::layout();
    let legacy = UserPtr::<[u8; LEGACY_SIZE]>::new(address).read()?;
    let mut area = if announces_xstate(&legacy, size) {
        UserPtr::<u8>::new(address).read_vec(size)?
    } else {
        // Only x87 and SSE are there; the rest becomes initial.
        let mut area = vec![0; size];
        area[..LEGACY_SIZE].copy_from_slice(&legacy);
        area[XSTATE_BV] = 3;
        area
    };
    // The program's use of the reserved bytes is none of the processor's business.
    area[crate::abi::signal_frame::SW_RESERVED..LEGACY_SIZE].fill(0);
    if xstate::restore_user(frame, &area) { Ok(()) } else { Err(Errno::EFAULT) }
}
