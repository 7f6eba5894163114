//! The file server: a request in a descriptor chain in, its reply in the same chain out.
//!
//! fuse-backend-rs takes messages apart and puts replies together; the files are [`Passthrough`]'s, behind [`Listings`],
//! [`Guard`] and, for a read-only share, [`ReadOnly`]. What we add is the promise
//! that every request which wants a reply gets one, and that nothing a guest sends ends the VMM: a malformed message
//! is answered with an error, and so is one that makes the library panic.

use super::descriptors::Descriptors;
use super::guard::{Guard, Privilege, refuse};
use super::listing::Listings;
use super::locks::{CLOSE_BODY, FLUSH, GETLK, LK_BODY, Locks, RELEASE, SETLK, SETLKW};
use super::passthrough::{Belief, MakeUnnamed, Passthrough};
use super::range::{self, COPY_BODY, COPY_FILE_RANGE, Open, SYNCFS};
use super::readonly::ReadOnly;
use super::requests::{BATCH_FORGET, DESTROY, FORGET, INIT, Requests};
use super::share::Share;
use super::unnamed::{self, TMPFILE, TMPFILE_REPLY};
use super::window::DaxWindow;
use crate::virtio::ring::Chain;
use diolkos_common::cmdline::CacheMode;
use fuse_backend_rs::abi::fuse_abi::{CreateIn, InHeader, OutHeader};
use fuse_backend_rs::abi::virtio_fs::{RemovemappingOne, SetupmappingFlags};
use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{FsCacheReqHandler, Reader, VirtioFsWriter, Writer};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use vm_memory::{ByteValued, Bytes, GuestMemoryMmap};

/// How long names and attributes may be believed with `--cache auto`.
const AUTO: Duration = Duration::from_secs(1);
/// And with `always`.
const ALWAYS: Duration = Duration::from_secs(24 * 60 * 60);

/// Anything that answers FUSE messages.
trait Answer: Send + Sync {
    fn answer(
        &self,
        reader: Reader<'_>,
        writer: Writer<'_>,
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> fuse_backend_rs::Result<usize>;
}

impl<F: FileSystem + Send + Sync> Answer for Server<F> {
    fn answer(
        &self,
        reader: Reader<'_>,
        writer: Writer<'_>,
        window: Option<&mut dyn FsCacheReqHandler>,
    ) -> fuse_backend_rs::Result<usize> {
        self.handle_message(reader, writer, window, None)
    }
}

/// The files of a share, for what the library has no method for.
trait Beyond: Open + MakeUnnamed {}
impl<F: Open + MakeUnnamed> Beyond for F {}

/// The server of one share.
pub struct FileServer {
    server: Box<dyn Answer>,
    /// The same files.
    files: Arc<dyn Beyond>,
    locks: Locks,
    writable: bool,
    window: Option<Arc<dyn DaxWindow>>,
    requests: Arc<Requests>,
}

impl FileServer {
    /// A server of `share`, read-only unless `writable`.
    ///
    /// # Errors
    /// When the passthrough file system cannot start: no `/proc`, or no descriptors left.
    pub fn new(share: Share, writable: bool, cache: CacheMode, window: Option<Arc<dyn DaxWindow>>) -> io::Result<Self> {
        Self::with_descriptors(share, writable, cache, window, Descriptors::of_process())
    }

    /// The same, whose guest gets its descriptors from `pool`.
    ///
    /// # Errors
    /// As [`FileServer::new`].
    pub fn with_descriptors(
        share: Share,
        writable: bool,
        cache: CacheMode,
        window: Option<Arc<dyn DaxWindow>>,
        pool: Arc<Descriptors>,
    ) -> io::Result<Self> {
        let timeout = match cache {
            CacheMode::None => Duration::ZERO,
            CacheMode::Auto => AUTO,
            CacheMode::Always => ALWAYS,
        };
        let belief = Belief { timeout, keep_content: cache == CacheMode::Always };
        let passthrough = Passthrough::new(share.into_directory(), belief, pool.clone())?;
        let guarded = Arc::new(Guard(Listings::new(passthrough), Privilege::current()));
        let files = guarded.clone();
        let server: Box<dyn Answer> =
            if writable { Box::new(Server::new(guarded)) } else { Box::new(Server::new(ReadOnly(guarded))) };
        Ok(Self { server, files, locks: Locks::new(pool), writable, window, requests: Arc::default() })
    }

