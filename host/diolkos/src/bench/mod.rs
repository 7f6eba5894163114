//! `diolkos bench`: the evaluation, whose work is done by the crate `diolkos-bench`.

pub mod args;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diolkos_bench::worker::{self, Work};
use diolkos_bench::{Amounts, BootSettings, Findings, Processes, Selection, Settings, boot, micro, select_boot};
use signal_hook::flag;

use self::args::{BenchCommand, BootOptions, CommonOptions, MicroOptions, Worker};
use crate::signals::watched;
use crate::verdict::{OWN_FAILURE, say};

/// Something that was measured failed.
const FAILED: u8 = 1;

/// Measures what `command` asks for.
pub fn bench(command: BenchCommand) -> ExitCode {
    let result = match command {
        BenchCommand::Micro(options) => measure_files(&options),
        BenchCommand::Boot(options) => measure_starts(&options),
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
fn measure_files(options: &MicroOptions) -> Result<u8, String> {
    let settings = settings(options)?;
    supervise(&options.common, |processes| micro(&settings, processes, &mut std::io::stderr()))
}

/// # Errors
/// As [`measure_files`].
fn measure_starts(options: &BootOptions) -> Result<u8, String> {
    let (systems, programs) = select_boot(&options.only)?;
    let settings = BootSettings {
        diolkos: this_program()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: this_command(),
        folder: options.common.dir.clone(),
        systems,
        programs,
        rounds: options.repeat,
        peers: options.common.peers(),
    };
    supervise(&options.common, |processes| boot(&settings, processes, &mut std::io::stderr()))
}

/// Has `measure` done, which a signal stops, and shows what came of it.
///
/// # Errors
/// Why nothing was measured, or could be reported.
fn supervise<F: Findings>(
    options: &CommonOptions,
    measure: impl FnOnce(&mut Processes) -> Result<F, diolkos_bench::Error>,
) -> Result<u8, String> {
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
    let found = measure(&mut Processes::new(&stopped));
    let status = u8::try_from(128 + signal.load(Ordering::SeqCst)).unwrap_or(OWN_FAILURE);
    let found = match found {
        Ok(found) => found,
        // The user knows: the signal was theirs.
        Err(diolkos_bench::Error::Stopped) => return Ok(status),
        Err(error) => return Err(error.to_string()),
    };
    print(&found.table())?;
    if let Some(path) = &options.json {
        found.write_json(path).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    if let Some(folder) = &options.charts {
        found.draw(folder).map_err(|error| format!("--charts: {error}"))?;
    }
    Ok(match (found.head().interrupted, found.has_failures()) {
        (true, _) => status,
        (false, true) => FAILED,
        (false, false) => 0,
    })
}

fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))
}

fn this_command() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot write to stdout: {error}"))
}

/// What was asked for, and what was not said filled in.
fn settings(options: &MicroOptions) -> Result<Settings, String> {
    let usual = if options.quick { Amounts::QUICK } else { Amounts::FULL };
    let amounts = Amounts {
        size: options.size.map_or(usual.size, |size| size.0),
        write_size: options.write_size.map_or(usual.write_size, |size| size.0),
        names: options.files.unwrap_or(usual.names),
        time: options.time.map_or(usual.time, |time| time.0),
        ramp: usual.ramp,
        rounds: options.repeat.unwrap_or(usual.rounds),
    };
    Ok(Settings {
        diolkos: this_program()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: this_command(),
        folder: PathBuf::clone(&options.common.dir),
        selection: Selection::of(&options.only)?,
        amounts,
        peers: options.common.peers(),
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
