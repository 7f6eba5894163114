//! What a virtio-fs daemon may see and change, decided before it runs.
//!
//! QEMU's daemon has no read-only mode, so the directory itself is made read-only for it: a private copy of the mount
//! tree under it, read-only throughout (also where other file systems are mounted in it), takes the place of the
//! directory's descriptor, and the daemon serves whatever that descriptor is. The copy has no name, and goes when the
//! daemon goes. All of this happens in the child between fork and exec, by bare system calls.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, open};
use rustix::mount::{OpenTreeFlags, open_tree};

/// The restrictions of one daemon.
#[derive(Debug)]
pub struct Confinement {
    /// A user namespace of its own, in which an ordinary user holds the rights that the steps below need.
    user: Option<UserMap>,
    /// The directory to serve and its descriptor, where it must be read-only. Its path is what is copied: in a mount
    /// namespace of its own the child may copy no tree that was opened outside.
    read_only: Option<(CString, RawFd)>,
}

/// The lines that map our user and group to root inside a new user namespace (user_namespaces(7)).
#[derive(Debug)]
struct UserMap {
    uid: Vec<u8>,
    gid: Vec<u8>,
}

impl Confinement {
    /// For a daemon that serves the directory `path`, open at `source`, which must stay open until it has started.
    ///
    /// # Errors
    /// `path` cannot be named in a system call.
    pub fn new(source: BorrowedFd, path: &Path, writable: bool) -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let map = |id: u32| format!("0 {id} 1\n").into_bytes();
        let read_only =
            if writable { None } else { Some((CString::new(path.as_os_str().as_bytes())?, source.as_raw_fd())) };
        Ok(Self {
            user: (!uid.is_root()).then(|| UserMap { uid: map(uid.as_raw()), gid: map(gid.as_raw()) }),
            read_only,
        })
    }

    /// Confines the calling process.
    ///
    /// Safe to call between fork and exec: it allocates nothing and takes no lock.
    ///
    /// # Errors
    /// The kernel refuses a step; then the process must not go on.
    pub fn apply(&self) -> io::Result<()> {
        if let Some(user) = &self.user {
            // SAFETY: unshare(2) has no memory effects, and the child between fork and exec has one thread only.
            check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }.into())?;
            write_file(c"/proc/self/setgroups", b"deny")?;
            write_file(c"/proc/self/uid_map", &user.uid)?;
            write_file(c"/proc/self/gid_map", &user.gid)?;
        }
        match &self.read_only {
            Some((path, number)) => replace_by_read_only(path, *number),
            None => Ok(()),
        }
    }
}

/// Puts a read-only copy of the mount tree at `path` in the place of the descriptor `number`. The tree lives as long as
/// that is open.
fn replace_by_read_only(path: &CStr, number: RawFd) -> io::Result<()> {
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE)?;
    set_read_only(tree.as_raw_fd())?;
    // SAFETY: dup2(2) has no memory effects. The number stays open and inherited; nobody in this process owns it.
    check(unsafe { libc::dup2(tree.as_raw_fd(), number) }.into())
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_read_only(tree: i32) -> io::Result<()> {
    /// MOUNT_ATTR_RDONLY of linux/mount.h.
    const READ_ONLY: u64 = 1;
    let attributes = MountAttributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = AtFlags::EMPTY_PATH.bits() | OpenTreeFlags::AT_RECURSIVE.bits();
    // SAFETY: the path is a C string and the attributes a structure of the size given; both outlive the call.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree, c"".as_ptr(), flags, &attributes, size_of::<MountAttributes>())
    })
}

fn write_file(path: &CStr, text: &[u8]) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // These files take a whole line or nothing.
    rustix::io::write(file, text)?;
    Ok(())
}

fn check(result: i64) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// Runs `script` in the directory that a daemon confined to `source` would serve; `None` where this user may not
    /// do that.
    fn run(source: &Path, writable: bool, script: &str) -> Option<bool> {
        let directory = std::fs::File::open(source).unwrap();
        let number = directory.as_raw_fd();
        let confinement = Confinement::new(directory.as_fd(), source, writable).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // SAFETY: apply() is made for this place, and fchdir(2) too: they neither allocate nor lock.
        unsafe {
            command.pre_exec(move || {
                confinement.apply()?;
                check(libc::fchdir(number).into())
            })
        };
        match command.status() {
            Ok(status) => Some(status.success()),
            Err(error) => {
                println!("SKIPPED: this user cannot make mounts read-only here: {error}");
                assert!(std::env::var_os("CI").is_none(), "confinement must be tested in CI");
                None
            }
        }
    }

    #[test]
    fn a_read_only_directory_can_be_read_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let Some(read) = run(folder.path(), false, "cat a >/dev/null") else { return };
        assert!(read);
        assert_eq!(
            run(folder.path(), false, "{ echo y >a; } 2>/dev/null || { echo y >b; } 2>/dev/null || rm a 2>/dev/null"),
            Some(false)
        );
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"x");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_file_systems_below_it_are_read_only_too() {
        let Some(written) = run(Path::new("/"), false, "{ : >dev/shm/diolkos-test; } 2>/dev/null") else { return };
        assert!(!written && !Path::new("/dev/shm/diolkos-test").exists());
    }
}
