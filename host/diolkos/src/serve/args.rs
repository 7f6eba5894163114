//! `diolkos serve` as the user writes it, and its help.

use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::args::Cache;
use crate::memory_size::MemorySize;

/// The options of `diolkos serve`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct ServeOptions {
    /// Listen for the front-end on a new Unix socket at PATH
    ///
    /// Only this user may connect. The name is removed again when the front-end has connected; with --persistent it stays,
    /// for a confined process can remove nothing. One that a daemon left behind is replaced.
    #[arg(long, value_name = "PATH", required_unless_present = "fd", conflicts_with = "fd")]
    pub socket: Option<PathBuf>,

    /// Listen on a Unix socket that was inherited under this number
    #[arg(long, value_name = "NUMBER")]
    pub fd: Option<RawFd>,

    /// Let the guest change DIR
    ///
    /// Without it every attempt to change DIR fails with "Read-only file system".
    #[arg(long)]
    pub rw: bool,

    /// How long the guest may believe names, attributes and copies of files before it asks again
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub cache: Cache,

    /// Tell front-ends that ask that the share has this virtio-fs tag, 1 to 36 bytes
    ///
    /// QEMU does not ask, it is told the tag on its own command line; versions 7.1 to 8.0 crash when a daemon has one to tell.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,

    /// Size of the DAX window offered to front-ends that can give their guest one; 0 for none [default: 2G]
    ///
    /// A multiple of 2M. It needs the vhost-user messages SHMEM_MAP and SHMEM_UNMAP; other front-ends do not notice.
    #[arg(long, value_name = "SIZE")]
    pub dax_window: Option<MemorySize>,

    /// Serve one front-end after the other, until stopped, instead of one only
    #[arg(long)]
    pub persistent: bool,

    /// Say on stderr how the daemon is confined
    #[arg(long, short)]
    pub verbose: bool,

    /// The host directory to serve
    pub dir: PathBuf,
}

/// What follows the options in the long help.
pub const SERVE_NOTES: &str = "\
Example: a directory for a Linux guest in QEMU

  diolkos serve --socket /run/user/1000/share.sock --rw ~/share &
  qemu-system-x86_64 -m 1G -kernel vmlinuz -initrd initrd.img -append console=ttyS0 -nographic \\
      -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem \\
      -chardev socket,id=share,path=/run/user/1000/share.sock \\
      -device vhost-user-fs-pci,chardev=share,tag=share

  and in the guest: mount -t virtiofs share /mnt

The guest's memory must be shared with the daemon, hence the memory backend.

Exit status:
  0 when the front-end has gone, 128+N after signal N, 125 if diolkos itself failed or the front-end broke the protocol;
  the reason is one line on stderr that starts with 'diolkos: '.";
