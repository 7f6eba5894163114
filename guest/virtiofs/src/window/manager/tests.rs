//! The manager over a stub window that can refuse, and knows what each range shows.

mod losses;
mod places;
mod refusals;
mod threads;

use super::*;
use crate::ops::NodeId;
use crate::window::policy::policy;
use crate::window::range::CHUNK;
use crate::{Lent, Transport};
use core::ptr::NonNull;
use diolkos_common::cmdline::DaxPolicy;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::vec::Vec;

const PHYS: u64 = 1 << 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Map { node: u64, file_offset: u64, slot: u64, writable: bool },
    Unmap { slot: u64 },
    Revoke { slot: u64 },
}

/// The stub: window, page tables and scheduler in one.
#[derive(Default)]
struct Stub {
    did: Mutex<Vec<Did>>,
    shows: Mutex<BTreeMap<u64, (u64, u64, bool)>>,
    /// Answers to the next calls of map and unmap; success when there is none.
    answers: Mutex<VecDeque<Result<()>>>,
    /// The next mapping is refused, whatever is unmapped before.
    refuses_map: AtomicBool,
    pauses: AtomicU64,
    /// When set, mapping waits until somebody else has paused.
    slow: Mutex<Option<mpsc::Receiver<()>>>,
    wake: Mutex<Option<mpsc::Sender<()>>>,
}

impl Stub {
    fn answer(&self) -> Result<()> {
        self.answers.lock().pop_front().unwrap_or(Ok(()))
    }

    fn will(&self, answers: &[Result<()>]) {
        self.answers.lock().extend(answers);
    }

    fn done(&self) -> Vec<Did> {
        core::mem::take(&mut *self.did.lock())
    }
}

struct Shared(Arc<Stub>);

impl Backing for Shared {
    fn map(&self, node: NodeId, file_offset: u64, range: WindowRange, writable: bool) -> Result<()> {
        let slot = range.offset() / CHUNK;
        self.0.did.lock().push(Did::Map { node: node.0, file_offset, slot, writable });
        let slow = self.0.slow.lock().take();
        if let Some(slow) = slow {
            slow.recv_timeout(core::time::Duration::from_secs(20)).expect("a second thread waits for this chunk");
        }
        let answer = if self.0.refuses_map.swap(false, SeqCst) { Err(Errno::ENOMEM) } else { self.0.answer() };
        match answer {
            Ok(()) => self.0.shows.lock().insert(slot, (node.0, file_offset, writable)),
            // The worst a host can do: the old mapping is gone, or is not.
            Err(Errno::ENOMEM) => self.0.shows.lock().remove(&slot),
            Err(_) => None,
        };
        answer
    }

    fn unmap(&self, ranges: &[WindowRange]) -> Result<()> {
        for range in ranges {
            self.0.did.lock().push(Did::Unmap { slot: range.offset() / CHUNK });
        }
        let answer = self.0.answer();
        if answer.is_ok() {
            self.0.shows.lock().retain(|slot, _| ranges.iter().all(|range| range.offset() / CHUNK != *slot));
        }
        answer
    }
}

impl Platform for Stub {
    fn now_ns(&self) -> u64 {
        0
    }

    fn revoke(&self, phys: u64, len: u64) {
        assert_eq!((phys % CHUNK, len % CHUNK), (0, 0));
        let first = (phys - PHYS) / CHUNK;
        self.did.lock().extend((first..first + len / CHUNK).map(|slot| Did::Revoke { slot }));
    }

    fn pause(&self) {
        self.pauses.fetch_add(1, SeqCst);
        if let Some(wake) = self.wake.lock().take() {
            wake.send(()).unwrap();
        }
        std::thread::yield_now();
    }
}

struct Silent;

impl Transport for Silent {
    fn request(&self, _: &[&[u8]], _: &mut [&mut [u8]], _: Lent<'_>) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn wait_for(&self, over: &dyn Fn() -> bool) {
        while !over() {
            std::thread::yield_now();
        }
    }

    fn most_pieces(&self) -> usize {
        1
    }

    fn forget(&self, _: &[u8]) {}
}

fn manager(slots: u64, name: DaxPolicy) -> (Arc<Manager>, Arc<Stub>) {
    let stub = Arc::new(Stub::default());
    // SAFETY: nothing here looks at the memory.
    let memory = unsafe { WindowMemory::new(PHYS, NonNull::new(4096 as *mut u8).unwrap(), slots * CHUNK) }.unwrap();
    let geometry = Geometry::of(slots as usize, CHUNK);
    let session = Arc::new(Session::new(Arc::new(Silent), "t".into(), (0, 0), 64, None));
    let policy = policy(name, geometry.slots()).unwrap();
    let manager =
        Manager::new(memory, geometry, policy, DaxIo::Window, Box::new(Shared(stub.clone())), stub.clone(), session);
    (Arc::new(manager), stub)
}

fn want(owner: u64, index: u64) -> Want {
    Want {
        key: ChunkKey { owner, index },
        node: NodeId(owner + 100),
        start: 0,
        end: CHUNK,
        writable: false,
        hand_out: false,
        copy_will_do: false,
        fetch: true,
        ahead: 0,
    }
}

fn map(owner: u64, index: u64, slot: u64, writable: bool) -> Did {
    Did::Map { node: owner + 100, file_offset: index * CHUNK, slot, writable }
}

impl Manager {
    fn has(&self, key: ChunkKey) -> bool {
        self.state.lock().policy.find(key).is_some()
    }

    fn counted(&self, tally: Tally) -> u64 {
        self.session.counters.get(tally)
    }
}

/// A number that has little to do with the one before.
fn dice(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
