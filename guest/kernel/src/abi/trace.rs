//! A line per system call, in the manner of strace(1): `openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3`.
//!
//! How an argument reads is a table of [`Kind`]s; what is not in it is shown in hexadecimal. Structures are shown
//! by their address only.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use syscalls::{Errno, Sysno};

/// How an argument is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A signed 32-bit number, such as a descriptor.
    Int,
    /// A signed 64-bit number.
    Long,
    /// An unsigned 64-bit number, such as a length.
    Size,
    /// An address or a word of unknown flags.
    Hex,
    /// A directory descriptor.
    Dir,
    /// A path or another NUL-terminated string.
    Path,
    /// Bytes the call reads; the next argument is the length.
    In,
    /// Bytes the call writes; the result is the length.
    Out,
    /// A mode.
    Mode,
    /// Flags of open(2).
    Open,
    /// Protection.
    Prot,
    /// Flags of mmap(2).
    Map,
    /// A signal number.
    Signal,
}
use Kind::*;

/// Where strings and buffers come from.
pub trait Memory {
    /// The NUL-terminated string at an address, at most `max` bytes of it, and whether that is all.
    fn string(&self, address: u64, max: usize) -> Option<(Vec<u8>, bool)>;
    /// Exactly `len` bytes.
    fn bytes(&self, address: u64, len: usize) -> Option<Vec<u8>>;
}

/// Bytes of a buffer, and of a string, that are shown.
const SHOWN: usize = 32;
const SHOWN_PATH: usize = 256;

