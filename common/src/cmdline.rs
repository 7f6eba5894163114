//! The kernel command line: what the host asks the kernel to do, as one line of text.
//!
//! Linux' shape: words separated by spaces, `key` or `key=value`, and after `--` the program and its
//! arguments. Every byte outside printable ASCII, the space and `%` is written `%xx`, so any argument,
//! environment entry or path survives. Unknown keys are an error: a misspelt option must not be ignored.

use crate::root::{MountRequest, Root};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// A share to mount in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The virtio-fs tag (1 to 36 bytes of UTF-8).
    pub tag: String,
    /// Where it appears, an absolute path; `/` for the root share.
    pub target: Vec<u8>,
    /// What the program may do to it.
    pub access: Access,
    /// How long what is known of its files may be believed.
    pub cache: CacheMode,
}

/// What a program may do to a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Read it. The host enforces that.
    #[default]
    ReadOnly,
    /// Change the host's files.
    ReadWrite,
    /// Change what it sees: changes stay in the machine's memory. To the host the share is read-only.
    Overlay,
}

impl Access {
    /// Whether the host's files may change.
    pub fn changes_host(self) -> bool {
        self == Self::ReadWrite
    }
}

/// Which policy manages the DAX window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaxPolicy {
    /// Second chance, resistant to scans.
    #[default]
    Clock,
    /// The thesis' stack: the newest mapping goes first.
    Lifo,
    /// The window is not used even where the device has one.
    Off,
}

/// Which reads and writes go through the DAX window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DaxIo {
    /// Those for which it is cheaper than a message.
    #[default]
    Auto,
    /// All that can.
    Window,
}

/// How long names and attributes may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Ask the host every time.
    None,
    /// As long as the server's timeouts say.
    #[default]
    Auto,
    /// For ever.
    Always,
}

/// What `--trace` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    /// A line a system call.
    pub syscalls: bool,
    /// A line a FUSE request.
    pub fuse: bool,
}

/// A pair of clock readings taken at one moment on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The host's time stamp counter.
    pub host_tsc: u64,
}

/// The user's terminal, as far as the guest must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminal {
    /// Which of stdin, stdout and stderr are a terminal on the host.
    pub streams: [bool; 3],
    /// Columns and rows; zero when unknown.
    pub size: (u16, u16),
}

/// Bytes of [`BootOptions::seed`].
pub const SEED: usize = 32;

/// Everything the kernel is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootOptions {
    /// The shares, the root first.
    pub shares: Vec<Share>,
    /// Which file system is the root.
    pub root: Root,
    /// Whether changes of the root stay in the machine's memory. (A share that is the root says so itself.)
    pub root_overlay: bool,
    /// Whether `/etc/fstab` of the root is to be left alone.
    pub no_fstab: bool,
    /// What to mount beside the root and the shares, in this order.
    pub mounts: Vec<MountRequest>,
    /// The program and its arguments, `argv[0]` first.
    pub args: Vec<Vec<u8>>,
    /// Environment entries `KEY=VALUE`.
    pub env: Vec<Vec<u8>>,
    /// Working directory in the guest; `/` when empty.
    pub workdir: Vec<u8>,
    /// Host name shown by `uname`.
    pub hostname: String,
    /// The user and group the program believes it runs as.
    pub ids: (u32, u32),
    /// Window policy.
    pub dax: DaxPolicy,
    /// What of reading and writing goes through the window.
    pub dax_io: DaxIo,
    /// How many inodes each share may keep known to its server without need; the kernel's own bound if nobody says.
    pub inodes: Option<u32>,
    /// Traces wanted.
    pub trace: Trace,
    /// Whether [`crate::report::Record::Verbose`] lines are wanted.
    pub verbose: bool,
    /// Whether every system call is to trap, and the program's code to stay as it is.
    pub no_patch: bool,
    /// Whether counters are wanted at the end.
    pub stats: bool,
    /// Frequency of the time stamp counter in kHz; 0 lets the kernel find out.
    pub tsc_khz: u64,
    /// Wall clock at start.
    pub clock: Option<ClockSample>,
    /// Random bytes, of which the kernel makes its own; without them it asks an entropy device. A secret: for a command line
    /// that nobody else sees.
    pub seed: Option<[u8; SEED]>,
    /// Guest-physical address of bus 0's PCI configuration space as memory (ECAM); port I/O is used without it.
    pub ecam: Option<u64>,
    /// How many processors to start; 0 means one.
    pub cpus: usize,
    /// Whether the machine has [`crate::ports::REPORT_MEMORY`].
    pub report_memory: bool,
    /// Guest-physical address of the record of lost window memory, if the machine keeps one ([`crate::losses`]).
    pub losses: Option<u64>,
    /// The terminal.
    pub terminal: Terminal,
}

