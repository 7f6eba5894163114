//! The formats and layouts of the Linux ABI, as pure code: no address space, no threads, no hardware.
//!
//! Everything here is computed from bytes and numbers, so that the host's `cargo test` covers it. The guest's
//! `linux` rooms do the reading, mapping and copying around it.

pub mod call_site;
pub mod elf;
pub mod futex_op;
pub mod pi_word;
pub mod script;
pub mod siginfo;
pub mod signal_frame;
pub mod signal_queue;
pub mod signal_set;
pub mod stack;
pub mod trace;
pub mod vdso;