fn kinds(number: Sysno) -> &'static [Kind] {
    match number {
        Sysno::read => &[Int, Out, Size],
        Sysno::write => &[Int, In, Size],
        Sysno::pread64 => &[Int, Out, Size, Long],
        Sysno::pwrite64 => &[Int, In, Size, Long],
        Sysno::readv | Sysno::writev => &[Int, Hex, Int],
        Sysno::open => &[Path, Open, Mode],
        Sysno::openat => &[Dir, Path, Open, Mode],
        Sysno::creat | Sysno::mkdir | Sysno::chmod => &[Path, Mode],
        Sysno::mkdirat | Sysno::fchmodat => &[Dir, Path, Mode],
        Sysno::close | Sysno::dup | Sysno::fsync | Sysno::fdatasync | Sysno::fchdir | Sysno::epoll_create1 => &[Int],
        Sysno::dup2 => &[Int, Int],
        Sysno::dup3 => &[Int, Int, Open],
        Sysno::fcntl => &[Int, Int, Hex],
        Sysno::ioctl => &[Int, Hex, Hex],
        Sysno::stat | Sysno::lstat | Sysno::statfs => &[Path, Hex],
        Sysno::fstat | Sysno::fstatfs => &[Int, Hex],
        Sysno::newfstatat => &[Dir, Path, Hex, Hex],
        Sysno::statx => &[Dir, Path, Hex, Hex, Hex],
        Sysno::access => &[Path, Int],
        Sysno::faccessat => &[Dir, Path, Int],
        Sysno::faccessat2 => &[Dir, Path, Int, Hex],
        Sysno::lseek => &[Int, Long, Int],
        Sysno::getdents64 | Sysno::getdents => &[Int, Hex, Size],
        Sysno::readlink => &[Path, Out, Size],
        Sysno::readlinkat => &[Dir, Path, Out, Size],
        Sysno::getcwd => &[Path, Size],
        Sysno::chdir | Sysno::rmdir | Sysno::unlink | Sysno::chroot => &[Path],
        Sysno::unlinkat => &[Dir, Path, Hex],
        Sysno::rename | Sysno::link | Sysno::symlink => &[Path, Path],
        Sysno::renameat2 => &[Dir, Path, Dir, Path, Hex],
        Sysno::renameat => &[Dir, Path, Dir, Path],
        Sysno::truncate => &[Path, Long],
        Sysno::ftruncate => &[Int, Long],
        Sysno::utimensat => &[Dir, Path, Hex, Hex],
        Sysno::sendfile => &[Int, Int, Hex, Size],
        Sysno::copy_file_range => &[Int, Hex, Int, Hex, Size, Hex],
        Sysno::fadvise64 => &[Int, Long, Long, Int],
        Sysno::pipe => &[Hex],
        Sysno::pipe2 => &[Hex, Open],
        Sysno::poll => &[Hex, Size, Int],
        Sysno::mmap => &[Hex, Size, Prot, Map, Int, Hex],
        Sysno::munmap => &[Hex, Size],
        Sysno::mprotect => &[Hex, Size, Prot],
        Sysno::madvise => &[Hex, Size, Int],
        Sysno::mremap => &[Hex, Size, Size, Hex, Hex],
        Sysno::brk | Sysno::set_tid_address | Sysno::uname | Sysno::sysinfo => &[Hex],
        Sysno::rt_sigaction => &[Signal, Hex, Hex, Size],
        Sysno::rt_sigprocmask => &[Int, Hex, Hex, Size],
        Sysno::kill | Sysno::tkill => &[Int, Signal],
        Sysno::tgkill => &[Int, Int, Signal],
        Sysno::sigaltstack | Sysno::set_robust_list => &[Hex, Hex],
        Sysno::execve => &[Path, Hex, Hex],
        Sysno::exit | Sysno::exit_group | Sysno::umask | Sysno::alarm => &[Int],
        Sysno::clone => &[Hex, Hex, Hex, Hex, Hex],
        Sysno::clone3 => &[Hex, Size],
        Sysno::futex => &[Hex, Int, Int, Hex, Hex, Hex],
        Sysno::arch_prctl | Sysno::getrandom => &[Hex, Hex, Hex],
        Sysno::prctl => &[Int, Hex, Hex, Hex, Hex],
        Sysno::clock_gettime | Sysno::clock_getres | Sysno::getrlimit | Sysno::setrlimit | Sysno::getrusage => {
            &[Int, Hex]
        }
        Sysno::clock_nanosleep => &[Int, Int, Hex, Hex],
        Sysno::nanosleep | Sysno::gettimeofday => &[Hex, Hex],
        Sysno::prlimit64 => &[Int, Int, Hex, Hex],
        Sysno::socket => &[Int, Int, Int],
        Sysno::getpid
        | Sysno::gettid
        | Sysno::getppid
        | Sysno::getuid
        | Sysno::geteuid
        | Sysno::getgid
        | Sysno::getegid
        | Sysno::getpgrp
        | Sysno::setsid
        | Sysno::sched_yield
        | Sysno::fork
        | Sysno::vfork
        | Sysno::sync
        | Sysno::pause
        | Sysno::rt_sigreturn => &[],
        _ => &[Hex; 6],
    }
}

const OPEN_FLAGS: [(u64, &str); 14] = [
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o4010000, "O_SYNC"),
    (0o10000, "O_DSYNC"),
    (0o40000, "O_DIRECT"),
    (0o20200000, "O_TMPFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
];
const PROT_FLAGS: [(u64, &str); 3] = [(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")];
const MAP_FLAGS: [(u64, &str); 9] = [
    (2, "MAP_PRIVATE"),
    (1, "MAP_SHARED"),
    (0x10, "MAP_FIXED"),
    (0x20, "MAP_ANONYMOUS"),
    (0x800, "MAP_DENYWRITE"),
    (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"),
    (0x20000, "MAP_STACK"),
    (0x100000, "MAP_FIXED_NOREPLACE"),
];

/// Names joined by `|`, bits without one in hexadecimal, `empty` for nothing at all.
fn flags(out: &mut String, mut value: u64, names: &[(u64, &str)], empty: &str) {
    let start = out.len();
    let word = |out: &mut String, text: &str| {
        if out.len() > start {
            out.push('|');
        }
        out.push_str(text);
    };
    if !empty.starts_with("O_") && value == 0 {
        return out.push_str(empty);
    }
    if empty.starts_with("O_") {
        word(out, ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & 3) as usize]);
        value &= !3;
    }
    for &(bits, name) in names {
        if value & bits == bits {
            word(out, name);
            value &= !bits;
        }
    }
    if value != 0 {
        word(out, &alloc::format!("{value:#x}"));
    }
}

fn quote(out: &mut String, bytes: &[u8], whole: bool) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(byte as char);
            }
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            0x20..=0x7e => out.push(byte as char),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    if !whole {
        out.push_str("...");
    }
}

