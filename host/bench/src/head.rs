//! What every report begins with: who measured, where, and when.

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
