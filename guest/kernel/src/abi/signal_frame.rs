//! What a signal handler finds on its stack, and where on which stack it is put (Linux' arch/x86/kernel/signal*.c).
//!
//! From high to low: the extended state (64-byte aligned, followed by a magic word), then [`SigFrame`], placed as
//! if a call had just pushed its first word, the return address into the restorer.

use super::siginfo::SigInfo;

/// `stack_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct StackT {
    /// Base.
    pub sp: u64,
    /// [`SS_ONSTACK`], [`SS_DISABLE`], [`SS_AUTODISARM`].
    pub flags: u32,
    /// Padding.
    pub pad: u32,
    /// Length in bytes.
    pub size: u64,
}

/// The thread runs on it.
pub const SS_ONSTACK: u32 = 1;
/// There is none.
pub const SS_DISABLE: u32 = 2;
/// Forget the stack while a handler runs.
pub const SS_AUTODISARM: u32 = 1 << 31;

/// `struct sigcontext`, the interrupted registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    /// Address of the extended state, or 0.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext` of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UContext {
    /// [`UC_FLAGS`].
    pub flags: u64,
    /// Always 0.
    pub link: u64,
    /// The alternate stack as it was set.
    pub stack: StackT,
    /// The registers.
    pub context: SigContext,
    /// The mask to return to.
    pub mask: u64,
}

/// Extended state is there, and `ss` is saved and to be restored (`UC_FP_XSTATE`, `UC_SIGCONTEXT_SS`, `UC_STRICT_RESTORE_SS`).
pub const UC_FLAGS: u64 = 7;

/// `struct rt_sigframe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SigFrame {
    /// Where the handler returns to: the restorer, which calls rt_sigreturn(2).
    pub restorer: u64,
    /// The context.
    pub context: UContext,
    /// The signal.
    pub info: SigInfo,
}

/// Flags that a handler's return may set: AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF (`FIX_EFLAGS`).
pub const FLAGS_RESTORED: u64 = 0x5_0dd5;
/// Flags cleared on entry to a handler: DF, RF, TF.
pub const FLAGS_CLEARED: u64 = 0x1_0500;

