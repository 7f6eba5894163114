//! The I/O ports of the machine contract.
//!
//! The first two are conventions of QEMU's `isa-debugcon` and `isa-debug-exit` devices, so that one kernel serves
//! our own machine and QEMU.

/// The report stream (see [`crate::report`]): bytes written here, one or many (`rep outsb`) at a time.
pub const REPORT: u16 = 0xe9;

/// A byte written here ends the machine at once. The value carries nothing: the verdict is in the report.
pub const POWER_OFF: u16 = 0xf4;

/// Our own machine's shorter way for a report: the number of a page of RAM (address / 4096, 32 bits) written here
/// hands over the one whole record that begins the page. One exit, where the byte stream costs one a byte on hosts that
/// emulate string output. Used only when [`crate::cmdline::BootOptions::report_memory`] says it is there.
pub const REPORT_MEMORY: u16 = 0xe8;
