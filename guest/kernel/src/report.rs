//! The kernel's voice: records on the report port (see `diolkos_common::report`).

use crate::arch::port;
use alloc::format;
use alloc::string::String;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_common::ports;
use diolkos_common::report::{End, Record};

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Turns [`verbose!`] on.
pub fn set_verbose(on: bool) {
    VERBOSE.store(on, Ordering::Relaxed);
}

/// Whether [`verbose!`] lines are wanted.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Sends one record.
pub fn send(record: &Record) {
    port::write_bytes(ports::REPORT, &record.encode());
}

/// Sends the last record and ends the machine.
pub fn end(end: End) -> ! {
    send(&Record::End(end));
    power_off()
}

/// Ends the machine. Without an [`End`] record before it the host takes it for a crash.
pub fn power_off() -> ! {
    loop {
        port::write_byte(ports::POWER_OFF, 0);
    }
}

/// A line the user must see.
pub fn warning(line: Arguments<'_>) {
    send(&Record::Warning(format!("{line}")));
}

/// A line of a trace.
pub fn trace(line: String) {
    send(&Record::Trace(line));
}

/// A line for `--verbose`.
#[macro_export]
macro_rules! verbose {
    ($($t:tt)*) => {
        if $crate::report::is_verbose() {
            $crate::report::send(&diolkos_common::report::Record::Verbose(alloc::format!($($t)*)));
        }
    };
}