/// Why a command line cannot be understood; names the word at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(pub String);

impl core::fmt::Display for ParseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "kernel command line: {}", self.0)
    }
}

fn escape(out: &mut String, bytes: &[u8], also: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' && !also.contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
}

fn unescape(word: &str) -> Result<Vec<u8>, ParseError> {
    let mut out = Vec::with_capacity(word.len());
    let mut bytes = word.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(ParseError(format!("bad escape in '{word}'"))),
        }
    }
    Ok(out)
}

impl BootOptions {
    /// The options as one line.
    pub fn encode(&self) -> String {
        let mut line = String::new();
        let mut word = |key: &str, parts: &[&[u8]]| {
            line.push_str(key);
            for (i, part) in parts.iter().enumerate() {
                line.push(if i == 0 { '=' } else { ':' });
                escape(&mut line, part, b":");
            }
            line.push(' ');
        };
        for share in &self.shares {
            let (access, cache) = (name_of(&ACCESS, share.access), name_of(&CACHE, share.cache));
            word("share", &[share.tag.as_bytes(), &share.target, access.as_bytes(), cache.as_bytes()]);
        }
        if self.root != Root::Auto {
            match self.root.tag() {
                Some(tag) => word("root", &[self.root.name().as_bytes(), tag.as_bytes()]),
                None => word("root", &[self.root.name().as_bytes()]),
            }
        }
        for mount in &self.mounts {
            let MountRequest { fs_type, source, target, options } = mount;
            word("mount", &[fs_type.as_bytes(), source.as_bytes(), target, options.as_bytes()]);
        }
        for entry in &self.env {
            word("env", &[entry]);
        }
        if !self.workdir.is_empty() {
            word("cwd", &[&self.workdir]);
        }
        if !self.hostname.is_empty() {
            word("hostname", &[self.hostname.as_bytes()]);
        }
        word("ids", &[format!("{}", self.ids.0).as_bytes(), format!("{}", self.ids.1).as_bytes()]);
        word("dax", &[name_of(&DAX, self.dax).as_bytes()]);
        if self.dax_io == DaxIo::Window {
            word("dax_io", &[b"window"]);
        }
        for (on, key) in [
            (self.trace.syscalls, "trace_syscalls"),
            (self.trace.fuse, "trace_fuse"),
            (self.verbose, "verbose"),
            (self.no_patch, "nopatch"),
            (self.root_overlay, "root_overlay"),
            (self.no_fstab, "nofstab"),
            (self.stats, "stats"),
            (self.report_memory, "report_memory"),
        ] {
            if on {
                word(key, &[]);
            }
        }
        if let Some(inodes) = self.inodes {
            word("inodes", &[format!("{inodes}").as_bytes()]);
        }
        if self.tsc_khz != 0 {
            word("tsc_khz", &[format!("{}", self.tsc_khz).as_bytes()]);
        }
        if let Some(clock) = self.clock {
            word("clock", &[format!("{}", clock.wall_ns).as_bytes(), format!("{}", clock.host_tsc).as_bytes()]);
        }
        if self.cpus != 0 {
            word("cpus", &[format!("{}", self.cpus).as_bytes()]);
        }
        if let Some(seed) = self.seed {
            let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
            word("seed", &[digits.as_bytes()]);
        }
        if let Some(ecam) = self.ecam {
            word("ecam", &[format!("{ecam}").as_bytes()]);
        }
        if let Some(losses) = self.losses {
            word("losses", &[format!("{losses}").as_bytes()]);
        }
        if self.terminal != Terminal::default() {
            let streams: Vec<u8> = self.terminal.streams.iter().map(|on| b'0' + *on as u8).collect();
            let (columns, rows) = self.terminal.size;
            word("tty", &[&streams, format!("{columns}").as_bytes(), format!("{rows}").as_bytes()]);
        }
        line.push_str("--");
        for arg in &self.args {
            line.push(' ');
            // An empty argument needs a word of its own: a lone escape that stands for nothing.
            if arg.is_empty() {
                line.push_str(EMPTY);
            }
            escape(&mut line, arg, b"");
        }
        line
    }

