//! The host's side: system calls in a directory on its tmpfs that this thread takes for the root.

use crate::ops::{Answer, Op, Path, Shown, Value, World};
use diolkos_vfs::OpenFlags;
use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The way out of the changed root, and what to clean up.
pub struct Host {
    real_root: File,
    directory: PathBuf,
}

impl Host {
    /// Changes the root directory of this thread to an empty directory.
    pub fn new() -> Self {
        let template = CString::new("/dev/shm/diolkos-vfs-XXXXXX").unwrap();
        let real_root = File::open("/").unwrap();
        let template = template.into_raw();
        // SAFETY: plain system calls on a string that stays alive; mkdtemp writes within it.
        let directory = unsafe {
            assert!(!libc::mkdtemp(template).is_null(), "/dev/shm: {}", Error::last_os_error());
            let directory = CString::from_raw(template);
            assert_eq!(libc::unshare(libc::CLONE_FS), 0, "unshare: {}", Error::last_os_error());
            assert_eq!(libc::chroot(directory.as_ptr()), 0, "chroot (needs root): {}", Error::last_os_error());
            assert_eq!(libc::chdir(c"/".as_ptr()), 0);
            libc::umask(0);
            directory
        };
        let host = Self { real_root, directory: directory.into_string().unwrap().into() };
        // mkdtemp's 0700 is not what our root has.
        assert_eq!(host.run(&Op::Chmod(Path::new("/"), 0o755)), Ok(Value::Done));
        host
    }

    /// Makes an empty directory the root, in place of the last one this made.
    pub fn fresh_root(&self) {
        let path = self.directory.join("root");
        let text = CString::new(path.to_str().unwrap()).unwrap();
        assert!(self.leave(), "chroot: {}", Error::last_os_error());
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        std::fs::create_dir(&path).unwrap();
        // SAFETY: plain system calls on a string that stays alive.
        unsafe {
            assert_eq!(libc::chmod(text.as_ptr(), 0o755), 0);
            assert_eq!(libc::chroot(text.as_ptr()), 0);
            assert_eq!(libc::chdir(c"/".as_ptr()), 0);
        }
    }

    /// Goes back to the real root directory.
    fn leave(&self) -> bool {
        // SAFETY: plain system calls; the root directory is the thread's own.
        unsafe { libc::fchdir(self.real_root.as_raw_fd()) == 0 && libc::chroot(c".".as_ptr()) == 0 }
    }

