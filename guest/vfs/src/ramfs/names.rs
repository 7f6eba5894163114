//! What changes the names in a memory file system. All of it happens under the tree lock.

use super::node::{Body, Node, SGID, maker};
use crate::{Errno, FileType, Inode, Name, RenameFlags, Result};
use alloc::sync::Arc;

/// What a rename moves, and what is in its way.
type Renaming = (Arc<Node>, Option<Arc<Node>>);

impl Node {
    /// The group of what is made in this directory, and whether it is inherited (inode(7), `S_ISGID`).
    pub(crate) fn group_for_new(&self) -> (u32, bool) {
        let inner = self.inner.lock();
        let inherits = inner.mode & SGID != 0;
        (if inherits { inner.gid } else { maker(&self.shared).1 }, inherits)
    }

    /// Makes a node in this directory. The caller has not taken the tree lock.
    pub(super) fn make(&self, name: Name<'_>, mode: u32, rdev: u64, body: Body) -> Result<Arc<Node>> {
        let (gid, inherits) = self.group_for_new();
        let is_dir = matches!(body, Body::Directory(_));
        let mode = if inherits && is_dir { mode | SGID } else { mode };
        let node = Node::new(&self.shared, mode, gid, rdev, body)?;
        if is_dir {
            node.directory(|directory| directory.parent = self.this.clone())?;
        }
        let _tree = self.shared.tree.lock();
        self.directory(|directory| match directory.get(name.as_bytes()) {
            _ if directory.dead => Err(Errno::ENOENT),
            Some(_) => Err(Errno::EEXIST),
            None => {
                directory.insert(name.as_bytes(), node.clone());
                Ok(())
            }
        })??;
        if is_dir {
            self.add_links(1);
        }
        self.touch_content();
        Ok(node)
    }

    /// Takes a name away, and the links that go with it. The caller holds the tree lock, and drops what is
    /// returned after it.
    fn take(&self, name: Name<'_>) -> Result<Option<Arc<Node>>> {
        let taken = self.directory(|directory| directory.remove(name.as_bytes()))?;
        if let Some(node) = &taken {
            node.lose_name();
            if node.kind == FileType::Directory {
                self.add_links(-1);
            }
        }
        self.touch_content();
        Ok(taken)
    }

    /// One name fewer; a directory is gone with its only one.
    fn lose_name(&self) {
        if self.kind == FileType::Directory {
            self.add_links(-2);
            let _ = self.directory(|directory| directory.dead = true);
        } else {
            self.add_links(-1);
        }
    }

    /// Whether this directory is `ancestor` or lies below it. The caller holds the tree lock.
    fn lies_in(&self, ancestor: &Node) -> Result<bool> {
        let mut at = self.this.upgrade();
        while let Some(here) = at {
            if here.ino == ancestor.ino {
                return Ok(true);
            }
            at = here.directory(|directory| directory.parent.upgrade())?;
        }
        Ok(false)
    }

    /// The node of an inode, if it is of this file system.
    pub(super) fn own(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>> {
        let node = inode.as_any().downcast_ref::<Node>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&node.shared, &self.shared) {
            return Err(Errno::EXDEV);
        }
        node.this.upgrade().ok_or(Errno::ENOENT)
    }

    /// link(2).
    pub(super) fn add_name(&self, name: Name<'_>, node: &Arc<Node>) -> Result<()> {
        let _tree = self.shared.tree.lock();
        let (dead, taken) = self.directory(|directory| (directory.dead, directory.get(name.as_bytes()).is_some()))?;
        match () {
            () if dead => return Err(Errno::ENOENT),
            () if taken => return Err(Errno::EEXIST),
            () if node.kind == FileType::Directory => return Err(Errno::EPERM),
            () => node.check_linkable()?,
        }
        self.directory(|directory| directory.insert(name.as_bytes(), node.clone()))?;
        node.gain_name();
        self.touch_content();
        Ok(())
    }

    /// unlink(2).
    pub(super) fn remove_file(&self, name: Name<'_>) -> Result<()> {
        // Declared first, dropped last: freeing a file's pages is not done under the lock.
        let _taken;
        let _tree = self.shared.tree.lock();
        let node = self.child(name)?.ok_or(Errno::ENOENT)?;
        if node.kind == FileType::Directory {
            return Err(Errno::EISDIR);
        }
        _taken = (self.take(name)?, node);
        Ok(())
    }

    /// rmdir(2).
    pub(super) fn remove_directory(&self, name: Name<'_>) -> Result<()> {
        let _taken;
        let _tree = self.shared.tree.lock();
        let node = self.child(name)?.ok_or(Errno::ENOENT)?;
        if node.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !node.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        _taken = (self.take(name)?, node);
        Ok(())
    }

    /// renameat2(2).
    pub(super) fn move_name(&self, name: Name<'_>, to: &Node, new: Name<'_>, flags: RenameFlags) -> Result<()> {
        if flags.contains(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        // Whatever is displaced is dropped after the lock.
        let _displaced;
        let _tree = self.shared.tree.lock();
        let Some((moving, target)) = self.rename_checked(name, to, new, flags)? else { return Ok(()) };
        match &target {
            Some(target) if flags.contains(RenameFlags::EXCHANGE) => {
                self.directory(|directory| directory.insert(name.as_bytes(), target.clone()))?;
                self.adopted(target, to)?;
            }
            _ => {
                if target.is_some() {
                    to.take(new)?;
                }
                self.directory(|directory| directory.remove(name.as_bytes()))?;
            }
        }
        to.directory(|directory| directory.insert(new.as_bytes(), moving.clone()))?;
        to.adopted(&moving, self)?;
        self.touch_content();
        to.touch_content();
        _displaced = (target, moving);
        Ok(())
    }

    /// The checks of rename(2) in Linux' order; gives the node that moves and the one in the way, or `None`
    /// when both names lead to the same inode already and nothing is to be done.
    fn rename_checked(&self, name: Name<'_>, to: &Node, new: Name<'_>, flags: RenameFlags) -> Result<Option<Renaming>> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let moving = self.child(name)?.ok_or(Errno::ENOENT)?;
        if to.is_dead() {
            return Err(Errno::ENOENT);
        }
        let target = to.child(new)?;
        match &target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            _ => {}
        }
        let is_dir = moving.kind == FileType::Directory;
        if is_dir && to.lies_in(&moving)? {
            return Err(Errno::EINVAL);
        }
        let Some(target) = target else { return Ok(Some((moving, None))) };
        let target_is_dir = target.kind == FileType::Directory;
        if target_is_dir && self.lies_in(&target)? {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if moving.ino == target.ino {
            return Ok(None);
        }
        match (is_dir, target_is_dir) {
            _ if exchange => {}
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if !target.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        Ok(Some((moving, Some(target))))
    }

    /// `node` came from `from` to this directory: parent pointer and link counts.
    fn adopted(&self, node: &Node, from: &Node) -> Result<()> {
        if node.kind == FileType::Directory {
            node.directory(|directory| directory.parent = self.this.clone())?;
            from.add_links(-1);
            self.add_links(1);
        }
        node.touch_change();
        Ok(())
    }
}
