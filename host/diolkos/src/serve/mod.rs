//! `diolkos serve`: the file server as a daemon for other virtual machine monitors.

pub mod args;
mod socket;
mod stop;

use std::io;
use std::process::ExitCode;

use diolkos_serve::{Config, Daemon, Error};

use self::args::ServeOptions;
use self::socket::Door;
use self::stop::Stop;
use crate::kvm::describe_confinement;
use crate::plan::default_window;
use crate::verdict::{OWN_FAILURE, say};

/// Serves what `options` ask for.
pub fn serve(options: &ServeOptions) -> ExitCode {
    match supervise(options) {
        Ok(status) => ExitCode::from(status),
        Err(line) => {
            say(&line);
            ExitCode::from(OWN_FAILURE)
        }
    }
}

/// # Errors
/// Why nothing, or no more, can be served.
fn supervise(options: &ServeOptions) -> Result<u8, String> {
    let stop = Stop::watch().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let daemon = Daemon::new(Config {
        source: options.dir.clone(),
        writable: options.rw,
        cache: options.cache.into(),
        window: default_window(options.dax_window)?,
        tag: options.tag.clone(),
        say,
    })
    .map_err(|error| error.to_string())?;
    let mut door = open(options)?;
    let mut confined = false;
    let host = |what: &str, error: io::Error| format!("cannot {what} a front-end: {error}");
    while let Some(connection) = door.accept(stop.heard()).map_err(|error| host("wait for", error))? {
        if !options.persistent {
            door.close();
        }
        if !confined {
            confine(&daemon, options.verbose)?;
            stop.attend().map_err(|error| host("serve", error))?;
            confined = true;
        }
        stop.covers(&connection).map_err(|error| host("serve", error))?;
        let result = daemon.serve(connection);
        if stop.signal().is_some() {
            break;
        }
        match result {
            Ok(()) if options.persistent => {}
            Ok(()) => return Ok(0),
            // One bad front-end is no reason to leave the others alone.
            Err(error @ Error::Protocol(_)) if options.persistent => say(&error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(stop.signal().map_or(0, |signal| u8::try_from(128 + signal).unwrap_or(OWN_FAILURE)))
}

/// Before the first byte of a front-end is read.
fn confine(daemon: &Daemon, verbose: bool) -> Result<(), String> {
    let confined = daemon.confine().map_err(|error| error.to_string())?;
    if verbose {
        say(&format!("confinement: {}", describe_confinement(confined)));
    }
    Ok(())
}

fn open(options: &ServeOptions) -> Result<Door, String> {
    match (&options.socket, options.fd) {
        (Some(path), _) => Door::at(path).map_err(|error| format!("--socket {}: {error}", path.display())),
        (None, Some(number)) => Door::inherited(number).map_err(|error| format!("--fd {number}: {error}")),
        (None, None) => Err("give --socket PATH, where the front-end is to connect".to_owned()),
    }
}
