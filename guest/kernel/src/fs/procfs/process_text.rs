//! The texts of `/proc` about a process and its threads, in the formats of proc(5). Pure: facts in, text out.

use super::system_text::{processor_list, processor_mask, ticks};
use alloc::string::String;
use core::fmt::Write;

/// Bytes in a page.
const PAGE: u64 = 4096;

/// Real, effective, saved and file system id.
pub type Ids = [u32; 4];

/// Facts of a process and one of its threads.
#[derive(Debug, Clone, Default)]
pub struct ProcessFacts {
    /// The thread's name, at most 15 bytes.
    pub name: String,
    /// Process and thread number.
    pub pid: u32,
    /// As above.
    pub tid: u32,
    /// Whether the thread is running; otherwise it sleeps.
    pub running: bool,
    /// The umask.
    pub umask: u32,
    /// User ids.
    pub uids: Ids,
    /// Group ids.
    pub gids: Ids,
    /// Supplementary groups.
    pub groups: alloc::vec::Vec<u32>,
    /// Places in the descriptor table.
    pub fd_size: usize,
    /// Bytes mapped.
    pub mapped: u64,
    /// Bytes of RAM in use by the process' own pages.
    pub resident: u64,
    /// Bytes locked in memory, private and writable, of stacks, and of code that is mapped anywhere.
    pub locked: u64,
    /// As above.
    pub data: u64,
    /// As above.
    pub stack: u64,
    /// As above.
    pub all_code: u64,
    /// Threads.
    pub threads: usize,
    /// The thread's nice value.
    pub nice: i32,
    /// Signals pending for the thread and for the process, blocked, ignored and caught: bit n-1 for signal n.
    pub pending: u64,
    /// As above.
    pub shared_pending: u64,
    /// As above.
    pub blocked: u64,
    /// As above.
    pub ignored: u64,
    /// As above.
    pub caught: u64,
    /// Effective capabilities.
    pub capabilities: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Processors of the machine.
    pub cpus: usize,
    /// Those the thread may run on, a bit each.
    pub allowed: u64,
    /// The one it runs on or ran on last.
    pub cpu: usize,
    /// Start, nanoseconds after the machine's.
    pub started_ns: u64,
    /// Processor time used, nanoseconds.
    pub cpu_ns: u64,
    /// First and last address of the code and of the data, and where heap and stack start.
    pub code: (u64, u64),
    /// As above.
    pub data_range: (u64, u64),
    /// As above.
    pub heap_start: u64,
    /// As above.
    pub stack_start: u64,
    /// Addresses of the arguments and the environment.
    pub args: (u64, u64),
    /// As above.
    pub env: (u64, u64),
}

fn ids_line(text: &mut String, name: &str, ids: &Ids) {
    let _ = writeln!(text, "{name}:\t{}\t{}\t{}\t{}", ids[0], ids[1], ids[2], ids[3]);
}

/// `/proc/self/status`.
pub fn status(facts: &ProcessFacts) -> String {
    let mut text = String::new();
    let state = if facts.running { "R (running)" } else { "S (sleeping)" };
    // Linux escapes what could pass for another line (proc_task_name).
    let name = facts.name.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = write!(text, "Name:\t{name}\nUmask:\t{:04o}\nState:\t{state}\n", facts.umask);
    let _ = write!(text, "Tgid:\t{0}\nNgid:\t0\nPid:\t{1}\nPPid:\t0\nTracerPid:\t0\n", facts.pid, facts.tid);
    ids_line(&mut text, "Uid", &facts.uids);
    ids_line(&mut text, "Gid", &facts.gids);
    let _ = write!(text, "FDSize:\t{}\nGroups:\t", facts.fd_size);
    for group in &facts.groups {
        let _ = write!(text, "{group} ");
    }
    let _ = write!(text, "\nNStgid:\t{0}\nNSpid:\t{1}\nNSpgid:\t{0}\nNSsid:\t{0}\n", facts.pid, facts.tid);
    memory_lines(&mut text, facts);
    let _ = write!(text, "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{}\nSigQ:\t0/4096\n", facts.threads);
    let masks = [
        ("SigPnd", facts.pending),
        ("ShdPnd", facts.shared_pending),
        ("SigBlk", facts.blocked),
        ("SigIgn", facts.ignored),
        ("SigCgt", facts.caught),
        ("CapInh", 0),
        ("CapPrm", facts.capabilities),
        ("CapEff", facts.capabilities),
        ("CapBnd", facts.capabilities),
        ("CapAmb", 0),
    ];
    for (name, mask) in masks {
        let _ = writeln!(text, "{name}:\t{mask:016x}");
    }
    let _ = write!(text, "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n", u8::from(facts.no_new_privs));
    let (mask, list) = (processor_mask(facts.allowed, facts.cpus), processor_list(facts.allowed));
    let _ = write!(text, "Cpus_allowed:\t{mask}\nCpus_allowed_list:\t{list}\n");
    text.push_str(
        "Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
    );
    text
}

