//! ioctl(2): what works on every descriptor, and the terminal's (ioctl_tty(2)), a disk's.

use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::drivers::blk::Disk;
use crate::fs::block_device::BlockFile;
use crate::fs::pty::pair::{End, Side};
use crate::fs::tty::{Stdio, Terminal};
use crate::mm::user::{UserPtr, plain};
use diolkos_net::Socket;
use diolkos_vfs::notify::Inotify;
use diolkos_vfs::pipe::PipeEnd;
use diolkos_vfs::{Errno, FileType, OpenFlags, Result};
use linux_raw_sys::general as raw;
use linux_raw_sys::ioctl as command;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::ioctl, ioctl)];

plain!(raw::termios, raw::termios2, raw::winsize);

/// ioctl(2).
fn ioctl(call: &mut Call<'_>) -> Result<u64> {
    let [fd, request, argument, ..] = call.args;
    let file = call.file(fd)?;
    let close_on_exec = |on| call.process.files.set_close_on_exec(fd as i32, on).map(|()| 0);
    match request as u32 {
        command::FIOCLEX => close_on_exec(true),
        command::FIONCLEX => close_on_exec(false),
        command::FIONBIO => {
            let on = UserPtr::<i32>::new(argument).read()? != 0;
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, on);
            file.set_flags(flags);
            Ok(0)
        }
        command::FIONREAD => {
            UserPtr::<i32>::new(argument).write(readable(&file)?)?;
            Ok(0)
        }
        request if let Some(end) = file.inner().as_any().downcast_ref::<End>() => on_pty(end, request, argument),
        request if let Some(disk) = file.inner().as_any().downcast_ref::<BlockFile>() => {
            on_disk(&file, disk.disk(), request, argument)
        }
        request => {
            let stdio = file.inner().as_any().downcast_ref::<Stdio>().ok_or(Errno::ENOTTY)?;
            let terminal = stdio.terminal().ok_or(Errno::ENOTTY)?;
            on_terminal(call, stdio, terminal, request, argument)
        }
    }
}

/// Bytes that can be read at once: what is left of a regular file, what waits in a stream.
fn readable(file: &OpenFile) -> Result<i32> {
    let inner = file.inner();
    let bytes = if let Some(stdio) = inner.as_any().downcast_ref::<Stdio>() {
        stdio.available() as u64
    } else if let Some(end) = inner.as_any().downcast_ref::<End>() {
        end.available() as u64
    } else if let Some(pipe) = inner.as_any().downcast_ref::<PipeEnd>() {
        pipe.available() as u64
    } else if let Some(socket) = inner.as_any().downcast_ref::<Socket>() {
        socket.available() as u64
    } else if let Some(inotify) = inner.as_any().downcast_ref::<Inotify>() {
        inotify.available() as u64
    } else if inner.inode().file_type() == FileType::Regular && !inner.is_stream() {
        inner.inode().metadata()?.size.saturating_sub(file.position())
    } else {
        return Err(Errno::ENOTTY);
    };
    Ok(bytes.min(i32::MAX as u64) as i32)
}

