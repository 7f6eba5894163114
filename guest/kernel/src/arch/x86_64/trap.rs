//! What happens on an exception, an interrupt and a system call, after the entry code saved a [`Frame`].

use super::{Frame, lapic, monitor, percpu, rdtsc};
use crate::mm::patch;
use crate::mm::space::Touch;
use crate::mm::{USER_TOP, losses, shootdown, space};
use crate::task::lock;
use crate::{linux, stats, task};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

unsafe extern "C" {
    static copy_fallible_start: [u8; 0];
    static copy_fallible_end: [u8; 0];
    static copy_words_start: [u8; 0];
    static copy_words_end: [u8; 0];
    static exchange_fallible_start: [u8; 0];
    static exchange_fallible_end: [u8; 0];
    static kernel_text: [u8; 0];
    static kernel_rodata: [u8; 0];
    fn system_call();
}

const DEBUG: u64 = 1;
const PAGE_FAULT: u64 = 14;
/// The vector of a system call that came by a jump (entry.s).
const DIRECT_CALL: u64 = 0x101;
/// When a context that cannot be left is looked at again: in 20 us.
const SOON_NS: u64 = 20_000;

/// Who looks for news.
type Handler = fn();
const MAX_HANDLERS: usize = 8;
static HANDLERS: [AtomicUsize; MAX_HANDLERS] = [const { AtomicUsize::new(0) }; MAX_HANDLERS];

/// Has `handler` called at every interrupt. It looks whether its device has news, and neither sleeps nor allocates.
///
/// # Panics
/// With more handlers than there are kinds of devices.
pub fn on_interrupt(handler: Handler) {
    let handler = handler as usize;
    for slot in &HANDLERS {
        match slot.compare_exchange(0, handler, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(present) if present == handler => return,
            Err(_) => {}
        }
    }
    panic!("more interrupt handlers than kinds of devices");
}

/// All interrupts have one vector and mean one thing: somebody has news. A host that delivers an interrupt twice (see
/// `monitor.s`) can also put a second one on top of a first that has not run an instruction; with two vectors the
/// first would be lost. With one there is nothing to tell apart, and everybody is asked.
fn look_for_news() {
    task::sched::tick();
    for slot in &HANDLERS {
        let handler = slot.load(Ordering::Acquire);
        if handler == 0 {
            return;
        }
        // SAFETY: only `on_interrupt` stores here, and it stores a `Handler`.
        unsafe { core::mem::transmute::<usize, Handler>(handler)() }
    }
}

/// Serves what was recorded while interrupts were masked. Called with the mask set, at points where no lock is held
/// but the kernel's.
pub fn serve_pending() {
    while percpu::take_pending() {
        end_interrupt();
        look_for_news();
    }
}

/// Ends an interrupt, before anybody looks what it was about: what happens from here on raises it again.
fn end_interrupt() {
    stats::INTERRUPTS.count();
    lapic::end_of_interrupt();
}

/// Unmasks, if nothing was recorded meanwhile.
fn unmask() -> bool {
    percpu::set_mask(false);
    if !percpu::has_pending() {
        return true;
    }
    percpu::set_mask(true);
    false
}

/// Does what is due and leaves to the program: afterwards the kernel lock is not held and interrupts come in.
pub fn leave_to_program(frame: &mut Frame) {
    loop {
        before_program(frame);
        lock::release_to_program();
        if unmask() {
            return;
        }
        lock::acquire();
    }
}

/// The same for a context that is neither the program's nor the kernel's with the mask set: the first instruction of a
/// system call, or the last ones on the way out. What is due to the program cannot be done with its registers half
/// loaded; the timer brings us back when it runs.
fn leave_to_threshold() {
    loop {
        serve_pending();
        if task::sched::is_prodded() || attention() {
            task::timer::set_slice(Some(SOON_NS));
        }
        lock::release_to_program();
        if unmask() {
            return;
        }
        lock::acquire();
    }
}

/// Whether something is due before the thread runs on in the program.
fn attention() -> bool {
    task::try_current().and_then(|thread| thread.user.as_ref()).is_some_and(|user| user.is_due())
}

