//! `diolkos bench micro`, from the settings to the report.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use thiserror::Error;

use crate::counters::Counters;
use crate::data::Data;
use crate::figures::Figures;
use crate::head::{Head, Member};
use crate::job::{Job, Set};
use crate::machine;
use crate::number::{rough, short};
use crate::progress::Progress;
use crate::report::{Report, Run, SCHEMA, rows};
use crate::runner::Runner;
use crate::settings::Settings;
use crate::system::{self, Context, Finder, Kind, System, Task, perform};

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum Error {
    /// An amount makes no sense.
    #[error("{0}")]
    Amount(String),
    /// fio is needed and not here.
    #[error("{why}; {remedy}")]
    NoFio {
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// None of the systems that were asked for is here.
    #[error("none of the systems asked for is here: {0}")]
    NoSystem(String),
    /// The files could not be made.
    #[error("{0}")]
    Data(String),
    /// The user stopped it before there was anything to report.
    #[error("stopped")]
    Stopped,
}

/// Measures what `settings` ask for; says on `progress` how far it is.
///
/// A system that fails does not end it: the report tells.
///
/// # Errors
/// Why nothing was measured.
pub fn micro(settings: &Settings, runner: &mut dyn Runner, progress: &mut dyn Write) -> Result<Report, Error> {
    let finder = Finder::new(std::env::var_os("PATH").as_deref());
    measure(settings, &finder, runner, progress)
}

fn measure(
    settings: &Settings,
    finder: &Finder,
    runner: &mut dyn Runner,
    out: &mut dyn Write,
) -> Result<Report, Error> {
    let Settings { amounts, selection, .. } = settings;
    amounts.check().map_err(Error::Amount)?;
    let (fio, fio_version) = find_fio(selection.jobs.iter().any(|job| job.work.moves_data()), finder, runner)?;
    let context = Context { diolkos: &settings.diolkos, version: &settings.version, peers: &settings.peers, finder };
    let (members, systems) = find_systems(&selection.systems, &context, runner)?;
    let mut report = Report {
        head: Head::begin(SCHEMA, &settings.version, &settings.command, members),
        file_system: machine::file_system(&settings.folder.canonicalize().unwrap_or_default()),
        fio: fio_version,
        amounts: amounts.clone(),
        runs: Vec::new(),
        rows: Vec::new(),
    };
    let mut runs = BTreeMap::new();
    for system in &systems {
        let jobs = selection.jobs.iter().filter(|job| system.applies(&job.work)).count();
        runs.insert(system.kind(), amounts.rounds * u32::try_from(jobs).unwrap_or(u32::MAX));
    }
    let mut progress = Progress::new(out, runs, amounts);
    for member in &report.head.systems {
        if let Some(missing) = &member.missing {
            progress.say(&format!("{} is missing: {}; {}", member.system.name(), missing.why, missing.remedy));
        }
    }
    progress.say(&format!(
        "making the files in {}; about {} of measuring",
        settings.folder.display(),
        rough(progress.rest())
    ));
    let mut sets: Vec<Set> = selection.jobs.iter().filter_map(|job| job.work.set()).collect();
    sets.sort_unstable();
    sets.dedup();
    let data = Data::new(&settings.folder, &settings.diolkos, &sets, amounts).map_err(Error::Data)?;
    let bench = Bench { settings, fio, data, cores: report.head.machine.cores };
    let whole = bench.rounds(&systems, runner, &mut progress, &mut report.runs)?;
    report.head.end(!whole);
    if report.head.interrupted && report.runs.is_empty() {
        return Err(Error::Stopped);
    }
    let kinds: Vec<Kind> = systems.iter().map(|system| system.kind()).collect();
    report.rows = rows(&selection.jobs, &kinds, &report.runs);
    Ok(report)
}

/// fio's path and version; neither is looked for if it is not needed.
fn find_fio(needed: bool, finder: &Finder, runner: &mut dyn Runner) -> Result<(PathBuf, Option<String>), Error> {
    if !needed {
        return Ok((PathBuf::new(), None));
    }
    let remedy = "apt install fio, or leave out its jobs (--only open-fstat-close,stat-files)";
    let missing = |why: String| Error::NoFio { why, remedy: remedy.to_owned() };
    let fio = finder.program("fio").ok_or_else(|| missing("fio is not installed".to_owned()))?;
    let version = system::version_of(&fio, runner, remedy).map_err(|error| missing(error.why))?;
    Ok((fio, Some(version)))
}

type Found = (Vec<Member>, Vec<Box<dyn System>>);

/// Looks for `kinds`: who takes part or is missing, and those that are here.
///
/// # Errors
/// None of them is.
pub fn find_systems(kinds: &[Kind], context: &Context, runner: &mut dyn Runner) -> Result<Found, Error> {
    let (mut members, mut systems) = (Vec::new(), Vec::new());
    for kind in kinds {
        let found = system::find(*kind, context, runner);
        let (version, missing) = match &found {
            Ok(system) => (Some(system.version().to_owned()), None),
            Err(missing) => (None, Some(missing.clone())),
        };
        members.push(Member { system: *kind, title: kind.title(), version, missing });
        systems.extend(found);
    }
    if systems.is_empty() {
        let each = members
            .iter()
            .filter_map(|member| Some(format!("{}: {}", member.system.name(), member.missing.as_ref()?.why)));
        return Err(Error::NoSystem(each.collect::<Vec<_>>().join("; ")));
    }
    Ok((members, systems))
}

/// What all runs have in common.
struct Bench<'a> {
    settings: &'a Settings,
    fio: PathBuf,
    data: Data,
    cores: usize,
}

