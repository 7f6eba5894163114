//! The guest kernel, built by this crate's build script.

/// The kernel as an ELF64 file with a PVH entry.
pub static ELF: &[u8] = include_bytes!(env!("DIOLKOS_KERNEL"));
