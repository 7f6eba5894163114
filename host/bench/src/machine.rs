//! The computer that is measured on, for the report.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// What figures depend on and no option says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Processors that we may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Name, release and version of the kernel.
    pub kernel: String,
    /// Whether it is a virtual machine itself.
    pub virtual_machine: bool,
}

impl Machine {
    /// This computer. What it does not tell is said to be unknown.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let name = rustix::system::uname();
        let words = [name.sysname(), name.release(), name.version()];
        Self::of(
            &read("/proc/cpuinfo"),
            &read("/proc/meminfo"),
            words.map(|word| word.to_string_lossy().into_owned()).join(" "),
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        )
    }

    fn of(cpuinfo: &str, meminfo: &str, kernel: String, cores: usize) -> Self {
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim())
        };
        let memory =
            meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
        Self {
            processor: field("model name").unwrap_or("unknown").to_owned(),
            cores,
            memory: memory.unwrap_or(0_u64).saturating_mul(1024),
            kernel,
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

/// Whether the processor shows Intel's VMX or AMD's SVM, without which KVM is no place for a Linux guest.
pub fn has_hardware_virtualisation() -> bool {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = cpus.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

/// How many processes wanted a processor in the last minute, on average; nothing if the host does not tell.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The kind of file system that `path` lies on, as /proc/mounts names it.
pub fn file_system(path: &Path) -> String {
    fs::read_to_string("/proc/mounts")
        .ok()
        .and_then(|mounts| file_system_among(&mounts, path))
        .unwrap_or_else(|| "unknown".into())
}

fn file_system_among(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.nth(1)?, words.next()?))
    });
    // The longest one, and of equals the last, which hides the others.
    let best = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len())?;
    Some(best.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_describes_itself() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor 9000\nflags\t\t: fpu hypervisor sse2\n";
        let machine = Machine::of(cpuinfo, "MemTotal:       2048 kB\nMemFree: 1 kB\n", "Linux 6".into(), 2);
        assert_eq!(machine.processor, "A Processor 9000");
        assert_eq!((machine.memory, machine.virtual_machine), (2 << 20, true));
        let silent = Machine::of("", "", "Linux".into(), 1);
        assert_eq!((silent.processor.as_str(), silent.memory, silent.virtual_machine), ("unknown", 0, false));
    }

    #[test]
    fn the_mount_that_shows_counts() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x xfs rw 0 0\n/dev/c /tmp/x btrfs rw 0 0\n";
        for (path, kind) in [("/var/tmp", "ext4"), ("/tmp/y", "tmpfs"), ("/tmp/x/y", "btrfs"), ("/tmpfile", "ext4")] {
            assert_eq!(file_system_among(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
    }
}
