//! The calls ring 0 serves (`monitor.s`): an `int3` with the call's number in r10. 7 us each where ring 0 is emulated.

use core::arch::asm;

const MAGIC: u64 = 0x0d10_4b00;
const INVLPG: u64 = MAGIC;
const HALT: u64 = MAGIC + 1;
const RDMSR: u64 = MAGIC + 2;
const WRMSR: u64 = MAGIC + 3;
const XSETBV: u64 = MAGIC + 4;
const CR3: u64 = MAGIC + 5;
const CPUID: u64 = MAGIC + 6;
const SET_IF: u64 = MAGIC + 7;

/// Forgets cached translations of `pages` pages (at least 1) from `address` on.
pub fn invlpg(address: u64, pages: u64) {
    // SAFETY: dropping translations is always sound; the monitor changes rdi and rsi only.
    unsafe { asm!("int3", in("r10") INVLPG, inout("rdi") address => _, inout("rsi") pages.max(1) => _) }
}

/// Sleeps until an interrupt is recorded, or not at all if one is. The mask must be set.
pub fn halt() {
    // SAFETY: the monitor enables interrupts only around hlt and returns here.
    unsafe { asm!("int3", in("r10") HALT) }
}

/// Reads a model-specific register.
#[allow(dead_code, reason = "the pair of wrmsr; used when debugging a host")]
pub fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR changes nothing; an unknown one ends in a reported #GP.
    unsafe { asm!("int3", in("r10") RDMSR, in("ecx") register, out("eax") low, out("edx") high) }
    low as u64 | (high as u64) << 32
}

/// Writes a model-specific register.
///
/// # Safety
/// The value keeps the kernel running: the caller knows the register.
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("int3", in("r10") WRMSR, in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32) }
}

/// Enables extended state components (XCR0).
///
/// # Safety
/// `components` is a combination the processor supports.
pub unsafe fn xsetbv(components: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("int3", in("r10") XSETBV, in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32)
    }
}

/// Loads a page-table root, which also forgets all cached translations.
///
/// # Safety
/// The tree maps the kernel as the present one does.
pub unsafe fn load_cr3(root: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("int3", in("r10") CR3, in("rdi") root) }
}

/// CPUID as the virtual machine has it. At ring 3 some hosts do not trap the instruction and show their own.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (eax, ecx, edx): (u32, u32, u32);
    let ebx: u64;
    // SAFETY: cpuid only reads; rbx, which the compiler reserves, is kept in another register.
    unsafe {
        asm!("mov {b}, rbx", "int3", "xchg {b}, rbx", b = out(reg) ebx, in("r10") CPUID,
            inout("eax") leaf => eax, inout("ecx") subleaf => ecx, out("edx") edx)
    }
    [eax, ebx as u32, ecx, edx]
}

/// Sets the interrupt flag, which ring 3 cannot where ring 3 is all there is.
pub fn set_if() {
    // SAFETY: interrupts are handled from the first instruction on; the software mask governs them.
    unsafe { asm!("int3", in("r10") SET_IF) }
}
