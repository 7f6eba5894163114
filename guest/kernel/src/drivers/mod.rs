//! The machine's devices, put into service: what `diolkos-virtio` drives, tied to memory, interrupts and threads here.

pub mod console;
pub mod fs;
mod hal;
mod pci;
pub mod rng;

use crate::arch::{lapic, trap};
use diolkos_common::cmdline::BootOptions;
use diolkos_virtio::pci::{device_type, scan};
use diolkos_virtio::{Device, Error, MsiMessage};
use hal::KernelHal;

/// Interrupt vectors by device type; all file systems share one. Entropy is polled.
const CONSOLE_VECTOR: u8 = 0xe2;
const FS_VECTOR: u8 = 0xe4;

fn message(vector: u8) -> [MsiMessage; 1] {
    debug_assert!(lapic::vector::DEVICES.contains(&vector));
    let (address, data) = lapic::message(vector);
    [MsiMessage { address, data }]
}

/// Finds the devices and starts them.
///
/// # Errors
/// The first device that is there but cannot be used.
pub fn init(options: &BootOptions) -> Result<(), Error> {
    let config = pci::ConfigSpace::new(options.ecam);
    let functions = scan(&config, &mut pci::space_for_bars());
    for function in &functions {
        let open = |messages: &[MsiMessage]| Device::open(KernelHal, &config, function, messages);
        match function.device_type {
            device_type::CONSOLE => {
                trap::handle(CONSOLE_VECTOR, console::interrupt);
                console::init(open(&message(CONSOLE_VECTOR))?)?;
            }
            device_type::FS => {
                trap::handle(FS_VECTOR, fs::interrupt);
                fs::init(open(&message(FS_VECTOR))?)?;
            }
            device_type::RNG => rng::init(open(&[])?)?,
            other => crate::verbose!("virtio device of type {other} is not used"),
        }
    }
    crate::verbose!("{} virtio devices", functions.len());
    Ok(())
}
