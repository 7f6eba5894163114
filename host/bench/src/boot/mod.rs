//! `diolkos bench boot`: how long programs take to start, from the command to their end, on each system.
//!
//! What is counted is the whole of a command's time, from before its process is made until it has ended; a program of this
//! list ends as soon as it has started. Of Diolkos the report also tells when the program's first instruction ran.

mod programs;
mod report;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use programs::Program;
pub use report::{BootReport, BootRow};

use crate::counters::Counters;
use crate::data::Data;
use crate::head::Head;
use crate::job::{Group, Job, Work};
use crate::machine;
use crate::micro::{Error, find_systems};
use crate::number::short;
use crate::runner::Runner;
use crate::settings::{Amounts, Peers};
use crate::system::{Context, Finder, Kind, System, Task, perform};
use report::{Choice, SCHEMA, Start, rows};

/// What a run was asked to do.
#[derive(Debug, Clone)]
pub struct BootSettings {
    /// The executable that is measured.
    pub diolkos: PathBuf,
    /// Its version.
    pub version: String,
    /// The command line that asked for this, for the report.
    pub command: Vec<String>,
    /// Where our own programs are made: a folder that a guest sees by the same name.
    pub folder: PathBuf,
    /// Who takes part, in the order of the report.
    pub systems: Vec<Kind>,
    /// What is started, the same.
    pub programs: Vec<Program>,
    /// How often.
    pub rounds: u32,
    /// Where the peers are, if not where their packages put them.
    pub peers: Peers,
}

/// Folders that are memory in a machine.
const MEMORY: [&str; 2] = ["/tmp", "/run"];

/// Systems and programs among `words`, all of a sort where none of it is named.
///
/// # Errors
/// A word that names nothing, and what there is.
pub fn select(words: &[String]) -> Result<(Vec<Kind>, Vec<Program>), String> {
    let named = |name: &str| words.iter().any(|word| word == name);
    let names: Vec<_> = Kind::ALL.map(Kind::name).into_iter().chain(Program::ALL.map(Program::name)).collect();
    if let Some(word) = words.iter().find(|word| !names.contains(&word.as_str())) {
        return Err(format!("--only {word}: there is no such system or program; there are {}", names.join(", ")));
    }
    let some_system = Kind::ALL.iter().any(|kind| named(kind.name()));
    let some_program = Program::ALL.iter().any(|program| named(program.name()));
    Ok((
        Kind::ALL.into_iter().filter(|kind| !some_system || named(kind.name())).collect(),
        Program::ALL.into_iter().filter(|program| !some_program || named(program.name())).collect(),
    ))
}

/// Measures what `settings` ask for; says on `progress` how far it is.
///
/// A program that fails does not end it: the report tells.
///
/// # Errors
/// Why nothing was measured.
pub fn boot(settings: &BootSettings, runner: &mut dyn Runner, progress: &mut dyn Write) -> Result<BootReport, Error> {
    check_folder(&settings.folder)?;
    measure(settings, &Finder::new(std::env::var_os("PATH").as_deref()), runner, progress)
}

fn measure(
    settings: &BootSettings,
    finder: &Finder,
    runner: &mut dyn Runner,
    out: &mut dyn Write,
) -> Result<BootReport, Error> {
    if !(1..=1000).contains(&settings.rounds) {
        return Err(Error::Amount("--repeat: give 1 to 1000 rounds".to_owned()));
    }
    let context = Context { diolkos: &settings.diolkos, version: &settings.version, peers: &settings.peers, finder };
    let (members, systems) = find_systems(&settings.systems, &context, runner)?;
    let amounts = Amounts {
        size: 0,
        names: 0,
        time: Duration::ZERO,
        ramp: Duration::ZERO,
        rounds: settings.rounds,
        ..Amounts::FULL
    };
    let data = Data::new(&settings.folder, &settings.diolkos, &[], &amounts).map_err(Error::Data)?;
    let mut report = BootReport {
        head: Head::begin(SCHEMA, &settings.version, &settings.command, members),
        rounds: settings.rounds,
        programs: Vec::new(),
        runs: Vec::new(),
        rows: Vec::new(),
    };
    for member in report.head.systems.iter().filter_map(|member| Some((member.system.name(), member.missing.as_ref()?)))
    {
        let _ = writeln!(out, "{} is missing: {}; {}", member.0, member.1.why, member.1.remedy);
    }
    let mut jobs = Vec::new();
    for program in &settings.programs {
        let prepared = programs::prepare(*program, data.place().folder(), finder, runner);
        if let Err(missing) = &prepared {
            let _ = writeln!(out, "{} is missing: {}; {}", program.name(), missing.why, missing.remedy);
        }
        report.programs.push(Choice {
            program: *program,
            title: program.title(),
            missing: prepared.as_ref().err().cloned(),
        });
        jobs.extend(prepared.ok().map(|command| {
            (*program, Job { name: program.name().to_owned(), group: Group::Starts, work: Work::Start(command) })
        }));
    }
    let bench = Bench { data, amounts, cores: report.head.machine.cores };
    let whole = bench.rounds(&systems, &jobs, runner, out, &mut report.runs)?;
    report.head.end(!whole);
    if report.head.interrupted && report.runs.is_empty() {
        return Err(Error::Stopped);
    }
    report.rows = rows(&report.runs);
    Ok(report)
}

