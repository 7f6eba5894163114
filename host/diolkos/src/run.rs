//! `diolkos run`, from the checked options to the exit status.

use std::process::ExitCode;

use diolkos_vmm::{Moments, Remains};

use crate::args::RunOptions;
use crate::clock::Reading;
use crate::plan::Plan;
use crate::platform;
use crate::report::Listener;
use crate::signals::{self, Signals};
use crate::stats::{self, Summary};
use crate::verdict::{Ending, OWN_FAILURE, Verdict, say};

/// Runs what `options` ask for; `began` is a reading of the clocks taken when the command began.
pub fn run(options: &RunOptions, began: Reading) -> ExitCode {
    let (verdict, remains) = match supervise(options, began) {
        Ok(result) => result,
        Err(line) => (Verdict { status: OWN_FAILURE, line: Some(line) }, None),
    };
    if let Some(line) = verdict.line {
        say(&line);
    }
    // The last thing we do.
    if let Some(remains) = remains {
        remains.leave();
    }
    ExitCode::from(verdict.status)
}

/// # Errors
/// Why there was no machine to run.
fn supervise(options: &RunOptions, began: Reading) -> Result<(Verdict, Option<Remains>), String> {
    let signals = Signals::watch().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let plan = Plan::new(options)?;
    let mut moments = Moments::default();
    moments.pass("options read");
    let platform = platform::choose(options)?;
    moments.pass("platform found");
    let windows: Vec<_> = plan.shares.iter().map(|share| (share.tag.clone(), share.window)).collect();
    let none_asked = windows.iter().all(|(_, size)| *size == 0);
    let windows = match platform.no_window() {
        // Only the root has no option of its own.
        _ if windows.is_empty() => Err("there is no share"),
        _ if none_asked => Err("--dax-window 0"),
        Some(why) => {
            if let Some(option) = plan.window_asked {
                say(&format!("warning: {option} has no effect: {why}"));
            }
            Err(why)
        }
        None => Ok(windows),
    };
    let program = options.program[0].display().to_string();
    let listener = Listener::new(signals.events());
    let (guest, guest_far) = signals::channel().map_err(|error| format!("cannot make a socket: {error}"))?;
    let name = platform.name();
    let machine = platform.start(plan, listener.clone(), guest_far, began)?;
    let caught =
        signals.relay(guest, machine.stopper()).map_err(|error| format!("cannot watch for signals: {error}"))?;
    moments.pass("confined, threads started");
    let finished = machine.wait();
    moments.append(finished.moments);
    // A machine that fell over while we were stopping it was stopped.
    let told = matches!(finished.ending, Ending::Told(_));
    let ending = if caught.stopped() && !told { Ending::Stopped } else { finished.ending };
    let verdict = Verdict::new(&ending, &program, caught.signal());
    if options.stats {
        let summary = Summary {
            program: &program,
            platform: name,
            policy: options.dax_policy,
            windows,
            began,
            moments,
            counters: listener.counters(),
            machine: finished.sections,
        };
        stats::print(&summary);
    }
    Ok((verdict, finished.remains))
}