    fn attempt(&self, op: &Op) -> Result<Value, i32> {
        const HERE: i32 = libc::AT_FDCWD;
        let call = |path: &Path, call: &dyn Fn(*const libc::c_char) -> i32| -> Result<Value, i32> {
            let path = CString::new(path.0.clone()).unwrap();
            check(call(path.as_ptr())).map(|_| Value::Done)
        };
        let nofollow = |follow: bool| if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        // SAFETY, for every call below: strings are NUL-terminated and outlive the call, results are owned values.
        match op {
            // SAFETY: see above.
            Op::Chdir(path) => call(path, &|p| unsafe { libc::chdir(p) }),
            Op::Getcwd => {
                let mut buffer = [0u8; 8192];
                // SAFETY: the buffer is as long as said. The raw call, since glibc's has a fallback of its own.
                let n = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
                let n = check(n as i32)? as usize;
                Ok(Value::Bytes(buffer[..n - 1].to_vec()))
            }
            Op::Open(path, flags, mode) => stat_of(&open(path, *flags, *mode)?).map(Value::Shown),
            Op::Write(path, flags, offset, length, byte) => {
                let file = open(path, *flags | OpenFlags::WRONLY, 0o644)?;
                let n = match file.write_at(&vec![*byte; *length], *offset) {
                    Ok(n) => n,
                    Err(error) => return Err(error.raw_os_error().unwrap()),
                };
                Ok(Value::Count(n))
            }
            Op::Read(path, offset, length) => read(&open(path, OpenFlags::NONBLOCK, 0)?, *offset, *length),
            Op::Readdir(path) => names(&open(path, OpenFlags::DIRECTORY, 0)?),
            Op::Stat(path, follow) => Ok(Value::Shown(shown(&stat_at(path, nofollow(*follow))?))),
            // SAFETY: see above.
            Op::Access(path, mask) => call(path, &|p| unsafe { libc::access(p, *mask as i32) }),
            // SAFETY: see above.
            Op::Mkdir(path, mode) => call(path, &|p| unsafe { libc::mkdir(p, *mode) }),
            // SAFETY: see above.
            Op::Mknod(path, mode) => call(path, &|p| unsafe { libc::mknod(p, *mode, 0) }),
            Op::Symlink(target, path) => {
                let target = CString::new(target.0.clone()).unwrap();
                // SAFETY: see above.
                call(path, &|p| unsafe { libc::symlink(target.as_ptr(), p) })
            }
            Op::Link(old, new, follow) => {
                let old = CString::new(old.0.clone()).unwrap();
                let flags = if *follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                // SAFETY: see above.
                call(new, &|p| unsafe { libc::linkat(HERE, old.as_ptr(), HERE, p, flags) })
            }
            // SAFETY: see above.
            Op::Unlink(path) => call(path, &|p| unsafe { libc::unlink(p) }),
            // SAFETY: see above.
            Op::Rmdir(path) => call(path, &|p| unsafe { libc::rmdir(p) }),
            Op::Rename(old, new, flags) => {
                let old = CString::new(old.0.clone()).unwrap();
                // SAFETY: see above.
                call(new, &|p| unsafe { libc::renameat2(HERE, old.as_ptr(), HERE, p, flags.bits()) })
            }
            Op::Readlink(path) => {
                let mut buffer = vec![0u8; 8192];
                let path = CString::new(path.0.clone()).unwrap();
                // SAFETY: see above, and the buffer is as long as said.
                let n = unsafe { libc::readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
                buffer.truncate(check(n as i32)? as usize);
                Ok(Value::Bytes(buffer))
            }
            // SAFETY: see above.
            Op::Truncate(path, size) => call(path, &|p| unsafe { libc::truncate(p, *size as i64) }),
            // SAFETY: see above.
            Op::Chmod(path, mode) => call(path, &|p| unsafe { libc::chmod(p, *mode) }),
            Op::Chown(path, uid, gid, follow) => {
                // SAFETY: see above.
                call(path, &|p| unsafe { libc::fchownat(HERE, p, *uid, *gid, nofollow(*follow)) })
            }
            Op::Utimens(path, sec, nsec, follow) => {
                let times = [libc::timespec { tv_sec: *sec, tv_nsec: i64::from(*nsec) }; 2];
                // SAFETY: see above; there are two times.
                call(path, &|p| unsafe { libc::utimensat(HERE, p, times.as_ptr(), nofollow(*follow)) })?;
                let stat = stat_at(path, nofollow(*follow))?;
                Ok(Value::Time(stat.st_mtime, stat.st_mtime_nsec as u32))
            }
            Op::Holding(path, inner) => {
                let file = open(path, OpenFlags::NONBLOCK, 0)?;
                let answer = self.run(inner);
                let held = stat_of(&file)?;
                let bytes = match held.mode & libc::S_IFMT {
                    libc::S_IFREG => match read(&file, 0, 64)? {
                        Value::Bytes(bytes) => bytes,
                        _ => unreachable!("reading gives bytes"),
                    },
                    _ => Vec::new(),
                };
                Ok(Value::Held(Box::new(answer), held, bytes))
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.leave() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

impl World for Host {
    fn run(&self, op: &Op) -> Answer {
        self.attempt(op)
    }
}

fn check(result: i32) -> Result<i32, i32> {
    if result < 0 { Err(Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

fn open(path: &Path, flags: OpenFlags, mode: u32) -> Result<File, i32> {
    let path = CString::new(path.0.clone()).unwrap();
    // SAFETY: the string is NUL-terminated and outlives the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags.bits() as i32 | libc::O_CLOEXEC, mode) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn read(file: &File, offset: u64, length: usize) -> Result<Value, i32> {
    let mut bytes = vec![0; length];
    let n = file.read_at(&mut bytes, offset).map_err(|error| error.raw_os_error().unwrap())?;
    bytes.truncate(n);
    Ok(Value::Bytes(bytes))
}

fn stat_at(path: &Path, flags: i32) -> Result<libc::stat, i32> {
    let path = CString::new(path.0.clone()).unwrap();
    let mut stat = MaybeUninit::uninit();
    // SAFETY: the string is NUL-terminated and outlives the call; the kernel fills the structure.
    check(unsafe { libc::fstatat(libc::AT_FDCWD, path.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

fn stat_of(file: &File) -> Result<Shown, i32> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: the kernel fills the structure.
    check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded.
    Ok(shown(unsafe { stat.assume_init_ref() }))
}

fn shown(stat: &libc::stat) -> Shown {
    Shown {
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
    }
}

/// getdents64(2), read by hand so that the dots and types are seen as the kernel gives them.
fn names(file: &File) -> Result<Value, i32> {
    let mut names = Vec::new();
    loop {
        let mut buffer = [0u8; 4096];
        // SAFETY: the buffer is as long as said.
        let n = unsafe { libc::syscall(libc::SYS_getdents64, file.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let n = check(n as i32)? as usize;
        if n == 0 {
            break;
        }
        let mut rest = &buffer[..n];
        // linux_dirent64: ino u64, off i64, reclen u16, type u8, name with NUL.
        while let Some(header) = rest.first_chunk::<19>() {
            let length = usize::from(u16::from_ne_bytes([header[16], header[17]]));
            let name = rest[19..length].split(|byte| *byte == 0).next().unwrap_or_default();
            names.push((name.to_vec(), header[18]));
            rest = &rest[length..];
        }
    }
    names.sort();
    Ok(Value::Names(names))
}
