//! Signals that wait to be delivered.

use super::siginfo::SigInfo;
use super::signal_set::{Signal, SignalSet};
use alloc::collections::VecDeque;

/// Most signals queued at once (`RLIMIT_SIGPENDING`): a program must not fill the kernel's heap with them.
pub const MAX_QUEUED: usize = 1024;

/// Pending signals of a thread or a process, in order of arrival.
#[derive(Debug, Default)]
pub struct SignalQueue {
    set: SignalSet,
    queue: VecDeque<SigInfo>,
}

/// No more can be queued: `EAGAIN` for those who may be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl SignalQueue {
    /// Which are pending.
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// Adds one. An ordinary signal that is pending already is not added again (signal(7)), and of a timer there is one at most,
    /// which counts how often the timer expired beside (timer_getoverrun(2)).
    ///
    /// # Errors
    /// [`Full`], only for real-time signals.
    pub fn push(&mut self, signal: Signal, info: SigInfo) -> Result<(), Full> {
        if let Some((timer, overrun)) = info.of_timer()
            && let Some(waiting) = self.queue.iter_mut().find(|waiting| is_of(waiting, timer, signal))
        {
            waiting.overrun_by(overrun.saturating_add(1));
            return Ok(());
        }
        if signal.is_realtime() {
            if self.queue.len() >= MAX_QUEUED {
                return Err(Full);
            }
        } else if self.set.contains(signal) {
            return Ok(());
        }
        self.set |= SignalSet::only(signal);
        self.queue.push_back(info);
        Ok(())
    }

    /// Takes the first of `wanted` in the order of delivery, if any is pending.
    pub fn take(&mut self, wanted: SignalSet) -> Option<(Signal, SigInfo)> {
        let signal = (self.set & wanted).first()?;
        let is = |info: &SigInfo| info.signo == i32::from(signal.number());
        let at = self.queue.iter().position(is)?;
        let info = self.queue.remove(at)?;
        if !self.queue.iter().any(is) {
            self.set = self.set & !SignalSet::only(signal);
        }
        Some((signal, info))
    }

    /// Forgets all of `signal`, as setting it to be ignored does (sigaction(2)).
    pub fn discard(&mut self, signal: Signal) {
        self.set = self.set & !SignalSet::only(signal);
        self.queue.retain(|info| info.signo != i32::from(signal.number()));
    }
}

fn is_of(info: &SigInfo, timer: i32, signal: Signal) -> bool {
    info.of_timer().is_some_and(|(id, _)| id == timer) && info.signo == i32::from(signal.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signal: Signal, pid: u32) -> SigInfo {
        SigInfo::from_process(signal, 0, pid, 0)
    }

    fn drain(queue: &mut SignalQueue, wanted: SignalSet) -> alloc::vec::Vec<(u8, u64)> {
        core::iter::from_fn(|| queue.take(wanted)).map(|(s, i)| (s.number(), i.fields[0])).collect()
    }

    #[test]
    fn ordinary_signals_merge_and_realtime_ones_queue() {
        let mut queue = SignalQueue::default();
        let realtime = Signal::new(40).unwrap();
        for (signal, pid) in [(realtime, 1), (Signal::ALRM, 2), (Signal::ALRM, 3), (realtime, 4), (Signal::SEGV, 5)] {
            assert_eq!(queue.push(signal, info(signal, pid)), Ok(()));
        }
        let blocked = SignalSet::only(Signal::ALRM);
        assert_eq!(drain(&mut queue, !blocked), [(11, 5), (40, 1), (40, 4)]);
        assert_eq!(queue.set(), blocked);
        assert_eq!(drain(&mut queue, blocked), [(14, 2)]);
        assert!(queue.set().is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_can_be_discarded() {
        let mut queue = SignalQueue::default();
        let realtime = Signal::new(34).unwrap();
        for _ in 0..MAX_QUEUED {
            assert_eq!(queue.push(realtime, info(realtime, 0)), Ok(()));
        }
        assert_eq!(queue.push(realtime, info(realtime, 0)), Err(Full));
        assert_eq!(queue.push(Signal::CHLD, info(Signal::CHLD, 0)), Ok(()));
        queue.discard(realtime);
        assert_eq!(drain(&mut queue, !SignalSet::EMPTY), [(17, 0)]);
    }

    #[test]
    fn a_timer_that_expires_again_counts_instead() {
        let (mut queue, realtime) = (SignalQueue::default(), Signal::new(34).unwrap());
        for (timer, missed) in [(1, 0), (2, 5), (1, 0), (1, 3), (1, i32::MAX)] {
            assert_eq!(queue.push(realtime, SigInfo::timer(realtime, timer, missed, 9)), Ok(()));
        }
        let mut next = || queue.take(!SignalSet::EMPTY).and_then(|(_, info)| info.of_timer());
        assert_eq!([next(), next(), next()], [Some((1, i32::MAX)), Some((2, 5)), None]);
    }
}
