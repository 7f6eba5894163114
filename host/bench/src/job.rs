//! What is measured: ways to use files, each with a name that `--only` knows and a row in the report.

use std::fmt;

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// As in the report and for `--only`.
    pub name: String,
    /// The rows it stands among.
    pub group: Group,
    /// What is done.
    pub work: Work,
}

/// Rows that belong together: a section of the table and a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Reads of one large file, by who has read it before.
    OneWarm,
    /// The same by who sees it for the first time.
    OneCold,
    /// Reads of many files.
    ManyWarm,
    /// The same for the first time.
    ManyCold,
    /// One file through a shared mapping.
    Mapped,
    /// Writes inside a file.
    Writes,
    /// Four threads at once.
    Threads,
    /// No data: names and attributes.
    Names,
    /// No files of ours: programs start. A report of its own (`crate::boot`).
    Starts,
}

impl Group {
    /// Those of `diolkos bench micro`, in the order of its report.
    pub const ALL: [Self; 8] = [
        Self::OneWarm,
        Self::OneCold,
        Self::ManyWarm,
        Self::ManyCold,
        Self::Mapped,
        Self::Writes,
        Self::Threads,
        Self::Names,
    ];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::OneWarm => "one file, warm",
            Self::OneCold => "one file, cold",
            Self::ManyWarm => "many files, warm",
            Self::ManyCold => "many files, cold",
            Self::Mapped => "one file, mapped",
            Self::Writes => "writes",
            Self::Threads => "four threads",
            Self::Names => "names and attributes",
            Self::Starts => "starts",
        }
    }

    /// As part of a file's name.
    pub fn slug(self) -> String {
        self.title().replace(", ", "-").replace(' ', "-")
    }
}

/// Who does it, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// fio moves data.
    Fio(Io),
    /// The worker opens one path, asks for its attributes and closes it, over and over.
    OpenFstatClose,
    /// The worker asks once for the attributes of each of many files.
    StatFiles,
    /// A program is started, by this command.
    Start(Vec<String>),
}

/// Data moved by fio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    /// By which calls.
    pub engine: Engine,
    /// In which direction and order.
    pub access: Access,
    /// Bytes at a time.
    pub block: u64,
    /// Which files.
    pub set: Set,
    /// Whether they were used before.
    pub state: State,
    /// How many threads do it at once.
    pub threads: u32,
}

/// By which calls fio moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// pread(2) and pwrite(2).
    Psync,
    /// Copies from and to a shared mapping.
    Mmap,
}

/// Direction and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// From end to end.
    Read,
    /// Blocks at random.
    RandRead,
    /// From end to end, never beyond the end that the file has.
    Write,
    /// Blocks at random, the same.
    RandWrite,
}

impl Access {
    /// Whether it changes files.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::RandWrite)
    }
}

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// One file of the full size.
    One,
    /// A tree of the same size.
    Many,
    /// The file that is written to.
    Written,
    /// Empty files, to be asked for their attributes.
    Names,
}

/// Whether the system used the files before the counting begins. The host's page cache has them in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The job ran before, by the same process.
    Warm,
    /// The system has just started; each byte is used once.
    Cold,
}

impl fmt::Display for Engine {
    /// As fio spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Psync => "psync",
            Self::Mmap => "mmap",
        })
    }
}

impl fmt::Display for Access {
    /// As fio spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::RandRead => "randread",
            Self::Write => "write",
            Self::RandWrite => "randwrite",
        })
    }
}

impl Work {
    /// The files that it needs; nothing if it needs none of ours.
    pub fn set(&self) -> Option<Set> {
        match self {
            Self::Fio(io) => Some(io.set),
            Self::OpenFstatClose => Some(Set::One),
            Self::StatFiles => Some(Set::Names),
            Self::Start(_) => None,
        }
    }

