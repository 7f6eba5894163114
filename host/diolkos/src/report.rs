//! What the kernel says while it runs: lines for the user at once, counters for the end.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use diolkos_common::report::Record;

use crate::verdict::{printable, say};

/// The guest's counters and the moment they arrived, which ties its clock to ours.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Lines of `name=value`, as the guest wrote them.
    pub text: String,
    /// When they came.
    pub arrived: Instant,
}

/// The hearer of a report; clones hear the same one.
#[derive(Debug, Clone, Default)]
pub struct Listener(Arc<Mutex<Option<Counters>>>);

impl Listener {
    /// Takes one record. Never blocks on anything but stderr.
    pub fn hear(&self, record: Record) {
        match record {
            Record::Warning(line) => say(&format!("warning: {}", printable(&line))),
            Record::Verbose(line) => say(&printable(&line)),
            Record::Trace(line) => {
                let _ = writeln!(std::io::stderr(), "{}", printable(&line));
            }
            Record::Counters(text) => {
                let counters = Counters { text, arrived: Instant::now() };
                // Only the last is kept, so a guest cannot make us hold more than one.
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(counters);
            }
            // The platform acts on the end; it is not a line.
            Record::End(_) => {}
        }
    }

    /// The last counters heard.
    pub fn counters(&self) -> Option<Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
