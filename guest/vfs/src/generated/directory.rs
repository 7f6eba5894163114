//! Generated directories.

use super::NodeBuilder;
use super::node::Attributes;
use crate::{DirEntry, DirSink, Errno, File, FileType, Inode, InodeId, Metadata, Name, OpenFlags, Result, StatFs};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// An entry of a computed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What the listing is ordered by, below 2^62: a process or descriptor number. While an entry lives its key
    /// stays the same, so that a listing goes on where it was, whatever came and went.
    pub key: u64,
    /// The name.
    pub name: String,
    /// The type.
    pub file_type: FileType,
    /// The inode number.
    pub ino: u64,
}

type ListFn = dyn Fn() -> Result<Vec<Listed>> + Send + Sync;
type LookupFn = dyn Fn(Name<'_>) -> Result<Arc<dyn Inode>> + Send + Sync;

enum Body {
    Fixed(Vec<(String, Arc<dyn Inode>)>),
    Computed { list: Box<ListFn>, lookup: Box<LookupFn> },
}

/// A directory.
pub(super) struct Directory {
    attributes: Attributes,
    body: Body,
}

impl Directory {
    pub(super) fn fixed(builder: NodeBuilder, entries: Vec<(&str, Arc<dyn Inode>)>) -> Arc<dyn Inode> {
        let entries = entries.into_iter().map(|(name, inode)| (String::from(name), inode)).collect();
        Self::make(builder, Body::Fixed(entries))
    }

    pub(super) fn computed(builder: NodeBuilder, list: Box<ListFn>, lookup: Box<LookupFn>) -> Arc<dyn Inode> {
        Self::make(builder, Body::Computed { list, lookup })
    }

    fn make(builder: NodeBuilder, body: Body) -> Arc<dyn Inode> {
        Arc::new(Self { attributes: Attributes::new(builder, FileType::Directory, 0), body })
    }

    fn listed(&self) -> Result<Vec<Listed>> {
        let entries = match &self.body {
            Body::Computed { list, .. } => {
                let mut entries = list()?;
                entries.sort_by_key(|entry| entry.key);
                return Ok(entries);
            }
            Body::Fixed(entries) => entries,
        };
        let fixed = |(key, (name, inode)): (u64, &(String, Arc<dyn Inode>))| {
            Ok(Listed { key, name: name.clone(), file_type: inode.file_type(), ino: inode.metadata()?.ino })
        };
        (0..).zip(entries).map(fixed).collect()
    }
}

impl Inode for Directory {
    fn id(&self) -> InodeId {
        self.attributes.id()
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn metadata(&self) -> Result<Metadata> {
        let directories = match &self.body {
            Body::Fixed(entries) => {
                entries.iter().filter(|(_, inode)| inode.file_type() == FileType::Directory).count()
            }
            // As in /proc, where they come and go, those inside are not counted.
            Body::Computed { .. } => 0,
        };
        Ok(self.attributes.metadata(2 + directories as u32, 0))
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn Inode>> {
        match &self.body {
            Body::Computed { lookup, .. } => lookup(name),
            Body::Fixed(entries) => {
                let found = entries.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
                found.map(|(_, inode)| inode.clone()).ok_or(Errno::ENOENT)
            }
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        if flags.writes() {
            return Err(Errno::EISDIR);
        }
        Ok(Arc::new(OpenDirectory { inode: self.clone(), directory: self }))
    }

    fn access(&self, mask: u32) -> Result<()> {
        self.attributes.access(mask)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.attributes.statfs())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct OpenDirectory {
    inode: Arc<dyn Inode>,
    directory: Arc<Directory>,
}

/// Cookies 0 and 1 are the dots; an entry's is its key plus this.
const FIRST: u64 = 2;

impl File for OpenDirectory {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// `..` shows this directory's own number: a node does not know where it lies, and path walk never asks.
    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let own = self.directory.attributes.id();
        for (at, name) in [(0, &b"."[..]), (1, b"..")] {
            let id = (at == 0).then_some(own);
            let dot = DirEntry { ino: own.node, next: at + 1, file_type: Some(FileType::Directory), name, id };
            if cookie <= at && !entries(&dot) {
                return Ok(());
            }
        }
        for entry in self.directory.listed()? {
            let at = entry.key.saturating_add(FIRST);
            let shown = DirEntry {
                ino: entry.ino,
                next: at.saturating_add(1),
                file_type: Some(entry.file_type),
                name: entry.name.as_bytes(),
                id: None,
            };
            if at >= cookie && !entries(&shown) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
