//! What a mount did, counted: the evidence behind `--stats`, and behind every test that says which path ran.

use crate::ops::{Opcode, SENT};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Highest opcode counted, plus one.
const OPCODES: usize = 64;

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Things counted beside requests.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Tally {
            $($(#[$doc])* $variant,)*
        }

        impl Tally {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name it is shown under.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

tallies! {
    /// Chunks mapped into the window.
    Mappings => "window.mappings",
    /// Chunks of these that came along with the one before them, in one message.
    Ahead => "window.ahead",
    /// Chunks wanted that were in the window already.
    Hits => "window.hits",
    /// Chunks that had to make room for another.
    Evictions => "window.evictions",
    /// Ranges taken back from page tables.
    Revocations => "window.revocations",
    /// Ranges given up because the host would not say whether they are free.
    Quarantined => "window.quarantined",
    /// Chunks that lost content because the host cut their file short.
    Lost => "window.lost",
    /// Bytes read through the window.
    WindowRead => "window.bytes_read",
    /// Bytes written through the window.
    WindowWritten => "window.bytes_written",
    /// Pages of the page cache that were there when they were read or mapped.
    PageHits => "cache.hits",
    /// Times that a page was not there.
    PageMisses => "cache.misses",
    /// Pages that came from the host.
    PagesRead => "cache.pages_read",
    /// Of these, pages that nobody had asked for yet.
    PagesAhead => "cache.pages_read_ahead",
    /// Bytes read past the cache, because they were wanted for the first time.
    PassedBy => "cache.bytes_read_past",
    /// Pages thrown out, because they were no longer believed or the memory was needed.
    PagesDropped => "cache.pages_dropped",
    /// Pages written back to the host after stores through a shared mapping.
    PagesWritten => "cache.pages_written_back",
    /// Times that the host had no descriptor left and got back all we held without need.
    LetGo => "fuse.times_out_of_descriptors",
    /// Entries of directories listed because names beside them were looked up.
    NamesAhead => "fuse.names_ahead",
    /// Bytes that came in READ replies.
    MessageRead => "fuse.bytes_read",
    /// Bytes that left in WRITE messages.
    MessageWritten => "fuse.bytes_written",
    /// Bytes of these that the host moved from or to the memory of who asked, and nobody copied.
    MessageLent => "fuse.bytes_without_copy",
    /// Reads by message because no chunk of the window was free for a copy.
    FallbackBusy => "window.by_message_busy",
    /// Faults of private mappings served with copies because their chunk was pushed out again and again.
    FallbackRestless => "window.by_message_restless",
    /// Reads by message because the host refused to map this file.
    FallbackRefused => "window.by_message_refused",
    /// Reads by message because the file claims to be empty.
    FallbackEmpty => "window.by_message_empty",
    /// Reads of a piece of a chunk by message because that was cheaper.
    Cheaper => "window.cheaper_by_message",
}

/// The counters of one mount.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; OPCODES],
    tallies: [AtomicU64; Tally::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; OPCODES],
            tallies: [const { AtomicU64::new(0) }; Tally::ALL.len()],
        }
    }
}

impl Counters {
    pub(crate) fn sent(&self, opcode: Opcode) {
        if let Some(counter) = self.requests.get(opcode as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn add(&self, tally: Tally, n: u64) {
        self.tallies[tally as usize].fetch_add(n, Relaxed);
    }

    /// The count of one thing.
    pub fn get(&self, tally: Tally) -> u64 {
        self.tallies[tally as usize].load(Relaxed)
    }

    /// Shows every counter that is not zero: requests as `fuse.LOOKUP`, the others by [`Tally::name`].
    pub fn for_each(&self, f: &mut dyn FnMut(&str, u64)) {
        let requests = SENT.iter().map(|(opcode, name)| (*name, self.requests[*opcode as usize].load(Relaxed)));
        let tallies = Tally::ALL.iter().map(|tally| (tally.name(), self.get(*tally)));
        requests.chain(tallies).filter(|(_, n)| *n != 0).for_each(|(name, n)| f(name, n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_opcode_sent_has_a_place() {
        let counters = Counters::default();
        for (opcode, _) in SENT {
            counters.sent(*opcode);
        }
        counters.add(Tally::Hits, 5);
        let mut seen = Vec::new();
        counters.for_each(&mut |name, n| seen.push((std::string::String::from(name), n)));
        assert_eq!(seen.len(), SENT.len() + 1);
        assert!(seen.contains(&("fuse.REMOVEMAPPING".into(), 1)) && seen.contains(&("window.hits".into(), 5)));
    }
}
