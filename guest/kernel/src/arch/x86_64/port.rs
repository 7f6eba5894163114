//! Port I/O. The TSS' I/O bitmap lets ring 3 do it; each access leaves the guest, so callers are few.

use core::arch::asm;

/// Writes a byte.
pub fn write_byte(port: u16, value: u8) {
    // SAFETY: the kernel's ports are devices of the machine contract; none touches memory by itself.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, nomem, preserves_flags)) }
}

/// Writes four bytes.
pub fn write_u32(port: u16, value: u32) {
    // SAFETY: as for a byte.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, nomem, preserves_flags)) }
}

/// Reads four bytes.
pub fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: as for a byte.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, nomem, preserves_flags)) }
    value
}

/// Writes all of `bytes` to one port, with one exit where the machine can.
pub fn write_bytes(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the slice.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(nostack, readonly, preserves_flags))
    }
}
