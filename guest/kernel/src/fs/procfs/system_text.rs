//! The texts of `/proc` about the machine, in the formats of proc(5). Pure: facts in, text out.

use alloc::string::String;
use core::fmt::Write;

/// Facts of the memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// RAM given to the machine.
    pub total: u64,
    /// RAM nobody uses.
    pub free: u64,
    /// Pages of files held in RAM.
    pub cached: u64,
    /// Anonymous pages of the program.
    pub anonymous: u64,
}

/// `/proc/meminfo`. What we do not have (swap, buffers, huge pages) is zero; the kernel's own use is not itemised.
pub fn meminfo(memory: &Memory) -> String {
    let Memory { total, free, cached, anonymous } = *memory;
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        // Cached pages can be had back at once.
        ("MemAvailable", free + cached),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", anonymous + cached),
        ("Inactive", 0),
        ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", cached),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", anonymous),
        ("VmallocTotal", 0),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
    ];
    let mut text = String::new();
    for (name, bytes) in lines {
        let _ = writeln!(text, "{:<16}{:>8} kB", alloc::format!("{name}:"), bytes >> 10);
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        let _ = writeln!(text, "{:<16}{:>8}", alloc::format!("{name}:"), 0);
    }
    let _ = writeln!(text, "{:<16}{:>8} kB", "Hugepagesize:", 2048);
    text
}

/// Clock ticks in a second as user space counts them (`USER_HZ`, `AT_CLKTCK`).
pub const TICKS: u64 = 100;

/// Nanoseconds as ticks.
pub fn ticks(nanos: u64) -> u64 {
    nanos / (1_000_000_000 / TICKS)
}

/// A set of processors, a bit each, as bitmaps are written where there can be `count` of them.
pub fn processor_mask(set: u64, count: usize) -> String {
    let digits = count.clamp(1, 64).div_ceil(4);
    if digits > 8 {
        alloc::format!("{:0width$x},{:08x}", set >> 32, set as u32, width = digits - 8)
    } else {
        alloc::format!("{set:0digits$x}")
    }
}

/// The same as a list of numbers and ranges.
pub fn processor_list(set: u64) -> String {
    let holds = |cpu: u32| cpu < u64::BITS && set >> cpu & 1 != 0;
    let mut text = String::new();
    let mut from = 0;
    while from < u64::BITS {
        let end = (from..=u64::BITS).find(|cpu| !holds(*cpu)).unwrap_or(u64::BITS);
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match end - from {
            0 => Ok(()),
            1 => write!(text, "{comma}{from}"),
            _ => write!(text, "{comma}{from}-{}", end - 1),
        };
        from = end + 1;
    }
    text
}

/// `/proc/uptime`: seconds since the start, and seconds spent idle.
pub fn uptime(up_ns: u64, idle_ns: u64) -> String {
    let hundredths = |ns: u64| (ns / 1_000_000_000, ns / 10_000_000 % 100);
    let ((up, up_part), (idle, idle_part)) = (hundredths(up_ns), hundredths(idle_ns));
    alloc::format!("{up}.{up_part:02} {idle}.{idle_part:02}\n")
}

/// Facts for `/proc/stat`.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// Processors.
    pub cpus: usize,
    /// Time since the start, nanoseconds. All of it counts as the program's: idle time is not kept.
    pub up_ns: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Switches between threads.
    pub switches: u64,
    /// Seconds since the epoch at the start.
    pub boot_time: u64,
    /// Processes and threads made since the start.
    pub made: u64,
}

/// `/proc/stat`.
pub fn stat(activity: &Activity) -> String {
    let user = ticks(activity.up_ns);
    let mut text = String::new();
    let _ = writeln!(text, "cpu  {} 0 0 0 0 0 0 0 0 0", user * activity.cpus as u64);
    for cpu in 0..activity.cpus {
        let _ = writeln!(text, "cpu{cpu} {user} 0 0 0 0 0 0 0 0 0");
    }
    let Activity { interrupts, switches, boot_time, made, .. } = *activity;
    let _ = write!(
        text,
        "intr {interrupts}\nctxt {switches}\nbtime {boot_time}\nprocesses {made}\nprocs_running 1\nprocs_blocked 0\n"
    );
    text
}

