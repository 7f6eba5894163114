//! The files that are used: made on the host before, gone after.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::job::Set;
use crate::settings::Amounts;

/// A file of the tree has at least this many bytes: the largest block.
const LEAST_FILE: u64 = 1 << 20;
/// The tree has at most this many files, fewer than a process may have open at once.
const MOST_FILES: u64 = 512;
const FILES_IN_FOLDER: u64 = 32;
const NAMES_IN_FOLDER: u32 = 1000;

/// Where the files are, as some system sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// They are in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// All of it.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The one large file.
    pub fn one(&self) -> PathBuf {
        self.0.join("one/data")
    }

    /// The root of the tree.
    pub fn many(&self) -> PathBuf {
        self.0.join("many")
    }

    /// The file that is written.
    pub fn written(&self) -> PathBuf {
        self.0.join("written/data")
    }

    /// Where the empty files are.
    pub fn names(&self) -> PathBuf {
        self.0.join("names")
    }

    /// Images of them, and of programs.
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Our own executable, where every system finds it.
    pub fn worker(&self) -> PathBuf {
        self.0.join("worker")
    }

    /// The folder of a set.
    pub fn set(&self, set: Set) -> PathBuf {
        self.0.join(match set {
            Set::One => "one",
            Set::Many => "many",
            Set::Written => "written",
            Set::Names => "names",
        })
    }
}

/// The path of empty file `number` below `folder`. No listing is needed to find it, so that none is measured.
pub fn name(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("d{:03}/f{:03}", number / NAMES_IN_FOLDER, number % NAMES_IN_FOLDER))
}

/// The files of a run. They go when this does.
pub struct Data {
    folder: TempDir,
    place: Place,
}

impl Data {
    /// Makes a folder of its own in `folder`, with a copy of the executable at `worker` and the files of `sets`.
    ///
    /// # Errors
    /// What could not be made: the path and the reason.
    pub fn new(folder: &Path, worker: &Path, sets: &[Set], amounts: &Amounts) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        let folder = tempfile::Builder::new().prefix("diolkos-bench-").tempdir_in(folder).map_err(failed)?;
        // Another name of the folder (a link, a relative one) may not exist in a guest.
        let place = Place::new(&folder.path().canonicalize().map_err(failed)?);
        let failed = |error: io::Error| format!("cannot make the files to measure in {}: {error}", place.0.display());
        fs::copy(worker, place.worker()).map_err(failed)?;
        for set in sets {
            make(*set, &place, amounts).map_err(failed)?;
        }
        Ok(Self { folder, place })
    }

    /// Where they are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A folder for what else a system needs on the host, which goes with the files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> io::Result<PathBuf> {
        let path = self.folder.path().join("scratch");
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Brings the content of a set into the host's page cache, where it is usually still.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn touch(&self, set: Set) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        match set {
            Set::Names => Ok(()),
            set => touch(&self.place.set(set), &mut buffer),
        }
    }
}

fn make(set: Set, place: &Place, amounts: &Amounts) -> io::Result<()> {
    fs::create_dir_all(place.set(set))?;
    match set {
        Set::One => fill(&place.one(), amounts.size, amounts.write_size),
        Set::Written => fill(&place.written(), amounts.written(), amounts.write_size),
        Set::Many => {
            let files = (amounts.size / LEAST_FILE).clamp(1, MOST_FILES);
            // Whole MiB, so that every block of the largest size is whole, too.
            let size = amounts.size / files / LEAST_FILE * LEAST_FILE;
            (0..files).try_for_each(|number| {
                let folder = place.many().join(format!("d{:03}", number / FILES_IN_FOLDER));
                fs::create_dir_all(&folder)?;
                fill(&folder.join(format!("f{:03}", number % FILES_IN_FOLDER)), size, amounts.write_size)
            })
        }
        Set::Names => (0..amounts.names).try_for_each(|number| {
            let path = name(&place.names(), number);
            if number % NAMES_IN_FOLDER == 0 {
                fs::create_dir_all(path.parent().expect("a name lies in a folder"))?;
            }
            File::create(path).map(drop)
        }),
    }
}

/// Makes a file of `size` bytes that are no zeros, for the host might keep those in no page at all; by writes of `write_size`
/// bytes, for it keeps them in folios no larger than that.
fn fill(path: &Path, size: u64, write_size: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let block: Vec<u8> =
        (0..write_size / 8).flat_map(|word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let mut left = size;
    while left > 0 {
        let part = left.min(block.len() as u64);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    // Else the host's disk would be busy with it while something is measured.
    file.sync_all()
}

fn touch(path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| touch(&entry?.path(), buffer));
    }
    let mut file = File::open(path)?;
    while file.read(buffer)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_sizes_asked_for_and_go_with_the_run() {
        let amounts = Amounts { size: 16 << 20, names: 1002, ..Amounts::QUICK };
        let home = tempfile::tempdir().unwrap();
        let worker = home.path().join("executable");
        fs::write(&worker, "x").unwrap();
        let data = Data::new(home.path(), &worker, &[Set::One, Set::Many, Set::Written, Set::Names], &amounts).unwrap();
        let place = data.place().clone();
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert_eq!((size(&place.one()), size(&place.written())), (16 << 20, 16 << 20));
        let folders: Vec<_> = fs::read_dir(place.many()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let files: Vec<_> = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files.iter().map(|file| size(file)).sum::<u64>(), 16 << 20);
        assert!(files.iter().all(|file| size(file).is_multiple_of(1 << 20)));
        assert!(name(&place.names(), 1001).ends_with("d001/f001") && name(&place.names(), 1001).is_file());
        assert!(place.worker().is_file());
        for set in [Set::One, Set::Many, Set::Names] {
            data.touch(set).unwrap();
        }
        drop(data);
        assert!(!place.folder().exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Data::new(Path::new("/nonexistent/x"), Path::new("/bin/true"), &[], &Amounts::QUICK).err().unwrap();
        assert!(error.starts_with("/nonexistent/x: "), "{error}");
    }
}
