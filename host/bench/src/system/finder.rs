//! Where programs of others are.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::Missing;

/// The folders of PATH, and the root of the file system; a test has others.
#[derive(Debug, Clone)]
pub struct Finder {
    folders: Vec<PathBuf>,
    root: PathBuf,
}

impl Finder {
    /// The folders of `path`, separated by colons, and below them Debian's for administrators.
    pub fn new(path: Option<&OsStr>) -> Self {
        let mut folders: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        folders.extend(["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin"].map(PathBuf::from));
        Self { folders, root: "/".into() }
    }

    /// A file system of its own below `root`, whose programs are all in `bin`.
    #[cfg(test)]
    pub fn below(root: &std::path::Path) -> Self {
        Self { folders: vec![root.join("bin")], root: root.to_owned() }
    }

    /// The program called `name`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// The same, of a package that has to be installed.
    ///
    /// # Errors
    /// It is not there.
    pub fn needed(&self, name: &str, package: &str) -> Result<PathBuf, Missing> {
        self.program(name).ok_or_else(|| Missing {
            why: format!("{name} is not installed"),
            remedy: format!("apt install {package}"),
        })
    }

    /// The root of the file system.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// The first of some absolute paths that is there.
    pub fn first(&self, paths: &[&str]) -> Option<PathBuf> {
        paths.iter().map(|path| self.root.join(path.trim_start_matches('/'))).find(|path| path.exists())
    }

    /// Whether something, a device for instance, can be used for reading and writing.
    ///
    /// # Errors
    /// Why not.
    pub fn usable(&self, path: &str) -> Result<(), String> {
        let path = self.root.join(path.trim_start_matches('/'));
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(&path);
        opened.map(drop).map_err(|error| format!("{}: {error}", path.display()))
    }
}
