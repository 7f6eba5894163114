//! The command line as the user writes it, and its help.
//!
//! Only the shape of each word is checked here; whether the words make sense together and on this host is
//! [`crate::plan`]'s business.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use diolkos_common::cmdline::{CacheMode, DaxIo, DaxPolicy};
use diolkos_common::root::{MountRequest, Root};

use crate::bench::args::BenchCommand;
use crate::disk::Disk;
use crate::image::args::ImageCommand;
use crate::memory_size::MemorySize;
use crate::mount;
use crate::serve::args::{SERVE_NOTES, ServeOptions};
use crate::verdict::{self, OWN_FAILURE};
use crate::volume::Volume;

/// Run an unmodified Linux program from a host directory in a virtual machine of its own.
#[derive(Debug, Parser)]
#[command(name = "diolkos", version, propagate_version = true, after_help = TOP_EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run PROGRAM, found in ROOT, in a new virtual machine
    ///
    /// ROOT becomes the root directory of the machine; PROGRAM and every file it opens are looked up there. There is no
    /// disk image to build: ROOT is a directory, and files are read from it as they are needed. (It can be an image, too:
    /// an EROFS or ext4 file system or a cpio archive.) ROOT is read-only unless --rw is given; /tmp and /run are the machine's
    /// own memory and vanish with it.
    #[command(after_long_help = RUN_NOTES, after_help = "The longer help, 'diolkos run --help', has examples.")]
    Run(RunOptions),

    /// Serve DIR to another virtual machine monitor, as a vhost-user-fs daemon
    ///
    /// The monitor (the front-end), QEMU for instance, connects to a Unix socket and gives its guest a virtio-fs device with
    /// the files of DIR. DIR is read-only unless --rw is given. The daemon ends when the front-end does.
    #[command(after_long_help = SERVE_NOTES, after_help = "The longer help, 'diolkos serve --help', has an example.")]
    Serve(ServeOptions),

    /// Make and list images of directories: file systems for a block device, and archives
    #[command(subcommand)]
    Image(ImageCommand),

    /// Measure Diolkos and what it can be compared with, on this computer
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// Let the program write to ROOT
    ///
    /// Without it every attempt to change ROOT fails with "Read-only file system", which the host enforces.
    #[arg(long)]
    pub rw: bool,

    /// Let the program change what it sees of ROOT, in the machine's memory
    ///
    /// Everything can be written, and ROOT stays as it is: what was changed vanishes with the machine. It may take half of
    /// the machine's memory, of large files only the pages that change do; more is "No space left on device".
    #[arg(long, conflicts_with = "rw")]
    pub overlay: bool,

    /// Share one more host directory, at a place of its own
    ///
    /// HOST appears in the machine at the absolute path GUEST, which need not exist in ROOT. It is writable unless ':ro'
    /// is added, or ':overlay', which keeps changes in memory as --overlay does; ':cache=none', ':cache=auto' or
    /// ':cache=always' gives it a rule of its own in place of --cache, and ':dax=SIZE' a window of its own size in place of
    /// --dax-window. May be given several times.
    #[arg(long, value_name = "HOST:GUEST[:ro|:overlay][:cache=MODE][:dax=SIZE]")]
    pub volume: Vec<Volume>,

    /// Give the machine a disk: a raw image, or a block device of the host
    ///
    /// The first is /dev/vda in the machine, the next /dev/vdb, and so on. The program may write to it unless ':ro' is added;
    /// a file that is written to belongs to one machine at a time. May be given several times.
    #[arg(long, value_name = "FILE[:ro]")]
    pub disk: Vec<Disk>,

    /// Which file system is the root directory of the machine [default: what ROOT is]
    ///
    /// 'virtiofs' is the directory ROOT, 'virtiofs:TAG' another share: 'volume1' is the first --volume, and so on. 'rofs' is
    /// the EROFS image on the first --disk that holds one, 'ext4' the file system of ext4, ext3 or ext2 on the first that
    /// holds one, for reading, 'ramfs' the archive of --initrd. 'auto' takes the first that is there, in this order, and
    /// --verbose and --stats say which and why. Any other kind that is not there is an error.
    #[arg(long, value_name = "KIND", value_parser = mount::parse_root)]
    pub rootfs: Option<Root>,

    /// Mount one more file system
    ///
    /// TYPE is 'virtiofs' (SOURCE is the tag of a share), 'erofs', 'ext4', 'ext3' or 'ext2' (SOURCE is a disk, such as
    /// /dev/vda, which is read only), or 'tmpfs' (memory; SOURCE is any word or none). TARGET need not exist. OPTIONS are separated by commas: 'ro', 'mode=755'. May
    /// be given several times; mounts follow those of /etc/fstab.
    #[arg(long, value_name = "TYPE:SOURCE:TARGET[:OPTIONS]",
          value_parser = OsStringValueParser::new().try_map(|text| mount::parse(&text)))]
    pub mount: Vec<MountRequest>,

    /// Hand this cpio archive to the kernel, to be unpacked into memory by '--rootfs ramfs' or 'auto'
    ///
    /// The archive is of the format "newc" (cpio -H newc), plain or packed by gzip or zstd. An archive as ROOT is the same.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// Set an environment variable: KEY=VALUE, or KEY to pass on the host's value
    ///
    /// The program starts with PATH, HOME, and TERM and TZ if the host has them, and nothing else. What is given here
    /// comes on top and wins. May be given several times.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub env: Vec<OsString>,

    /// Start the program in this directory of the machine
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub workdir: OsString,

    /// Processors of the machine, 1 to 64
    ///
    /// The program's threads run on them at the same time; what they ask of the kernel is done one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,

    /// Memory of the machine, such as 512M or 4G
    ///
    /// It is an upper limit: the host gives a page when the program first touches it. At least 64M.
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    pub memory: MemorySize,

    /// Size of the DAX window of each share that has none of its own; 0 for no window [default: 2G]
    ///
    /// Through the window the program reads the host's page cache directly, with no copy. It costs address space, not
    /// memory. A multiple of 2M. Files larger than the window work: pieces take turns. KVM platform only.
    #[arg(long, value_name = "SIZE")]
    pub dax_window: Option<MemorySize>,

    /// Which piece of a full window gives way to a new one
    #[arg(long, value_name = "POLICY", default_value = "clock")]
    pub dax_policy: WindowPolicy,

    /// Which reads and writes go through the window
    #[arg(long, value_name = "RULE", default_value = "auto")]
    pub dax_io: WindowIo,

    /// How long names, attributes and copies of files may be believed before the host is asked again
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub cache: Cache,

    /// Which hypervisor runs the machine
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub platform: PlatformChoice,

    /// What serves the shares on QEMU: 'builtin', or the path of a virtiofsd
    ///
    /// 'builtin', the default, is 'diolkos serve' in a process of its own. QEMU's own virtiofsd (up to QEMU 7.2) and that of
    /// the virtio-fs project serve as well. On KVM the shares are served by the machine's own process.
    #[arg(long, value_name = "PROGRAM")]
    pub fs_daemon: Option<FsDaemon>,

    /// Let every system call trap
    ///
    /// Otherwise calls that are made often become jumps: the program's code is changed in memory, which only a program that
    /// reads its own code can see. For such programs, and to compare.
    #[arg(long)]
    pub no_patch: bool,

    /// Print counters and times on stderr at the end
    #[arg(long)]
    pub stats: bool,

    /// Print a line on stderr for each of these events; a list separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub trace: Vec<TraceKind>,

    /// Say on stderr what is being decided, such as which platform was chosen and why
    #[arg(long, short)]
    pub verbose: bool,

    /// The host directory that becomes the root directory of the machine, or a file with an image of one
    ///
    /// An image is told by what it begins with. A cpio archive is unpacked into memory; an EROFS or ext4 file system becomes
    /// the first disk, read-only.
    pub root: PathBuf,

    /// The program, then its arguments
    ///
    /// A name without a slash is looked up along the machine's PATH. Everything after PROGRAM is passed on untouched.
    #[arg(value_name = "PROGRAM", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

