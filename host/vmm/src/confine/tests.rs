//! What a confined thread can still do, tried by a thread of the test.

use super::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A directory to share with a file and a directory in it, and one beside it that is not shared.
struct Scene {
    parent: tempfile::TempDir,
    shared: OwnedFd,
}

impl Scene {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        for name in ["shared", "shared/sub", "outside"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        fs::write(parent.path().join("shared/file"), "inside").unwrap();
        fs::write(parent.path().join("outside/secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside/secret", parent.path().join("shared/link")).unwrap();
        let shared =
            openat(CWD, parent.path().join("shared"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        Self { parent, shared }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.parent.path().join(name)
    }

    fn openat(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.shared, name, flags | OFlags::CLOEXEC, Mode::from(0o600))
    }

    /// Runs `body` on a thread confined to the share, as the machine is.
    fn confined<T: Send>(&self, writable: bool, body: impl FnOnce(Confined) -> T + Send) -> T {
        self.confined_behind(Front::Machine, writable, body)
    }

    fn confined_behind<T: Send>(&self, front: Front, writable: bool, body: impl FnOnce(Confined) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let confined = confine_thread(&[Directory { fd: self.shared.as_fd(), writable }], front).unwrap();
                body(confined)
            });
            thread.join().unwrap()
        })
    }
}

/// Whether this kernel has Landlock; where it has not, tests of it are skipped, aloud, and in CI they fail.
fn landlock(confined: Confined) -> bool {
    if confined.files == Files::NotAtAll {
        println!("SKIPPED: this kernel has no Landlock");
        assert!(std::env::var_os("CI").is_none(), "confinement must be tested in CI");
        return false;
    }
    true
}

fn call(number: i64, arguments: [i64; 3]) -> Errno {
    // SAFETY: every call made here gets pointers that are null, which the kernel reports, or none.
    let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
    assert_eq!(result, -1, "call {number} went through");
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()
}

#[test]
fn files_outside_the_shares_are_out_of_reach() {
    let scene = Scene::new();
    let open_before = File::open(scene.path("outside/secret")).unwrap();
    for writable in [false, true] {
        scene.confined(writable, |confined| {
            if !landlock(confined) {
                return;
            }
            assert!(scene.openat("file", OFlags::RDONLY).is_ok());
            assert!(scene.openat("sub", OFlags::RDONLY | OFlags::DIRECTORY).is_ok());
            for path in [scene.path("outside/secret").as_path(), Path::new("/etc/shadow"), Path::new("/proc/self/mem")]
            {
                assert_eq!(openat(CWD, path, OFlags::RDONLY, Mode::empty()).unwrap_err(), Errno::ACCESS, "{path:?}");
            }
            assert_eq!(scene.openat("../outside/secret", OFlags::RDONLY).unwrap_err(), Errno::ACCESS);
            assert_eq!(scene.openat("link", OFlags::RDONLY).unwrap_err(), Errno::ACCESS, "a link that is followed");
            assert_eq!(openat(CWD, "/", OFlags::RDONLY, Mode::empty()).unwrap_err(), Errno::ACCESS);
            let mut byte = [0];
            assert_eq!(rustix::io::pread(&open_before, &mut byte, 0), Ok(1), "what is open stays open");
        });
    }
}

#[test]
fn a_file_moved_out_of_a_share_cannot_be_opened_any_more() {
    let scene = Scene::new();
    let held = scene.openat("file", OFlags::PATH).unwrap();
    fs::rename(scene.path("shared/file"), scene.path("outside/file")).unwrap();
    scene.confined(true, |confined| {
        if !landlock(confined) {
            return;
        }
        use std::os::fd::AsRawFd;
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        assert_eq!(openat(CWD, again, OFlags::RDONLY, Mode::empty()).unwrap_err(), Errno::ACCESS);
    });
}

#[test]
fn a_read_only_share_is_read_only_for_the_process_too() {
    let scene = Scene::new();
    scene.confined(false, |confined| {
        assert_eq!(mkdirat(&scene.shared, "new", Mode::from(0o700)), Err(Errno::NOSYS));
        assert_eq!(unlinkat(&scene.shared, "file", AtFlags::empty()), Err(Errno::NOSYS));
        assert_eq!(call(libc::SYS_fchmodat, [0, 0, 0]), Errno::NOSYS);
        if landlock(confined) {
            assert_eq!(scene.openat("file", OFlags::WRONLY).unwrap_err(), Errno::ACCESS);
            assert_eq!(scene.openat("new", OFlags::WRONLY | OFlags::CREATE).unwrap_err(), Errno::ACCESS);
        }
    });
    assert_eq!(fs::read_dir(scene.path("shared")).unwrap().count(), 3);
}

#[test]
fn a_disk_that_is_open_can_be_used_whatever_the_shares_are() {
    use rustix::fs::{FallocateFlags, fallocate, fdatasync};
    let scene = Scene::new();
    let path = scene.path("outside/secret");
    let open = |write| File::options().read(true).write(write).open(&path).unwrap();
    let (disk, read_only) = (open(true), open(false));
    scene.confined(false, |_| {
        let punch = |file: &File| fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 1);
        assert_eq!(rustix::io::pwrite(&disk, b"x", 0), Ok(1));
        assert_eq!(fdatasync(&disk), Ok(()));
        assert!(matches!(punch(&disk), Ok(()) | Err(Errno::OPNOTSUPP)));
        assert_eq!(punch(&read_only), Err(Errno::BADF));
    });
}

