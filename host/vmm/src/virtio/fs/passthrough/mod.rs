//! The file system behind a share: the host's directory tree, each request one or two system calls of the host.
//!
//! Files are found one name at a time, from the directory a node holds, and never by a path: `openat` with one component,
//! `O_PATH` and `O_NOFOLLOW`, cannot climb, cannot follow a link and opens nothing. ([`super::guard`] has refused names that
//! are not one component; openat2(2) with `RESOLVE_BENEATH` says no more about one that is.) What such a descriptor names is
//! then reached through `/proc/self/fd`, whose entries lead to the file itself: no name is looked up a second time, so there
//! is no moment in which somebody could put another file in its place.
//!
//! Left out: locks, and everything the message layer answers by itself. Directories are listed by [`super::listing`].

mod credentials;
mod handles;
mod host;
mod nodes;
mod operations;
mod sighting;

use super::descriptors;
use super::guard::refuse;
use credentials::Acting;
use fuse_backend_rs::abi::fuse_abi::{CreateIn, OpenOptions};
use fuse_backend_rs::api::filesystem::{Context, Entry};
use handles::Handles;
use host::{Descriptors, Status};
use nodes::Nodes;
pub use nodes::ROOT;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, openat};
use sighting::{Sighting, open_path};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// What a guest may believe, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Belief {
    /// Names and attributes.
    pub timeout: Duration,
    /// Whether what it has cached of a file stays good when the file is opened again.
    pub keep_content: bool,
}

/// The file system.
#[derive(Debug)]
pub struct Passthrough {
    nodes: Nodes,
    handles: Handles,
    proc: Descriptors,
    belief: Belief,
}

/// A file of its own, open: what CREATE and TMPFILE answer.
pub type Created = (Entry, Option<u64>, OpenOptions, Option<u32>);

/// Makes files without a name.
pub trait MakeUnnamed {
    /// Makes a file without a name on the file system of the directory `parent`, and opens it.
    ///
    /// # Errors
    /// As open(2) with `O_TMPFILE`; `EOPNOTSUPP` where the host's file system has no such files.
    fn make_unnamed(&self, ctx: &Context, parent: u64, args: CreateIn) -> io::Result<Created>;
}

/// Names files without opening them.
pub trait See {
    /// What LOOKUP answers, for a reply that names many files of which few will be used. To be used, the file must be the one
    /// that this name leads to then, too: else its node is stale.
    ///
    /// # Errors
    /// As LOOKUP.
    fn see(&self, ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry>;
}

impl Passthrough {
    /// Serves the directory `root`, an `O_PATH` descriptor. Descriptors for its guest come from `pool`.
    ///
    /// # Errors
    /// No `/proc`, or no descriptor left.
    pub fn new(root: OwnedFd, belief: Belief, pool: Arc<descriptors::Descriptors>) -> io::Result<Self> {
        // The guest has taken its own umask away from modes already.
        rustix::process::umask(Mode::empty());
        let id = Status::of(&root)?.id();
        let nodes = Nodes::new(root, id, pool.clone());
        Ok(Self { nodes, handles: Handles::new(pool), proc: Descriptors::open()?, belief })
    }

    /// Nothing is known and nothing open, as at first.
    fn start_anew(&self) {
        self.handles.clear();
        self.nodes.clear();
    }

    /// The entry of a node of this number and status.
    fn entry(&self, inode: u64, status: &Status) -> Entry {
        Entry {
            inode,
            // A number means one file for ever.
            generation: 0,
            attr: status.attributes(),
            attr_flags: 0,
            attr_timeout: self.belief.timeout,
            entry_timeout: self.belief.timeout,
        }
    }

    /// The entry of the file that an `O_PATH` descriptor names.
    fn enter(&self, file: OwnedFd) -> io::Result<Entry> {
        let status = Status::of(&file)?;
        Ok(self.entry(self.nodes.enter(file, &status)?, &status))
    }

    fn find(&self, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.enter(open_path(self.nodes.get(parent)?, name)?)
    }

    fn open_node(&self, number: u64, flags: OFlags) -> io::Result<File> {
        let node = self.nodes.get(number)?;
        self.proc.reopen(&*node, node.kind(), flags)
    }

    /// Enters a file that `make` opens in the directory `parent` as the user of `ctx`.
    fn create_with(
        &self,
        ctx: &Context,
        parent: u64,
        flags: OFlags,
        make: impl FnOnce(&nodes::Node) -> Result<OwnedFd, rustix::io::Errno>,
    ) -> io::Result<Created> {
        let directory = self.nodes.get(parent)?;
        // Before there is a file nobody could be told of.
        let token = self.handles.room()?;
        self.nodes.room()?;
        let file = {
            let _acting = Acting::as_user(ctx)?;
            File::from(make(&directory)?)
        };
        let entry = self.enter(self.proc.path_of(&file)?)?;
        let handle = self.handles.insert(entry.inode, file, flags, token);
        Ok((entry, Some(handle), self.opened(), None))
    }

    fn opened(&self) -> OpenOptions {
        if self.belief.keep_content { OpenOptions::KEEP_CACHE } else { OpenOptions::empty() }
    }

    fn link_to(&self, node: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        let (node, parent_node) = (self.nodes.get(node)?, self.nodes.get(parent)?);
        // Not AT_EMPTY_PATH: that takes CAP_DAC_READ_SEARCH, and a file without a name can be linked this way as well.
        let from = Descriptors::name(&*node);
        linkat(self.proc.directory(), from, &*parent_node, name, AtFlags::SYMLINK_FOLLOW)?;
        self.find(parent, name)
    }
}

impl See for Passthrough {
    fn see(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        let directory = self.nodes.get(parent)?;
        let status = Status::of_name(&*directory, name)?;
        match Sighting::new(directory, name, &status) {
            Some(sighting) => Ok(self.entry(self.nodes.see(sighting, &status)?, &status)),
            None => self.find(parent, name),
        }
    }
}

impl MakeUnnamed for Passthrough {
    fn make_unnamed(&self, ctx: &Context, parent: u64, args: CreateIn) -> io::Result<Created> {
        if self.nodes.get(parent)?.kind() != FileType::Directory {
            return Err(refuse(libc::ENOTDIR));
        }
        // O_EXCL forbids to give it a name later.
        let kept = OFlags::RWMODE | OFlags::EXCL | OFlags::APPEND | OFlags::DSYNC | OFlags::SYNC | OFlags::NOATIME;
        let flags = (OFlags::from_bits_retain(args.flags) & kept) | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(args.mode & 0o7777 & !(args.umask & 0o777));
        self.create_with(ctx, parent, flags, |directory| openat(directory.as_fd(), c".", flags, mode))
    }
}
