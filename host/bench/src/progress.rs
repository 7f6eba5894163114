//! Lines on stderr while it runs, with how long the rest will take.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use crate::number::rough;
use crate::settings::Amounts;
use crate::system::Kind;

/// What was seen so far of how long runs take.
pub struct Progress<'a> {
    out: &'a mut dyn Write,
    /// Runs that are left, by system.
    left: BTreeMap<Kind, u32>,
    /// Runs that were done and their seconds.
    seen: BTreeMap<Kind, (u32, f64)>,
    amounts: Amounts,
    total: u32,
}

impl<'a> Progress<'a> {
    /// `runs` are to be done, by system.
    pub fn new(out: &'a mut dyn Write, runs: BTreeMap<Kind, u32>, amounts: &Amounts) -> Self {
        Self { out, total: runs.values().sum(), left: runs, seen: BTreeMap::new(), amounts: amounts.clone() }
    }

    /// A line of its own.
    pub fn say(&mut self, line: &str) {
        // Nobody reads it any more: no reason to stop measuring.
        let _ = writeln!(self.out, "{line}");
    }

    /// A run of `kind` took `time` and came to `outcome`.
    pub fn done(&mut self, kind: Kind, time: Duration, outcome: &str) {
        if let Some(left) = self.left.get_mut(&kind) {
            *left = left.saturating_sub(1);
        }
        let (runs, seconds) = self.seen.entry(kind).or_default();
        *runs += 1;
        *seconds += time.as_secs_f64();
        let left: u32 = self.left.values().sum();
        let rest = if left == 0 { String::new() } else { format!("; about {} left", rough(self.rest())) };
        self.say(&format!("[{}/{}] {outcome}{rest}", self.total - left, self.total));
    }

    /// Seconds that the rest will take, by what runs of each system took so far.
    pub fn rest(&self) -> f64 {
        let each = |kind: &Kind| match self.seen.get(kind) {
            Some((runs, seconds)) => seconds / f64::from(*runs),
            None => (self.amounts.time + self.amounts.ramp).as_secs_f64() + kind.overhead(),
        };
        self.left.iter().map(|(kind, runs)| f64::from(*runs) * each(kind)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_told_by_what_was_seen() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, [(Kind::Host, 2), (Kind::Dax, 1)].into(), &Amounts::FULL);
        assert!(progress.rest() > 6.0);
        progress.done(Kind::Host, Duration::from_secs(30), "read-4k");
        progress.done(Kind::Dax, Duration::from_secs(3), "read-4k");
        assert_eq!(progress.rest().round(), 30.0);
        progress.done(Kind::Host, Duration::from_secs(30), "last");
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("[2/3] read-4k; about 30 s left\n") && text.ends_with("[3/3] last\n"), "{text}");
    }
}