    /// The requests that came.
    pub fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    /// Makes ready for the first request.
    pub fn prepare(&self) {
        self.window.iter().for_each(|window| window.prepare());
    }

    /// The driver is gone: nothing of it stays in the window, and no lock, no open file and no node.
    pub fn reset(&self) {
        self.files.forget_all();
        self.locks.clear();
        if let Some(window) = &self.window {
            window.clear();
        }
    }

    /// Answers the request in `chain` and returns the length of the reply.
    pub fn serve(&self, memory: &GuestMemoryMmap, chain: &Chain<'_>) -> u32 {
        let Some(header) = read_header(memory, chain) else {
            tracing::debug!("virtio-fs: a request without a whole header");
            return 0;
        };
        let known = self.requests.count(header.opcode);
        let Ok(mut writer) = VirtioFsWriter::new(memory, chain.clone()) else { return 0 };
        if !known {
            return reply_error(&mut writer, &header, libc::ENOSYS);
        }
        if header.opcode == INIT {
            // A guest that starts anew without a word to the old file system, after a crash say, has none of that.
            self.reset();
        }
        let room = writer.available_bytes().saturating_sub(size_of::<OutHeader>());
        let own = match header.opcode {
            COPY_FILE_RANGE | SYNCFS | TMPFILE => Some(self.serve_own(memory, chain, &header, room)),
            GETLK | SETLK | SETLKW => Some(self.serve_lock(memory, chain, &header)),
            _ => None,
        };
        if let Some(result) = own {
            return match result {
                Ok(body) => reply(&mut writer, &header, &body),
                Err(error) => reply_error(&mut writer, &header, error.raw_os_error().unwrap_or(libc::EIO)),
            };
        }
        if matches!(header.opcode, FLUSH | RELEASE)
            && let Some(body) = read_body::<CLOSE_BODY>(memory, chain)
        {
            self.locks.close(header.opcode, header.nodeid, &body);
        }
        let Ok(reader) = Reader::from_descriptor_chain(memory, chain.clone()) else {
            return reply_error(&mut writer, &header, libc::EINVAL);
        };
        let mut window = self.window.clone().map(Handler);
        let window = window.as_mut().map(|handler| handler as &mut dyn FsCacheReqHandler);
        // The server's state is behind locks of its own; a panic may poison one, which makes later requests fail
        // the same way: answered, one by one.
        let answer = catch_unwind(AssertUnwindSafe(|| self.server.answer(reader, writer.clone().into(), window)));
        match (header.opcode, answer) {
            (FORGET | BATCH_FORGET, _) => 0,
            (DESTROY, _) => {
                self.reset();
                // The server answers this one without saying so.
                size_of::<OutHeader>() as u32
            }
            (_, Ok(Ok(written))) => written as u32,
            (opcode, Ok(Err(error))) => {
                tracing::debug!("virtio-fs: opcode {opcode}: {error}");
                reply_error(&mut writer, &header, libc::EINVAL)
            }
            (opcode, Err(_)) => {
                tracing::error!("virtio-fs: the file server panicked on opcode {opcode}");
                reply_error(&mut writer, &header, libc::EIO)
            }
        }
    }

    /// Serves what the library has no method for, where a reply may have `room` bytes; the body of the reply.
    fn serve_own(
        &self,
        memory: &GuestMemoryMmap,
        chain: &Chain<'_>,
        header: &InHeader,
        room: usize,
    ) -> io::Result<Vec<u8>> {
        let invalid = || refuse(libc::EINVAL);
        if header.opcode == SYNCFS {
            // A share nobody writes to has nothing to be made safe.
            return if self.writable { range::sync(&*self.files, header.nodeid).map(|()| vec![]) } else { Ok(vec![]) };
        }
        if !self.writable {
            return Err(refuse(libc::EROFS));
        }
        if header.opcode == TMPFILE {
            let body = read_body::<{ size_of::<CreateIn>() }>(memory, chain).ok_or_else(invalid)?;
            let mut args = CreateIn::default();
            args.as_mut_slice().copy_from_slice(&body);
            // Before there is a file that the guest could not be told of.
            return if room < TMPFILE_REPLY { Err(invalid()) } else { unnamed::make(&*self.files, header, args) };
        }
        let body = read_body::<COPY_BODY>(memory, chain).ok_or_else(invalid)?;
        let copied = range::copy(&*self.files, header.nodeid, &body)?;
        // struct fuse_write_out: the size and padding.
        Ok([copied.to_le_bytes(), [0; 4]].concat())
    }

