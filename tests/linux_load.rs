//! The machine beside busy neighbours, on KVM: an interrupt that is lost or comes twice when the host's processors are
//! overcommitted hangs a program or corrupts it, and an idle host never shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::linux_sources::{Libc, compiled};
use crate::platform::Platform;

/// Threads that spin until this is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn of(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |stop: Arc<AtomicBool>| move || while !stop.load(Ordering::Relaxed) {};
        let threads = (0..threads).map(|_| thread::spawn(spin(stop.clone()))).collect();
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a spinning thread cannot panic");
        }
    }
}

#[test]
fn thirty_runs_in_a_row_end_on_a_busy_host() {
    let Some(on) = Platform::Kvm.here() else { return };
    let _load = Load::of(2);
    for run in 0..30 {
        let text = format!("run {run}");
        let outcome = on.run(&["/bin/echo", &text]).outcome().expect_status(0);
        assert_eq!((outcome.out(), outcome.err()), (format!("{text}\n"), String::new()));
    }
}

#[test]
fn ticks_faults_calls_and_vectors_survive_a_busy_host() {
    let Some(on) = Platform::Kvm.here() else { return };
    let folder = compiled("stress", Libc::Glibc);
    let _load = Load::of(2);
    on.run(&["./stress"]).data(folder.path()).same_as_host().expect_status(0);
}
