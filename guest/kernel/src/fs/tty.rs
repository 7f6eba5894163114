//! The program's standard streams, and the terminal if they lead to one.
//!
//! Each of stdin, stdout and stderr is a byte stream to the host of its own. One that is a terminal there looks
//! like one here: `/dev/pts/0`, a character device that answers the terminal ioctls. Line editing and
//! echo are done by the host's terminal, so the settings a program makes are remembered and change nothing.
//! One that is not a terminal looks like a pipe.

use super::anon::{AnonInode, now, owner};
use super::devices::TERMINALS;
use super::pty;
use super::pty::pair::{self, FIRST_INO};
use super::stat::join_device;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_common::cmdline;
use diolkos_vfs::{
    Errno, File, FileType, Inode, InodeId, Metadata, OpenFlags, Poll, Result, Sink, Source, StatFs, Timespec,
};
use linux_raw_sys::general as raw;
use spin::{Mutex, Once};

/// One stream to or from the host, as the console driver offers it. The driver calls
/// [`super::readiness::changed`] whenever [`ConsoleStream::poll`] may have changed.
pub trait ConsoleStream: Send + Sync {
    /// Reads what there is, waiting for the first byte if `wait`; `Ok(0)` at the end of input or for a full sink.
    ///
    /// # Errors
    /// `EAGAIN` when it would have to wait and must not, `EINTR`, `EFAULT`.
    fn read(&self, sink: &mut dyn Sink, wait: bool) -> Result<usize>;

    /// Writes all there is, or if not `wait` as much as fits.
    ///
    /// # Errors
    /// `EPIPE` when the reader is gone, `EAGAIN` when it would have to wait and must not, `EINTR`, `EFAULT`.
    fn write(&self, source: &mut dyn Source, wait: bool) -> Result<usize>;

    /// Waits until what was written has been handed to the host.
    ///
    /// # Errors
    /// `EINTR`.
    fn drain(&self) -> Result<()>;

    /// What it is ready for; never sleeps.
    fn poll(&self) -> Poll;

    /// Bytes that can be read without waiting (`FIONREAD`).
    fn available(&self) -> usize;
}

/// The device number of `/dev/pts/0`.
const PTS_RDEV: u64 = join_device(136, 0);

/// The user's terminal.
pub struct Terminal {
    input: Option<Arc<dyn ConsoleStream>>,
    output: Option<Arc<dyn ConsoleStream>>,
    settings: Mutex<raw::termios2>,
    window: Mutex<raw::winsize>,
    born: Timespec,
}

impl Terminal {
    /// Present settings.
    pub fn settings(&self) -> raw::termios2 {
        *self.settings.lock()
    }

    /// Remembers settings.
    pub fn set_settings(&self, settings: raw::termios2) {
        *self.settings.lock() = settings;
    }

    /// Present window size.
    pub fn window(&self) -> raw::winsize {
        *self.window.lock()
    }

    /// Remembers a window size.
    pub fn set_window(&self, window: raw::winsize) {
        *self.window.lock() = window;
    }
}

/// What the user's terminal starts with.
fn ours() -> raw::termios2 {
    let settings = pty::ordinary();
    raw::termios2 { c_iflag: settings.c_iflag | raw::IUTF8, ..settings }
}

