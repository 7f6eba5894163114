//! The host's own kernel: what everything is compared with.

use super::{Kind, System, Task, words};
use crate::runner::Invocation;

/// Programs are run as they are.
pub struct Host;

impl System for Host {
    fn kind(&self) -> Kind {
        Kind::Host
    }

    fn version(&self) -> &'static str {
        "the kernel of this machine"
    }

    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        Ok(Invocation {
            command: words(task.program(task.place)),
            helpers: Vec::new(),
            patience: task.patience(Kind::Host),
        })
    }
}
