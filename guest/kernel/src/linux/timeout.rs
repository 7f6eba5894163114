//! Timeouts of the calls that wait for files, in their three notations.

use crate::mm::user::{UserPtr, plain};
use crate::time;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;

plain!(raw::__kernel_timespec, raw::__kernel_old_timeval);

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Without end.
    Never,
    /// Until the monotonic clock shows this many nanoseconds.
    At(u64),
}

impl Timeout {
    /// Milliseconds, negative for no end (poll(2)).
    pub fn from_millis(millis: i32) -> Self {
        match u64::try_from(millis) {
            Ok(millis) => Self::after(millis * 1_000_000),
            Err(_) => Self::Never,
        }
    }

    /// A `struct timespec`; a null pointer is no end (ppoll(2)).
    ///
    /// # Errors
    /// `EINVAL` for a time that is none, `EFAULT`.
    pub fn from_timespec(address: u64) -> Result<Self> {
        match UserPtr::<raw::__kernel_timespec>::nullable(address) {
            None => Ok(Self::Never),
            Some(user) => {
                let time = user.read()?;
                Self::from_parts(time.tv_sec, time.tv_nsec, 1_000_000_000, 1)
            }
        }
    }

    /// A `struct timeval`, whose microseconds may exceed a second (select(2) in Linux takes them so).
    ///
    /// # Errors
    /// As [`Timeout::from_timespec`].
    pub fn from_timeval(address: u64) -> Result<Self> {
        match UserPtr::<raw::__kernel_old_timeval>::nullable(address) {
            None => Ok(Self::Never),
            Some(user) => {
                let time = user.read()?;
                Self::from_parts(time.tv_sec, time.tv_usec, i64::MAX, 1000)
            }
        }
    }

    fn from_parts(seconds: i64, fraction: i64, limit: i64, unit: u64) -> Result<Self> {
        if seconds < 0 || fraction < 0 || fraction >= limit {
            return Err(Errno::EINVAL);
        }
        let nanos =
            (seconds as u64).saturating_mul(1_000_000_000).saturating_add((fraction as u64).saturating_mul(unit));
        Ok(Self::after(nanos))
    }

    fn after(nanos: u64) -> Self {
        Self::At(time::monotonic_ns().saturating_add(nanos))
    }

    /// As the wait queues want it.
    pub fn deadline(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::At(deadline) => Some(deadline),
        }
    }

    fn remaining(self) -> Option<u64> {
        self.deadline().map(|deadline| deadline.saturating_sub(time::monotonic_ns()))
    }

    /// Writes back what is left, as Linux does for ppoll and pselect6. A failure is ignored there too.
    pub fn write_timespec(self, address: u64) {
        if let Some(left) = self.remaining() {
            let time = raw::__kernel_timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let _ = UserPtr::new(address).write(time);
        }
    }

    /// Writes back what is left, as Linux does for select.
    pub fn write_timeval(self, address: u64) {
        if let Some(left) = self.remaining() {
            let time = raw::__kernel_old_timeval {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_usec: (left / 1000 % 1_000_000) as i64,
            };
            let _ = UserPtr::new(address).write(time);
        }
    }
}
