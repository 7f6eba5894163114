//! `cargo xtask …`: everything about this repository that is not `cargo build`, `run` or `test`.

mod boot_time;
mod cargo;
mod compatibility;
mod exercise;
mod lint;
mod map;
mod samples;
mod tools;
mod window_curve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Diolkos repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check format, lints (of the host's build and of the guest's), documentation, and docs/linux-compatibility.md against
    /// the kernel's calls, as continuous integration does
    Lint,
    /// Measure the time from command to first program instruction and to exit, on each platform and on the host
    BootTime(boot_time::Options),
    /// Measure throughput against the size of the working set, with each way to manage the DAX window and without one
    WindowCurve(window_curve::Options),
    /// What `window-curve` runs in the machine
    #[command(hide = true)]
    WindowWorker(window_curve::Worker),
    /// Run random file operations on the host and in a machine, in several settings, and compare every result
    Exercise(exercise::Options),
    /// Fetch what tests need beside Debian's packages: the virtio-fs project's daemon and a Linux kernel
    Tools,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Lint => lint::run(),
        Task::BootTime(options) => boot_time::run(&options),
        Task::WindowCurve(options) => window_curve::run(&options),
        Task::WindowWorker(worker) => window_curve::work(&worker),
        Task::Exercise(options) => exercise::run(&options),
        Task::Tools => tools::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
