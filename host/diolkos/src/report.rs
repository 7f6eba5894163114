//! What the kernel says while it runs: lines for the user at once, counters for the end.

use std::io::Write;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use diolkos_common::report::Record;

use crate::clock::Reading;
use crate::signals::Event;
use crate::verdict::{printable, say};

/// The guest's counters and the moment they arrived, which ties its clock to ours.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Lines of `name=value`, as the guest wrote them.
    pub text: String,
    /// When they came.
    pub arrived: Reading,
}

/// The hearer of a report; clones hear the same one.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    counters: Arc<Mutex<Option<Counters>>>,
    /// Who wants to hear of signals.
    signals: Option<SyncSender<Event>>,
}

impl Listener {
    /// One that passes on what is said about signals.
    pub fn new(signals: SyncSender<Event>) -> Self {
        Self { signals: Some(signals), ..Self::default() }
    }

    /// Takes one record. Never blocks on anything but stderr.
    pub fn hear(&self, record: Record) {
        match record {
            Record::Warning(line) => say(&format!("warning: {}", printable(&line))),
            Record::Verbose(line) => say(&printable(&line)),
            Record::Trace(line) => {
                let _ = writeln!(std::io::stderr(), "{}", printable(&line));
            }
            Record::Counters(text) => {
                let counters = Counters { text, arrived: Reading::now() };
                // Only the last is kept, so a guest cannot make us hold more than one.
                *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = Some(counters);
            }
            Record::SignalTaken(number) => self.tell(Event::Taken(number)),
            Record::SignalKills(_) => self.tell(Event::Dying),
            // The platform acts on the end; it is not a line.
            Record::End(_) => {}
        }
    }

    fn tell(&self, event: Event) {
        if let Some(signals) = &self.signals {
            // A guest that says more than can be listened to is not waited for.
            let _ = signals.try_send(event);
        }
    }

    /// The last counters heard.
    pub fn counters(&self) -> Option<Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