/// Whether the program was running. One that jumped into the kernel's half is known by its stack: the kernel never runs
/// on one below `USER_TOP`, but for the first instructions of a system call where ring 3 is entered directly. There it
/// is the kernel that was interrupted; a signal must wait until the call is through.
fn from_program(frame: &Frame) -> bool {
    let kernel = (&raw const kernel_text) as u64..(&raw const kernel_rodata) as u64;
    frame.rip < USER_TOP || frame.rsp < USER_TOP && !kernel.contains(&frame.rip)
}

/// Everything that is due before the program runs on.
fn before_program(frame: &mut Frame) {
    serve_pending();
    task::sched::reschedule_if_needed();
    linux::before_user(frame);
}

#[unsafe(no_mangle)]
extern "C" fn system_call_entry(frame: &mut Frame) {
    if from_program(frame) {
        if lock::is_on() && frame.vector == DIRECT_CALL && linux::unlocked::may_serve(frame.rax) {
            if served_unlocked(frame) {
                return;
            }
        } else {
            lock::acquire();
        }
        if frame.vector == DIRECT_CALL {
            stats::DIRECT_SYSCALLS.count();
        } else {
            patch::trapped(frame.rip, frame.rax);
        }
        linux::syscall(frame);
        leave_to_program(frame);
    } else {
        // The kernel's own, at start, when nothing interrupts: the mask is set again there.
        RING_OF_SYSCALL.store(frame.cr2, Ordering::Relaxed);
    }
}

/// Serves a call without the kernel lock and leaves to the program, or takes the lock and returns that the call is still to
/// be served.
fn served_unlocked(frame: &mut Frame) -> bool {
    lock::stay_outside();
    let served = linux::unlocked::serve(frame);
    if served && !task::sched::is_prodded() && !attention() {
        lock::leave_outside();
        if unmask() {
            return true;
        }
        lock::acquire();
    } else {
        lock::come_in();
    }
    if served {
        leave_to_program(frame);
    }
    served
}

#[unsafe(no_mangle)]
extern "C" fn trap_entry(frame: &mut Frame) {
    let (interrupted, program) = (frame.vector >= 32, from_program(frame));
    if frame.was_masked != 0 {
        // The kernel's own fault.
        return lock::with(|| exception(frame));
    }
    let stopped_at = frame.rip;
    if program {
        frame.rip = patch::unpatched(stopped_at);
    }
    if interrupted {
        // Ended before waiting for the lock: a processor that halts meanwhile is woken by the next one.
        end_interrupt();
        let done = is_about_translations();
        if done && unmask() {
            return;
        }
        lock::acquire();
        if !done {
            look_for_news();
        }
    } else {
        lock::acquire();
        if frame.vector == DEBUG && frame.rip != stopped_at {
            // A program that steps through its own code came over a jump of ours. Put back, it would come over it for ever;
            // and it has not done the step yet.
            patch::undo_around(frame.rip);
        } else {
            exception(frame);
        }
    }
    if program { leave_to_program(frame) } else { leave_to_threshold() }
}

/// Whether an interrupt was only another processor's, whose changes to the page tables have now been seen to. Devices
/// interrupt the first processor, which cannot tell; losses of window memory interrupt all. An interrupt that comes from
/// here on is recorded.
fn is_about_translations() -> bool {
    let other = task::sched::is_prodded() || task::timer::may_have_fired() || losses::has_news();
    percpu::cpu() != 0 && !other && shootdown::serve_alone()
}

fn exception(frame: &mut Frame) {
    if frame.vector == PAGE_FAULT {
        stats::FAULTS.count();
        let touch = Touch::from_error_code(frame.error);
        match space::page_fault(frame.cr2, touch) {
            Ok(()) => return,
            Err(error) if from_program(frame) => return linux::fault(frame, Some(error)),
            Err(_) => {
                if let Some(end) = end_of_fallible(frame.rip) {
                    frame.rip = end;
                    return;
                }
            }
        }
    } else if from_program(frame) {
        return linux::fault(frame, None);
    }
    die(frame)
}