/// Bytes of the program's own code, in whole pages.
fn code_bytes(facts: &ProcessFacts) -> u64 {
    facts.code.1.next_multiple_of(PAGE).saturating_sub(facts.code.0 & !(PAGE - 1))
}

fn memory_lines(text: &mut String, facts: &ProcessFacts) {
    let code = code_bytes(facts).min(facts.all_code);
    let lines = [
        ("VmPeak", facts.mapped),
        ("VmSize", facts.mapped),
        ("VmLck", facts.locked),
        ("VmPin", 0),
        ("VmHWM", facts.resident),
        ("VmRSS", facts.resident),
        ("RssAnon", facts.resident),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", facts.data),
        ("VmStk", facts.stack),
        ("VmExe", code),
        ("VmLib", facts.all_code.saturating_sub(code)),
        ("VmPTE", 0),
        ("VmSwap", 0),
    ];
    for (name, bytes) in lines {
        let _ = writeln!(text, "{name}:\t{:>8} kB", bytes >> 10);
    }
    text.push_str("HugetlbPages:\t       0 kB\n");
}

/// `/proc/self/stat`: 52 fields in one line.
pub fn stat(facts: &ProcessFacts) -> String {
    let state = if facts.running { 'R' } else { 'S' };
    let mut text = alloc::format!("{} ({}) {state} ", facts.tid, facts.name);
    // ppid, process group, session, terminal and its foreground group, flags, four fault counts.
    let _ = write!(text, "0 {0} {0} 0 -1 4194304 0 0 0 0 ", facts.pid);
    // User and system time, the same of children, priority, nice, threads, the timer that is always 0, start.
    let _ = write!(text, "{} 0 0 0 {} {} ", ticks(facts.cpu_ns), 20 + facts.nice, facts.nice);
    let _ = write!(text, "{} 0 {} ", facts.threads, ticks(facts.started_ns));
    // Size, resident pages and their limit, code, stack, two registers that are hidden.
    let _ = write!(text, "{} {} {} ", facts.mapped, facts.resident / PAGE, u64::MAX);
    let _ = write!(text, "{} {} {} 0 0 ", facts.code.0, facts.code.1, facts.stack_start);
    // The low 31 signals, as of old; where it waits; pages swapped; what its parent is told; the processor, and six
    // fields of priorities and of time waited for disks and given to guests.
    let low = |mask: u64| mask & 0x7fff_ffff;
    let _ = write!(text, "{} {} ", low(facts.pending), low(facts.blocked));
    let _ = write!(text, "{} {} 0 0 0 17 {} 0 0 0 0 0 ", low(facts.ignored), low(facts.caught), facts.cpu);
    // Data and heap, arguments and environment, and the exit code.
    let ((args, args_end), (env, env_end)) = (facts.args, facts.env);
    let _ = write!(text, "{} {} {} ", facts.data_range.0, facts.data_range.1, facts.heap_start);
    let _ = writeln!(text, "{args} {args_end} {env} {env_end} 0");
    text
}

/// `/proc/self/statm`, in pages.
pub fn statm(facts: &ProcessFacts) -> String {
    let (size, resident) = (facts.mapped / PAGE, facts.resident / PAGE);
    let (code, data) = (code_bytes(facts) / PAGE, (facts.data + facts.stack) / PAGE);
    alloc::format!("{size} {resident} 0 {code} 0 {data} 0\n")
}

/// One area, for `/proc/self/maps`.
#[derive(Debug, Clone, Copy)]
pub struct AreaFacts<'a> {
    /// First address and the one after the last.
    pub range: (u64, u64),
    /// Whether it may be read, written, executed.
    pub allowed: [bool; 3],
    /// `MAP_SHARED`.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// The file's major and minor device number.
    pub device: (u32, u32),
    /// The file's inode number.
    pub ino: u64,
    /// Path or a name in brackets; may be empty.
    pub name: &'a str,
}

/// Adds a line of `/proc/self/maps`.
pub fn maps_line(text: &mut String, area: &AreaFacts<'_>) {
    /// The column names start in.
    const NAME_COLUMN: usize = 73;
    let start = text.len();
    let flag = |i: usize, letter: char| if area.allowed[i] { letter } else { '-' };
    let kind = if area.shared { 's' } else { 'p' };
    let _ = write!(
        text,
        "{:08x}-{:08x} {}{}{}{kind} {:08x} {:02x}:{:02x} {} ",
        area.range.0,
        area.range.1,
        flag(0, 'r'),
        flag(1, 'w'),
        flag(2, 'x'),
        area.offset,
        area.device.0,
        area.device.1,
        area.ino
    );
    if !area.name.is_empty() {
        while text.len() - start < NAME_COLUMN {
            text.push(' ');
        }
        text.push_str(&area.name.replace('\n', "\\012"));
    }
    text.push('\n');
}

/// A resource limit: soft and hard value; `u64::MAX` is no limit.
pub type Limit = (u64, u64);

