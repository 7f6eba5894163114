//! Everything that a run of `diolkos bench boot` found: its JSON, and its table.
//!
//! The layout is versioned ([`SCHEMA`]) and described in docs/boot-time.md: whoever changes a field changes both.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::Program;
use crate::charts;
use crate::counters::Counters;
use crate::figures::Spread;
use crate::head::{Findings, Head};
use crate::number::{rough, short};
use crate::system::{Kind, Missing};
use crate::table::{align, computer, members};

/// Name and version of the layout of the JSON.
pub const SCHEMA: &str = "diolkos-bench-boot/1";

/// Everything that a run found.
#[derive(Debug, Clone, Serialize)]
pub struct BootReport {
    /// Who measured, where and when.
    #[serde(flatten)]
    pub head: Head,
    /// How often everything was started.
    pub rounds: u32,
    /// What was started, and what is missing.
    pub programs: Vec<Choice>,
    /// Every start, in the order in which they were made.
    pub runs: Vec<Start>,
    /// What the starts of each program on each system come to together.
    pub rows: Vec<BootRow>,
}

/// A program that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Choice {
    /// Which.
    pub program: Program,
    /// What it is.
    pub title: &'static str,
    /// Why it is missing.
    pub missing: Option<Missing>,
}

/// One start.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    /// From 1.
    pub round: u32,
    /// What was started.
    pub program: Program,
    /// Where.
    pub system: Kind,
    /// The load average of the last minute when it began.
    pub load: Option<f64>,
    /// The load was above the number of processors.
    pub disturbed: bool,
    /// The command line.
    pub command: Vec<String>,
    /// From the command to its end, in milliseconds; nothing if it failed.
    pub ms: Option<f64>,
    /// From the command to the program's first instruction. Diolkos only.
    pub first_instruction_ms: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
    /// All that `--stats` said. Diolkos only.
    pub stats: Option<Counters>,
}

/// All starts of a program on a system.
#[derive(Debug, Clone, Serialize)]
pub struct BootRow {
    /// What was started.
    pub program: Program,
    /// Where.
    pub system: Kind,
    /// Starts that went well.
    pub runs: usize,
    /// Starts that failed.
    pub failed: usize,
    /// Starts that were disturbed.
    pub disturbed: usize,
    /// From the command to its end, in milliseconds.
    pub ms: Option<Spread>,
    /// From the command to the program's first instruction. Diolkos only.
    pub first_instruction_ms: Option<Spread>,
    /// In parts of what the host took in the same round.
    pub to_host: Option<Spread>,
}

impl Findings for BootReport {
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
        charts::draw_boot(self, folder)
    }
}

/// What `runs` come to: a row for each program and system that was tried, in the order of the report.
pub fn rows(runs: &[Start]) -> Vec<BootRow> {
    let mut rows = Vec::new();
    for (program, system) in Program::ALL.iter().flat_map(|program| Kind::ALL.map(|kind| (*program, kind))) {
        let tried: Vec<_> = runs.iter().filter(|run| (run.program, run.system) == (program, system)).collect();
        if tried.is_empty() {
            continue;
        }
        let of_host = |round: u32| {
            let host = |run: &&Start| (run.program, run.system, run.round) == (program, Kind::Host, round);
            runs.iter().find(host)?.ms
        };
        rows.push(BootRow {
            program,
            system,
            runs: tried.iter().filter(|run| run.ms.is_some()).count(),
            failed: tried.iter().filter(|run| run.ms.is_none()).count(),
            disturbed: tried.iter().filter(|run| run.disturbed).count(),
            ms: Spread::of(tried.iter().filter_map(|run| run.ms)),
            first_instruction_ms: Spread::of(tried.iter().filter_map(|run| run.first_instruction_ms)),
            to_host: Spread::of(tried.iter().filter_map(|run| Some(run.ms? / of_host(run.round)?))),
        });
    }
    rows
}

/// The whole report as text for a terminal.
fn table(report: &BootReport) -> String {
    let load = report.head.load.map(|load| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}")));
    let mut out = computer(&report.head);
    let _ = writeln!(
        out,
        "{} rounds; took {}; load average {} at the beginning, {} at the end",
        report.rounds,
        rough(report.head.ended.saturating_sub(report.head.began) as f64),
        load[0],
        load[1]
    );
    out.push_str(&members(&report.head.systems));
    for choice in &report.programs {
        if let Some(missing) = &choice.missing {
            let _ = writeln!(out, "  {:<10} MISSING: {}; {}", choice.program.name(), missing.why, missing.remedy);
        }
    }
    let header = ["program", "system", "ms", "min..max", "first instruction", "x host"];
    for program in Program::ALL {
        let rows: Vec<_> = report.rows.iter().filter(|row| row.program == program).collect();
        if rows.is_empty() {
            continue;
        }
        let lines: Vec<_> = [header.map(str::to_owned)].into_iter().chain(rows.into_iter().map(cells)).collect();
        let figures = align(&lines, &[false, false, true, true, true, true]);
        let _ = write!(out, "\n{}\n{figures}", program.title());
    }
    out.push_str(&notes(report));
    out
}

fn cells(row: &BootRow) -> [String; 6] {
    let several = row.ms.filter(|_| row.runs > 1);
    [
        row.program.name().to_owned(),
        format!("{}{}", row.system.name(), if row.disturbed > 0 { " *" } else { "" }),
        row.ms.map_or_else(|| "failed".to_owned(), |ms| short(ms.median)),
        several.map_or_else(String::new, |ms| format!("{}..{}", short(ms.min), short(ms.max))),
        row.first_instruction_ms.map_or_else(String::new, |ms| short(ms.median)),
        row.to_host.map_or_else(|| "-".to_owned(), |ratio| short(ratio.median)),
    ]
}

fn notes(report: &BootReport) -> String {
    let mut out = String::new();
    if report.runs.iter().any(|run| run.disturbed) {
        out.push_str("\n* measured while the load average was above the number of cores\n");
    }
    for run in &report.runs {
        if let Some(error) = &run.error {
            let _ =
                writeln!(out, "failed: {} on {}, round {}: {error}", run.program.name(), run.system.name(), run.round);
        }
    }
    if report.head.interrupted {
        out.push_str("stopped before the end: what is above is what there was until then\n");
    }
    out
}
