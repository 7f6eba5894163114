//! Diolkos' own machine on /dev/kvm, as a [`Platform`].

use crate::clock::Reading;
use crate::plan::Plan;
use crate::platform::{Platform, Running};
use crate::report::Listener;

/// /dev/kvm, found to work.
pub struct Kvm;

impl Kvm {
    /// # Errors
    /// Why /dev/kvm cannot be used.
    pub fn find() -> Result<Self, String> {
        Err("diolkos was built without its machine".to_owned())
    }
}

impl Platform for Kvm {
    fn name(&self) -> String {
        "kvm".to_owned()
    }

    fn no_window(&self) -> Option<&'static str> {
        None
    }

    fn start(&self, _: Plan, _: Listener, _: Reading) -> Result<Box<dyn Running>, String> {
        Err("diolkos was built without its machine".to_owned())
    }
}