#[test]
fn a_writable_share_can_be_changed_and_nothing_beside_it() {
    let scene = Scene::new();
    scene.confined(true, |confined| {
        drop(scene.openat("new", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).unwrap());
        mkdirat(&scene.shared, "directory", Mode::from(0o700)).unwrap();
        // From one directory to another: what Landlock's first version forbids everywhere.
        renameat_with(&scene.shared, "new", &scene.shared, "directory/new", RenameFlags::NOREPLACE).unwrap();
        unlinkat(&scene.shared, "directory/new", AtFlags::empty()).unwrap();
        if landlock(confined) {
            assert_eq!(mkdirat(CWD, scene.path("outside/new"), Mode::from(0o700)), Err(Errno::ACCESS));
            assert_eq!(unlinkat(CWD, scene.path("outside/secret"), AtFlags::empty()), Err(Errno::ACCESS));
            let moved = renameat_with(&scene.shared, "file", CWD, scene.path("outside/file"), RenameFlags::empty());
            assert!(matches!(moved, Err(Errno::ACCESS | Errno::XDEV)), "{moved:?}");
        }
    });
    assert!(scene.path("outside/secret").exists() && !scene.path("outside/new").exists());
}

#[test]
fn programs_sockets_and_other_processes_are_out_of_reach() {
    let scene = Scene::new();
    scene.confined(true, |_| {
        for (name, number) in [
            ("execve", libc::SYS_execve),
            ("execveat", libc::SYS_execveat),
            ("fork", libc::SYS_fork),
            ("vfork", libc::SYS_vfork),
            ("clone3", libc::SYS_clone3),
            ("clone of a process", libc::SYS_clone),
            ("socket", libc::SYS_socket),
            ("connect", libc::SYS_connect),
            ("ptrace", libc::SYS_ptrace),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("kill", libc::SYS_kill),
            ("mount", libc::SYS_mount),
            ("unshare", libc::SYS_unshare),
            ("chroot", libc::SYS_chroot),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("bpf", libc::SYS_bpf),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("init_module", libc::SYS_init_module),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("seccomp", libc::SYS_seccomp),
        ] {
            assert_eq!(call(number, [0; 3]), Errno::NOSYS, "{name}");
        }
        // To look at ourselves is allowed, and to look at our parent not.
        let parent = std::os::unix::process::parent_id().into();
        assert_eq!(call(libc::SYS_process_vm_readv, [parent, 0, 0]), Errno::NOSYS);
        assert_eq!(call(libc::SYS_tgkill, [parent, parent, 0]), Errno::NOSYS);
        // TIOCSTI would type commands into the terminal diolkos was started from.
        assert_eq!(call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0]), Errno::NOSYS);
        assert_eq!(call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0]), Errno::NOSYS);
        assert!(std::process::Command::new("/bin/true").status().is_err());
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
    });
}

#[test]
fn threads_can_still_be_started_and_inherit_the_cage() {
    let scene = Scene::new();
    scene.confined(false, |_| {
        let inner = std::thread::spawn(|| call(libc::SYS_socket, [0; 3]));
        assert_eq!(inner.join().unwrap(), Errno::NOSYS);
    });
}

#[test]
fn new_privileges_and_most_capabilities_are_gone() {
    let status = |name: &str| {
        let text = fs::read_to_string("/proc/thread-self/status").unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim().to_owned()
    };
    // Without the Landlock step, which would close /proc to us.
    let after = |writable: bool| {
        let thread = std::thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            capabilities::reduce(writable).unwrap();
            let mask = |name| u64::from_str_radix(&status(name), 16).unwrap();
            (status("NoNewPrivs"), mask("CapEff"), mask("CapPrm"), mask("CapInh"))
        });
        thread.join().unwrap()
    };
    // Bits as capabilities(7) numbers them: CHOWN 0, DAC_OVERRIDE 1, DAC_READ_SEARCH 2, FOWNER 3, FSETID 4, SETGID 6,
    // SETUID 7.
    let (no_new, effective, permitted, inheritable) = after(true);
    assert_eq!((no_new.as_str(), inheritable), ("1", 0));
    assert_eq!((effective | permitted) & !0b1101_1111, 0);
    let (_, effective, permitted, _) = after(false);
    assert_eq!((effective | permitted) & !0b110, 0);
    if rustix::process::geteuid().is_root() {
        assert_eq!(effective, 0b110);
    }
}

#[test]
fn a_process_with_more_threads_is_not_confined_by_halves() {
    let scene = Scene::new();
    // The test itself runs on a second thread.
    let result = confine(&[Directory { fd: scene.shared.as_fd(), writable: false }], Front::Machine);
    assert!(matches!(result, Err(ConfineError::Threads(2..))), "{result:?}");
    assert!(File::open("/proc/self/status").is_ok());
}

#[test]
fn a_daemon_hears_its_front_end_and_reaches_nobody_else() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    const KVM_GET_API_VERSION: i64 = 0xae00;
    let (mut here, mut there) = UnixStream::pair().unwrap();
    Scene::new().confined_behind(Front::Socket, true, |_| {
        there.write_all(b"x").unwrap();
        here.read_exact(&mut [0]).unwrap();
        here.shutdown(std::net::Shutdown::Both).unwrap();
        // Not forbidden, but there is no message to send or receive.
        for number in [libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_accept4] {
            assert_eq!(call(number, [-1, 0, 0]), Errno::BADF, "{number}");
        }
        for number in [libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_execve] {
            assert_eq!(call(number, [-1, 0, 0]), Errno::NOSYS, "{number}");
        }
        assert_eq!(call(libc::SYS_ioctl, [0, KVM_GET_API_VERSION, 0]), Errno::NOSYS);
    });
    Scene::new().confined(true, |_| {
        for number in [libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_accept4] {
            assert_eq!(call(number, [-1, 0, 0]), Errno::NOSYS, "{number}");
        }
    });
}
