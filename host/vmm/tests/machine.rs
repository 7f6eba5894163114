//! Machines on the host's KVM, with guests a page long. Skipped, aloud, where there is no KVM; with `CI` set that is
//! a failure.

mod guest;

use diolkos_common::cmdline::{BootOptions, CacheMode};
use diolkos_common::report::{End, Record};
use diolkos_vmm::{
    BootError, Error, Finished, Hypervisor, LayoutError, Machine, MachineConfig, Outcome, ShareConfig, ShareError,
    Stdio,
};
use guest::assemble;
use std::borrow::Cow;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Whether machines can be run here.
fn kvm() -> bool {
    match Hypervisor::open() {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no KVM: {error}");
            println!("SKIPPED: no KVM here: {error}");
            false
        }
    }
}

fn null() -> Stdio {
    let open = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
    Stdio { stdin: open(), stdout: open(), stderr: open(), signals: open() }
}

fn config(source: &str) -> MachineConfig {
    MachineConfig {
        cpus: 1,
        memory: 64 * MIB,
        kernel: Cow::Owned(assemble(source)),
        boot: BootOptions { args: vec![b"/bin/true".to_vec()], ..BootOptions::default() },
        shares: Vec::new(),
        disks: Vec::new(),
        initrd: None,
        stdio: null(),
        on_record: Box::new(|record| panic!("unexpected {record:?}")),
    }
}

fn share(directory: &std::path::Path, window: u64) -> ShareConfig {
    ShareConfig { tag: "root".into(), source: directory.into(), writable: false, window, cache: CacheMode::Auto }
}

fn run(config: MachineConfig) -> Finished {
    Machine::new(Hypervisor::open().unwrap(), config).unwrap().run().unwrap()
}

fn exits(finished: &Finished, name: &str) -> u64 {
    finished.stats.exits.get(name).copied().unwrap_or(0)
}

#[test]
fn a_guest_turns_the_machine_off() {
    if !kvm() {
        return;
    }
    let finished = run(config("power_off"));
    assert_eq!(finished.outcome, Outcome::PoweredOff);
    assert_eq!(exits(&finished, "power_off"), 1);
    let points: Vec<_> = finished.stats.moments.iter().map(|(point, _)| point).collect();
    assert!(points.contains(&"processor started") && points.last() == Some(&"machine gone"), "{points:?}");
}

#[test]
fn what_the_kernel_reports_arrives_and_its_end_is_the_outcome() {
    if !kvm() {
        return;
    }
    let records = Arc::new(Mutex::new(Vec::new()));
    let sink = records.clone();
    let on_record = Box::new(move |record| sink.lock().unwrap().push(record));
    let finished = run(MachineConfig {
        on_record,
        ..config(
            "outs hello, 10
             outs exited, 6
             power_off
             .data
             hello: .byte 1; .long 5; .ascii \"hello\"
             exited: .byte 16; .long 1; .byte 42",
        )
    });
    assert_eq!(finished.outcome, Outcome::Ended(End::Exited(42)));
    assert_eq!(*records.lock().unwrap(), [Record::Warning("hello".into())]);
}

#[test]
fn nonsense_in_the_report_is_an_outcome() {
    if !kvm() {
        return;
    }
    let finished = run(config("outs junk, 5\n power_off\n .data\n junk: .byte 99, 0, 0, 0, 0"));
    assert!(matches!(finished.outcome, Outcome::BadReport(_)), "{:?}", finished.outcome);
}

#[test]
fn a_triple_fault_is_an_outcome() {
    if !kvm() {
        return;
    }
    let finished = run(config("lidt nothing\n ud2\n .data\n nothing: .quad 0, 0"));
    assert_eq!(finished.outcome, Outcome::TripleFault);
}

#[test]
fn the_kernel_s_word_counts_more_than_how_it_died() {
    if !kvm() {
        return;
    }
    let source = "outs exited, 6\n lidt nothing\n ud2\n .data\n nothing: .quad 0, 0\n
                  exited: .byte 16; .long 1; .byte 3";
    assert_eq!(run(config(source)).outcome, Outcome::Ended(End::Exited(3)));
}

#[test]
fn a_machine_stops_when_told() {
    if !kvm() {
        return;
    }
    for source in ["1: jmp 1b", "cli\n 1: hlt\n jmp 1b"] {
        let machine = Machine::new(Hypervisor::open().unwrap(), config(source)).unwrap();
        let stopper = machine.stopper();
        let thread = std::thread::spawn(move || machine.run().unwrap());
        std::thread::sleep(Duration::from_millis(30));
        let start = Instant::now();
        stopper.stop();
        assert_eq!(thread.join().unwrap().outcome, Outcome::Stopped);
        assert!(start.elapsed() < Duration::from_millis(500), "{source}: {:?}", start.elapsed());
    }
}

#[test]
fn a_machine_told_to_stop_before_it_runs_does_not_hang() {
    if !kvm() {
        return;
    }
    let machine = Machine::new(Hypervisor::open().unwrap(), config("1: jmp 1b")).unwrap();
    machine.stopper().stop();
    assert_eq!(machine.run().unwrap().outcome, Outcome::Stopped);
}

#[test]
fn configuration_space_is_read_without_leaving_the_guest() {
    if !kvm() {
        return;
    }
    // The identities of the host bridge and of the first device, a thousand times; then of a place that is empty.
    let finished = run(config(
        "mov $1000, %ecx
         1: expect ECAM, 0x00081b36
         expect ECAM+0x8000, 0x10431af4
         dec %ecx; jnz 1b
         expect ECAM+31*0x8000, -1
         expect ECAM+0x1000, -1
         succeed",
    ));
    assert_eq!(finished.outcome, Outcome::Ended(End::Exited(0)));
    assert_eq!(exits(&finished, "register_read"), 0, "{:?}", finished.stats.exits);
}

