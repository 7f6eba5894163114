//! The extended state: x87, SSE, AVX, AVX-512, in the XSAVE standard format.
//!
//! The components are those the *program* can change, which `xgetbv` at ring 3 shows truly: on hosts that run ring 3
//! natively that is the host's XCR0, elsewhere the one set here. Saving fewer would leak or lose registers.

use super::{Frame, monitor};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// x87, SSE, AVX, and AVX-512's three. Others (PKRU, AMX) are not offered.
const WANTED: u64 = 0xe7;
/// Offset of the header in a save area, and of xmm0 and MXCSR (SDM volume 1, section 13.4).
const HEADER: usize = 512;
const XMM: usize = 160;
const MXCSR: usize = 24;
/// Room for the components in [`WANTED`]: what leaf 0xd reports for them is 2,696 bytes.
pub const MAX_SIZE: usize = 4096;

static COMPONENTS: AtomicU64 = AtomicU64::new(3);
static SIZE: AtomicU64 = AtomicU64::new(HEADER as u64 + 64);

/// An area to save in.
#[repr(C, align(64))]
pub struct Area(pub [u8; MAX_SIZE]);

impl Area {
    /// The state every program starts with.
    pub const fn initial() -> Self {
        let mut bytes = [0; MAX_SIZE];
        // FCW 0x37f, MXCSR 0x1f80; everything else is zero, and the header says "initial".
        bytes[0] = 0x7f;
        bytes[1] = 0x03;
        bytes[MXCSR] = 0x80;
        bytes[MXCSR + 1] = 0x1f;
        // MXCSR is taken from the area only when SSE or AVX is not in its initial state: say SSE is not.
        bytes[HEADER] = 3;
        Self(bytes)
    }
}

/// Enables the components and finds out which there are. Once per processor.
pub fn init() {
    let [low, ..] = monitor::cpuid(0xd, 0);
    // SAFETY: leaf 0xd lists what may be enabled, and x87 and SSE are always among them.
    unsafe { monitor::xsetbv(low as u64 & WANTED | 3) };
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set; xgetbv reads XCR0.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags)) };
    let components = (low as u64 | (high as u64) << 32) & WANTED;
    let mut size = HEADER as u64 + 64;
    for component in 2..8 {
        if components & 1 << component != 0 {
            // Natively executed, like the program's own xsave.
            let leaf = core::arch::x86_64::__cpuid_count(0xd, component);
            size = size.max((leaf.ebx + leaf.eax) as u64);
        }
    }
    assert!(size <= MAX_SIZE as u64, "the processor's extended state needs {size} bytes");
    COMPONENTS.store(components, Ordering::Relaxed);
    SIZE.store(size, Ordering::Relaxed);
}

/// Bytes of a save area, and the mask of components (XCR0) it holds.
pub fn layout() -> (usize, u64) {
    (SIZE.load(Ordering::Relaxed) as usize, COMPONENTS.load(Ordering::Relaxed))
}

/// Saves the registers as they are.
pub fn save(area: &mut Area) {
    let mask = COMPONENTS.load(Ordering::Relaxed);
    area.0[HEADER..HEADER + 64].fill(0);
    // SAFETY: the area is aligned and MAX_SIZE long, which init checked to be enough for the components.
    unsafe {
        asm!("xsave64 [{}]", in(reg) area.0.as_mut_ptr(), in("eax") mask as u32, in("edx") (mask >> 32) as u32, options(nostack))
    }
}

/// Loads the registers. The area must come from [`save`], [`Area::initial`] or [`restore_user`]'s check.
pub fn load(area: &Area) {
    let mask = COMPONENTS.load(Ordering::Relaxed);
    // SAFETY: as above, and the header is one that the processor wrote or that was checked.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) area.0.as_ptr(), in("eax") mask as u32, in("edx") (mask >> 32) as u32, options(nostack))
    }
}

/// Saves the program's whole extended state: what the entry code put into `frame`, and the rest from the registers.
/// `area` must be [`layout`] long or longer.
pub fn save_user(frame: &Frame, area: &mut [u8]) {
    let mut whole = Area([0; MAX_SIZE]);
    save(&mut whole);
    for (i, xmm) in frame.xmm.iter().enumerate() {
        whole.0[XMM + 16 * i..XMM + 16 * i + 16].copy_from_slice(&xmm.to_le_bytes());
    }
    whole.0[MXCSR..MXCSR + 4].copy_from_slice(&(frame.mxcsr as u32).to_le_bytes());
    whole.0[HEADER] |= 2;
    let (size, _) = layout();
    area[..size].copy_from_slice(&whole.0[..size]);
}

/// The reverse, from an area that a program may have changed. What the processor would refuse (reserved bits) gives
/// `false` and changes nothing.
pub fn restore_user(frame: &mut Frame, area: &[u8]) -> bool {
    let (size, components) = layout();
    let Some(area) = area.get(..size) else { return false };
    let mut whole = Area([0; MAX_SIZE]);
    whole.0[..size].copy_from_slice(area);
    let word = |at: usize| u64::from_le_bytes(whole.0[at..at + 8].try_into().expect("eight bytes"));
    let mxcsr = u32::from_le_bytes(whole.0[MXCSR..MXCSR + 4].try_into().expect("four bytes"));
    let reserved = (1..8).any(|i| word(HEADER + 8 * i) != 0);
    if word(HEADER) & !components != 0 || reserved || mxcsr & !0xffff != 0 {
        return false;
    }
    let sse = word(HEADER) & 2 != 0;
    for (i, xmm) in frame.xmm.iter_mut().enumerate() {
        let at = XMM + 16 * i;
        *xmm = if sse { u128::from_le_bytes(whole.0[at..at + 16].try_into().expect("16 bytes")) } else { 0 };
    }
    frame.mxcsr = if sse { mxcsr as u64 } else { 0x1f80 };
    load(&whole);
    set_kernel_mxcsr();
    true
}

/// Loads the MXCSR the kernel's code expects; the program's comes back with its frame.
pub fn set_kernel_mxcsr() {
    // SAFETY: the default value, all exceptions masked.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &0x1f80u32, options(nostack, readonly, preserves_flags)) };
}