/// A terminal's requests. Job control is answered for the one process there is; what would need a line
/// discipline of our own is remembered (settings) or accepted without effect (flushing queues that are empty).
fn on_terminal(call: &Call<'_>, stdio: &Stdio, terminal: &Terminal, request: u32, argument: u64) -> Result<u64> {
    match request {
        command::TCGETS => UserPtr::new(argument).write(narrow(&terminal.settings()))?,
        command::TCGETS2 => UserPtr::new(argument).write(terminal.settings())?,
        command::TCSETS | command::TCSETSW | command::TCSETSF => {
            let wanted = UserPtr::<raw::termios>::new(argument).read()?;
            terminal.set_settings(widen(&wanted, &terminal.settings()));
        }
        command::TCSETS2 | command::TCSETSW2 | command::TCSETSF2 => {
            terminal.set_settings(UserPtr::<raw::termios2>::new(argument).read()?);
        }
        command::TIOCGWINSZ => UserPtr::new(argument).write(terminal.window())?,
        command::TIOCSWINSZ => terminal.set_window(UserPtr::<raw::winsize>::new(argument).read()?),
        command::TIOCGPGRP | command::TIOCGSID => UserPtr::<i32>::new(argument).write(call.process.pid as i32)?,
        command::TIOCSPGRP => {
            let group = UserPtr::<i32>::new(argument).read()?;
            if group != call.process.pid as i32 {
                return Err(if group < 0 { Errno::EINVAL } else { Errno::ESRCH });
            }
        }
        command::TIOCOUTQ => UserPtr::<i32>::new(argument).write(0)?,
        command::TCSBRK | command::TCSBRKP => stdio.drain()?,
        command::TCFLSH if argument as u32 > raw::TCIOFLUSH => return Err(Errno::EINVAL),
        command::TCXONC if argument as u32 > raw::TCION => return Err(Errno::EINVAL),
        command::TCFLSH | command::TCXONC | command::TIOCSCTTY | command::TIOCEXCL | command::TIOCNXCL => {}
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// A pseudo-terminal's requests, of either end: both mean the one terminal. It is nobody's controlling terminal.
fn on_pty(end: &End, request: u32, argument: u64) -> Result<u64> {
    let is_master = end.side() == Side::Master;
    let settings = || end.with_line(|line| line.settings());
    let change = |settings: raw::termios2, forget: bool| {
        end.with_line(|line| {
            if forget {
                line.forget_input();
            }
            line.set_settings(settings);
        })
    };
    match request {
        command::TCGETS => UserPtr::new(argument).write(narrow(&settings()?))?,
        command::TCGETS2 => UserPtr::new(argument).write(settings()?)?,
        command::TCSETS | command::TCSETSW | command::TCSETSF => {
            let wanted = UserPtr::<raw::termios>::new(argument).read()?;
            change(widen(&wanted, &settings()?), request == command::TCSETSF)?;
        }
        command::TCSETS2 | command::TCSETSW2 | command::TCSETSF2 => {
            change(UserPtr::<raw::termios2>::new(argument).read()?, request == command::TCSETSF2)?;
        }
        command::TIOCGWINSZ => UserPtr::new(argument).write(end.window())?,
        command::TIOCSWINSZ => end.set_window(UserPtr::<raw::winsize>::new(argument).read()?),
        command::TIOCGPTN if is_master => UserPtr::<u32>::new(argument).write(end.number())?,
        command::TIOCSPTLCK if is_master => end.set_locked(UserPtr::<i32>::new(argument).read()? != 0),
        command::TIOCGPTLCK if is_master => UserPtr::<i32>::new(argument).write(end.is_locked().into())?,
        command::TIOCOUTQ => UserPtr::<i32>::new(argument).write(0)?,
        command::TCFLSH => {
            let what = argument as u32;
            if what > raw::TCIOFLUSH {
                return Err(Errno::EINVAL);
            }
            // What one end has written is what the other can read.
            let (typed, printed) =
                if is_master { (raw::TCOFLUSH, raw::TCIFLUSH) } else { (raw::TCIFLUSH, raw::TCOFLUSH) };
            end.with_line(|line| {
                if what == typed || what == raw::TCIOFLUSH {
                    line.forget_input();
                }
                if what == printed || what == raw::TCIOFLUSH {
                    line.forget_output();
                }
            })?;
        }
        command::TCXONC if argument as u32 <= raw::TCOON => {
            end.with_line(|line| line.stop(argument as u32 == raw::TCOOFF))?;
        }
        command::TCXONC if argument as u32 > raw::TCION => return Err(Errno::EINVAL),
        command::TCXONC | command::TCSBRK | command::TCSBRKP | command::TIOCEXCL | command::TIOCNXCL => {}
        command::TIOCSCTTY => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// A disk's requests (linux/fs.h). Those that change something want it open for writing, as on Linux.
fn on_disk(open: &OpenFile, disk: &Disk, request: u32, argument: u64) -> Result<u64> {
    let info = disk.info();
    let writable = || if open.flags().writes() { Ok(()) } else { Err(Errno::EBADF) };
    match request {
        command::BLKGETSIZE64 => UserPtr::<u64>::new(argument).write(disk.bytes())?,
        command::BLKGETSIZE => UserPtr::<u64>::new(argument).write(info.sectors)?,
        command::BLKSSZGET => UserPtr::<u32>::new(argument).write(info.block_size)?,
        command::BLKPBSZGET | command::BLKIOMIN | command::BLKBSZGET => {
            UserPtr::<u32>::new(argument).write(info.block_size)?;
        }
        command::BLKROGET => UserPtr::<u32>::new(argument).write(info.read_only.into())?,
        command::BLKFLSBUF => disk.flush()?,
        command::BLKDISCARD | command::BLKZEROOUT => {
            writable()?;
            let [offset, len] = UserPtr::<[u64; 2]>::new(argument).read()?;
            if request == command::BLKDISCARD {
                disk.discard(offset, len)?;
            } else {
                disk.write_zeroes(offset, len, false)?;
            }
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// The settings in the older structure, which has no speeds.
fn narrow(settings: &raw::termios2) -> raw::termios {
    let raw::termios2 { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc, .. } = *settings;
    raw::termios { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc }
}

fn widen(settings: &raw::termios, old: &raw::termios2) -> raw::termios2 {
    let raw::termios { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc } = *settings;
    raw::termios2 { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc, c_ispeed: old.c_ispeed, c_ospeed: old.c_ospeed }
}
