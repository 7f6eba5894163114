//! The registers of an interrupted context, as the entry code (`entry.s`) saves them.
//!
//! The kernel is compiled for plain SSE2: its code changes xmm0 to xmm15 and MXCSR and nothing else of the
//! vector state, and legacy SSE instructions keep the upper halves of the wider registers. So saving those is
//! enough; the full state is saved only when the processor changes threads, or for a signal frame.

/// What was interrupted. The layout is known to `entry.s`.
#[derive(Debug, Clone)]
#[repr(C, align(16))]
pub struct Frame {
    /// xmm0 to xmm15.
    pub xmm: [u128; 16],
    /// MXCSR, padded.
    pub mxcsr: u64,
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    /// Vector number; 0x100 for a system call, 0x101 for one that came by a jump.
    pub vector: u64,
    /// Faulting address of a page fault.
    pub cr2: u64,
    /// Whether the interrupt mask was already set when this context was interrupted.
    pub was_masked: u64,
    /// Error code of an exception that has one.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// A program's context with every register zero or initial.
    pub fn user() -> Self {
        // SAFETY: a frame is integers only.
        let zero: Self = unsafe { core::mem::zeroed() };
        // IF and the always-set bit 1; Linux' selectors, see boot.s.
        Self { mxcsr: 0x1f80, cs: 0x33, ss: 0x2b, rflags: 0x202, ..zero }
    }
}