fn hex(out: &mut String, value: u64) {
    let _ = if value == 0 { out.write_str("0") } else { write!(out, "{value:#x}") };
}

/// The line for a call with its `result`, or for one that does not return (`None`).
pub fn line(number: u64, args: &[u64; 6], result: Option<Result<u64, Errno>>, memory: &dyn Memory) -> String {
    let mut out = String::new();
    let sysno = usize::try_from(number).ok().and_then(Sysno::new);
    match sysno {
        Some(sysno) => out.push_str(sysno.name()),
        None => {
            let _ = write!(out, "syscall_{number:#x}");
        }
    }
    out.push('(');
    let kinds = sysno.map_or(&[Hex; 6][..], kinds);
    for (i, kind) in kinds.iter().enumerate() {
        // The mode counts only where a file may be made (O_CREAT, O_TMPFILE).
        if *kind == Mode && i > 0 && kinds[i - 1] == Open && args[i - 1] & 0o20000100 == 0 {
            break;
        }
        if i > 0 {
            out.push_str(", ");
        }
        argument(&mut out, *kind, args, i, result, memory);
    }
    out.push(')');
    match result {
        None => out.push_str(" = ?"),
        Some(Err(errno)) => {
            let (name, description) = errno.name_and_description().unwrap_or(("?", "unknown error"));
            let _ = write!(out, " = -1 {name} ({description})");
        }
        Some(Ok(value)) if matches!(sysno, Some(Sysno::mmap | Sysno::brk | Sysno::mremap)) => {
            out.push_str(" = ");
            hex(&mut out, value);
        }
        Some(Ok(value)) => {
            let _ = write!(out, " = {}", value as i64);
        }
    }
    out
}

