//! What a machine runs on: the seam between the command line and the hypervisors.

use std::os::unix::net::UnixStream;

use diolkos_vmm::{Moments, Remains};

use crate::args::{FsDaemon, PlatformChoice, RunOptions};
use crate::clock::Reading;
use crate::kvm::Kvm;
use crate::plan::Plan;
use crate::qemu::Qemu;
use crate::report::Listener;
use crate::stats::Section;
use crate::verdict::{Ending, say};

/// A hypervisor that was found to work here.
pub trait Platform {
    /// Its name for the user, with what it runs on.
    fn name(&self) -> String;

    /// Why it has no DAX window; `None` if it has one.
    fn no_window(&self) -> Option<&'static str>;

    /// Starts a machine. `listener` hears the report but its end; numbers of signals for the program are read from
    /// `signals`, a byte each; `began` is a reading of the clocks taken when the command began.
    ///
    /// # Errors
    /// One line that names the option, file or program at fault.
    fn start(
        self: Box<Self>,
        plan: Plan,
        listener: Listener,
        signals: UnixStream,
        began: Reading,
    ) -> Result<Box<dyn Running>, String>;
}

/// A machine at work.
pub trait Running {
    /// A way to stop the machine from another thread, at once and for good.
    fn stopper(&self) -> Box<dyn Fn() + Send>;

    /// Waits for the end.
    fn wait(self: Box<Self>) -> Finished;
}

/// What is left of a machine.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// The platform's own figures for `--stats`.
    pub sections: Vec<Section>,
    /// What the platform has passed; the last is the end of the machine.
    pub moments: Moments,
    /// What it occupied in this process.
    pub remains: Option<Remains>,
}

/// Finds the platform that `options` ask for, or the first that works.
///
/// # Errors
/// Why the one asked for, or each of them, does not work here, and what to install.
pub fn choose(options: &RunOptions) -> Result<Box<dyn Platform>, String> {
    let kvm = || -> Result<Box<dyn Platform>, String> {
        let kvm = Kvm::find()?;
        if options.fs_daemon.is_some() {
            say("warning: --fs-daemon has no effect: on kvm the machine's own process serves the shares");
        }
        Ok(Box::new(kvm))
    };
    let qemu = || {
        Qemu::find(options.fs_daemon.as_ref().unwrap_or(&FsDaemon::Builtin))
            .map(|qemu| Box::new(qemu) as Box<dyn Platform>)
    };
    let chosen = match options.platform {
        PlatformChoice::Kvm => kvm().map_err(|why| format!("--platform kvm: {why}"))?,
        PlatformChoice::Qemu => qemu().map_err(|why| format!("--platform qemu: {why}"))?,
        PlatformChoice::Auto => kvm().or_else(|no_kvm| {
            if options.verbose {
                say(&format!("kvm does not work here: {no_kvm}"));
            }
            qemu().map_err(|no_qemu| format!("no hypervisor works here: kvm: {no_kvm}; qemu: {no_qemu}"))
        })?,
    };
    if options.verbose {
        say(&format!("platform: {}", chosen.name()));
    }
    Ok(chosen)
}
