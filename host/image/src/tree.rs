//! A directory of the host, in an order that does not change.

use crate::error::at;
use crate::{Error, Result};
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of the tree.
pub(crate) struct Entry {
    /// Its path below the tree's root; empty for that.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
}

impl Entry {
    /// Opens the regular file below `root` that this is.
    ///
    /// # Errors
    /// It cannot be opened; or another has its name now, by a symbolic link perhaps: whoever may write to the directory must
    /// not have us read what they may not.
    pub(crate) fn open(&self, root: &Path) -> Result<File> {
        let host = root.join(&self.path);
        // NONBLOCK: what has become a fifo is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(open(&host, flags, Mode::empty()).map_err(|errno| at(&host)(errno.into()))?);
        let found = file.metadata().map_err(at(&host))?;
        if (found.dev(), found.ino()) != (self.metadata.dev(), self.metadata.ino()) {
            return Err(Error::Unfit { path: host, what: "another file has taken its place" });
        }
        Ok(file)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_the_file_that_was_found_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (name, secret) = (dir.path().join("name"), dir.path().join("secret"));
        fs::write(&name, "own").unwrap();
        fs::write(&secret, "not to be seen").unwrap();
        let entries = scan(dir.path()).unwrap();
        let entry = entries.iter().find(|entry| entry.path == Path::new("name")).unwrap();
        let mut text = String::new();
        entry.open(dir.path()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "own");
        // Kept, so that its inode cannot come again.
        fs::rename(&name, dir.path().join("kept")).unwrap();
        let fifo = || rustix::fs::mknodat(rustix::fs::CWD, &name, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let take_place: [&dyn Fn(); 3] =
            [&|| symlink("secret", &name).unwrap(), &|| fs::hard_link(&secret, &name).unwrap(), &fifo];
        for take in take_place {
            take();
            assert!(entry.open(dir.path()).unwrap_err().to_string().contains("name: "));
            fs::remove_file(&name).unwrap();
        }
    }
}
