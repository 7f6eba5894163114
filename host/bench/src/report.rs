//! Everything that a run found, and its JSON.
//!
//! The layout is versioned ([`SCHEMA`]) and described in docs/benchmarks.md: whoever changes a field changes both.

use std::path::Path;

use serde::Serialize;

use crate::charts;
use crate::counters::Counters;
use crate::figures::{Figures, Spread};
use crate::head::{Findings, Head};
use crate::job::{Group, Job};
use crate::settings::Amounts;
use crate::system::Kind;
use crate::table::table;

/// Name and version of the layout of the JSON.
pub const SCHEMA: &str = "diolkos-bench-micro/1";

/// Everything that a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Who measured, where and when.
    #[serde(flatten)]
    pub head: Head,
    /// The kind of file system that the files lay on.
    pub file_system: String,
    /// The version of fio; nothing if no job needed it.
    pub fio: Option<String>,
    /// How much of everything.
    pub amounts: Amounts,
    /// Every run of a job by a system, in the order in which they were done.
    pub runs: Vec<Run>,
    /// What the runs of each job by each system come to together.
    pub rows: Vec<Row>,
}

/// One run of a job by a system.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// From 1.
    pub round: u32,
    /// The job's name.
    pub job: String,
    /// Who did it.
    pub system: Kind,
    /// The load average of the last minute when it began.
    pub load: Option<f64>,
    /// The load was above the number of processors.
    pub disturbed: bool,
    /// The command line.
    pub command: Vec<String>,
    /// What it came to; nothing if it failed.
    pub figures: Option<Figures>,
    /// Why it failed.
    pub error: Option<String>,
    /// How the bytes came, in words. Diolkos only.
    pub way: Option<String>,
    /// All that `--stats` said. Diolkos only.
    pub stats: Option<Counters>,
}

/// All runs of a job by a system.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The job's name.
    pub job: String,
    /// Where it stands.
    #[serde(serialize_with = "title")]
    pub group: Group,
    /// Who did it.
    pub system: Kind,
    /// Runs that came to something.
    pub runs: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Runs that were disturbed.
    pub disturbed: usize,
    /// Whether bytes are moved.
    #[serde(skip)]
    pub moves_data: bool,
    /// Operations a second.
    pub operations_per_s: Option<Spread>,
    /// Bytes a second; nothing where none are moved.
    pub bytes_per_s: Option<Spread>,
    /// Nanoseconds that half of the operations took at most.
    pub p50_ns: Option<Spread>,
    /// Nanoseconds that 99 of 100 took at most.
    pub p99_ns: Option<Spread>,
    /// Operations a second in parts of what the host did in the same round.
    pub to_host: Option<Spread>,
    /// How the bytes came, in the last run.
    pub way: Option<String>,
}

fn title<S: serde::Serializer>(group: &Group, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(group.title())
}

impl Findings for Report {
    fn head(&self) -> &Head {
        &self.head
    }

    fn has_failures(&self) -> bool {
        self.runs.iter().any(|run| run.error.is_some())
    }

    fn table(&self) -> String {
        table(self)
    }

    fn draw(&self, folder: &Path) -> Result<(), String> {
        charts::draw(self, folder)
    }
}

impl Report {
    /// Whether something was measured while others kept the processors busy.
    pub fn is_disturbed(&self) -> bool {
        self.runs.iter().any(|run| run.disturbed)
    }
}

/// What `runs` come to: a row for each job and system that was tried.
pub fn rows(jobs: &[Job], systems: &[Kind], runs: &[Run]) -> Vec<Row> {
    let mut rows = Vec::new();
    for job in jobs {
        for system in systems {
            let of = |run: &&Run| run.job == job.name && run.system == *system;
            let tried: Vec<&Run> = runs.iter().filter(of).collect();
            if tried.is_empty() {
                continue;
            }
            let counted = || tried.iter().filter_map(|run| Some((run.round, run.figures.as_ref()?)));
            let of_host = |round: u32| {
                let host = |run: &&Run| run.job == job.name && run.system == Kind::Host && run.round == round;
                Some(runs.iter().find(host)?.figures.as_ref()?.operations_per_s)
            };
            let to_host = counted().filter_map(|(round, figures)| Some(figures.operations_per_s / of_host(round)?));
            let moves_data = job.work.moves_data();
            rows.push(Row {
                job: job.name.clone(),
                group: job.group,
                system: *system,
                runs: counted().count(),
                failed: tried.len() - counted().count(),
                disturbed: tried.iter().filter(|run| run.disturbed).count(),
                moves_data,
                operations_per_s: Spread::of(counted().map(|(_, figures)| figures.operations_per_s)),
                bytes_per_s: Spread::of(counted().filter(|_| moves_data).map(|(_, figures)| figures.bytes_per_s)),
                p50_ns: Spread::of(counted().map(|(_, figures)| figures.latency.p50_ns as f64)),
                p99_ns: Spread::of(counted().map(|(_, figures)| figures.latency.p99_ns as f64)),
                to_host: Spread::of(to_host),
                way: tried.iter().rev().find_map(|run| run.way.clone()),
            });
        }
    }
    rows
}
