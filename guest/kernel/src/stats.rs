//! Counters of the kernel itself, shown by `--stats`. The file system and the window keep their own.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: Counter = Counter(AtomicU64::new(0));)*

        /// Adds a line `name=value` for each counter that is not zero.
        pub fn write_to(out: &mut String) {
            $(line(out, $text, $name.get());)*
        }
    };
}

/// A number that only grows (or, for a time, is set once).
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Adds one line, unless the value is zero.
pub fn line(out: &mut String, name: &str, value: u64) {
    if value != 0 {
        let _ = writeln!(out, "{name}={value}");
    }
}

counters! {
    /// System calls.
    SYSCALLS = "syscalls.total";
    /// Those that came by a jump and not by a trap.
    DIRECT_SYSCALLS = "syscalls.direct";
    /// Those of them that needed no kernel lock.
    UNLOCKED_SYSCALLS = "syscalls.unlocked";
    /// Call sites that have become jumps.
    PATCHED = "syscalls.patched";
    /// Call sites that are hot, but cannot become jumps.
    UNPATCHED = "syscalls.unpatched";
    /// System calls nobody implements.
    UNKNOWN_SYSCALLS = "syscalls.unknown";
    /// Page faults of the program, or of the kernel on its behalf.
    FAULTS = "mm.faults";
    /// Anonymous bytes filled with zeroes.
    ZEROED_BYTES = "mm.zeroed_bytes";
    /// Bytes copied for private writable mappings of files.
    COPIED_BYTES = "mm.copied_bytes";
    /// Page-table entries that point into a DAX window.
    WINDOW_PAGES = "mm.window_pages";
    /// Page-table entries looked at to take chunks of a window, or cached pages, away.
    REVOKE_LOOKS = "mm.revoke_looks";
    /// Replies of file systems' hosts that came while somebody looked for them.
    REPLIES_FOUND = "messages.replies_looked_for";
    /// Replies that were slept for.
    REPLIES_SLEPT_FOR = "messages.replies_slept_for";
    /// Requests that were sent without waiting for their own reply: what fills the page cache.
    POSTED = "messages.posted";
    /// Times that was looked for a reply before sleeping.
    LOOKS_IN_VAIN = "messages.looks_in_vain";
    /// Times that such a host had to be told of requests.
    DOORBELLS = "messages.doorbells";
    /// Interrupts.
    INTERRUPTS = "cpu.interrupts";
    /// Interrupts that were delivered twice and recognised (a host's fault).
    DUPLICATE_INTERRUPTS = "cpu.duplicate_interrupts";
    /// Times the processor was halted.
    HALTS = "cpu.halts";
    /// Times a processor had to wait for another to leave the kernel, and times it halted meanwhile.
    LOCK_WAITS = "cpu.kernel_lock_waits";
    /// The second of these.
    LOCK_HALTS = "cpu.kernel_lock_halts";
    /// Changes of page tables for which other processors had to be interrupted.
    SHOOTDOWNS = "cpu.shootdowns";
    /// Times a processor halted waiting for those.
    SHOOTDOWN_HALTS = "cpu.shootdown_halts";
    /// Switches from one thread to another.
    SWITCHES = "cpu.switches";
    /// Threads that a processor took from another's run queue.
    STEALS = "cpu.steals";
    /// Time stamp counter at the kernel's first instruction in Rust.
    KERNEL_ENTRY = "time.kernel_entry_tsc";
    /// When physical memory was known and mapped.
    MEMORY = "time.memory_tsc";
    /// When the first thread ran.
    PROCESSOR = "time.processor_tsc";
    /// When the devices on the bus were known.
    DEVICES_FOUND = "time.pci_tsc";
    /// When they were in service.
    DEVICES = "time.devices_tsc";
    /// When the root share's server had answered INIT.
    FUSE = "time.fuse_tsc";
    /// When the root was mounted.
    MOUNTED = "time.mounted_tsc";
    /// When the program's file was found and open.
    FOUND = "time.found_tsc";
    /// When the program's first instruction was about to run.
    PROGRAM = "time.program_tsc";
    /// When the program ended.
    EXIT = "time.exit_tsc";
    /// When its output and what mappings stored were in the host's hands.
    WRITTEN = "time.written_tsc";
}