    /// Serves what [`super::locks`] has; the body of the reply.
    fn serve_lock(&self, memory: &GuestMemoryMmap, chain: &Chain<'_>, header: &InHeader) -> io::Result<Vec<u8>> {
        let body = read_body::<LK_BODY>(memory, chain).ok_or_else(|| refuse(libc::EINVAL))?;
        if header.opcode == GETLK {
            return self.locks.get(&*self.files, header.nodeid, &body);
        }
        self.locks.set(&*self.files, self.writable, header.nodeid, &body, header.opcode == SETLKW).map(|()| vec![])
    }
}

fn read_header(memory: &GuestMemoryMmap, chain: &Chain<'_>) -> Option<InHeader> {
    let mut header = InHeader::default();
    read_start(memory, chain, header.as_mut_slice())?;
    Some(header)
}

/// The first `N` bytes after the header; `None` when the request is shorter.
fn read_body<const N: usize>(memory: &GuestMemoryMmap, chain: &Chain<'_>) -> Option<[u8; N]> {
    // No fixed part is longer.
    let mut message = [0; size_of::<InHeader>() + COPY_BODY];
    let whole = &mut message[..size_of::<InHeader>() + N];
    read_start(memory, chain, whole)?;
    whole.last_chunk().copied()
}

/// Fills `rest` with the beginning of a request; `None` when the request is shorter.
fn read_start(memory: &GuestMemoryMmap, chain: &Chain<'_>, mut rest: &mut [u8]) -> Option<()> {
    for descriptor in chain.clone().readable() {
        let (now, later) = rest.split_at_mut(rest.len().min(descriptor.len() as usize));
        memory.read_slice(now, descriptor.addr()).ok()?;
        rest = later;
        if rest.is_empty() {
            return Some(());
        }
    }
    None
}

fn reply(writer: &mut VirtioFsWriter<'_>, header: &InHeader, body: &[u8]) -> u32 {
    let len = size_of::<OutHeader>() + body.len();
    let out = OutHeader { len: len as u32, error: 0, unique: header.unique };
    // Nothing is written unless all of it has room.
    let message = [out.as_slice(), body].concat();
    if writer.available_bytes() < len {
        return reply_error(writer, header, libc::EINVAL);
    }
    writer.write_all(&message).map_or(0, |()| len as u32)
}

fn reply_error(writer: &mut VirtioFsWriter<'_>, header: &InHeader, errno: i32) -> u32 {
    let reply = OutHeader { len: size_of::<OutHeader>() as u32, error: -errno, unique: header.unique };
    writer.write_all(reply.as_slice()).map_or(0, |()| reply.len)
}

/// The window, as fuse-backend-rs calls it.
struct Handler(Arc<dyn DaxWindow>);

impl FsCacheReqHandler for Handler {
    fn map(&mut self, foffset: u64, moffset: u64, len: u64, flags: u64, fd: RawFd) -> io::Result<()> {
        let range = self.0.range(moffset, len)?;
        let write = flags & SetupmappingFlags::WRITE.bits() != 0;
        // SAFETY: the server opened `fd` for this request and keeps it open during the call.
        let file = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        Ok(self.0.map(range, file, foffset, write)?)
    }

    fn unmap(&mut self, requests: Vec<RemovemappingOne>) -> io::Result<()> {
        // All are checked before any is done: a reply that says "no" means nothing happened.
        let ranges = requests.iter().map(|one| self.0.range(one.moffset, one.len)).collect::<Result<Vec<_>, _>>()?;
        for range in ranges {
            self.0.unmap(range)?;
        }
        Ok(())
    }
}
