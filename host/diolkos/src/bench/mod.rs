//! `diolkos bench`: the evaluation, whose work is done by the crate `diolkos-bench`.

pub mod args;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diolkos_bench::worker::{self, Work};
use diolkos_bench::{Amounts, Peers, Processes, Report, Selection, Settings, draw, micro, table};
use signal_hook::flag;

use self::args::{BenchCommand, MicroOptions, Worker};
use crate::signals::watched;
use crate::verdict::{OWN_FAILURE, say};

/// Something that was measured failed.
const FAILED: u8 = 1;

/// Measures what `command` asks for.
pub fn bench(command: BenchCommand) -> ExitCode {
    let result = match command {
        BenchCommand::Micro(options) => supervise(&options),
        BenchCommand::Worker(worker) => worker::work(&worker.into()).and_then(|figures| {
            print(&format!("{figures}\n"))?;
            Ok(0)
        }),
    };
    ExitCode::from(result.unwrap_or_else(|line| {
        say(&line);
        OWN_FAILURE
    }))
}

/// # Errors
/// Why nothing was measured, or could be reported.
fn supervise(options: &MicroOptions) -> Result<u8, String> {
    let settings = settings(options)?;
    // Before the first measurement: it would be a pity to find out afterwards.
    if let Some(path) = &options.json {
        std::fs::write(path, "").map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    if let Some(folder) = &options.charts {
        std::fs::create_dir_all(folder).map_err(|error| format!("--charts {}: {error}", folder.display()))?;
    }
    let signal = Arc::new(AtomicUsize::new(0));
    for number in watched() {
        let value = usize::try_from(number).expect("signals are positive");
        flag::register_usize(number, signal.clone(), value)
            .map_err(|error| format!("cannot watch for signals: {error}"))?;
    }
    let stopped = || signal.load(Ordering::SeqCst) != 0;
    let report = micro(&settings, &mut Processes::new(&stopped), &mut std::io::stderr());
    let status = u8::try_from(128 + signal.load(Ordering::SeqCst)).unwrap_or(OWN_FAILURE);
    let report = match report {
        Ok(report) => report,
        // The user knows: the signal was theirs.
        Err(diolkos_bench::Error::Stopped) => return Ok(status),
        Err(error) => return Err(error.to_string()),
    };
    publish(&report, options)?;
    Ok(match (report.interrupted, report.has_failures()) {
        (true, _) => status,
        (false, true) => FAILED,
        (false, false) => 0,
    })
}

fn publish(report: &Report, options: &MicroOptions) -> Result<(), String> {
    print(&table(report))?;
    if let Some(path) = &options.json {
        report.write_json(path).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    if let Some(folder) = &options.charts {
        draw(report, folder).map_err(|error| format!("--charts: {error}"))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot write to stdout: {error}"))
}

/// What was asked for, and what was not said filled in.
fn settings(options: &MicroOptions) -> Result<Settings, String> {
    let usual = if options.quick { Amounts::QUICK } else { Amounts::FULL };
    let amounts = Amounts {
        size: options.size.map_or(usual.size, |size| size.0),
        names: options.files.unwrap_or(usual.names),
        time: options.time.map_or(usual.time, |time| time.0),
        ramp: usual.ramp,
        rounds: options.repeat.unwrap_or(usual.rounds),
    };
    Ok(Settings {
        diolkos: std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        folder: PathBuf::clone(&options.dir),
        selection: Selection::of(&options.only)?,
        amounts,
        peers: Peers { virtiofsd: options.virtiofsd.clone(), linux: options.linux.clone() },
    })
}

impl From<Worker> for Work {
    fn from(worker: Worker) -> Self {
        match worker {
            Worker::OpenFstatClose { file, milliseconds, ramp } => Self::OpenFstatClose {
                file,
                time: Duration::from_millis(milliseconds),
                ramp: Duration::from_millis(ramp),
            },
            Worker::StatFiles { folder, count } => Self::StatFiles { folder, count },
            Worker::Stage { from, to, command } => Self::Stage { from, to, command },
        }
    }
}