impl Bench<'_> {
    /// Does every job on every system as often as asked for; says whether it came to the end.
    fn rounds(
        &self,
        systems: &[Box<dyn System>],
        runner: &mut dyn Runner,
        progress: &mut Progress,
        runs: &mut Vec<Run>,
    ) -> Result<bool, Error> {
        for round in 1..=self.settings.amounts.rounds {
            for job in &self.settings.selection.jobs {
                for system in systems.iter().filter(|system| system.applies(&job.work)) {
                    let began = Instant::now();
                    let Some(run) = self.run(round, job, system.as_ref(), runner)? else { return Ok(false) };
                    let outcome = match (&run.figures, &run.error) {
                        (Some(figures), _) => described(figures, job),
                        (None, error) => format!("failed: {}", error.as_deref().unwrap_or("for no reason")),
                    };
                    let line = format!("round {round}, {}, {}: {outcome}", job.name, system.kind().name());
                    progress.done(system.kind(), began.elapsed(), &line);
                    runs.push(run);
                }
            }
        }
        Ok(true)
    }

    /// One run; nothing if the user stopped it.
    fn run(&self, round: u32, job: &Job, system: &dyn System, runner: &mut dyn Runner) -> Result<Option<Run>, Error> {
        if let Some(set) = job.work.set() {
            self.data.touch(set).map_err(|error| Error::Data(format!("cannot read the files again: {error}")))?;
        }
        let scratch = self.data.scratch().map_err(|error| Error::Data(format!("cannot make a folder: {error}")))?;
        let (place, amounts) = (self.data.place(), &self.settings.amounts);
        let task = Task { job, place, scratch: &scratch, fio: &self.fio, amounts };
        let load = machine::load();
        let mut run = Run {
            round,
            job: job.name.clone(),
            system: system.kind(),
            load,
            disturbed: load.is_some_and(|load| load > self.cores as f64),
            command: Vec::new(),
            figures: None,
            error: None,
            way: None,
            stats: None,
        };
        let Some(done) = perform(system, &task, runner) else { return Ok(None) };
        run.command = done.command;
        let output = match done.output {
            Ok(output) => output,
            Err(error) => return Ok(Some(Run { error: Some(error), ..run })),
        };
        run.stats = Counters::find(&output.stderr);
        // What stages files before it measures uses the share for nothing else.
        if !system.stages() {
            run.way = run.stats.as_ref().map(|stats| stats.way(job.work.maps()));
        }
        match system.printed(&output).and_then(|printed| task.figures(&printed)) {
            Ok(figures) => run.figures = Some(figures),
            Err(error) => run.error = Some(error),
        }
        Ok(Some(run))
    }
}

fn described(figures: &Figures, job: &Job) -> String {
    if job.work.moves_data() {
        format!("{} MB/s", short(figures.bytes_per_s / 1e6))
    } else {
        format!("{} thousand a second", short(figures.operations_per_s / 1e3))
    }
}

#[cfg(test)]
mod tests;