/// `/proc/self/limits`. The limits come in the order of their numbers (getrlimit(2)).
pub fn limits(values: &[Limit; 16]) -> String {
    /// Names and units by number; the file lists them in an order of its own.
    const ROWS: [(usize, &str, &str); 16] = [
        (0, "Max cpu time", "seconds"),
        (1, "Max file size", "bytes"),
        (2, "Max data size", "bytes"),
        (3, "Max stack size", "bytes"),
        (4, "Max core file size", "bytes"),
        (5, "Max resident set", "bytes"),
        (6, "Max processes", "processes"),
        (7, "Max open files", "files"),
        (8, "Max locked memory", "bytes"),
        (9, "Max address space", "bytes"),
        (10, "Max file locks", "locks"),
        (11, "Max pending signals", "signals"),
        (12, "Max msgqueue size", "bytes"),
        (13, "Max nice priority", ""),
        (14, "Max realtime priority", ""),
        (15, "Max realtime timeout", "us"),
    ];
    let show = |value: u64| if value == u64::MAX { String::from("unlimited") } else { alloc::format!("{value}") };
    let mut text = alloc::format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (number, name, unit) in ROWS {
        let (soft, hard) = values[number];
        let _ = write!(text, "{name:<25} {:<20} {:<20} ", show(soft), show(hard));
        if !unit.is_empty() {
            let _ = write!(text, "{unit:<10}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn facts() -> ProcessFacts {
        ProcessFacts {
            name: "ls".into(),
            pid: 1,
            tid: 2,
            running: true,
            umask: 0o22,
            uids: [1000; 4],
            gids: [100; 4],
            groups: alloc::vec![100, 27],
            fd_size: 64,
            mapped: 8 << 20,
            resident: 1 << 20,
            threads: 3,
            data: 8 * PAGE,
            stack: PAGE,
            blocked: 0x8000_0000_0000_0001,
            caught: 2,
            cpus: 8,
            allowed: 0b1101,
            cpu: 3,
            started_ns: 2_500_000_000,
            code: (0x1000, 0x3800),
            args: (10, 20),
            env: (20, 30),
            ..ProcessFacts::default()
        }
    }

    #[test]
    fn status_is_found_by_who_parses_it() {
        let text = status(&facts());
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t")).unwrap();
        assert_eq!(value("Name"), "ls");
        assert_eq!(value("Umask"), "0022");
        assert_eq!((value("Tgid"), value("Pid")), ("1", "2"));
        assert_eq!(value("Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(value("Groups"), "100 27 ");
        assert_eq!(value("VmSize"), "    8192 kB");
        assert_eq!(value("SigBlk"), "8000000000000001");
        assert_eq!((value("Cpus_allowed"), value("Cpus_allowed_list")), ("0d", "0,2-3"));
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let text = status(&ProcessFacts { name: "a\nUid:\t0".into(), ..facts() });
        assert!(text.starts_with("Name:\ta\\nUid:\t0\nUmask"));
    }

    #[test]
    fn stat_has_its_52_fields() {
        let text = stat(&facts());
        let fields: Vec<_> = text.trim_end().split(' ').collect();
        assert_eq!(fields.len(), 52);
        assert_eq!(fields[..3], ["2", "(ls)", "R"]);
        // proc(5) counts from 1: threads are (20), start (22), size (23), resident (24), start of code (26).
        assert_eq!((fields[19], fields[21], fields[22], fields[23]), ("3", "250", "8388608", "256"));
        assert_eq!((fields[25], fields[26]), ("4096", "14336"));
        assert_eq!(fields[30], "0", "pending");
        assert_eq!((fields[31], fields[33]), ("1", "2"));
        assert_eq!(fields[38], "3", "processor");
        assert_eq!(fields[47..51], ["10", "20", "20", "30"]);
    }

    #[test]
    fn statm_counts_pages() {
        assert_eq!(statm(&facts()), "2048 256 0 3 0 9 0\n");
    }

    #[test]
    fn maps_lines_are_linux_to_the_column() {
        let mut text = String::new();
        let area = AreaFacts {
            range: (0x5564_02ef_7000, 0x5564_02ef_9000),
            allowed: [true, false, true],
            shared: false,
            offset: 0x2000,
            device: (0xfe, 0),
            ino: 247282,
            name: "/usr/bin/head",
        };
        maps_line(&mut text, &area);
        maps_line(
            &mut text,
            &AreaFacts {
                range: (0x1_0000, 0x1_1000),
                allowed: [false; 3],
                shared: true,
                offset: 0,
                device: (0, 0),
                ino: 0,
                name: "",
            },
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "556402ef7000-556402ef9000 r-xp 00002000 fe:00 247282                     /usr/bin/head");
        assert_eq!(lines[1], "00010000-00011000 ---s 00000000 00:00 0 ");
    }

    #[test]
    fn limits_are_a_table() {
        let mut values = [(u64::MAX, u64::MAX); 16];
        values[7] = (1024, 4096);
        let text = limits(&values);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 17);
        assert_eq!(lines[0], "Limit                     Soft Limit           Hard Limit           Units     ");
        assert_eq!(lines[8], "Max open files            1024                 4096                 files     ");
        assert_eq!(lines[14], "Max nice priority         unlimited            unlimited            ");
    }
}
