//! The root file system and further mounts, as both sides name them.

use crate::cmdline::ParseError;
use alloc::string::String;
use alloc::vec::Vec;

/// Which file system becomes the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// The first that is there: a share, an EROFS image on a disk, an ext4 file system on one, a cpio archive.
    #[default]
    Auto,
    /// The share of this tag; the one whose target is `/` if none is named.
    Virtiofs(Option<String>),
    /// The EROFS image on the first disk that holds one.
    Rofs,
    /// The ext4 file system on the first disk that holds one, for reading.
    Ext4,
    /// The cpio archive that the machine was given, unpacked into memory.
    Ramfs,
}

/// Names of the kinds, as `root=` and `--rootfs` have them.
const NAMES: [(&str, Root); 5] = [
    ("auto", Root::Auto),
    ("virtiofs", Root::Virtiofs(None)),
    ("rofs", Root::Rofs),
    ("ext4", Root::Ext4),
    ("ramfs", Root::Ramfs),
];

impl Root {
    /// Its name, without the tag.
    pub fn name(&self) -> &'static str {
        let same = |other: &Self| core::mem::discriminant(self) == core::mem::discriminant(other);
        NAMES.iter().find(|(_, root)| same(root)).map_or("", |(name, _)| name)
    }

    /// The tag it names, if it names one.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Virtiofs(tag) => tag.as_deref(),
            _ => None,
        }
    }
}

/// `auto`, `virtiofs[:TAG]`, `rofs`, `ext4` or `ramfs`.
impl core::str::FromStr for Root {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(tag) = text.strip_prefix("virtiofs:").filter(|tag| !tag.is_empty()) {
            return Ok(Self::Virtiofs(Some(tag.into())));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, root)| root.clone()).ok_or_else(|| ParseError(alloc::format!("no root file system '{text}'")))
    }
}

/// A file system to mount beside the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountRequest {
    /// The file system: `virtiofs`, `erofs`, `ext4`, `ext3`, `ext2` or `tmpfs`.
    pub fs_type: String,
    /// The share's tag or the disk; of no meaning for `tmpfs`.
    pub source: String,
    /// Where it appears, an absolute path.
    pub target: Vec<u8>,
    /// Options separated by commas; may be empty.
    pub options: String,
}
