//! The two I/O ports of the machine contract.
//!
//! Both are conventions of QEMU's `isa-debugcon` and `isa-debug-exit` devices, so that one kernel serves
//! our own machine and QEMU.

/// The report stream (see [`crate::report`]): bytes written here, one or many (`rep outsb`) at a time.
pub const REPORT: u16 = 0xe9;

/// A byte written here ends the machine at once. The value carries nothing: the verdict is in the report.
pub const POWER_OFF: u16 = 0xf4;