    /// Reads what [`BootOptions::encode`] wrote (or a person, for QEMU's `-append`).
    ///
    /// # Errors
    /// Names the first word that is unknown or malformed.
    pub fn parse(line: &str) -> Result<Self, ParseError> {
        let mut options = Self::default();
        let mut words = line.split_ascii_whitespace();
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            options.take(word)?;
        }
        for word in words {
            options.args.push(if word == EMPTY { Vec::new() } else { unescape(word)? });
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Result<(), ParseError> {
        let bad = || ParseError(format!("cannot understand '{word}'"));
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let parts = value.split(':').map(unescape).collect::<Result<Vec<_>, _>>()?;
        let text = |i: usize| parts.get(i).and_then(|p| core::str::from_utf8(p).ok()).ok_or_else(bad);
        let number = |i: usize| text(i)?.parse::<u64>().map_err(|_| bad());
        let small = |i: usize| number(i)?.try_into().map_err(|_| bad());
        match key {
            "share" if parts.len() == 4 => self.shares.push(Share {
                tag: text(0)?.into(),
                target: parts[1].clone(),
                access: find(&ACCESS, text(2)?).ok_or_else(bad)?,
                cache: find(&CACHE, text(3)?).ok_or_else(bad)?,
            }),
            "root" if parts.len() == 1 => self.root = text(0)?.parse().map_err(|_| bad())?,
            "root" if parts.len() == 2 && parts[0] == b"virtiofs" => self.root = Root::Virtiofs(Some(text(1)?.into())),
            "mount" if parts.len() == 4 => self.mounts.push(MountRequest {
                fs_type: text(0)?.into(),
                source: text(1)?.into(),
                target: parts[2].clone(),
                options: text(3)?.into(),
            }),
            "root_overlay" => self.root_overlay = true,
            "nofstab" => self.no_fstab = true,
            "env" => self.env.push(parts[0].clone()),
            "cwd" => self.workdir = parts[0].clone(),
            "hostname" => self.hostname = text(0)?.into(),
            "ids" => self.ids = (small(0)?, small(1)?),
            "dax" => self.dax = find(&DAX, text(0)?).ok_or_else(bad)?,
            "dax_io" => self.dax_io = find(&DAX_IO, text(0)?).ok_or_else(bad)?,
            "inodes" => self.inodes = Some(small(0)?),
            "trace_syscalls" => self.trace.syscalls = true,
            "trace_fuse" => self.trace.fuse = true,
            "verbose" => self.verbose = true,
            "nopatch" => self.no_patch = true,
            "stats" => self.stats = true,
            "report_memory" => self.report_memory = true,
            "tsc_khz" => self.tsc_khz = number(0)?,
            "clock" => self.clock = Some(ClockSample { wall_ns: number(0)?, host_tsc: number(1)? }),
            "cpus" => self.cpus = number(0)?.try_into().map_err(|_| bad())?,
            "seed" => self.seed = Some(hex(text(0)?).ok_or_else(bad)?),
            "ecam" => self.ecam = Some(number(0)?),
            "losses" => self.losses = Some(number(0)?),
            "tty" => {
                let streams = text(0)?.as_bytes();
                let [a, b, c] = *streams else { return Err(bad()) };
                self.terminal.streams = [a == b'1', b == b'1', c == b'1'];
                let size = |i: usize| number(i)?.try_into().map_err(|_| bad());
                self.terminal.size = (size(1)?, size(2)?);
            }
            _ => return Err(bad()),
        }
        Ok(())
    }
}

const EMPTY: &str = "%empty%";
const ACCESS: [(&str, Access); 3] = [("ro", Access::ReadOnly), ("rw", Access::ReadWrite), ("overlay", Access::Overlay)];
const DAX: [(&str, DaxPolicy); 3] = [("clock", DaxPolicy::Clock), ("lifo", DaxPolicy::Lifo), ("off", DaxPolicy::Off)];
const DAX_IO: [(&str, DaxIo); 2] = [("auto", DaxIo::Auto), ("window", DaxIo::Window)];
const CACHE: [(&str, CacheMode); 3] =
    [("none", CacheMode::None), ("auto", CacheMode::Auto), ("always", CacheMode::Always)];

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

/// The bytes of which `digits` has two hexadecimal digits each.
fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digit = |at: usize| char::from(*digits.as_bytes().get(at)?).to_digit(16);
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = (digit(2 * i)? * 16 + digit(2 * i + 1)?) as u8;
    }
    (digits.len() == 2 * N).then_some(bytes)
}