fn argument(
    out: &mut String,
    kind: Kind,
    args: &[u64; 6],
    i: usize,
    result: Option<Result<u64, Errno>>,
    memory: &dyn Memory,
) {
    let value = args[i];
    let buffer = |out: &mut String, len: u64| {
        let shown = len.min(SHOWN as u64) as usize;
        match memory.bytes(value, shown) {
            Some(bytes) if value != 0 => quote(out, &bytes, len <= SHOWN as u64),
            _ => hex(out, value),
        }
    };
    let _ = match kind {
        Int => write!(out, "{}", value as i32),
        Long => write!(out, "{}", value as i64),
        Size => write!(out, "{value}"),
        Mode if value as u32 == 0 => out.write_str("0"),
        Mode => write!(out, "0{:o}", value as u32),
        Dir if value as i32 == -100 => out.write_str("AT_FDCWD"),
        Dir => write!(out, "{}", value as i32),
        Signal => match super::signal_set::Signal::new(value) {
            Some(signal) if !signal.is_realtime() => write!(out, "SIG{}", signal.name()),
            _ => write!(out, "{}", value as i32),
        },
        Hex => return hex(out, value),
        Path => match memory.string(value, SHOWN_PATH) {
            Some((text, whole)) if value != 0 => return quote(out, &text, whole),
            _ => return hex(out, value),
        },
        In => return buffer(out, args.get(i + 1).copied().unwrap_or(0)),
        Out => match result {
            Some(Ok(len)) => return buffer(out, len),
            _ => return hex(out, value),
        },
        Open => return flags(out, value, &OPEN_FLAGS, "O_RDONLY"),
        Prot => return flags(out, value, &PROT_FLAGS, "PROT_NONE"),
        Map => return flags(out, value, &MAP_FLAGS, "0"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;
    impl Memory for Fake {
        fn string(&self, address: u64, _max: usize) -> Option<(Vec<u8>, bool)> {
            (address == 0x1000).then(|| (b"/etc/a\"b".to_vec(), true))
        }
        fn bytes(&self, address: u64, len: usize) -> Option<Vec<u8>> {
            (address == 0x2000)
                .then(|| b"hello\n\0\xff_and_more_and_more_and_more_and".iter().copied().cycle().take(len).collect())
        }
    }

    fn show(number: Sysno, args: [u64; 6], result: Result<u64, Errno>) -> String {
        line(number as u64, &args, Some(result), &Fake)
    }

    #[test]
    fn lines_read_like_straces() {
        let at = -100i32 as u32 as u64;
        for (got, expected) in [
            (
                show(Sysno::openat, [at, 0x1000, 0o2000000, 0, 0, 0], Ok(3)),
                r#"openat(AT_FDCWD, "/etc/a\"b", O_RDONLY|O_CLOEXEC) = 3"#,
            ),
            (
                show(Sysno::open, [0x1000, 0o1102, 0o644, 0, 0, 0], Err(Errno::ENOENT)),
                r#"open("/etc/a\"b", O_RDWR|O_CREAT|O_TRUNC, 0644) = -1 ENOENT (No such file or directory)"#,
            ),
            (show(Sysno::open, [0, 0o40000000000, 5, 0, 0, 0], Ok(0)), "open(0, O_RDONLY|0x100000000) = 0"),
            (show(Sysno::read, [3, 0x2000, 100, 0, 0, 0], Ok(8)), r#"read(3, "hello\n\x00\xff", 100) = 8"#),
            (
                show(Sysno::read, [3, 0x2000, 100, 0, 0, 0], Err(Errno::EIO)),
                "read(3, 0x2000, 100) = -1 EIO (I/O error)",
            ),
            (
                show(Sysno::write, [1, 0x2000, 40, 0, 0, 0], Ok(40)),
                r#"write(1, "hello\n\x00\xff_and_more_and_more_and_m"..., 40) = 40"#,
            ),
            (
                show(Sysno::write, [1, 0x3000, 40, 0, 0, 0], Err(Errno::EFAULT)),
                "write(1, 0x3000, 40) = -1 EFAULT (Bad address)",
            ),
            (
                show(Sysno::mmap, [0, 4096, 0, 0x4022, u64::MAX, 0], Ok(0x7000)),
                "mmap(0, 4096, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0) = 0x7000",
            ),
            (
                show(Sysno::mprotect, [0x1000, 1, 0x8005, 0, 0, 0], Ok(0)),
                "mprotect(0x1000, 1, PROT_READ|PROT_EXEC|0x8000) = 0",
            ),
            (show(Sysno::kill, [u64::MAX, 15, 0, 0, 0, 0], Ok(0)), "kill(-1, SIGTERM) = 0"),
            (show(Sysno::tkill, [1, 40, 0, 0, 0, 0], Ok(0)), "tkill(1, 40) = 0"),
            (show(Sysno::lseek, [3, u64::MAX, 1, 0, 0, 0], Ok(7)), "lseek(3, -1, 1) = 7"),
            (show(Sysno::getpid, [0; 6], Ok(1)), "getpid() = 1"),
            (
                line(9999, &[1, 0, 0, 0, 0, 0], Some(Err(Errno::ENOSYS)), &Fake),
                "syscall_0x270f(0x1, 0, 0, 0, 0, 0) = -1 ENOSYS (Invalid system call number)",
            ),
            (line(Sysno::exit_group as u64, &[7; 6], None, &Fake), "exit_group(7) = ?"),
        ] {
            assert_eq!(got, expected);
        }
    }
}
