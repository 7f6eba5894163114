//! The open directory: what the lower lists, corrected, and then the names that only the overlay has.
//!
//! A name that both have keeps the lower's place in the listing, so that one changed while the directory is read is
//! neither skipped nor shown twice. Cookies of the lower are passed on as they are; ours have the highest bit set. A lower
//! cookie that has it too, for a FUSE server may give any number, gets one of ours in its place ([`Translated`]).

use super::node::Node;
use super::table::{Entry, FIRST};
use crate::{DirEntry, DirSink, Errno, File, FileType, Inode, Name, OpenFlags, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::any::Any;
use spin::Mutex;

/// Our cookies begin here: 0 and 1 above it are `.` and `..` where there is no lower to list them.
const OWN: u64 = 1 << 63;

/// Those of ours that stand for a cookie of the lower's begin here.
const TRANSLATED: u64 = OWN | 1 << 62;

/// How many of these an open directory remembers: it bounds memory that the host's numbers could fill.
const MOST_TRANSLATED: usize = 1 << 16;

/// Entries copied out at a time, with no lock held while they are delivered.
const BATCH: usize = 64;

/// The cookies of the lower that look like ours, the last [`MOST_TRANSLATED`] of them. Going on from the entry that came
/// last always works; seeking back may find its cookie forgotten.
#[derive(Default)]
struct Translated {
    /// The number of the first that is remembered; every cookie given takes the next.
    first: u64,
    lower: VecDeque<u64>,
}

impl Translated {
    /// What to give in place of a cookie of the lower's.
    fn outward(&mut self, cookie: u64) -> u64 {
        if cookie < OWN {
            return cookie;
        }
        if self.lower.len() == MOST_TRANSLATED {
            self.lower.pop_front();
            self.first += 1;
        }
        self.lower.push_back(cookie);
        TRANSLATED + self.first + self.lower.len() as u64 - 1
    }

    /// The cookie of the lower's that a cookie given stands for; `None` for one of our own.
    ///
    /// # Errors
    /// `EINVAL` for one that is forgotten or never was given.
    fn inward(&self, cookie: u64) -> Result<Option<u64>> {
        match cookie {
            ..OWN => Ok(Some(cookie)),
            OWN..TRANSLATED => Ok(None),
            TRANSLATED.. => {
                let number = (cookie - TRANSLATED).checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                number.and_then(|at| self.lower.get(at)).copied().map(Some).ok_or(Errno::EINVAL)
            }
        }
    }
}

/// An open directory.
pub(super) struct DirectoryFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    lower: Option<Arc<dyn File>>,
    translated: Mutex<Translated>,
}

impl DirectoryFile {
    pub(super) fn open(node: Arc<Node>, flags: OpenFlags) -> Result<Arc<Self>> {
        if flags.writes() {
            return Err(Errno::EISDIR);
        }
        let flags = OpenFlags::DIRECTORY | OpenFlags::LARGEFILE;
        let lower = node.lower_dir().map(|lower| lower.open(flags)).transpose()?;
        Ok(Arc::new(Self { inode: node.clone(), node, lower, translated: Mutex::default() }))
    }

    /// Lists what the lower has. `Ok(false)` when the sink declined.
    fn list_lower(&self, lower: &dyn File, cookie: u64, entries: &mut DirSink<'_>) -> Result<bool> {
        let (mut declined, mut begun, mut broken) = (false, false, None);
        let listed = lower.readdir(cookie, &mut |entry| {
            let next = self.translated.lock().outward(entry.next);
            match self.corrected(&DirEntry { next, ..entry.clone() }) {
                Ok(None) => true,
                Ok(Some(entry)) => {
                    declined = !entries(&entry);
                    begun |= !declined;
                    !declined
                }
                Err(errno) => {
                    broken = Some(errno);
                    false
                }
            }
        });
        match listed.err().or(broken) {
            Some(errno) if !begun => Err(errno),
            Some(_) => Ok(false),
            None => Ok(!declined),
        }
    }

    /// An entry of the lower as it is now; `None` if it is gone.
    fn corrected<'a>(&self, entry: &DirEntry<'a>) -> Result<Option<DirEntry<'a>>> {
        match entry.name {
            b"." => return Ok(Some(entry.clone())),
            // The host's number, unless the directory was moved here.
            b".." if self.node.is_moved() => {
                return Ok(Some(DirEntry { ino: self.node.parent()?.number()?, id: None, ..entry.clone() }));
            }
            b".." => return Ok(Some(entry.clone())),
            _ => {}
        }
        let changed = {
            let table = &mut self.node.state.lock().table;
            // It may be a name that both made.
            table.set_hides(entry.name, true);
            table.get(entry.name).map(|known| known.node.clone())
        };
        Ok(match changed {
            None => Some(entry.clone()),
            Some(None) => None,
            Some(Some(node)) => Some(shown(&node, entry.next, entry.name)?),
        })
    }

    fn dots(&self, from: u64, entries: &mut DirSink<'_>) -> Result<bool> {
        let parent = self.node.parent()?;
        for (at, name, node) in [(0, &b"."[..], &self.node), (1, b"..", &parent)] {
            if from <= at && !entries(&shown(node, OWN + at + 1, name)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the lower still has a name that one of ours hides; then it was listed with the lower's.
    fn was_listed(&self, name: &[u8], entry: &Entry) -> bool {
        let Some(lower) = self.node.lower_dir().filter(|_| entry.hides) else { return false };
        let gone = Name::new(name).map(|name| lower.lookup(name).err()) == Ok(Some(Errno::ENOENT));
        if gone {
            self.node.state.lock().table.set_hides(name, false);
        }
        !gone
    }

    fn list_own(&self, mut from: u64, entries: &mut DirSink<'_>) -> Result<()> {
        loop {
            let batch = self.node.state.lock().table.after(from, BATCH);
            for (name, entry) in &batch {
                from = entry.cookie + 1;
                let Some(node) = entry.node.as_ref().filter(|_| !self.was_listed(name, entry)) else { continue };
                if !entries(&shown(node, OWN + from, name)?) {
                    return Ok(());
                }
            }
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }
}

fn shown<'a>(node: &Node, next: u64, name: &'a [u8]) -> Result<DirEntry<'a>> {
    Ok(DirEntry { ino: node.number()?, next, file_type: Some(node.kind), name, id: Some(node.id) })
}

impl File for DirectoryFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        debug_assert!(self.node.kind == FileType::Directory);
        // A removed directory is empty, without even its dots (readdir(3) finds the end at once).
        if self.node.is_dead() {
            return Ok(());
        }
        let from_lower = self.translated.lock().inward(cookie)?;
        let own = match (&self.lower, from_lower) {
            (Some(lower), Some(cookie)) => {
                if !self.list_lower(&**lower, cookie, entries)? {
                    return Ok(());
                }
                FIRST
            }
            (Some(_), None) => cookie - OWN,
            (None, _) => {
                let from = cookie.saturating_sub(OWN);
                if !self.dots(from, entries)? {
                    return Ok(());
                }
                from.max(FIRST)
            }
        };
        self.list_own(own, entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