/// A mount, for `/proc/self/mountinfo`.
#[derive(Debug, Clone)]
pub struct MountFacts {
    /// Its number.
    pub id: u64,
    /// Major and minor device number.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub target: alloc::vec::Vec<u8>,
    /// File system type, source and options beside `ro` and `rw`.
    pub fs_type: String,
    /// As above.
    pub source: String,
    /// As above.
    pub options: String,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// Escapes what would break a field of the mount tables (proc_mounts(5)).
fn escape(field: &[u8]) -> String {
    let mut text = String::new();
    for piece in field.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                ' ' | '\t' | '\n' | '\\' | '#' => {
                    let _ = write!(text, "\\{:03o}", character as u32);
                }
                _ => text.push(character),
            }
        }
        if !piece.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// `/proc/self/mountinfo`. A mount's parent is the one with the longest target that its own lies in.
pub fn mountinfo(mounts: &[MountFacts]) -> String {
    let lies_in = |inner: &[u8], outer: &[u8]| {
        inner != outer && (outer == b"/" || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(b"/")))
    };
    let mut text = String::new();
    for mount in mounts {
        let parents = mounts.iter().filter(|other| lies_in(&mount.target, &other.target));
        let parent = parents.max_by_key(|other| other.target.len()).map_or(0, |parent| parent.id);
        let access = if mount.read_only { "ro" } else { "rw" };
        let comma = if mount.options.is_empty() { "" } else { "," };
        let source = if mount.source.is_empty() { "none" } else { &mount.source };
        let _ = writeln!(
            text,
            "{} {parent} {}:{} / {} {access}{comma}{} - {} {} {access}",
            mount.id,
            mount.device.0,
            mount.device.1,
            escape(&mount.target),
            escape(mount.options.as_bytes()),
            escape(mount.fs_type.as_bytes()),
            escape(source.as_bytes()),
        );
    }
    text
}

/// Random bytes as a version 4 UUID in text (RFC 4122), with a newline.
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_has_linux_columns() {
        let text =
            meminfo(&Memory { total: 24684096 << 10, free: 22086636 << 10, cached: 4 << 20, anonymous: 1 << 20 });
        let lines: alloc::vec::Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "MemTotal:       24684096 kB");
        assert_eq!(lines[1], "MemFree:        22086636 kB");
        assert_eq!(lines[2], "MemAvailable:   22090732 kB");
        assert!(lines.contains(&"HugePages_Total:       0"));
        assert!(lines.contains(&"Hugepagesize:       2048 kB"));
    }

    #[test]
    fn times_are_told_in_hundredths() {
        assert_eq!(uptime(12_345_678_901, 9_999_999), "12.34 0.00\n");
        assert_eq!(ticks(12_345_678_901), 1234);
    }

    #[test]
    fn sets_of_processors_are_written_as_linux_does() {
        let cases = [
            (1, 1, "1", "0"),
            (0b11, 2, "3", "0-1"),
            (0b10, 5, "02", "1"),
            (0b1_1101, 32, "0000001d", "0,2-4"),
            (1 << 32 | 1, 33, "1,00000001", "0,32"),
            (u64::MAX, 64, "ffffffff,ffffffff", "0-63"),
            (1 << 63 | 1 << 61, 64, "a0000000,00000000", "61,63"),
            (0, 4, "0", ""),
        ];
        for (set, count, mask, list) in cases {
            assert_eq!((&*processor_mask(set, count), &*processor_list(set)), (mask, list));
        }
    }

    #[test]
    fn stat_has_a_line_for_each_processor() {
        let text = stat(&Activity { cpus: 2, up_ns: 1_000_000_000, interrupts: 5, switches: 6, boot_time: 7, made: 8 });
        assert!(text.starts_with("cpu  200 0 0 0 0 0 0 0 0 0\ncpu0 100 0 0 0 0 0 0 0 0 0\ncpu1 100 "));
        assert!(text.contains("\nctxt 6\nbtime 7\nprocesses 8\n"));
    }

    #[test]
    fn mountinfo_knows_parents_and_escapes() {
        let mount = |id, target: &[u8], read_only| MountFacts {
            id,
            device: (0, 20 + id as u32),
            target: target.to_vec(),
            fs_type: "virtiofs".into(),
            source: "a b".into(),
            options: if id == 1 { "dax".into() } else { String::new() },
            read_only,
        };
        let text = mountinfo(&[
            mount(1, b"/", true),
            mount(2, b"/dev", false),
            mount(3, b"/dev/s m", false),
            mount(4, b"/device", false),
        ]);
        let lines: alloc::vec::Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "1 0 0:21 / / ro,dax - virtiofs a\\040b ro");
        assert_eq!(lines[2], "3 2 0:23 / /dev/s\\040m rw - virtiofs a\\040b rw");
        assert!(lines[3].starts_with("4 1 "));
    }

    #[test]
    fn uuids_are_version_4() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000\n");
    }
}