/// `--dax-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowPolicy {
    /// Second chance: what was not used lately goes first; a long sequential read does not push out the rest
    Clock,
    /// The newest piece goes first (the policy of the first DAX window for unikernels, kept for comparison)
    Lifo,
}

impl From<WindowPolicy> for DaxPolicy {
    fn from(policy: WindowPolicy) -> Self {
        match policy {
            WindowPolicy::Clock => Self::Clock,
            WindowPolicy::Lifo => Self::Lifo,
        }
    }
}

/// `--dax-io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowIo {
    /// Those for which it is cheaper than a message to the host, as measured while running
    Auto,
    /// All that can
    Window,
}

impl From<WindowIo> for DaxIo {
    fn from(io: WindowIo) -> Self {
        match io {
            WindowIo::Auto => Self::Auto,
            WindowIo::Window => Self::Window,
        }
    }
}

/// `--cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    /// Ask the host every time
    None,
    /// Believe for a second
    Auto,
    /// Believe until the machine ends: for directories that nobody changes meanwhile
    Always,
}

impl From<Cache> for CacheMode {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::None => Self::None,
            Cache::Auto => Self::Auto,
            Cache::Always => Self::Always,
        }
    }
}

/// `--platform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlatformChoice {
    /// KVM if /dev/kvm can be used, else QEMU
    Auto,
    /// Diolkos' own machine on /dev/kvm
    Kvm,
    /// qemu-system-x86_64 with a file server for each share; works without /dev/kvm, but slower and with no DAX window
    Qemu,
}

/// `--fs-daemon`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FsDaemon {
    /// This very program.
    Builtin,
    /// Another one.
    Program(PathBuf),
}

impl std::str::FromStr for FsDaemon {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "builtin" => Ok(Self::Builtin),
            "" => Err("give 'builtin' or the path of a virtiofsd"),
            path => Ok(Self::Program(path.into())),
        }
    }
}

/// One event of `--trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceKind {
    /// Each system call, its arguments and its result
    Syscalls,
    /// Each file system request to the host
    Fuse,
}

