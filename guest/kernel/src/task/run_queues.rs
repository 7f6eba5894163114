//! The run queues: who is ready, and which processor runs whom. Pure book-keeping; the scheduler ([`super::sched`]) does
//! the switching and wakes processors.
//!
//! Each processor has a queue, first in first out. Who becomes ready is [placed](RunQueues::place) once; a processor whose
//! own queue has nobody for it [steals](RunQueues::take) the one that has waited longest in the longest of the others. So
//! no processor is idle while somebody waits that it may run, and a thread comes back to the processor whose caches know
//! it as long as that has time.
//!
//! The hard part is a thread that is ready while it still runs: it was woken on its way to sleep. It waits in the queue
//! of the processor it is on, and no other may take it before that has let it go.

use alloc::collections::VecDeque;

/// What the queues must know of a thread.
pub trait Runnable {
    /// Whether its affinity lets it run on processor `cpu`.
    fn may_be_on(&self, cpu: usize) -> bool;

    /// The processor it ran on last.
    fn last_cpu(&self) -> usize;

    /// The processor it runs on now.
    fn running_on(&self) -> Option<usize>;

    /// Whether both are the same thread.
    fn is(&self, other: &Self) -> bool;
}

/// Whether processor `cpu` can be given `thread` now.
fn fits(thread: &impl Runnable, cpu: usize) -> bool {
    thread.may_be_on(cpu) && thread.running_on().is_none_or(|now| now == cpu)
}

/// A queue for each of at most `CPUS` processors.
pub struct RunQueues<T, const CPUS: usize> {
    queues: [VecDeque<T>; CPUS],
}

impl<T: Runnable, const CPUS: usize> RunQueues<T, CPUS> {
    /// Nobody is ready.
    pub const fn new() -> Self {
        Self { queues: [const { VecDeque::new() }; CPUS] }
    }

    /// Where `thread` is to wait, which has become ready on processor `own` of `count`; `busy` says which ones run a thread.
    ///
    /// That is where the fewest run and wait: on an idle processor if there is one. Of several, `own` comes first, since it
    /// has to be neither woken nor interrupted, and then the one that `thread` ran on last.
    ///
    /// # Panics
    /// If the thread may run on none of the processors.
    pub fn place(&self, thread: &T, own: usize, count: usize, busy: impl Fn(usize) -> bool) -> usize {
        if let Some(cpu) = thread.running_on() {
            return cpu;
        }
        let load = |cpu: usize| self.queues[cpu].len() + usize::from(busy(cpu));
        let order = [own, thread.last_cpu()].into_iter().chain(0..count);
        let allowed = order.filter(|cpu| *cpu < count && thread.may_be_on(*cpu));
        // The first of several that are as good as each other.
        allowed.min_by_key(|cpu| load(*cpu)).expect("sched_setaffinity(2) refuses a set without a processor")
    }

    /// Puts `thread` at the end of the queue of processor `cpu`.
    pub fn push(&mut self, cpu: usize, thread: T) {
        self.queues[cpu].push_back(thread);
    }

    /// Where the one is that processor `cpu` of `count` is to run next, as queue and place in it.
    fn find(&self, cpu: usize, count: usize) -> Option<(usize, usize)> {
        let first = |queue: usize| self.queues[queue].iter().position(|thread| fits(thread, cpu)).map(|at| (queue, at));
        let others = || (0..count).filter(|other| *other != cpu && !self.queues[*other].is_empty());
        first(cpu).or_else(|| others().filter_map(first).max_by_key(|(queue, _)| self.queues[*queue].len()))
    }

    /// Whether there is somebody for processor `cpu` of `count` to run, in its own queue or in another's.
    pub fn has_for(&self, cpu: usize, count: usize) -> bool {
        self.find(cpu, count).is_some()
    }

    /// Takes out who processor `cpu` of `count` is to run next: the first of its own queue, else the first of the longest
    /// other queue that has somebody it may run. Returns whose queue it was, too.
    pub fn take(&mut self, cpu: usize, count: usize) -> Option<(T, usize)> {
        let (queue, at) = self.find(cpu, count)?;
        self.queues[queue].remove(at).map(|thread| (thread, queue))
    }

    /// Who waits for processor `cpu` in its own queue.
    pub fn waiting(&self, cpu: usize) -> Option<&T> {
        self.queues[cpu].iter().find(|thread| fits(*thread, cpu))
    }

    /// Takes `thread` out if it waits for one of `count` processors that it may not run on any more, and runs nowhere.
    pub fn take_misplaced(&mut self, thread: &T, count: usize) -> Option<T> {
        if thread.running_on().is_some() {
            return None;
        }
        let mut wrong = (0..count).filter(|cpu| !thread.may_be_on(*cpu));
        let find = |cpu: usize| self.queues[cpu].iter().position(|other| other.is(thread)).map(|at| (cpu, at));
        let (cpu, at) = wrong.find_map(find)?;
        self.queues[cpu].remove(at)
    }
}

#[cfg(test)]
mod tests;
