//! Requests that nobody waits for: answered at once, or when the test says so.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use super::InProcess;
use diolkos_virtiofs::{Lent, Parcel};
use std::collections::VecDeque;
use std::sync::Mutex;

/// What is done to an answer: its header, and the length that the device claims.
pub type Spoil = fn(&mut [u8], &mut usize);

/// Requests on their way.
#[derive(Default)]
pub struct Post {
    /// Whether they wait for somebody to want them, or for [`InProcess::deliver`].
    pub held: Mutex<bool>,
    pub spoil: Mutex<Option<Spoil>>,
    waiting: Mutex<VecDeque<Parcel>>,
    /// How many came with one doorbell each time.
    pub batches: Mutex<Vec<usize>>,
}

impl Post {
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }
}

impl InProcess {
    pub fn take_in(&self, parcels: Vec<Parcel>) {
        self.post.batches.lock().unwrap().push(parcels.len());
        self.post.waiting.lock().unwrap().extend(parcels);
        while !*self.post.held.lock().unwrap() && self.deliver() {}
    }

    /// Answers the request that has waited longest; false when there is none.
    pub fn deliver(&self) -> bool {
        let Some(Parcel { request, mut header, mut errand }) = self.post.waiting.lock().unwrap().pop_front() else {
            return false;
        };
        let mut wrote = self.exchange(&[&request], &mut [&mut header, errand.memory()], Lent::Nothing);
        if let Some(spoil) = *self.post.spoil.lock().unwrap() {
            spoil(&mut header, &mut wrote);
        }
        errand.done(&header, Ok(wrote));
        true
    }
}
