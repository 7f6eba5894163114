//! A directory of the host, in an order that does not change.

use crate::Result;
use crate::error::at;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// A file of the tree.
pub(crate) struct Entry {
    /// Its path below the tree's root; empty for that.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
}

/// Everything in a directory, itself first, each directory before what is in it, names in the order of their bytes.
pub(crate) fn scan(root: &Path) -> Result<Vec<Entry>> {
    let metadata = fs::metadata(root).map_err(at(root))?;
    let mut entries = vec![Entry { path: PathBuf::new(), metadata }];
    let mut left = vec![PathBuf::new()];
    while let Some(directory) = left.pop() {
        let host = root.join(&directory);
        for entry in fs::read_dir(&host).map_err(at(&host))? {
            let path = directory.join(entry.map_err(at(&host))?.file_name());
            let host = root.join(&path);
            let metadata = fs::symlink_metadata(&host).map_err(at(&host))?;
            if metadata.is_dir() {
                left.push(path.clone());
            }
            entries.push(Entry { path, metadata });
        }
    }
    // By components: a directory comes before what is in it, and its neighbours after.
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}