#[test]
fn bars_are_sized_through_memory_and_ports_alike() {
    if !kvm() {
        return;
    }
    // BAR 0 of the first device, through ECAM, read back through the ports, and back again.
    let finished = run(config(
        "movl $-1, ECAM + 0x8010
         expect ECAM+0x8010, 0xfffff000
         mov $0x80000810, %eax; mov $0xcf8, %dx; out %eax, %dx
         mov $0xcfc, %dx; in %dx, %eax
         cmp $0xfffff000, %eax; jne fail
         mov $REGISTERS + 0x1000, %eax; out %eax, %dx
         expect ECAM+0x8010, REGISTERS+0x1000
         succeed",
    ));
    assert_eq!(finished.outcome, Outcome::Ended(End::Exited(0)));
    assert_eq!((exits(&finished, "config_write"), exits(&finished, "register_read")), (1, 0));
}

#[test]
fn a_device_is_negotiated_and_reset_through_its_registers() {
    if !kvm() {
        return;
    }
    // The console, device 1: its status, its features, and its configuration (four ports).
    let finished = run(config(
        ".set R, REGISTERS + 0x1000
         movb $3, R + 20
         expect_byte R+20, 3
         movl $1, R
         expect R+4, 1
         movl $1, R + 8
         movl $1, R + 12
         movb $11, R + 20
         expect_byte R+20, 11
         expect R+0x104, 5
         movw $9, R + 22
         expect R+24, 0xffff0080
         movb $0, R + 20
         expect_byte R+20, 0
         expect R+12, 0
         succeed",
    ));
    assert_eq!(finished.outcome, Outcome::Ended(End::Exited(0)));
    assert_eq!(exits(&finished, "register_read"), 0);
}

#[test]
fn register_writes_that_wait_are_seen_in_their_order() {
    if !kvm() {
        return;
    }
    // The console again: an address of its queue 0 is written more often than the ring of such writes has places; then
    // queue 1 is chosen, which is an exit, and gets an address of its own.
    let finished = run(config(
        ".set R, REGISTERS + 0x1000
         movb $3, R + 20
         mov $400, %ecx
         1: mov %ecx, R + 32
         dec %ecx; jnz 1b
         movw $1, R + 22
         expect R+32, 0
         movl $0x7000, R + 32
         movw $0, R + 22
         expect R+32, 1
         movw $1, R + 22
         expect R+32, 0x7000
         succeed",
    ));
    assert_eq!(finished.outcome, Outcome::Ended(End::Exited(0)));
    let exits = exits(&finished, "register_write");
    assert_eq!(exits + finished.stats.posted, 405);
    // KVM has posted writes on every host that has modern virtio guests; a full ring is an exit for each write it lacks room for.
    assert!(exits < 10, "{:?}", finished.stats.exits);
}

#[test]
fn the_kernel_finds_its_command_line_of_any_length() {
    if !kvm() {
        return;
    }
    // The command line starts with the first share, and ends with the last argument and a zero.
    for len in [1, 2_000_000] {
        let mut config = config(
            "mov 24(%ebx), %edi
             cmpl $0x3d736469, (%edi); jne fail
             xor %eax, %eax; mov $-1, %ecx; repne scasb
             cmpb $'!', -2(%edi); jne fail
             succeed",
        );
        config.boot.args = vec![vec![b'x'; len], b"!".to_vec()];
        assert_eq!(run(config).outcome, Outcome::Ended(End::Exited(0)), "{len}");
    }
}

#[test]
fn memory_that_is_not_there_is_an_outcome_that_says_where() {
    if !kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // In ring 0 and in ring 3: some hosts emulate the one and run the other.
    for ring in ["", "ring3"] {
        let access = "mov $WINDOW + 0x5008, %rax\n mov (%rax), %rbx";
        let mut config = config(&format!("long_mode\n {ring}\n {access}\n power_off"));
        config.shares = vec![share(directory.path(), 4 * MIB)];
        let finished = run(config);
        let Outcome::MemoryFault(fault) = &finished.outcome else { panic!("{ring}: {:?}", finished.outcome) };
        if let Some((tag, offset)) = &fault.window {
            assert_eq!((tag.as_str(), offset & !0xfff), ("root", 0x5000));
        }
        println!("{ring}: {fault:x?}");
        assert!(fault.position.is_some());
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    if !kvm() {
        return;
    }
    let refused = |change: &dyn Fn(&mut MachineConfig)| {
        let mut config = config("power_off");
        change(&mut config);
        Machine::new(Hypervisor::open().unwrap(), config).err().expect("it must be refused")
    };
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(matches!(refused(&|c| c.memory = MIB), Error::Layout(LayoutError::MemoryUnaligned(_))));
    assert!(matches!(refused(&|c| c.memory = 2 * MIB), Error::Layout(LayoutError::MemoryTooSmall(_))));
    assert!(matches!(refused(&|c| c.kernel = Cow::Borrowed(b"#!/bin/sh")), Error::Boot(BootError::Elf(_))));
    assert!(matches!(refused(&|c| c.shares = vec![share(&missing, 0)]), Error::Share(ShareError::Missing(_))));
    assert!(matches!(
        refused(&|c| c.shares = vec![share(directory.path(), 1 << 62)]),
        Error::Layout(LayoutError::TooBig { .. })
    ));
    let twice = || vec![share(directory.path(), 0), share(directory.path(), 0)];
    assert!(matches!(refused(&|c| c.shares = twice()), Error::Share(ShareError::TagTwice(_))));
    let error = refused(&|c| c.boot.args = vec![vec![b'x'; 64 << 20]]);
    assert!(matches!(error, Error::Boot(BootError::CommandLine(_))), "{error}");
}
