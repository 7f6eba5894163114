//! Mounts: file systems tied to places in the tree.

use crate::dentry::{Dentry, Location};
use crate::{Inode, InodeId, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// What `/proc/mounts` says of a mount, and whether it may be written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountSpec {
    /// The device or share, such as a virtio-fs tag.
    pub source: String,
    /// The file system's name, such as `tmpfs`.
    pub fs_type: String,
    /// Options beside `ro` and `rw`, separated by commas; may be empty.
    pub options: String,
    /// Refuse every change with `EROFS`, whatever the file system would allow.
    pub read_only: bool,
}

/// The directory and the name that a mount covers.
pub(crate) struct MountPoint {
    pub(crate) dir: Location,
    pub(crate) name: Box<[u8]>,
}

/// A file system at its place in the tree.
pub struct Mount {
    id: u64,
    root: Arc<Dentry>,
    /// `None` for the root of everything, and for what lies outside the tree.
    point: Option<MountPoint>,
    spec: MountSpec,
}

impl Mount {
    pub(crate) fn new(root: Arc<dyn Inode>, point: Option<MountPoint>, spec: MountSpec) -> Arc<Self> {
        Self::build(Dentry::detached(root, b""), point, spec)
    }

    /// The mount of a thing that has no place in the tree.
    pub(crate) fn anonymous(root: Arc<Dentry>) -> Arc<Self> {
        Self::build(root, None, MountSpec::default())
    }

    fn build(root: Arc<Dentry>, point: Option<MountPoint>, spec: MountSpec) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), root, point, spec })
    }

    /// A number no other mount of this machine ever has (`stx_mnt_id` of statx(2)).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it was mounted with.
    pub fn spec(&self) -> &MountSpec {
        &self.spec
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.spec.read_only
    }

    /// Makes everything written to the file system safe (syncfs(2)).
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(self: &Arc<Self>) -> Result<()> {
        Location::root_of(self.clone()).inode().sync_fs()
    }

    /// Where it is mounted, as an absolute path.
    pub fn target(self: &Arc<Self>) -> Vec<u8> {
        Location::root_of(self.clone()).path()
    }

    pub(crate) fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    pub(crate) fn point(&self) -> Option<&MountPoint> {
        self.point.as_ref()
    }
}

type MountsByName = BTreeMap<Box<[u8]>, Arc<Mount>>;

/// All mounts but the root, found by what they cover: the directory as seen through its mount, and the name.
#[derive(Default)]
pub(crate) struct MountTable {
    by_dir: BTreeMap<(u64, InodeId), MountsByName>,
    in_order: Vec<Arc<Mount>>,
}

impl MountTable {
    pub(crate) fn find(&self, dir: &Location, name: &[u8]) -> Option<&Arc<Mount>> {
        self.in_dir(dir)?.get(name)
    }

    /// The mounts whose mount points lie in `dir`, by name.
    pub(crate) fn in_dir(&self, dir: &Location) -> Option<&MountsByName> {
        self.by_dir.get(&(dir.mount().id(), dir.id()))
    }

    /// Whether any mount point lies in the file system mounted as `mount`.
    pub(crate) fn any_on(&self, mount: &Mount) -> bool {
        self.by_dir.keys().any(|(id, _)| *id == mount.id)
    }

    /// Adds a mount; gives `false` when its mount point is taken.
    pub(crate) fn insert(&mut self, mount: Arc<Mount>) -> bool {
        let Some(point) = mount.point() else { return false };
        let names = self.by_dir.entry((point.dir.mount().id(), point.dir.id())).or_default();
        if names.contains_key(&point.name) {
            return false;
        }
        names.insert(point.name.clone(), mount.clone());
        self.in_order.push(mount);
        true
    }

    /// In the order in which they were mounted.
    pub(crate) fn in_order(&self) -> &[Arc<Mount>] {
        &self.in_order
    }
}

/// One line of `/proc/mounts` (proc_mounts(5)), with its octal escapes.
pub(crate) fn proc_line(mount: &Arc<Mount>, line: &mut Vec<u8>) {
    let spec = mount.spec();
    let field = |line: &mut Vec<u8>, bytes: &[u8]| {
        for &byte in bytes {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                    line.push(b'\\');
                    line.extend([6, 3, 0].map(|shift| b'0' + (byte >> shift & 7)));
                }
                _ => line.push(byte),
            }
        }
    };
    let source = if spec.source.is_empty() { "none" } else { &spec.source };
    field(line, source.as_bytes());
    line.push(b' ');
    field(line, &mount.target());
    line.push(b' ');
    field(line, spec.fs_type.as_bytes());
    line.extend_from_slice(if spec.read_only { b" ro" } else { b" rw" });
    if !spec.options.is_empty() {
        line.push(b',');
        field(line, spec.options.as_bytes());
    }
    line.extend_from_slice(b" 0 0\n");
}
