//! What runs inside the systems beside fio: our own executable as a hidden command.
//!
//! It measures what fio has no engine for, and brings files into a machine's memory before another program is started in
//! its place. It runs on the host and in every guest alike, and prints its figures as a line of JSON.

use std::fs;
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fstat, open, stat};

use crate::data;
use crate::figures::{Figures, Latency};

/// What it can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Open `file`, ask for its attributes and close it, for `time`, after `ramp` that does not count.
    OpenFstatClose {
        /// What is opened.
        file: PathBuf,
        /// How long it counts.
        time: Duration,
        /// How long it does not.
        ramp: Duration,
    },
    /// Ask once for the attributes of each of the first `count` empty files below `folder`.
    StatFiles {
        /// Where they are.
        folder: PathBuf,
        /// How many.
        count: u32,
    },
    /// Copy `from` with everything in it to `to`, which is not there yet, and become `command`.
    Stage {
        /// A folder.
        from: PathBuf,
        /// Where it goes.
        to: PathBuf,
        /// A program and its arguments.
        command: Vec<String>,
    },
}

impl Work {
    /// The words behind `diolkos bench worker` that ask for it, in the order of the fields.
    pub fn words(&self) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let milliseconds = |time: &Duration| time.as_millis().to_string();
        match self {
            Self::OpenFstatClose { file, time, ramp } => {
                vec!["open-fstat-close".into(), path(file), milliseconds(time), milliseconds(ramp)]
            }
            Self::StatFiles { folder, count } => vec!["stat-files".into(), path(folder), count.to_string()],
            Self::Stage { from, to, command } => [vec!["stage".into(), path(from), path(to)], command.clone()].concat(),
        }
    }
}

/// Does it, and says what to print.
///
/// # Errors
/// The path that could not be used, and why.
pub fn work(work: &Work) -> Result<String, String> {
    let figures = match work {
        Work::OpenFstatClose { file, time, ramp } => {
            let failed = |error: rustix::io::Errno| format!("{}: {error}", file.display());
            let step = || {
                let opened = open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                fstat(&opened).map(drop)
            };
            let began = Instant::now();
            while began.elapsed() < *ramp {
                step().map_err(failed)?;
            }
            let began = Instant::now();
            // One at least, however slow the system is.
            let mut begun = false;
            measure(|| match mem::replace(&mut begun, true) && began.elapsed() >= *time {
                true => Ok(false),
                false => step().map(|()| true),
            })
            .map_err(failed)?
        }
        Work::StatFiles { folder, count } => {
            // Made before, so that only the calls count.
            let paths: Vec<PathBuf> = (0..*count).map(|number| data::name(folder, number)).collect();
            let mut left = paths.iter();
            measure(|| left.next().map_or(Ok(false), |path| stat(path).map(|_| true)))
                .map_err(|error| format!("{}: {error}", folder.display()))?
        }
        Work::Stage { from, to, command } => {
            copy(from, to).map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))?;
            let (program, arguments) = command.split_first().ok_or("no command to become")?;
            let error = Command::new(program).args(arguments).exec();
            return Err(format!("{program}: {error}"));
        }
    };
    serde_json::to_string(&figures).map_err(|error| error.to_string())
}

/// Latencies that are kept; of more operations only the first ones' are.
const MOST_SAMPLES: usize = 1 << 22;

/// Takes steps for as long as they say that there was one.
fn measure<E>(mut step: impl FnMut() -> Result<bool, E>) -> Result<Figures, E> {
    let mut samples: Vec<u32> = Vec::with_capacity(MOST_SAMPLES);
    let began = Instant::now();
    let (mut last, mut operations) = (began, 0_u64);
    while step()? {
        let now = Instant::now();
        if samples.len() < MOST_SAMPLES {
            samples.push(u32::try_from(now.duration_since(last).as_nanos()).unwrap_or(u32::MAX));
        }
        (last, operations) = (now, operations + 1);
    }
    let seconds = last.duration_since(began).as_secs_f64();
    samples.sort_unstable();
    let least = |part: f64| samples.get((samples.len() as f64 * part) as usize).copied().map_or(0, u64::from);
    let rate = if seconds > 0.0 { operations as f64 / seconds } else { 0.0 };
    let latency = Latency {
        mean_ns: if operations > 0 { seconds * 1e9 / operations as f64 } else { 0.0 },
        p50_ns: least(0.5),
        p95_ns: least(0.95),
        p99_ns: least(0.99),
        p999_ns: least(0.999),
        max_ns: samples.last().copied().map_or(0, u64::from),
    };
    Ok(Figures { operations_per_s: rate, bytes_per_s: 0.0, operations, seconds, latency })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What the worker printed.
///
/// # Errors
/// No line of it is figures.
pub fn parse(text: &str) -> Result<Figures, String> {
    let line = text.lines().rev().find(|line| line.starts_with('{')).ok_or("the worker printed no figures")?;
    let figures: Figures = serde_json::from_str(line).map_err(|error| format!("the worker's figures: {error}"))?;
    if figures.operations == 0 {
        return Err("the worker counted no operation".to_owned());
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_it_does() {
        let file = std::env::current_exe().unwrap();
        let (time, ramp) = (Duration::from_millis(30), Duration::from_millis(5));
        let figures = parse(&work(&Work::OpenFstatClose { file, time, ramp }).unwrap()).unwrap();
        assert!(figures.operations > 10 && figures.seconds < 1.0, "{figures:?}");
        assert!(figures.latency.p50_ns > 0 && figures.latency.p50_ns <= figures.latency.max_ns);
    }

    #[test]
    fn it_asks_for_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..3 {
            let path = data::name(folder.path(), number);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let ask = |count| work(&Work::StatFiles { folder: folder.path().to_owned(), count });
        assert_eq!(parse(&ask(3).unwrap()).unwrap().operations, 3);
        assert!(ask(4).unwrap_err().contains("No such file"));
        assert!(parse(&ask(0).unwrap()).is_err());
    }

    #[test]
    fn staged_files_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("a/to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), "x").unwrap();
        let command = vec!["/nonexistent/x".to_owned()];
        let error = work(&Work::Stage { from, to: to.clone(), command }).unwrap_err();
        assert!(error.starts_with("/nonexistent/x: "), "{error}");
        assert_eq!(fs::read(to.join("inner/file")).unwrap(), b"x");
    }
}