/// A guest must find our programs where the host has them.
fn check_folder(folder: &Path) -> Result<(), Error> {
    let whole = folder.canonicalize().map_err(|error| Error::Data(format!("--dir {}: {error}", folder.display())))?;
    match MEMORY.into_iter().find(|memory| whole.starts_with(memory)) {
        Some(memory) => Err(Error::Data(format!(
            "--dir {}: {memory} is memory in a guest, which does not see what is in it; give another folder",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// What all runs have in common.
struct Bench {
    data: Data,
    amounts: Amounts,
    cores: usize,
}

impl Bench {
    /// Starts every program on every system as often as asked for; says whether it came to the end.
    fn rounds(
        &self,
        systems: &[Box<dyn System>],
        jobs: &[(Program, Job)],
        runner: &mut dyn Runner,
        out: &mut dyn Write,
        runs: &mut Vec<Start>,
    ) -> Result<bool, Error> {
        // Once before, by whoever is first: afterwards the host's page cache has the files.
        for (program, job) in jobs {
            if self.run(0, *program, job, systems[0].as_ref(), runner)?.is_none() {
                return Ok(false);
            }
        }
        for round in 1..=self.amounts.rounds {
            for (program, job) in jobs {
                for system in systems.iter().filter(|system| system.applies(&job.work)) {
                    let Some(run) = self.run(round, *program, job, system.as_ref(), runner)? else { return Ok(false) };
                    let outcome = match (run.ms, &run.error) {
                        (Some(ms), None) => format!("{} ms", short(ms)),
                        (_, error) => format!("failed: {}", error.as_deref().unwrap_or("for no reason")),
                    };
                    // Nobody reads it any more: no reason to stop measuring.
                    let _ = writeln!(out, "round {round}, {}, {}: {outcome}", job.name, system.kind().name());
                    runs.push(run);
                }
            }
        }
        Ok(true)
    }

    /// One start; nothing if the user stopped it.
    fn run(
        &self,
        round: u32,
        program: Program,
        job: &Job,
        system: &dyn System,
        runner: &mut dyn Runner,
    ) -> Result<Option<Start>, Error> {
        let scratch = self.data.scratch().map_err(|error| Error::Data(format!("cannot make a folder: {error}")))?;
        let task =
            Task { job, place: self.data.place(), scratch: &scratch, fio: Path::new(""), amounts: &self.amounts };
        let load = machine::load();
        let mut run = Start {
            round,
            program,
            system: system.kind(),
            load,
            disturbed: load.is_some_and(|load| load > self.cores as f64),
            command: Vec::new(),
            ms: None,
            first_instruction_ms: None,
            error: None,
            stats: None,
        };
        let Some(done) = perform(system, &task, runner) else { return Ok(None) };
        run.command = done.command;
        let output = match done.output {
            Ok(output) => output,
            Err(error) => return Ok(Some(Start { error: Some(error), ..run })),
        };
        run.stats = Counters::find(&output.stderr);
        run.first_instruction_ms = run.stats.as_ref().and_then(Counters::first_instruction_ms);
        match system.printed(&output) {
            // A console may have lines of the kernel's beside it.
            Ok(printed) if printed.contains(program.prints()) => run.ms = Some(output.elapsed.as_secs_f64() * 1e3),
            Ok(printed) => run.error = Some(format!("it printed '{}'", printed.trim())),
            Err(error) => run.error = Some(error),
        }
        Ok(Some(run))
    }
}
