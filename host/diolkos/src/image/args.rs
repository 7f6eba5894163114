//! `diolkos image` as the user writes it, and its help.

use std::path::PathBuf;

/// The subcommands of `diolkos image`.
#[derive(Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Make an image of DIR
    ///
    /// Names, modes, owners, times, links, devices and contents are kept, and extended attributes by erofs; so making an image
    /// of other users' files needs root. When the image is made it is read back, as the guest reads it, and compared with
    /// DIR; only then it gets its name. A file that cannot be read is an error: an image is whole, or there is none.
    #[command(after_long_help = BUILD_NOTES)]
    Build(BuildOptions),

    /// List what is in an image: EROFS, ext4 and its forerunners, or a cpio archive (newc), also compressed by gzip or zstd
    Ls(LsOptions),
}

/// The options of `diolkos image build`.
#[derive(Debug, clap::Args)]
pub struct BuildOptions {
    /// The image to make; what has this name before is replaced
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// What to make
    #[arg(long, value_name = "FORMAT")]
    pub format: Format,

    /// How to compress it: lz4 or lz4hc for erofs, gzip or zstd for cpio [default: not at all]
    #[arg(long, value_name = "HOW")]
    pub compress: Option<Compression>,

    /// The directory to make an image of
    pub dir: PathBuf,
}

/// The options of `diolkos image ls`.
#[derive(Debug, clap::Args)]
pub struct LsOptions {
    /// Show modes, owners, sizes and times as well
    #[arg(long, short)]
    pub long: bool,

    /// The image
    pub file: PathBuf,
}

/// Formats of images.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Format {
    /// A read-only file system for a block device; needs mkfs.erofs
    Erofs,
    /// An archive in the newc format, unpacked into memory at boot
    Cpio,
}

/// Compressions of images.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Compression {
    /// Fast to make and to read
    Lz4,
    /// Slow to make, as fast to read, and smaller
    Lz4hc,
    /// The smallest common ground; needs gzip
    Gzip,
    /// Smaller and faster than gzip; needs zstd
    Zstd,
}

/// What follows the options in the long help of `build`.
const BUILD_NOTES: &str = "\
Examples:

  diolkos image build ~/app -o app.erofs --format erofs --compress lz4hc
  diolkos image build ~/app -o app.cpio.zst --format cpio --compress zstd
  diolkos image ls -l app.erofs

Exit status:
  0 when the image is there, 125 if there is none; the reason is one line on stderr that starts with 'diolkos: '.";
