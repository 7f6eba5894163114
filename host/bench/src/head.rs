//! What all reports have in common: what they begin with (who measured, where, and when), and the ways to show them.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::machine::{self, Machine};
use crate::system::{Kind, Missing};

/// The part of a report that does not depend on what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Head {
    /// Name and version of the layout of the JSON.
    pub schema: &'static str,
    /// The version of Diolkos.
    pub version: String,
    /// The command line that asked for it.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub began: u64,
    /// Seconds since 1970.
    pub ended: u64,
    /// Whether the user stopped it before its end.
    pub interrupted: bool,
    /// The computer.
    pub machine: Machine,
    /// The load average of the last minute when it began, and when it ended.
    pub load: [Option<f64>; 2],
    /// Who took part, and who is missing.
    pub systems: Vec<Member>,
}

/// What a measurement found, and the ways to show it.
pub trait Findings: Serialize {
    /// Who measured, where and when.
    fn head(&self) -> &Head;

    /// Whether a run failed.
    fn has_failures(&self) -> bool;

    /// All of it as text for a terminal.
    fn table(&self) -> String;

    /// Draws its charts into `folder`, as SVG and as PNG.
    ///
    /// # Errors
    /// A file that cannot be written, and why.
    fn draw(&self, folder: &Path) -> Result<(), String>;

    /// Writes the JSON to `path`.
    ///
    /// # Errors
    /// It cannot be written.
    fn write_json(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }
}

/// A system that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Which.
    pub system: Kind,
    /// What it is.
    pub title: &'static str,
    /// What was found; nothing if it is missing.
    pub version: Option<String>,
    /// Why it is missing.
    pub missing: Option<Missing>,
}

impl Head {
    /// Of a report that begins now.
    pub fn begin(schema: &'static str, version: &str, command: &[String], systems: Vec<Member>) -> Self {
        Self {
            schema,
            version: version.to_owned(),
            command: command.to_vec(),
            began: now(),
            ended: 0,
            interrupted: false,
            machine: Machine::here(),
            load: [machine::load(), None],
            systems,
        }
    }

    /// Everything is measured, or the user has had enough.
    pub fn end(&mut self, interrupted: bool) {
        (self.interrupted, self.load[1], self.ended) = (interrupted, machine::load(), now());
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
