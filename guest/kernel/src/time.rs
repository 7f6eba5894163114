//! Time: the time stamp counter, scaled; and the wall clock, set once from the host's.

/// Nanoseconds since the kernel started (`CLOCK_MONOTONIC`).
pub fn monotonic_ns() -> u64 {
    todo!()
}

/// Nanoseconds since the Unix epoch (`CLOCK_REALTIME`).
pub fn wall_ns() -> u64 {
    todo!()
}

/// How `rdtsc` becomes nanoseconds: `ns = ((tsc - base) as u128 * mult >> 32)`; for the vDSO.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Counter value at monotonic zero.
    pub base: u64,
    /// Nanoseconds per tick, times 2^32.
    pub mult: u64,
    /// Wall clock at monotonic zero, in nanoseconds.
    pub wall_base_ns: u64,
}

/// The scale in force.
pub fn scale() -> Scale {
    todo!()
}
