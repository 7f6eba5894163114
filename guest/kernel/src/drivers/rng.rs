//! Random bytes: ChaCha20 seeded from what the host said at the start, or else from its entropy device, and from the
//! processor's generator.

use super::hal::KernelHal;
use crate::arch::trap::spin_until;
use diolkos_common::cmdline::SEED;
use diolkos_virtio::rng::VirtioRng;
use diolkos_virtio::{Device, Error};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use spin::Mutex;

static DEVICE: Mutex<Option<VirtioRng<KernelHal>>> = Mutex::new(None);
static GENERATOR: Mutex<Option<ChaCha20Rng>> = Mutex::new(None);

/// How long the device may take for a seed before we do without: 100 ms.
const PATIENCE_NS: u64 = 100_000_000;

/// Starts the generator from the host's `seed`. No entropy device is needed then.
pub fn seed_with(mut seed: [u8; SEED]) {
    mix_processor(&mut seed);
    *GENERATOR.lock() = Some(ChaCha20Rng::from_seed(seed));
}

pub(super) fn is_seeded() -> bool {
    GENERATOR.lock().is_some()
}

pub(super) fn init(device: Device<KernelHal>) -> Result<(), Error> {
    let mut device = VirtioRng::new(device)?;
    // The first program wants random bytes for its stack; so they are here by then.
    device.request(SEED)?;
    *DEVICE.lock() = Some(device);
    Ok(())
}

/// Fills `bytes` with random bytes.
///
/// # Panics
/// When neither the machine nor the processor has a source of entropy: nothing made up would be safe.
pub fn fill(bytes: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    generator.get_or_insert_with(|| ChaCha20Rng::from_seed(seed())).fill_bytes(bytes);
}

fn seed() -> [u8; SEED] {
    let mut seed = [0; SEED];
    let device = ask_device(&mut seed);
    let processor = mix_processor(&mut seed);
    assert!(device || processor, "no source of randomness: the machine needs a virtio-rng device");
    seed
}

fn ask_device(seed: &mut [u8; SEED]) -> bool {
    let mut device = DEVICE.lock();
    let Some(device) = device.as_mut() else { return false };
    let mut filled = 0;
    while filled < seed.len() {
        if device.request(seed.len() - filled).is_err() {
            return false;
        }
        let mut got = None;
        let answered = spin_until(PATIENCE_NS, || {
            got = device.take(&mut seed[filled..]).unwrap_or(Some(0));
            got.is_some()
        });
        match got {
            Some(n) if answered && n > 0 => filled += n,
            _ => return false,
        }
    }
    true
}

/// Adds the processor's own random numbers where it has them (`RDRAND`).
fn mix_processor(seed: &mut [u8; SEED]) -> bool {
    const RDRAND: u32 = 1 << 30;
    if crate::arch::monitor::cpuid(1, 0)[2] & RDRAND == 0 {
        return false;
    }
    seed.chunks_exact_mut(8).all(|chunk| {
        let (value, ok): (u64, u8);
        // SAFETY: CPUID says the instruction exists.
        unsafe { core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nostack, nomem)) };
        chunk.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, random)| *byte ^= random);
        ok == 1
    })
}
