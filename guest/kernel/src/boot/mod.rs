//! From the first Rust instruction to the program, and from the program's end to the machine's.

mod images;
mod initrd;
mod mounts;
mod pvh;
mod root;
mod shares;

use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{lapic, processors, rdtsc, trap, xstate};
use crate::fs::tty;
use crate::mm::{frames, losses, paging, patch};
use crate::{drivers, linux, report, stats, task, time};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt::Display;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_common::cmdline::BootOptions;
use diolkos_common::report::{End, Record, encode_panicked};
use diolkos_virtio::console::Stream;
use spin::Once;

static OPTIONS: Once<BootOptions> = Once::new();

/// What the kernel was told; set before anything asks.
pub fn options() -> &'static BootOptions {
    OPTIONS.get().expect("options are read first thing")
}

/// First Rust code, at ring 3 on the boot stack with interrupts masked; called by the entry code.
#[unsafe(no_mangle)]
extern "C" fn kernel_start(start_info: u64) -> ! {
    let entry = rdtsc();
    stats::KERNEL_ENTRY.set(entry);
    percpu::load_first();
    let machine = pvh::StartInfo::read(start_info).unwrap_or_else(|error| failed(error));
    initrd::found(machine.initrd());
    machine.add_low_memory();
    paging::protect_kernel()
        .unwrap_or_else(|_| failed("too little memory for page tables; give the machine more with --memory"));
    machine.add_high_memory().unwrap_or_else(|errno| failed(format!("memory above 4 GiB: {errno}")));
    stats::MEMORY.set(rdtsc());
    let mut options = BootOptions::parse(&machine.command_line()).unwrap_or_else(|error| failed(error));
    // Taken out, since programs read the options in `/proc/cmdline`.
    if let Some(seed) = options.seed.take() {
        drivers::rng::seed_with(seed);
    }
    report::set_verbose(options.verbose);
    if options.no_patch {
        patch::turn_off();
    }
    if options.report_memory {
        report::use_memory();
    }
    time::init(entry, options.tsc_khz, options.clock).unwrap_or_else(|error| failed(error));
    let options = OPTIONS.call_once(|| options);
    lapic::init();
    xstate::init();
    trap::init_syscall();
    let (free, total) = frames::usage();
    crate::verbose!("{} MiB of memory, {} MiB free", total >> 20, free >> 20);
    start_processors(options.cpus);
    let started = task::spawn(None, None, Box::new(run)).and_then(|_| task::sched::start());
    failed(format!("no memory for the first threads: {}", started.map_or_else(|errno| errno, |never| match never {})))
}

/// Starts the other processors; they idle until there are threads.
fn start_processors(count: usize) {
    if count > MAX_CPUS {
        failed(format!("{count} processors are more than the {MAX_CPUS} this kernel has places for"));
    }
    if count > 1 {
        task::lock::enable();
        processors::start(count).unwrap_or_else(|errno| failed(format!("processor {}: {errno}", processors::count())));
        crate::verbose!("{count} processors");
    }
}

/// The first thread: devices, the root, the program.
fn run() {
    stats::PROCESSOR.set(rdtsc());
    let options = options();
    losses::init(options.losses, shares::lose)
        .unwrap_or_else(|errno| failed(format!("the record of lost window memory: {errno}")));
    drivers::init(options).unwrap_or_else(|error| failed(format!("devices: {error}")));
    stats::DEVICES.set(rdtsc());
    let streams = [Stream::Stdin, Stream::Stdout, Stream::Stderr].map(drivers::console::stream);
    tty::init(streams, &options.terminal);
    diolkos_vfs::set_callers(linux::identity::caller);
    let namespace = root::mount(options).unwrap_or_else(|error| failed(error));
    stats::MOUNTED.set(rdtsc());
    if let Err(error) = linux::exec::start(options, namespace) {
        finish(End::NotStarted { status: error.status, message: error.message });
    }
}

/// Ends the machine before there was a program.
fn failed(reason: impl Display) -> ! {
    finish(End::NotStarted { status: 125, message: format!("{reason}") })
}

/// Ends the machine: what the program wrote is handed to the host, the numbers are reported, and the verdict last.
pub fn finish(end: End) -> ! {
    task::sched::stop_others();
    stats::EXIT.set(rdtsc());
    linux::signal::host::ending(&end);
    drivers::console::flush();
    shares::write_back();
    stats::WRITTEN.set(rdtsc());
    if OPTIONS.get().is_some_and(|options| options.stats) {
        stats::DUPLICATE_INTERRUPTS.set(percpu::duplicates());
        let mut lines = String::new();
        stats::write_to(&mut lines);
        drivers::fs::write_counters(&mut lines);
        shares::write_counters(&mut lines);
        root::write_counters(&mut lines);
        stats::line(&mut lines, "time.now_tsc", rdtsc());
        report::send(&Record::Counters(lines));
    }
    report::end(end)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    // A panic while panicking has nothing to add, and could go on for ever.
    if !PANICKING.swap(true, Ordering::SeqCst) {
        let mut buffer = [0; 2048];
        let len = match info.location() {
            Some(at) => encode_panicked(&mut buffer, format_args!("{} ({}:{})", info.message(), at.file(), at.line())),
            None => encode_panicked(&mut buffer, format_args!("{}", info.message())),
        };
        report::send_bytes(&buffer[..len]);
    }
    report::power_off()
}
