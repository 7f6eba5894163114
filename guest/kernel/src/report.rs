//! The kernel's voice: records on the report port (see `diolkos_common::report`).

use crate::arch::port;
use crate::mm::{PAGE_SIZE, PHYS_BASE};
use alloc::format;
use alloc::string::String;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_common::ports;
use diolkos_common::report::{End, Record};
use spin::Mutex;

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Turns [`verbose!`] on.
pub fn set_verbose(on: bool) {
    VERBOSE.store(on, Ordering::Relaxed);
}

/// Whether [`verbose!`] lines are wanted.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// A page-aligned place from which the machine takes whole records.
#[repr(C, align(4096))]
struct Page([u8; PAGE]);
const PAGE: usize = 16 << 10;
static MAILBOX: Mutex<Page> = Mutex::new(Page([0; PAGE]));
static BY_MEMORY: AtomicBool = AtomicBool::new(false);

/// Sends records through memory from now on; the machine has said that it can.
pub fn use_memory() {
    BY_MEMORY.store(true, Ordering::Relaxed);
}

/// Sends one record.
pub fn send(record: &Record) {
    send_bytes(&record.encode());
}

/// Sends the bytes of one whole record. Does not allocate.
pub fn send_bytes(record: &[u8]) {
    if BY_MEMORY.load(Ordering::Relaxed) && record.len() <= PAGE {
        // Taken already: a panic while a record was being sent. The slow way is always open.
        if let Some(mut mailbox) = MAILBOX.try_lock() {
            mailbox.0[..record.len()].copy_from_slice(record);
            let phys = mailbox.0.as_ptr() as u64 - PHYS_BASE;
            port::write_u32(ports::REPORT_MEMORY, (phys / PAGE_SIZE) as u32);
            return;
        }
    }
    port::write_bytes(ports::REPORT, record);
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
