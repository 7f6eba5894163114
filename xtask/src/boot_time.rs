//! `cargo xtask boot-time`: what it costs to start, as a table for the documentation.
//!
//! Each round runs the program once on the host and once on every platform, so that whatever disturbs the machine
//! meanwhile disturbs all of them alike. The host's row is the time to start and wait for a process at all; the others'
//! moments inside the run come from `--stats`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::cargo::{cargo, target};
use crate::samples::Samples;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many rounds to measure; one more goes before, to warm the caches
    #[arg(long, default_value_t = 20)]
    rounds: u32,

    /// Platforms to measure
    #[arg(long, value_delimiter = ',', default_value = "kvm,qemu")]
    platforms: Vec<String>,

    /// The program, with its path in the host's root directory
    #[arg(long, default_value = "/bin/true")]
    program: String,
}

/// The lines of `--stats` that are measured, and what the table calls them.
const MOMENTS: [(&str, &str); 3] = [
    ("kernel entered", "command to kernel"),
    ("program's first instruction", "command to first program instruction"),
    ("program ended", "command to program's exit"),
];

/// A platform and its times: those of [`MOMENTS`], then that of the whole command.
struct Row {
    platform: String,
    times: [Samples; MOMENTS.len() + 1],
}

/// Builds, measures and prints the table on stdout.
///
/// # Errors
/// The build or a run failed, or a run did not tell its times.
pub fn run(options: &Options) -> Result<(), String> {
    if options.rounds == 0 {
        return Err("--rounds 0: there is nothing to measure".to_owned());
    }
    cargo(&["build", "--release", "--package", "diolkos"], &[])?;
    let diolkos = target().join("release/diolkos");
    let mut host = Samples::default();
    let empty = |platform: &String| Row { platform: platform.clone(), times: Default::default() };
    let mut rows: Vec<Row> = options.platforms.iter().map(empty).collect();
    for round in 0..=options.rounds {
        let on_host = measure_host(&options.program)?;
        if round > 0 {
            host.add(on_host);
        }
        for row in &mut rows {
            let times = measure(&diolkos, &row.platform, &options.program)?;
            if round > 0 {
                row.times.iter_mut().zip(times).for_each(|(samples, time)| samples.add(time));
            }
        }
    }
    print(options, &host, &rows);
    Ok(())
}

fn print(options: &Options, host: &Samples, rows: &[Row]) {
    println!("`{}`, {} rounds; milliseconds.\n", options.program, options.rounds);
    println!("| platform | time | median | min | max |\n|---|---|---:|---:|---:|");
    println!("| host | command to exit | {host} |");
    for row in rows {
        let labels = MOMENTS.iter().map(|(_, label)| *label).chain(["command to exit"]);
        for (label, samples) in labels.zip(&row.times) {
            println!("| {} | {label} | {samples} |", row.platform);
        }
    }
}

fn measure_host(program: &str) -> Result<f64, String> {
    let start = Instant::now();
    let status = Command::new(program).stdin(Stdio::null()).status().map_err(|error| format!("{program}: {error}"))?;
    if !status.success() {
        return Err(format!("{program} on the host: {status}"));
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn measure(diolkos: &PathBuf, platform: &str, program: &str) -> Result<[f64; MOMENTS.len() + 1], String> {
    let start = Instant::now();
    let output = Command::new(diolkos)
        .args(["run", "--stats", "--platform", platform, "/", program])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", diolkos.display()))?;
    let whole = start.elapsed().as_secs_f64() * 1000.0;
    let block = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{program} on {platform}: {}: {}", output.status, block.trim()));
    }
    let mut times = [whole; MOMENTS.len() + 1];
    for (time, (moment, _)) in times.iter_mut().zip(MOMENTS) {
        *time = find(&block, moment).ok_or_else(|| format!("{platform}: --stats has no '{moment}': {block}"))?;
    }
    Ok(times)
}

/// The milliseconds beside `moment` in a block of `--stats`.
fn find(block: &str, moment: &str) -> Option<f64> {
    block.lines().find_map(|line| line.trim().strip_prefix(moment)?.split(" ms").next()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_found_in_the_block() {
        let block = "diolkos: statistics\n  time\n    kernel entered      2.10 ms     1.00  | =  |\n    program ended      12.00 ms\n";
        assert_eq!(find(block, "kernel entered"), Some(2.1));
        assert_eq!(find(block, "program ended"), Some(12.0));
        assert_eq!(find(block, "shares mounted"), None);
    }
}