    /// Whether it changes files.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Fio(io) if io.access.writes())
    }

    /// Whether it means something only where files are seen for the first time.
    pub fn is_cold(&self) -> bool {
        match self {
            Self::Fio(io) => io.state == State::Cold,
            Self::OpenFstatClose | Self::Start(_) => false,
            Self::StatFiles => true,
        }
    }

    /// Whether files are mapped, so that what is used of them is not read.
    pub fn maps(&self) -> bool {
        matches!(self, Self::Fio(io) if io.engine == Engine::Mmap)
    }

    /// Whether bytes are moved, so that there is a throughput to tell.
    pub fn moves_data(&self) -> bool {
        matches!(self, Self::Fio(_))
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The blocks of the thesis.
const BLOCKS: [u64; 3] = [4 * KIB, 128 * KIB, MIB];

/// Every job there is, in the order of the report.
pub fn all() -> Vec<Job> {
    use Access::{RandRead, RandWrite, Read, Write};
    use Engine::{Mmap, Psync};
    let mut jobs = Vec::new();
    for (set, state) in
        [(Set::One, State::Warm), (Set::One, State::Cold), (Set::Many, State::Warm), (Set::Many, State::Cold)]
    {
        for access in [Read, RandRead] {
            jobs.extend(BLOCKS.map(|block| io(Io { engine: Psync, access, block, set, state, threads: 1 })));
        }
    }
    let one = |engine, access, block, set, state, threads| io(Io { engine, access, block, set, state, threads });
    for (access, block) in [(Read, 4 * KIB), (RandRead, 4 * KIB), (Read, MIB), (RandRead, MIB)] {
        jobs.push(one(Mmap, access, block, Set::One, State::Warm, 1));
    }
    for (access, block) in [(RandRead, 4 * KIB), (Read, MIB)] {
        jobs.push(one(Mmap, access, block, Set::One, State::Cold, 1));
    }
    for (access, block) in [(Write, 4 * KIB), (RandWrite, 4 * KIB), (Write, MIB), (RandWrite, MIB)] {
        jobs.push(one(Psync, access, block, Set::Written, State::Warm, 1));
    }
    jobs.push(one(Mmap, RandWrite, 4 * KIB, Set::Written, State::Warm, 1));
    for access in [Read, RandRead] {
        jobs.push(one(Psync, access, 4 * KIB, Set::One, State::Warm, 4));
    }
    let names = |name: &str, work| Job { name: name.to_owned(), group: Group::Names, work };
    jobs.push(names("open-fstat-close", Work::OpenFstatClose));
    jobs.push(names("stat-files", Work::StatFiles));
    jobs.sort_by_key(|job| job.group);
    jobs
}

fn io(io: Io) -> Job {
    let block = if io.block < MIB { format!("{}k", io.block / KIB) } else { format!("{}m", io.block / MIB) };
    let many = if io.set == Set::Many { "many-" } else { "" };
    let mmap = if io.engine == Engine::Mmap { "mmap-" } else { "" };
    let threads = if io.threads > 1 { format!("-x{}", io.threads) } else { String::new() };
    let cold = if io.state == State::Cold { "-cold" } else { "" };
    let group = match (io.engine, io.set, io.state) {
        _ if io.threads > 1 => Group::Threads,
        _ if io.access.writes() => Group::Writes,
        (Engine::Mmap, ..) => Group::Mapped,
        (_, Set::Many, State::Warm) => Group::ManyWarm,
        (_, Set::Many, State::Cold) => Group::ManyCold,
        (_, _, State::Warm) => Group::OneWarm,
        (_, _, State::Cold) => Group::OneCold,
    };
    Job { name: format!("{many}{mmap}{}-{block}{threads}{cold}", io.access), group, work: Work::Fio(io) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_a_name_of_its_own_and_stands_among_its_like() {
        let jobs = all();
        let mut names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        for name in ["read-4k", "randread-1m-cold", "many-read-128k", "mmap-randread-4k", "write-1m", "read-4k-x4"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), jobs.len());
        assert!(jobs.is_sorted_by_key(|job| job.group));
        assert!(Group::ALL.iter().all(|group| jobs.iter().any(|job| job.group == *group)));
    }

    #[test]
    fn only_what_writes_uses_the_file_that_is_written() {
        for job in all() {
            assert_eq!(job.work.writes(), job.work.set() == Some(Set::Written), "{}", job.name);
        }
    }
}
