//! Our side.

use crate::ops::{Answer, Op, Path, Shown, Value, World};
use diolkos_vfs::ramfs::{Ramfs, RamfsConfig};
use diolkos_vfs::{
    Clock, DirStream, Errno, Inode, Location, Lookup, Metadata, MountSpec, Namespace, NamespaceConfig, OpenFlags,
    Opened, Result, SetMetadata, SetTime, SliceSink, SliceSource, Timespec, WaitQueue,
};
use std::sync::{Arc, Mutex};

/// A namespace whose root is a memory file system, and a working directory.
pub struct Guest {
    pub namespace: Namespace,
    cwd: Mutex<Location>,
}

/// For FIFOs, which the operations open in ways that do not wait.
struct NoWaiting;

impl WaitQueue for NoWaiting {
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool) -> Result<()> {
        if ready() { Ok(()) } else { Err(Errno::EINTR) }
    }

    fn wake_all(&self) {}
}

/// A clock that stands still.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(|| Timespec { sec: 1_800_000_000, nsec: 0 })
}

impl Guest {
    pub fn new() -> Self {
        Self::on(Ramfs::new(RamfsConfig::new(1, clock())).root())
    }

    /// On another file system, whose root directory this is.
    pub fn on(root: Arc<dyn Inode>) -> Self {
        let config = NamespaceConfig {
            scaffold_dev: 99,
            clock: clock(),
            wait_queues: Arc::new(|| Arc::new(NoWaiting) as Arc<dyn WaitQueue>),
        };
        let namespace = Namespace::new(root, MountSpec::default(), config).unwrap();
        Self { cwd: Mutex::new(namespace.root()), namespace }
    }

    fn here(&self) -> Location {
        self.cwd.lock().unwrap().clone()
    }

    fn open(&self, path: &Path, flags: OpenFlags, mode: u32) -> Result<Opened> {
        self.namespace.open(&self.here(), &path.0, flags, mode)
    }

    fn find(&self, path: &Path, follow: bool) -> Result<Location> {
        let how = if follow { Lookup::FOLLOW } else { Lookup::empty() };
        self.namespace.find(&self.here(), &path.0, how)
    }

    fn change(&self, path: &Path, follow: bool, change: SetMetadata) -> Result<Value> {
        self.find(path, follow)?.set_metadata(&change)?;
        Ok(Value::Done)
    }

    fn names(&self, opened: Opened) -> Result<Value> {
        let stream = DirStream::new(opened.file, opened.location);
        let mut names = Vec::new();
        let mut cookie = 0;
        // A few entries at a time, as getdents64 with a small buffer would.
        loop {
            let before = names.len();
            stream.read(&self.namespace, cookie, &mut |entry| {
                if names.len() - before == 3 {
                    return false;
                }
                names.push((entry.name.to_vec(), entry.file_type.map_or(0, |kind| kind.dirent_type())));
                cookie = entry.next;
                true
            })?;
            if names.len() == before {
                break;
            }
        }
        names.sort();
        Ok(Value::Names(names))
    }