/// Where code goes on that may fault at `rip`.
fn end_of_fallible(rip: u64) -> Option<u64> {
    let codes = [
        (&raw const copy_fallible_start, &raw const copy_fallible_end),
        (&raw const copy_words_start, &raw const copy_words_end),
        (&raw const exchange_fallible_start, &raw const exchange_fallible_end),
    ];
    let code = codes.into_iter().find(|(start, end)| (*start as u64..*end as u64).contains(&rip));
    code.map(|(_, end)| end as u64)
}

fn die(frame: &Frame) -> ! {
    let (low, top) = percpu::stack();
    let stack =
        if frame.rsp < low && frame.rsp >= low - crate::mm::PAGE_SIZE { " (kernel stack overflow)" } else { "" };
    panic!(
        "exception {} in the kernel{stack}: rip {:#x} address {:#x} error {:#x} rsp {:#x} (stack {low:#x}..{top:#x}) \
         rax {:#x} rbx {:#x} rcx {:#x} rdx {:#x} rsi {:#x} rdi {:#x}",
        frame.vector,
        frame.rip,
        frame.cr2,
        frame.error,
        frame.rsp,
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi
    )
}

/// The CS with which the last system call made by the kernel itself arrived.
static RING_OF_SYSCALL: AtomicU64 = AtomicU64::new(0);

/// Points `syscall` at our entry. Once per processor.
pub fn init_syscall() {
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const SFMASK: u32 = 0xc000_0084;
    /// More than this function's own frame, in bytes, and less than what the stack has left.
    const BELOW: u64 = 8192;
    const INTERRUPT_FLAG: u64 = 0x200;
    /// Trap, interrupt, direction, nested task and alignment flags.
    const FLAGS_CLEARED: u64 = 0x100 | INTERRUPT_FLAG | 0x400 | 0x4000 | 0x4_0000;
    // SAFETY: STAR's selectors are the GDT's, LSTAR is the entry code.
    unsafe {
        monitor::wrmsr(STAR, 0x23 << 48 | 0x10 << 32);
        monitor::wrmsr(LSTAR, system_call as *const () as u64);
        monitor::wrmsr(SFMASK, FLAGS_CLEARED);
    }
    // Where `syscall` stays at ring 3, a cleared IF could never be set again by our iretq: keep it. A trap flag that was
    // kept would stop us at our first instruction.
    // The entry code takes the kernel stack for empty; ours is not, so it gets the part well below us.
    let (thread, (low, top)) = (percpu::current(), percpu::stack());
    let here = &raw const low as u64;
    percpu::set_current(thread, low, (here - BELOW) & !15);
    // SAFETY: our own entry returns right here; rcx and r11 are clobbered as the instruction says.
    unsafe { core::arch::asm!("syscall", inout("rax") 0u64 => _, out("rcx") _, out("r11") _) };
    percpu::set_current(thread, low, top);
    if RING_OF_SYSCALL.load(Ordering::Relaxed) & 3 == 3 {
        // SAFETY: as above.
        unsafe { monitor::wrmsr(SFMASK, FLAGS_CLEARED & !INTERRUPT_FLAG) };
        monitor::set_if();
    }
    percpu::set_mask(true);
}

/// Sleeps the processor until an interrupt comes, but not if it is `over` already: for who waits for another processor,
/// in the middle of something. What was recorded before stays so; but as interrupts it is ended, or no further one would
/// come and end the sleep. (A second end of the same interrupt, when it is served, does nothing.)
pub fn halt_unless(over: impl FnOnce() -> bool) {
    let recorded = percpu::take_pending();
    if recorded {
        lapic::end_of_interrupt();
    }
    if !over() {
        monitor::halt();
    }
    if recorded {
        percpu::set_pending();
    }
}

/// Sleeps the processor until an interrupt is recorded. Only the idle loop calls it.
pub fn wait_for_interrupt() {
    stats::HALTS.count();
    monitor::halt();
}

/// Spins up to `ns` nanoseconds until `done`, serving interrupts on the way: cheaper than sleeping for short waits.
pub fn spin_until(ns: u64, mut done: impl FnMut() -> bool) -> bool {
    let limit = crate::time::ns_to_ticks(ns);
    let start = rdtsc();
    loop {
        if done() {
            return true;
        }
        if rdtsc().wrapping_sub(start) > limit {
            return false;
        }
        core::hint::spin_loop();
    }
}
