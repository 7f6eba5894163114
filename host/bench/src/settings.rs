//! What a run was asked to do.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::selection::Selection;

/// Everything that a run depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The executable that is measured, and that is its own worker.
    pub diolkos: PathBuf,
    /// Its version.
    pub version: String,
    /// The command line that asked for this, for the report.
    pub command: Vec<String>,
    /// Where the files are made: a folder of the host's file system to be measured.
    pub folder: PathBuf,
    /// Which systems and jobs.
    pub selection: Selection,
    /// How much of everything.
    pub amounts: Amounts,
    /// Where the peers are, if not where their packages put them.
    pub peers: Peers,
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Amounts {
    /// Bytes of the one file, and of the tree: a multiple of 1 MiB.
    pub size: u64,
    /// Bytes that are written at once when files are made: a power of two, of whole pages. Linux keeps content in folios
    /// of that size at most, and of 2 MiB or more where there are large ones.
    pub write_size: u64,
    /// How many files are asked for their attributes.
    pub names: u32,
    /// How long each figure is counted.
    #[serde(rename = "time_s", serialize_with = "seconds")]
    pub time: Duration,
    /// How long a warm job runs before it counts, after a pass over its files of at most twice as long.
    #[serde(rename = "ramp_s", serialize_with = "seconds")]
    pub ramp: Duration,
    /// How often everything is done.
    pub rounds: u32,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The least size: less is over before fio's clock, which counts milliseconds, has moved.
pub const LEAST_SIZE: u64 = 16 << 20;

impl Amounts {
    /// What is measured unless something else is asked for.
    pub const FULL: Self = Self {
        size: 1 << 30,
        write_size: 8 << 20,
        names: 100_000,
        time: Duration::from_secs(1),
        ramp: Duration::from_secs(1),
        rounds: 3,
    };

    /// Enough to see that everything runs; the figures mean little.
    pub const QUICK: Self = Self {
        size: 32 << 20,
        write_size: 8 << 20,
        names: 1_000,
        time: Duration::from_millis(100),
        ramp: Duration::from_millis(100),
        rounds: 1,
    };

    /// Bytes of the file that is written: less than the rest, so that the host's disk has time between the rounds.
    pub fn written(&self) -> u64 {
        self.size.min(256 << 20)
    }

    /// Bytes of memory for a machine that has to hold the files beside all else: an upper limit, given as it is touched.
    pub fn memory(&self) -> u64 {
        (2 << 30) + 2 * self.size
    }

    /// # Errors
    /// Which amount makes no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.size < LEAST_SIZE || !self.size.is_multiple_of(1 << 20) || self.size > 1 << 40 {
            return Err("--size: give a multiple of 1M, from 16M to 1T".to_owned());
        }
        if !self.write_size.is_power_of_two() || !(4096..=64 << 20).contains(&self.write_size) {
            return Err("--write-size: give a power of two from 4K to 64M".to_owned());
        }
        let times = Duration::from_millis(10)..=Duration::from_secs(600);
        if !times.contains(&self.time) {
            return Err("--time: give 0.01 to 600 seconds".to_owned());
        }
        if self.rounds == 0 || self.rounds > 1000 {
            return Err("--repeat: give 1 to 1000 rounds".to_owned());
        }
        Ok(())
    }
}

/// Where the peers are; nothing means where their Debian packages put them.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// The daemon that serves both guests of QEMU.
    pub virtiofsd: Option<PathBuf>,
    /// A folder with `boot/vmlinuz-…` and `lib/modules` of the Linux guest.
    pub linux: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_make_no_sense_are_named() {
        assert_eq!(Amounts::FULL.check(), Ok(()));
        assert_eq!(Amounts::QUICK.check(), Ok(()));
        for (bad, option) in [
            (Amounts { size: 0, ..Amounts::FULL }, "--size"),
            (Amounts { size: (64 << 20) + 1, ..Amounts::FULL }, "--size"),
            (Amounts { size: 2 << 40, ..Amounts::FULL }, "--size"),
            (Amounts { write_size: 2048, ..Amounts::FULL }, "--write-size"),
            (Amounts { write_size: 3 << 20, ..Amounts::FULL }, "--write-size"),
            (Amounts { write_size: 1 << 40, ..Amounts::FULL }, "--write-size"),
            (Amounts { time: Duration::ZERO, ..Amounts::FULL }, "--time"),
            (Amounts { rounds: 0, ..Amounts::FULL }, "--repeat"),
        ] {
            assert!(bad.check().unwrap_err().starts_with(option), "{bad:?}");
        }
    }
}
