//! `diolkos run DIR PROGRAM ARGS…`: an unmodified Linux program from a host directory, in a virtual machine of its own.
//!
//! The way through this crate: [`args`] says what can be asked, [`plan`] checks it and fills in what was not said,
//! [`platform`] finds a hypervisor that works here ([`kvm`] or [`qemu`]) and runs the plan on it, [`report`] hears what
//! the kernel says meanwhile, and [`verdict`] and [`stats`] tell the user how it ended.
//!
//! `diolkos image` makes and lists images to boot from: [`image`].
//!
//! `diolkos serve DIR` is the file server alone, for other virtual machine monitors: [`serve`]. `diolkos bench` measures it all:
//! [`mod@bench`].

mod args;
mod bench;
mod clock;
mod descriptors;
mod disk;
mod environment;
mod image;
mod kernel;
mod kvm;
mod memory_size;
mod mount;
mod plan;
mod platform;
mod qemu;
mod report;
mod root;
mod run;
mod serve;
mod signals;
mod stats;
mod terminal;
mod verdict;
mod volume;
mod waterfall;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Taken first: all times of --stats count from here.
    let began = clock::Reading::now();
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    match arguments.command {
        args::Command::Run(options) => run::run(&options, began),
        args::Command::Serve(options) => serve::serve(&options),
        args::Command::Image(command) => image::image(&command),
        args::Command::Bench(command) => bench::bench(command),
    }
}
