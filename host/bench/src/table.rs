//! The report for a terminal.

use std::fmt::Write;

use crate::figures::Spread;
use crate::head::{Head, Member};
use crate::job::Group;
use crate::number::{rough, short};
use crate::report::{Report, Row};
use crate::system::Kind;

/// The whole report as text: the circumstances, all figures, and their ratios to the host's.
pub fn table(report: &Report) -> String {
    let mut out = circumstances(report);
    for group in Group::ALL {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.group == group).collect();
        if !rows.is_empty() {
            let _ = write!(out, "\n{}\n{}", group.title(), figures(&rows));
        }
    }
    let ratios = ratios(report);
    if !ratios.is_empty() {
        let _ = write!(out, "\nin parts of the host's own rate (median of the rounds)\n{ratios}");
    }
    out.push_str(&notes(report));
    out
}

fn circumstances(report: &Report) -> String {
    let load = report.head.load.map(|load| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}")));
    let amounts = &report.amounts;
    let mut out = computer(&report.head);
    let _ = writeln!(
        out,
        "files of {} MiB on {}, written {} KiB at a time; {} rounds of {} s each; took {}; load average {} at the beginning, {} at the end",
        amounts.size >> 20,
        report.file_system,
        amounts.write_size >> 10,
        amounts.rounds,
        amounts.time.as_secs_f64(),
        rough(report.head.ended.saturating_sub(report.head.began) as f64),
        load[0],
        load[1],
    );
    if let Some(fio) = &report.fio {
        let _ = writeln!(out, "{fio}");
    }
    out.push_str(&members(&report.head.systems));
    out
}

/// What was asked for, and of which computer.
pub fn computer(head: &Head) -> String {
    let machine = &head.machine;
    format!(
        "diolkos {}: {}\n{}, {} cores, {} GiB{}; {}\n",
        head.version,
        head.command.join(" "),
        machine.processor,
        machine.cores,
        short(machine.memory as f64 / f64::from(1 << 30)),
        if machine.virtual_machine { ", itself a virtual machine" } else { "" },
        machine.kernel,
    )
}

/// A line for each system: what was found of it, or what is missing.
pub fn members(members: &[Member]) -> String {
    let mut out = String::new();
    for member in members {
        let _ = match (&member.version, &member.missing) {
            (Some(version), _) => writeln!(out, "  {:<10} {}: {version}", member.system.name(), member.title),
            (None, Some(missing)) => {
                writeln!(out, "  {:<10} MISSING: {}; {}", member.system.name(), missing.why, missing.remedy)
            }
            (None, None) => Ok(()),
        };
    }
    out
}

/// The rows of a group.
fn figures(rows: &[&Row]) -> String {
    let moves_data = rows.iter().any(|row| row.moves_data);
    let mut lines = vec![
        [
            "job",
            "system",
            if moves_data { "MB/s" } else { "1000/s" },
            "min..max",
            if moves_data { "1000/s" } else { "" },
            "p50 us",
            "p99 us",
            "x host",
            "way of the bytes",
        ]
        .map(str::to_owned),
    ];
    let mut job = "";
    for row in rows {
        let rate = if row.moves_data {
            row.bytes_per_s.map(|rate| scaled(rate, 1e6))
        } else {
            row.operations_per_s.map(|rate| scaled(rate, 1e3))
        };
        let median = |spread: Option<Spread>, unit: f64| {
            spread.map_or_else(|| "-".to_owned(), |spread| short(spread.median / unit))
        };
        lines.push([
            if row.job == job { String::new() } else { row.job.clone() },
            format!("{}{}", row.system.name(), if row.disturbed > 0 { " *" } else { "" }),
            rate.map_or_else(|| "failed".to_owned(), |rate| short(rate.median)),
            rate.filter(|_| row.runs > 1)
                .map_or_else(String::new, |rate| format!("{}..{}", short(rate.min), short(rate.max))),
            if row.moves_data { median(row.operations_per_s, 1e3) } else { String::new() },
            median(row.p50_ns, 1e3),
            median(row.p99_ns, 1e3),
            row.to_host.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            row.way.clone().unwrap_or_default(),
        ]);
        job = &row.job;
    }
    align(&lines, &[false, false, true, true, true, true, true, true, false])
}

fn scaled(spread: Spread, unit: f64) -> Spread {
    Spread { median: spread.median / unit, min: spread.min / unit, max: spread.max / unit }
}

/// A line a job, a column a system; nothing if there is nothing to compare.
fn ratios(report: &Report) -> String {
    let others: Vec<Kind> = report
        .head
        .systems
        .iter()
        .map(|member| member.system)
        .filter(|kind| {
            *kind != Kind::Host && report.rows.iter().any(|row| row.system == *kind && row.to_host.is_some())
        })
        .collect();
    if others.is_empty() {
        return String::new();
    }
    let mut lines = vec![[vec!["job".to_owned()], others.iter().map(|kind| kind.name().to_owned()).collect()].concat()];
    let mut jobs: Vec<&str> = report.rows.iter().map(|row| row.job.as_str()).collect();
    jobs.dedup();
    for job in jobs {
        let cell = |kind: &Kind| {
            let row = report.rows.iter().find(|row| row.job == job && row.system == *kind);
            row.and_then(|row| row.to_host).map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median))
        };
        lines.push([vec![job.to_owned()], others.iter().map(cell).collect()].concat());
    }
    let right: Vec<bool> = (0..=others.len()).map(|column| column > 0).collect();
    align(&lines, &right)
}

fn notes(report: &Report) -> String {
    let mut out = String::new();
    if report.is_disturbed() {
        out.push_str(
            "\n* measured while the load average was above the number of cores: others were using the processors\n",
        );
    }
    let failures: Vec<_> = report.runs.iter().filter_map(|run| Some((run, run.error.as_ref()?))).collect();
    if !failures.is_empty() {
        out.push_str("\nfailed:\n");
    }
    for (run, error) in failures {
        let _ = writeln!(out, "  {} on {}, round {}: {error}", run.job, run.system.name(), run.round);
    }
    if report.head.interrupted {
        out.push_str("\nstopped before the end: what is above is what there was until then\n");
    }
    out
}

/// Columns two blanks apart, each as wide as its widest cell; `right` says which are aligned at the right.
pub fn align<R: AsRef<[String]>>(lines: &[R], right: &[bool]) -> String {
    let width = |column: usize| lines.iter().map(|line| line.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, width), right) in line.as_ref().iter().zip(&widths).zip(right) {
            let width = *width;
            let _ = if *right { write!(text, "  {cell:>width$}") } else { write!(text, "  {cell:<width$}") };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}