const TOP_EXAMPLES: &str = "\
Examples:
  diolkos run / /bin/ls -l /etc       a program of this very system, in a machine of its own
  diolkos run ./rootfs python3 x.py   a program of another root directory
  diolkos serve --socket s ./data     a directory for a guest of another virtual machine monitor
  diolkos bench micro --quick         how fast files are, here and there

'diolkos run --help', 'diolkos serve --help' and 'diolkos bench micro --help' explain the options.";

const RUN_NOTES: &str = "\
Examples:
  diolkos run / /bin/ls -l /etc
      List /etc, from inside a machine whose root is the host's.
  diolkos run --volume ~/data:/data:ro --workdir /data ./rootfs sha256sum big.bin
      A program of ./rootfs on files of ~/data, which it cannot change.
  diolkos run --rw --env LANG=C.UTF-8 --memory 4G ./rootfs /usr/bin/python3 build.py
      A program that may write to ./rootfs.
  seq 10 | diolkos run / sort -rn | head -3
      Standard input, output and error are the program's, byte for byte.
  diolkos run ./root.erofs /bin/app
      A program of an image that mkfs.erofs made; mke2fs is known, too.
  diolkos run --stats --dax-window 64M / cat /usr/bin/python3 >/dev/null
      How many bytes came through a small DAX window, and what it cost.

Signals:
  SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 sent to diolkos are the program's, to handle or to die of.
  SIGKILL ends program, machine and diolkos at once.

Exit status:
  The program's own. 127 if PROGRAM was not found, 126 if it cannot be executed, 128+N if signal N killed it
  (or ended diolkos), 125 if diolkos itself failed; the reason is one line on stderr that starts with 'diolkos: '.

Sizes are bytes, or have a suffix K, M, G or T (powers of 1024).";

/// Reads the process' arguments. Help and version go to stdout; a mistake becomes one line on stderr.
///
/// # Errors
/// The status to leave with: 0 after help or version, 125 after a mistake.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away is no failure of ours.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            verdict::say(&one_line(&error));
            ExitCode::from(OWN_FAILURE)
        }
    })
}

/// clap's message without its usage block: what is wrong and, if clap has one, the tip.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command given; 'diolkos run --help' shows how to run a program".to_owned();
    }
    let text = error.render().to_string();
    let blocks = text.split("\n\n").take_while(|block| !block.starts_with("Usage:"));
    let lines: Vec<String> = blocks
        .map(|block| block.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let words = lines.join("; ");
    let what = words.strip_prefix("error: ").unwrap_or(&words);
    // clap's usage line names the command that was understood so far.
    let known = ["serve", "bench micro", "bench"];
    let command = known.into_iter().find(|name| text.contains(&format!("Usage: diolkos {name}"))).unwrap_or("run");
    format!("{what}; 'diolkos {command} --help' explains the options")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &[&str]) -> Result<RunOptions, clap::Error> {
        match Arguments::try_parse_from([&["diolkos", "run"], words].concat())?.command {
            Command::Run(options) => Ok(options),
            Command::Serve(_) | Command::Bench(_) | Command::Image(_) => unreachable!("the word is run"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn everything_after_the_program_is_the_programs() {
        let options = run(&["--rw", "/", "ls", "--rw", "--", "-l", "--help", "", "a b"]).unwrap();
        assert_eq!(options.program, ["ls", "--rw", "--", "-l", "--help", "", "a b"]);
        assert!(options.rw);
        assert!(!run(&["/", "ls", "--rw"]).unwrap().rw);
    }

    #[test]
    fn mistakes_are_one_line_that_names_the_option() {
        for (words, named) in [
            (&["--memory", "much", "/", "ls"][..], "--memory"),
            (&["--cpus", "0", "/", "ls"], "--cpus"),
            (&["--cpus", "65", "/", "ls"], "--cpus"),
            (&["--cpus", "all", "/", "ls"], "--cpus"),
            (&["--dax-policy", "best", "/", "ls"], "--dax-policy"),
            (&["--dax-io", "both", "/", "ls"], "--dax-io"),
            (&["--platform", "xen", "/", "ls"], "--platform"),
            (&["--trace", "everything", "/", "ls"], "--trace"),
            (&["--volume", "/data", "/", "ls"], "--volume"),
            (&["--rw", "--overlay", "/", "ls"], "--overlay"),
            (&["--disk", ":ro", "/", "ls"], "--disk"),
            (&["--rootfs", "nfs", "/", "ls"], "--rootfs"),
            (&["--mount", "tmpfs:/x", "/", "ls"], "--mount"),
            (&["--colour", "/", "ls"], "--colour"),
            (&["/"], "PROGRAM"),
            (&[], "ROOT"),
        ] {
            let line = one_line(&run(words).unwrap_err());
            assert!(line.contains(named) && !line.contains('\n'), "{words:?}: {line}");
        }
    }

    #[test]
    fn traces_are_a_list() {
        let options = run(&["--trace", "fuse,syscalls", "/", "ls"]).unwrap();
        assert_eq!(options.trace, [TraceKind::Fuse, TraceKind::Syscalls]);
    }
}
