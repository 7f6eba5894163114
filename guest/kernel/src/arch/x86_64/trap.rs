//! What happens on an exception, an interrupt and a system call, after the entry code saved a [`Frame`].

use super::{Frame, lapic, monitor, percpu, rdtsc};
use crate::mm::patch;
use crate::mm::space::Touch;
use crate::mm::{USER_TOP, space};
use crate::{linux, stats, task};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

unsafe extern "C" {
    static copy_fallible_start: [u8; 0];
    static copy_fallible_end: [u8; 0];
    static kernel_text: [u8; 0];
    static kernel_rodata: [u8; 0];
    fn system_call();
}

const PAGE_FAULT: u64 = 14;
/// The vector of a system call that came by a jump (entry.s).
const DIRECT_CALL: u64 = 0x101;

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
fn interrupt() {
    stats::INTERRUPTS.count();
    // Ended first: what happens from here on raises it again.
    lapic::end_of_interrupt();
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

/// Serves what was recorded while interrupts were masked. Called with the mask set, at points where no lock is held.
pub fn serve_pending() {
    while percpu::take_pending() {
        interrupt();
    }
}

/// Unmasks on the way out to a context that was not masked.
fn unmask() {
    loop {
        percpu::set_mask(false);
        if !percpu::has_pending() {
            return;
        }
        percpu::set_mask(true);
        serve_pending();
    }
}

/// Unmasks for a context that has no frame of its own on the stack yet: a program's first instruction.
pub fn leave_to_program() {
    task::sched::stop_if_ending();
    unmask();
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
        if frame.vector == DIRECT_CALL {
            stats::DIRECT_SYSCALLS.count();
        } else {
            patch::trapped(frame.rip, frame.rax);
        }
        linux::syscall(frame);
        before_program(frame);
    } else {
        RING_OF_SYSCALL.store(frame.cr2, Ordering::Relaxed);
    }
    unmask();
}

#[unsafe(no_mangle)]
extern "C" fn trap_entry(frame: &mut Frame) {
    if from_program(frame) {
        frame.rip = patch::unpatched(frame.rip);
    }
    if frame.vector >= 32 {
        interrupt();
    } else {
        exception(frame);
    }
    if from_program(frame) {
        before_program(frame);
    }
    if frame.was_masked == 0 {
        unmask();
    }
}

fn exception(frame: &mut Frame) {
    if frame.vector == PAGE_FAULT {
        stats::FAULTS.count();
        let touch = Touch::from_error_code(frame.error);
        match space::page_fault(frame.cr2, touch) {
            Ok(()) => return,
            Err(error) if from_program(frame) => return linux::fault(frame, Some(error)),
            Err(_) if in_copy(frame.rip) => {
                frame.rip = (&raw const copy_fallible_end) as u64;
                return;
            }
            Err(_) => {}
        }
    } else if from_program(frame) {
        return linux::fault(frame, None);
    }
    die(frame)
}

fn in_copy(rip: u64) -> bool {
    ((&raw const copy_fallible_start) as u64..(&raw const copy_fallible_end) as u64).contains(&rip)
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
    /// Trap, interrupt, direction, nested task and alignment flags.
    const FLAGS_CLEARED: u64 = 0x100 | 0x200 | 0x400 | 0x4000 | 0x4_0000;
    // SAFETY: STAR's selectors are the GDT's, LSTAR is the entry code.
    unsafe {
        monitor::wrmsr(STAR, 0x23 << 48 | 0x10 << 32);
        monitor::wrmsr(LSTAR, system_call as *const () as u64);
        monitor::wrmsr(SFMASK, FLAGS_CLEARED);
    }
    // Where `syscall` stays at ring 3, a cleared IF could never be set again by our iretq: keep it. The entry code
    // clears the direction flag itself.
    // SAFETY: our own entry returns right here; rcx and r11 are clobbered as the instruction says.
    unsafe { core::arch::asm!("syscall", inout("rax") 0u64 => _, out("rcx") _, out("r11") _) };
    if RING_OF_SYSCALL.load(Ordering::Relaxed) & 3 == 3 {
        // SAFETY: as above.
        unsafe { monitor::wrmsr(SFMASK, 0) };
        monitor::set_if();
    }
    percpu::set_mask(true);
}

/// Sleeps the processor until an interrupt comes, and serves it. Only the idle loop calls it.
pub fn wait_for_interrupt() {
    stats::HALTS.count();
    monitor::halt();
    serve_pending();
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
