//! Path walk: path_resolution(7), one component at a time.
//!
//! Search permission is checked here for whom the file systems do not judge themselves ([`crate::caller`]).
//! The hard idea is that a symbolic link's target is put in front of what is left of the path; so "the last
//! component" is only known when it comes, and open(2) can create the target of a dangling link by asking
//! [`Walker::walk_to_parent`] again.

use crate::dentry::Location;
use crate::namespace::Namespace;
use crate::permission::{SEARCH, permit};
use crate::{Errno, FileType, Result};
use alloc::vec::Vec;
use core::ops::Range;

/// Longest path in bytes, with its NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;

/// Symbolic links followed in one walk before `ELOOP`.
const MAX_LINKS: u32 = 40;

/// A walk under way.
pub(crate) struct Walker<'n> {
    namespace: &'n Namespace,
    /// Where the walk stands: a directory, once the first component is taken.
    at: Location,
    rest: Vec<u8>,
    pos: usize,
    links: u32,
}

/// The last component of a path, not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastKind {
    /// Nothing but slashes.
    Root,
    Dot,
    DotDot,
    Normal(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) kind: LastKind,
    /// Whether slashes follow it.
    pub(crate) trailing: bool,
}

/// What following a link led to.
pub(crate) enum Followed {
    /// The target is in front of the rest of the path now.
    Path,
    /// A magic link: straight to this place.
    Place(Location),
}

struct Component {
    bytes: Range<usize>,
    is_last: bool,
    trailing: bool,
}

impl<'n> Walker<'n> {
    /// A walk of `path` that starts at the root or, for a relative path, at `start`.
    ///
    /// # Errors
    /// `ENOENT` for an empty path, `ENAMETOOLONG`, and `ENOTDIR` for a relative path from a non-directory.
    pub(crate) fn new(namespace: &'n Namespace, start: &Location, path: &[u8]) -> Result<Self> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let absolute = path[0] == b'/';
        if !absolute && !start.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let at = if absolute { namespace.root() } else { start.clone() };
        Ok(Self { namespace, at, rest: path.to_vec(), pos: 0, links: 0 })
    }

    /// Where it stands.
    pub(crate) fn at(&self) -> &Location {
        &self.at
    }

    fn next(&mut self) -> Option<Component> {
        let tail = &self.rest[self.pos..];
        let start = self.pos + tail.iter().position(|b| *b != b'/')?;
        let end = self.rest[start..].iter().position(|b| *b == b'/').map_or(self.rest.len(), |n| start + n);
        self.pos = end;
        let is_last = self.rest[end..].iter().all(|b| *b == b'/');
        Some(Component { bytes: start..end, is_last, trailing: is_last && end < self.rest.len() })
    }

    /// Walks up to the directory of the last component and returns that component.
    pub(crate) fn walk_to_parent(&mut self) -> Result<Last> {
        loop {
            let Some(component) = self.next() else { return Ok(Last { kind: LastKind::Root, trailing: true }) };
            permit(self.at.inode(), SEARCH)?;
            let bytes = &self.rest[component.bytes];
            if component.is_last {
                let kind = match bytes {
                    b"." => LastKind::Dot,
                    b".." => LastKind::DotDot,
                    name => LastKind::Normal(name.to_vec()),
                };
                return Ok(Last { kind, trailing: component.trailing });
            }
            let mut found = match bytes {
                b"." => continue,
                b".." => self.up(),
                name => self.child(name)?,
            };
            if found.inode().file_type() == FileType::Symlink {
                match self.follow(&found, false)? {
                    Followed::Path => continue,
                    Followed::Place(place) => found = place,
                }
            }
            if !found.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            self.at = found;
        }
    }

    /// Walks to the end. A link in the last component is followed when `follow` says so or slashes come after it.
    pub(crate) fn find(mut self, follow: bool) -> Result<Location> {
        loop {
            let last = self.walk_to_parent()?;
            let mut found = self.child_last(&last)?;
            if found.inode().file_type() == FileType::Symlink && (follow || last.trailing) {
                match self.follow(&found, last.trailing)? {
                    Followed::Path => continue,
                    Followed::Place(place) => found = place,
                }
            }
            if last.trailing && !found.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            return Ok(found);
        }
    }

    /// What the last component leads to, without following it.
    pub(crate) fn child_last(&self, last: &Last) -> Result<Location> {
        match &last.kind {
            LastKind::Root | LastKind::Dot => Ok(self.at.clone()),
            LastKind::DotDot => Ok(self.up()),
            LastKind::Normal(name) => self.child(name),
        }
    }

    fn up(&self) -> Location {
        self.at.parent().unwrap_or_else(|| self.at.clone())
    }

    fn child(&self, name: &[u8]) -> Result<Location> {
        self.namespace.child(&self.at, name)
    }

    /// Follows a symbolic link found in the directory the walk stands in. With `trailing` its target must be
    /// a directory, as slashes after the link's own name demand.
    pub(crate) fn follow(&mut self, link: &Location, trailing: bool) -> Result<Followed> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        if let Some(place) = link.inode().follow()? {
            return Ok(Followed::Place(place));
        }
        let mut path = link.inode().readlink()?;
        match path.len() {
            0 => return Err(Errno::ENOENT),
            // The target comes from the file system, which may be another's: it grows no walk beyond bounds.
            PATH_MAX.. => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        if path[0] == b'/' {
            self.at = self.namespace.root();
        }
        let rest = &self.rest[self.pos..];
        if trailing || !rest.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(rest);
        self.rest = path;
        self.pos = 0;
        Ok(Followed::Path)
    }
}

impl Last {
    /// The name, where the component is one.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        match &self.kind {
            LastKind::Normal(name) => Some(name),
            _ => None,
        }
    }
}
