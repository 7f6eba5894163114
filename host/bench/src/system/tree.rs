//! The files that a program needs, as a tree of their own to make an image of.
//!
//! Which files these are the program tells itself: it is run once, and every path among the arguments of its system calls is
//! taken. Packages would be no answer: those of Java have hundreds of megabytes that a program of three lines never opens.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Folders that every machine makes itself.
const OF_MACHINES: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// The dynamic linker, which the host's kernel opens without a system call of the program's (System V ABI for x86-64).
const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

/// More links than this on the way to a file are a loop, as on Linux.
const MOST_LINKS: u32 = 40;

/// The paths in what `diolkos run --trace syscalls` wrote while `program` ran, with those of the program itself.
///
/// Strings in a trace that are no paths do no harm: nothing is copied that is not on the host.
pub fn paths(trace: &str, program: &str) -> BTreeSet<PathBuf> {
    let quoted = trace.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    let named = quoted.filter(|word| word.starts_with('/'));
    named.chain([program, LINKER]).map(PathBuf::from).collect()
}

/// Copies what `paths` name below `root` to the same places below `to`: files and links with all that is on the way to
/// them, folders without what is in them. What is not there is left out.
///
/// # Errors
/// Something could not be copied: which, and why.
pub fn copy(paths: &BTreeSet<PathBuf>, root: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for path in paths {
        let mut links = MOST_LINKS;
        copy_one(path, root, to, &mut links).map_err(|error| format!("cannot copy {}: {error}", path.display()))?;
    }
    Ok(())
}

fn copy_one(path: &Path, root: &Path, to: &Path, links: &mut u32) -> io::Result<()> {
    // As far as we have come, without links and without the slash at the beginning.
    let mut here = PathBuf::new();
    let mut rest = path.components();
    while let Some(component) = rest.next() {
        match component {
            Component::ParentDir => {
                here.pop();
            }
            Component::Normal(name) => here.push(name),
            _ => continue,
        }
        if OF_MACHINES.iter().any(|folder| here.as_os_str() == OsStr::new(folder)) {
            return Ok(());
        }
        let (from, copied) = (root.join(&here), to.join(&here));
        let Ok(found) = from.symlink_metadata() else { return Ok(()) };
        let is_there = copied.symlink_metadata().is_ok();
        if found.is_symlink() {
            let target = fs::read_link(&from)?;
            if !is_there {
                std::os::unix::fs::symlink(&target, &copied)?;
            }
            *links = links.checked_sub(1).ok_or(rustix::io::Errno::LOOP)?;
            here.pop();
            return copy_one(&here.join(target).join(rest.as_path()), root, to, links);
        }
        if found.is_dir() {
            fs::create_dir_all(&copied)?;
        } else if found.is_file() && !is_there {
            fs::copy(&from, &copied)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const TRACE: &str = "brk(0) = 0x20bd000\n\
        openat(AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC) = 3\n\
        read(3, \"\\x7fELF\", 832) = 832\n\
        readlink(\"/usr/bin/python3\", \"python3.11\", 4096) = 10\n";

    #[test]
    fn paths_are_found_among_the_arguments_of_calls() {
        let found = paths(TRACE, "/bin/x");
        let expected = ["/bin/x", "/etc/ld.so.cache", LINKER, "/usr/bin/python3"];
        assert_eq!(found, expected.map(PathBuf::from).into());
    }

    #[test]
    fn files_are_copied_with_the_links_that_lead_to_them() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, copied) = (root.path(), to.path().join("tree"));
        for folder in ["usr/lib/deep", "usr/bin", "proc", "etc"] {
            fs::create_dir_all(from.join(folder)).unwrap();
        }
        for file in ["usr/lib/deep/library", "usr/lib/other", "usr/bin/program", "proc/version"] {
            fs::write(from.join(file), file).unwrap();
        }
        fs::set_permissions(from.join("usr/bin/program"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("usr/lib", from.join("lib")).unwrap();
        symlink("/lib/deep", from.join("usr/bin/libraries")).unwrap();
        symlink("loop", from.join("loop")).unwrap();
        let named = ["/usr/bin/libraries/../deep/library", "/usr/bin/program", "/etc", "/proc/version", "/not/there"];
        copy(&named.map(PathBuf::from).into(), from, &copied).unwrap();
        assert_eq!(copied.join("usr/bin/libraries").read_link().unwrap(), Path::new("/lib/deep"));
        assert_eq!(copied.join("lib").read_link().unwrap(), Path::new("usr/lib"));
        assert_eq!(fs::read_to_string(copied.join("usr/lib/deep/library")).unwrap(), "usr/lib/deep/library");
        let mode = copied.join("usr/bin/program").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert!(copied.join("etc").is_dir());
        for absent in ["usr/lib/other", "proc", "not"] {
            assert!(!copied.join(absent).exists(), "{absent}");
        }
        let error = copy(&["/loop".into()].into(), from, &copied).unwrap_err();
        assert!(error.starts_with("cannot copy /loop: "), "{error}");
    }
}