/// `FP_XSTATE_MAGIC1`, in the area's software-reserved bytes.
pub const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`, after the area.
pub const MAGIC2: u32 = 0x4650_5845;
/// Offset of the software-reserved bytes in the legacy area.
pub const SW_RESERVED: usize = 464;
/// Bytes of the legacy area alone.
pub const LEGACY_SIZE: usize = 512;
/// Offset of the XSAVE header's component mask.
pub const XSTATE_BV: usize = 512;

/// Marks a saved area, `size` bytes long with the components of `mask`, as Linux does for the program's use, and
/// appends the second magic word.
pub fn seal_xstate(area: &mut alloc::vec::Vec<u8>, mask: u64) {
    let size = area.len() as u32;
    let words = [MAGIC1, size + 4, mask as u32, (mask >> 32) as u32, size, 0, 0, 0, 0, 0, 0, 0];
    for (slot, word) in area[SW_RESERVED..LEGACY_SIZE].chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    area.extend(MAGIC2.to_le_bytes());
}

/// Whether the legacy area at the start of `legacy` announces `size` bytes of extended state after [`seal_xstate`]'s
/// manner. Where it does not, only the legacy area is restored.
pub fn announces_xstate(legacy: &[u8; LEGACY_SIZE], size: usize) -> bool {
    let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| legacy[SW_RESERVED + at + i]));
    word(0) == MAGIC1 && word(4) == size as u32 + 4 && word(16) == size as u32
}

/// An alternate signal stack (sigaltstack(2)); size 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AltStack {
    /// Base.
    pub base: u64,
    /// Length.
    pub size: u64,
    /// Whether it is forgotten while a handler runs.
    pub autodisarm: bool,
}

impl AltStack {
    /// Whether a thread with this stack pointer runs on it.
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// Whether a thread counts as running on it; never for one that is forgotten meanwhile.
    pub fn in_use(&self, sp: u64) -> bool {
        !self.autodisarm && self.holds(sp)
    }

    /// As sigaltstack(2) shows it to a thread with this stack pointer.
    pub fn describe(&self, sp: u64) -> StackT {
        let state = match self {
            Self { size: 0, .. } => SS_DISABLE,
            _ if self.in_use(sp) => SS_ONSTACK,
            _ => 0,
        };
        let flags = state | if self.autodisarm { SS_AUTODISARM } else { 0 };
        StackT { sp: self.base, flags, pad: 0, size: self.size }
    }
}

/// Where the two parts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Address of the [`SigFrame`]; the handler's stack pointer.
    pub frame: u64,
    /// Address of the extended state.
    pub xstate: u64,
}

/// Finds the place for a thread interrupted at `sp`; `wants_alternate` is the action's `SA_ONSTACK`, `xstate_len` the
/// bytes of the area with its second magic word. `None` when the alternate stack is too small, or the address space.
pub fn place(sp: u64, alternate: &AltStack, wants_alternate: bool, xstate_len: usize) -> Option<Placement> {
    const RED_ZONE: u64 = 128;
    let nested = alternate.in_use(sp);
    let entering = wants_alternate && alternate.size != 0 && !nested;
    let top = if entering { alternate.base.checked_add(alternate.size)? } else { sp.checked_sub(RED_ZONE)? };
    let xstate = top.checked_sub(xstate_len as u64)? & !63;
    let frame = (xstate.checked_sub(size_of::<SigFrame>() as u64)? & !15).checked_sub(8)?;
    ((!nested && !entering) || alternate.holds(frame)).then_some(Placement { frame, xstate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::mem::offset_of;

    /// The numbers are those of the kernel's headers (asm/sigcontext.h, asm/ucontext.h, asm/sigframe.h).
    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<SigContext>(), 256);
        assert_eq!((offset_of!(SigContext, rip), offset_of!(SigContext, cs)), (128, 144));
        assert_eq!((offset_of!(SigContext, fpstate), offset_of!(SigContext, cr2)), (184, 176));
        assert_eq!((size_of::<StackT>(), size_of::<UContext>(), size_of::<SigFrame>()), (24, 304, 440));
        assert_eq!((offset_of!(UContext, context), offset_of!(UContext, mask)), (40, 296));
        assert_eq!((offset_of!(SigFrame, context), offset_of!(SigFrame, info)), (8, 312));
        assert_eq!((FLAGS_RESTORED & 0x200, FLAGS_CLEARED, UC_FLAGS), (0, 0x1_0500, 7));
    }

    #[test]
    fn frames_are_aligned_and_out_of_the_red_zone() {
        let none = AltStack::default();
        for sp in 0x7000_0000..0x7000_0080 {
            let place = place(sp, &none, true, 2700).unwrap();
            assert_eq!((place.frame % 16, place.xstate % 64), (8, 0));
            assert!(place.xstate + 2700 <= sp - 128);
            assert!(place.frame + size_of::<SigFrame>() as u64 <= place.xstate);
        }
        assert_eq!(place(100, &none, false, 0), None);
    }

    #[test]
    fn the_alternate_stack_is_entered_nested_and_bounded() {
        let alternate = AltStack { base: 0x10_0000, size: 0x4000, autodisarm: false };
        let first = place(0x7000_0000, &alternate, true, 2700).unwrap();
        assert!(alternate.holds(first.frame) && first.xstate + 2700 <= 0x10_4000);
        let second = place(first.frame, &alternate, true, 2700).unwrap();
        assert!(second.frame < first.frame && alternate.holds(second.frame));
        assert_eq!(place(0x10_0800, &alternate, true, 2700), None, "no room left, though the handler asked");
        assert_eq!(place(0x10_0800, &alternate, false, 2700), None, "no room left");
        let elsewhere = place(0x7000_0000, &alternate, false, 2700).unwrap();
        assert!(!alternate.holds(elsewhere.frame));
        let tiny = AltStack { size: 1000, ..alternate };
        assert_eq!(place(0x7000_0000, &tiny, true, 2700), None);
        let huge = AltStack { base: u64::MAX - 8, size: 100, autodisarm: false };
        assert_eq!(place(0x7000_0000, &huge, true, 2700), None);
    }

    #[test]
    fn the_alternate_stack_is_described() {
        let mut alternate = AltStack::default();
        assert_eq!(alternate.describe(5).flags, SS_DISABLE);
        alternate = AltStack { base: 0x1000, size: 0x1000, autodisarm: false };
        assert_eq!(alternate.describe(0x1000).flags, 0);
        assert_eq!(alternate.describe(0x2000).flags, SS_ONSTACK);
        alternate.autodisarm = true;
        assert_eq!(alternate.describe(0x2000), StackT { sp: 0x1000, flags: SS_AUTODISARM, pad: 0, size: 0x1000 });
    }

    #[test]
    fn sealed_areas_are_recognised() {
        let mut area = vec![0u8; 2696];
        seal_xstate(&mut area, 0xe7);
        assert_eq!(area.len(), 2700);
        assert_eq!(area[2696..], MAGIC2.to_le_bytes());
        let legacy: [u8; LEGACY_SIZE] = area[..LEGACY_SIZE].try_into().unwrap();
        assert!(announces_xstate(&legacy, 2696));
        assert!(!announces_xstate(&legacy, 2695));
        assert!(!announces_xstate(&[0; LEGACY_SIZE], 2696));
        assert_eq!(XSTATE_BV, LEGACY_SIZE);
    }
}
