//! The machine's devices, put into service: what `diolkos-virtio` drives, tied to memory, interrupts and threads here.

pub mod blk;
pub mod console;
pub mod fs;
mod hal;
mod pci;
pub mod rng;

use crate::arch::{lapic, processors, rdtsc, trap};
use crate::stats;
use alloc::vec;
use diolkos_common::cmdline::BootOptions;
use diolkos_virtio::pci::{device_type, scan};
use diolkos_virtio::{Device, Error, MsiMessage};
use hal::KernelHal;

/// Finds the devices and starts them.
///
/// # Errors
/// The first device that is there but cannot be used.
pub fn init(options: &BootOptions) -> Result<(), Error> {
    let config = pci::ConfigSpace::new(options.ecam);
    let functions = scan(&config, &mut pci::space_for_bars());
    stats::DEVICES_FOUND.set(rdtsc());
    let message = |(address, data)| MsiMessage { address, data };
    let own = message(lapic::message());
    // Lost window memory is announced by the message of a share's first queue, which is for what needs no answer.
    let everybody = message(lapic::message_to_all());
    let of_share = if processors::count() > 1 && options.losses.is_some() { vec![everybody, own] } else { vec![own] };
    for function in &functions {
        let open = |messages: &[MsiMessage]| Device::open(KernelHal, &config, function, messages);
        match function.device_type {
            device_type::CONSOLE => {
                trap::on_interrupt(console::interrupt);
                console::init(open(&[own])?)?;
            }
            device_type::BLOCK => {
                trap::on_interrupt(blk::interrupt);
                blk::init(open(&[own])?)?;
            }
            device_type::FS => {
                trap::on_interrupt(fs::interrupt);
                fs::init(open(&of_share)?)?;
            }
            device_type::RNG if rng::is_seeded() => {}
            // Entropy is polled.
            device_type::RNG => rng::init(open(&[])?)?,
            other => crate::verbose!("virtio device of type {other} is not used"),
        }
    }
    crate::verbose!("{} virtio devices", functions.len());
    Ok(())
}