    fn attempt(&self, op: &Op) -> Result<Value> {
        let (namespace, here) = (&self.namespace, self.here());
        match op {
            Op::Chdir(path) => {
                let place = self.find(path, true)?;
                if place.metadata()?.file_type() != diolkos_vfs::FileType::Directory {
                    return Err(Errno::ENOTDIR);
                }
                *self.cwd.lock().unwrap() = place;
            }
            Op::Getcwd if here.is_removed() => return Err(Errno::ENOENT),
            Op::Getcwd => return Ok(Value::Bytes(here.path())),
            Op::Open(path, flags, mode) => {
                let opened = self.open(path, *flags, *mode)?;
                return Ok(Value::Shown(shown(&opened.file.inode().metadata()?)));
            }
            Op::Write(path, flags, offset, length, byte) => {
                let opened = self.open(path, *flags | OpenFlags::WRONLY, 0o644)?;
                seekable(&opened)?;
                let bytes = vec![*byte; *length];
                let mut source = SliceSource::new(&bytes);
                let n = match flags.contains(OpenFlags::APPEND) {
                    true => opened.file.append(&mut source)?.0,
                    false => opened.file.write_at(*offset, &mut source)?,
                };
                return Ok(Value::Count(n));
            }
            Op::Read(path, offset, length) => {
                let opened = self.open(path, OpenFlags::NONBLOCK, 0)?;
                return Ok(Value::Bytes(read(&opened, *offset, *length)?));
            }
            Op::Readdir(path) => return self.names(self.open(path, OpenFlags::DIRECTORY, 0)?),
            Op::Stat(path, follow) => return Ok(Value::Shown(shown(&self.find(path, *follow)?.metadata()?))),
            Op::Access(path, mask) => self.find(path, true)?.access(*mask)?,
            Op::Mkdir(path, mode) => namespace.mkdir(&here, &path.0, *mode)?,
            Op::Mknod(path, mode) => namespace.mknod(&here, &path.0, *mode, 0)?,
            Op::Symlink(target, path) => namespace.symlink(&target.0, &here, &path.0)?,
            Op::Link(old, new, follow) => {
                let how = if *follow { Lookup::FOLLOW } else { Lookup::empty() };
                namespace.link(&here, &old.0, how, &here, &new.0)?;
            }
            Op::Unlink(path) => namespace.unlink(&here, &path.0)?,
            Op::Rmdir(path) => namespace.rmdir(&here, &path.0)?,
            Op::Rename(old, new, flags) => namespace.rename(&here, &old.0, &here, &new.0, *flags)?,
            Op::Readlink(path) => return Ok(Value::Bytes(namespace.readlink(&here, &path.0, Lookup::empty())?)),
            Op::Truncate(path, size) => self.find(path, true)?.truncate(*size)?,
            Op::Chmod(path, mode) => {
                return self.change(path, true, SetMetadata { mode: Some(*mode), ..Default::default() });
            }
            Op::Chown(path, uid, gid, follow) => {
                let change = SetMetadata { uid: Some(*uid), gid: Some(*gid), ..Default::default() };
                return self.change(path, *follow, change);
            }
            Op::Utimens(path, sec, nsec, follow) => {
                let time = Some(SetTime::To(Timespec { sec: *sec, nsec: *nsec }));
                self.change(path, *follow, SetMetadata { atime: time, mtime: time, ..Default::default() })?;
                let mtime = self.find(path, *follow)?.metadata()?.mtime;
                return Ok(Value::Time(mtime.sec, mtime.nsec));
            }
            Op::Holding(path, inner) => {
                let opened = self.open(path, OpenFlags::NONBLOCK, 0)?;
                let answer = self.run(inner);
                let bytes = match opened.file.inode().file_type() {
                    diolkos_vfs::FileType::Regular => read(&opened, 0, 64)?,
                    _ => Vec::new(),
                };
                return Ok(Value::Held(Box::new(answer), shown(&opened.file.inode().metadata()?), bytes));
            }
        }
        Ok(Value::Done)
    }
}

/// As pread(2) and pwrite(2), which the host's side uses.
fn seekable(opened: &Opened) -> Result<()> {
    if opened.file.is_stream() { Err(Errno::ESPIPE) } else { Ok(()) }
}

fn read(opened: &Opened, offset: u64, length: usize) -> Result<Vec<u8>> {
    seekable(opened)?;
    let mut bytes = vec![0; length];
    let mut sink = SliceSink::new(&mut bytes);
    let n = opened.file.read_at(offset, &mut sink)?;
    assert_eq!(n, sink.filled());
    bytes.truncate(n);
    Ok(bytes)
}

fn shown(metadata: &Metadata) -> Shown {
    Shown {
        mode: metadata.mode,
        nlink: metadata.nlink,
        uid: metadata.uid,
        gid: metadata.gid,
        size: metadata.size,
        blocks: metadata.blocks,
    }
}

impl World for Guest {
    fn run(&self, op: &Op) -> Answer {
        self.attempt(op).map_err(Errno::into_raw)
    }
}
