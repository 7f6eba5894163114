//! What machines cost the host in memory: counted by the host itself, in /proc/PID/smaps.

use std::fs;

use crate::data;
use crate::dialogue::Dialogue;
use crate::platform::Platform;

const MIB: u64 = 1 << 20;

/// The sum of the lines `field` in a file of /proc, in bytes; of mappings only those whose first line has `name` at its end.
fn sum(text: &str, name: &str, field: &str) -> u64 {
    let mut counts = false;
    let mut bytes = 0;
    for line in text.lines() {
        match line.split_once(':') {
            Some((key, value)) if !key.contains(' ') => {
                if counts && key == field {
                    bytes += value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
                }
            }
            // The first line of a mapping: its addresses, and among the rest a device number with a colon.
            _ => counts = line.ends_with(name),
        }
    }
    bytes
}

#[test]
fn a_machine_that_says_hello_costs_little() {
    let Some(on) = Platform::Kvm.here() else { return };
    let mut machine = Dialogue::start(on.run(&["/bin/cat"]));
    assert_eq!(machine.ask("hello"), "hello");
    let whole = fs::read_to_string(format!("/proc/{}/smaps_rollup", machine.child.id())).unwrap();
    let anonymous = sum(&whole, "[rollup]", "Anonymous");
    machine.end();
    // The kernel, the program and our own: nobody else has these pages.
    assert!((MIB..=12 * MIB).contains(&anonymous), "{whole}");
}

#[test]
fn machines_that_use_the_same_file_hold_it_once() {
    let Some(on) = Platform::Kvm.here() else { return };
    const MACHINES: u64 = 10;
    const SIZE: u64 = 1024 * MIB;
    let folder = data::folder();
    let path = data::random_file(folder.path(), "big", SIZE as usize);
    let program = "import mmap, sys\nfile = open('big', 'rb')\nbytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n\
                   print(sum(bytes[at] for at in range(0, len(bytes), 4096)), flush=True)\nsys.stdin.read()";
    let start = |_| Dialogue::start(on.run(&["/usr/bin/python3", "-c", program]).data(folder.path()));
    let mut machines: Vec<_> = (0..MACHINES).map(start).collect();
    let sums: Vec<_> = machines.iter_mut().map(Dialogue::line).collect();
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    let (mut shares, mut sizes) = (0, Vec::new());
    for machine in &machines {
        let text = fs::read_to_string(format!("/proc/{}/smaps", machine.child.id())).unwrap();
        let name = path.to_str().unwrap();
        sizes.push(sum(&text, name, "Rss"));
        // What several processes map counts for each in equal parts.
        shares += sum(&text, name, "Pss");
    }
    drop(machines.into_iter().map(Dialogue::end).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| *size == SIZE), "{sizes:?}");
    assert!((SIZE * 99 / 100..=SIZE).contains(&shares), "{shares}");
}

#[test]
fn fields_of_mappings_are_summed_by_name() {
    let text = "1000-2000 r--p 00000000 fe:00 1   /a b\nRss: 4 kB\nPss: 2 kB\n2000-3000 rw-p 0 00:00 0\nRss: 8 kB\n\
                3000-4000 r--p 0 fe:00 1   /a b\nRss: 12 kB\n";
    assert_eq!((sum(text, "/a b", "Rss"), sum(text, "/a b", "Pss")), (16 << 10, 2 << 10));
}