impl Inode for Terminal {
    fn id(&self) -> InodeId {
        InodeId { dev: TERMINALS, node: FIRST_INO, generation: 0 }
    }

    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        let now = now();
        Ok(Metadata {
            ino: FIRST_INO,
            dev: TERMINALS,
            mode: FileType::CharDevice.mode_bits() | 0o620,
            nlink: 1,
            uid: owner().0,
            // Linux' group `tty`.
            gid: 5,
            rdev: PTS_RDEV,
            size: 0,
            blocks: 0,
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: self.born,
        })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Stdio::new(self.clone(), self.input.clone(), self.output.clone(), Some(self))))
    }

    fn access(&self, mask: u32) -> Result<()> {
        if mask & 1 != 0 { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(pair::file_system())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The inode of a standard stream that is not a terminal. Opening it again (through `/dev/stdin`) gives the same stream.
struct PipeInode {
    attributes: Arc<AnonInode>,
    input: Option<Arc<dyn ConsoleStream>>,
    output: Option<Arc<dyn ConsoleStream>>,
}

impl Inode for PipeInode {
    fn id(&self) -> InodeId {
        self.attributes.id()
    }

    /// Not `Fifo`, though that is what stat(2) shows: path walk opens named pipes by itself, and this is none.
    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        self.attributes.metadata()
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Stdio::new(self.clone(), self.input.clone(), self.output.clone(), None)))
    }

    fn access(&self, _mask: u32) -> Result<()> {
        Ok(())
    }

    fn statfs(&self) -> Result<StatFs> {
        self.attributes.statfs()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A standard stream, or the terminal, as an open file.
pub struct Stdio {
    inode: Arc<dyn Inode>,
    input: Option<Arc<dyn ConsoleStream>>,
    output: Option<Arc<dyn ConsoleStream>>,
    terminal: Option<Arc<Terminal>>,
    nonblocking: AtomicBool,
}

impl Stdio {
    fn new(
        inode: Arc<dyn Inode>,
        input: Option<Arc<dyn ConsoleStream>>,
        output: Option<Arc<dyn ConsoleStream>>,
        terminal: Option<Arc<Terminal>>,
    ) -> Self {
        Self { inode, input, output, terminal, nonblocking: AtomicBool::new(false) }
    }

    /// The terminal it leads to, if it does.
    pub fn terminal(&self) -> Option<&Arc<Terminal>> {
        self.terminal.as_ref()
    }

    /// Bytes that can be read without waiting.
    pub fn available(&self) -> usize {
        self.input.as_ref().map_or(0, |input| input.available())
    }

    /// Waits until what was written has been handed to the host (tcdrain(3)).
    ///
    /// # Errors
    /// `EINTR`.
    pub fn drain(&self) -> Result<()> {
        self.output.as_ref().map_or(Ok(()), |output| output.drain())
    }

    fn waits(&self) -> bool {
        !self.nonblocking.load(Ordering::Relaxed)
    }
}

impl File for Stdio {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        match &self.input {
            Some(_) if sink.room() == 0 => Ok(0),
            Some(input) => input.read(sink, self.waits()),
            None => Err(Errno::EIO),
        }
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        match &self.output {
            Some(_) if source.remaining() == 0 => Ok(0),
            Some(output) => output.write(source, self.waits()),
            None => Err(Errno::EIO),
        }
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        // Neither pipes nor terminals can be synchronised (fsync(2)).
        Err(Errno::EINVAL)
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        let of = |stream: &Option<Arc<dyn ConsoleStream>>, mask| match stream {
            Some(stream) => stream.poll() & mask,
            None => Poll::empty(),
        };
        of(&self.input, Poll::IN | Poll::HUP | Poll::ERR) | of(&self.output, Poll::OUT | Poll::HUP | Poll::ERR)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

static CONSOLE: Once<Console> = Once::new();

/// Sets the console, once, before anything is opened.
pub fn init(streams: [Arc<dyn ConsoleStream>; 3], host: &cmdline::Terminal) {
    CONSOLE.call_once(|| Console::new(streams, host));
}

/// The console; `None` before [`init`].
pub fn console() -> Option<&'static Console> {
    CONSOLE.get()
}

/// The three standard streams of the machine and the terminal behind them.
pub struct Console {
    streams: [Arc<dyn ConsoleStream>; 3],
    are_terminals: [bool; 3],
    terminal: Option<Arc<Terminal>>,
}

impl Console {
    /// Takes the streams to stdin, stdout and stderr, and what is known of the user's terminal.
    pub fn new(streams: [Arc<dyn ConsoleStream>; 3], host: &cmdline::Terminal) -> Self {
        let are_terminals = host.streams;
        let if_terminal = |i: usize| are_terminals[i].then(|| streams[i].clone());
        let terminal = are_terminals.contains(&true).then(|| {
            Arc::new(Terminal {
                input: if_terminal(0),
                output: if_terminal(1).or_else(|| if_terminal(2)),
                settings: Mutex::new(ours()),
                window: Mutex::new(raw::winsize {
                    ws_col: host.size.0,
                    ws_row: host.size.1,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                }),
                born: now(),
            })
        });
        Self { streams, are_terminals, terminal }
    }

    /// The terminal, for `/dev/tty` and `/dev/pts/0`.
    pub fn terminal(&self) -> Option<&Arc<Terminal>> {
        self.terminal.as_ref()
    }

    /// The file for descriptor `fd` (0, 1 or 2), what `/proc/self/fd` shows for it, and the flags it counts as opened with.
    pub fn open_standard(&self, fd: usize) -> (Arc<dyn File>, String, OpenFlags) {
        let stream = &self.streams[fd];
        match self.terminal.as_ref().filter(|_| self.are_terminals[fd]) {
            Some(terminal) => {
                // As under a shell: one terminal open for both ways; what goes to stderr stays apart on the host.
                let output = if fd == 0 { terminal.output.clone() } else { Some(stream.clone()) };
                let file = Stdio::new(terminal.clone(), terminal.input.clone(), output, Some(terminal.clone()));
                (Arc::new(file), String::from("/dev/pts/0"), OpenFlags::RDWR)
            }
            None => {
                let attributes = AnonInode::new(FileType::Fifo.mode_bits() | 0o600, 0);
                let shown = format!("pipe:[{}]", attributes.number());
                let (input, output, flags) = match fd {
                    0 => (Some(stream.clone()), None, OpenFlags::empty()),
                    _ => (None, Some(stream.clone()), OpenFlags::WRONLY),
                };
                let inode = Arc::new(PipeInode { attributes, input: input.clone(), output: output.clone() });
                (Arc::new(Stdio::new(inode, input, output, None)), shown, flags)
            }
        }
    }
}
