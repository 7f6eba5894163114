//! Time as a parameter: memory file systems stamp with a clock they are given.

use crate::Timespec;

/// A source of the current wall clock time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timespec;
}

impl<F: Fn() -> Timespec + Send + Sync> Clock for F {
    fn now(&self) -> Timespec {
        self()
    }
}