/// The name of a value. Every value has one: the tables are written beside the types.
fn name_of<T: PartialEq>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn full() -> BootOptions {
        BootOptions {
            shares: vec![
                Share { tag: "root".into(), target: b"/".to_vec(), access: Access::ReadOnly, cache: CacheMode::Always },
                Share {
                    tag: "v:1".into(),
                    target: b"/data dir:x/\xff".to_vec(),
                    access: Access::ReadWrite,
                    cache: CacheMode::None,
                },
                Share { tag: "over".into(), target: b"/o".to_vec(), access: Access::Overlay, cache: CacheMode::Auto },
            ],
            root: Root::Virtiofs(Some("v:1".into())),
            root_overlay: true,
            no_fstab: true,
            mounts: vec![MountRequest {
                fs_type: "tmpfs".into(),
                source: "a:b".into(),
                target: b"/mnt/\xfe x".to_vec(),
                options: "mode=700,ro".into(),
            }],
            args: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"".to_vec(), b"echo 'a b'\n%20 -- x=y".to_vec()],
            env: vec![b"A=b c:d".to_vec(), b"EMPTY=".to_vec()],
            workdir: b"/tmp/a b".to_vec(),
            hostname: "diolkos".into(),
            ids: (1000, 100),
            dax: DaxPolicy::Lifo,
            dax_io: DaxIo::Window,
            inodes: Some(448),
            trace: Trace { syscalls: true, fuse: false },
            verbose: true,
            no_patch: true,
            stats: true,
            tsc_khz: 2_596_000,
            clock: Some(ClockSample { wall_ns: u64::MAX, host_tsc: 1 }),
            seed: Some(core::array::from_fn(|i| 0xe0 + i as u8)),
            ecam: Some(0xe000_0000),
            cpus: 64,
            report_memory: true,
            losses: Some(0xe012_0000),
            terminal: Terminal { streams: [true, false, true], size: (80, 24) },
        }
    }

    #[test]
    fn everything_survives_the_line() {
        assert_eq!(BootOptions::parse(&full().encode()), Ok(full()));
        let default = BootOptions::default();
        assert_eq!(BootOptions::parse(&default.encode()), Ok(default));
    }

    #[test]
    fn every_kind_of_root_has_a_word() {
        for root in ["auto", "virtiofs", "virtiofs:a:b", "rofs", "ext4", "ramfs"] {
            let root: Root = root.parse().unwrap();
            let options = BootOptions { root, ..BootOptions::default() };
            assert_eq!(BootOptions::parse(&options.encode()), Ok(options));
        }
        assert!("virtiofs:".parse::<Root>().is_err() && "".parse::<Root>().is_err());
    }

    #[test]
    fn every_byte_survives_as_an_argument() {
        let args = vec![(1..=255).collect::<Vec<u8>>(), b"%empty%".to_vec(), b"--".to_vec()];
        let options = BootOptions { args, ..BootOptions::default() };
        assert_eq!(BootOptions::parse(&options.encode()), Ok(options));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for line in [
            "colour=blue",
            "dax=best",
            "dax_io=both",
            "share=a:b",
            "share=a:/:rx:auto",
            "share=a:/:rw:often",
            "share=a:/:rw",
            "tty=11:1:1",
            "ids=1",
            "root=nfs",
            "root=rofs:x",
            "mount=tmpfs::/t",
            "env=%zz",
            "inodes=-1",
            "tsc_khz=fast",
        ] {
            let error = BootOptions::parse(line).unwrap_err();
            assert!(error.0.contains(line.split_once('=').unwrap().1), "{line}: {error}");
        }
    }
}
