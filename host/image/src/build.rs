//! Making an image.

use crate::output::Output;
use crate::tree::{self, Entry};
use crate::{Error, Progress, Result, archive, check, error::at};
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Formats of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A read-only file system for a block device.
    Erofs,
    /// An archive that is unpacked into memory.
    Cpio,
}

/// Compressions of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// LZ4: EROFS only. Made and read fast.
    Lz4,
    /// LZ4 with a longer search: EROFS only. Made slowly, read as fast, and smaller.
    Lz4hc,
    /// gzip: archives only.
    Gzip,
    /// Zstandard: archives only.
    Zstd,
}

/// What is to be made.
#[derive(Debug)]
pub struct Order<'a> {
    /// The directory.
    pub directory: &'a Path,
    /// The image: replaced if it is there.
    pub output: &'a Path,
    /// Its format.
    pub format: Format,
    /// Its compression.
    pub compression: Option<Compression>,
}

/// Bytes that `mkfs.erofs` compresses to at most at once: larger ones compress better, and more has to be read for a byte.
const CLUSTER: &str = "-C65536";

/// Makes an image, checks it against the directory, and only then gives it its name. Returns how many files it has and its
/// length in bytes.
///
/// # Errors
/// Why there is none; what had the name before still has it then.
pub fn build(order: &Order<'_>, progress: &mut Progress<'_>) -> Result<(usize, u64)> {
    let directory = order.directory.canonicalize().map_err(at(order.directory))?;
    let parent = std::path::absolute(order.output).map_err(at(order.output))?;
    let inside =
        parent.parent().and_then(|parent| parent.canonicalize().ok()).is_some_and(|p| p.starts_with(&directory));
    if inside {
        return Err(Error::Unfit {
            path: order.output.into(),
            what: "the image cannot lie in the directory it is made of",
        });
    }
    let entries = tree::scan(&directory)?;
    let output = Output::new(order.output)?;
    match order.format {
        Format::Erofs => erofs(&directory, &output, order.compression, progress)?,
        Format::Cpio => cpio(&directory, &entries, &output, order.compression, progress)?,
    }
    check::check(&output.file, order.output, &directory, &entries, progress)?;
    let len = output.file.metadata().map_err(at(order.output))?.len();
    output.finish()?;
    Ok((entries.len(), len))
}

fn erofs(root: &Path, output: &Output, compression: Option<Compression>, progress: &mut Progress<'_>) -> Result<()> {
    let mut command = Command::new("mkfs.erofs");
    // The identifier is random by default; nobody needs one.
    command.args(["--quiet", "-U00000000-0000-0000-0000-000000000000"]);
    match compression {
        None => &mut command,
        Some(Compression::Lz4) => command.args(["-zlz4", CLUSTER]),
        Some(Compression::Lz4hc) => command.args(["-zlz4hc", CLUSTER]),
        Some(_) => return Err(Error::Compression("erofs images are compressed by lz4 or lz4hc")),
    };
    command.arg(output.alias()).arg(root).stdin(Stdio::null());
    progress("mkfs.erofs is making the image");
    let made = command.output().map_err(|_| Error::Missing { program: "mkfs.erofs", package: "erofs-utils" })?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Err(Error::Tool { program: "mkfs.erofs", said })
}

fn cpio(
    root: &Path,
    entries: &[Entry],
    output: &Output,
    compression: Option<Compression>,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let (program, arguments, package): (_, &[&str], _) = match compression {
        None => {
            let mut out = BufWriter::new(&output.file);
            archive::write(root, entries, &mut out, progress)?;
            return out.flush().map_err(at("the archive"));
        }
        Some(Compression::Gzip) => ("gzip", &["-n"], "gzip"),
        // The largest level whose window every decoder has.
        Some(Compression::Zstd) => ("zstd", &["-q", "-T0", "-10", "--zstd=wlog=21"], "zstd"),
        Some(_) => return Err(Error::Compression("cpio archives are compressed by gzip or zstd")),
    };
    let file = output.file.try_clone().map_err(at("the archive"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .map_err(|_| Error::Missing { program, package })?;
    let mut out = BufWriter::new(child.stdin.take().expect("it was asked for"));
    let written =
        archive::write(root, entries, &mut out, progress).and_then(|()| out.flush().map_err(at("the archive")));
    // It ends when its input does.
    drop(out);
    let status = child.wait().map_err(at(OsString::from(program)))?;
    written?;
    if status.success() { Ok(()) } else { Err(Error::Tool { program, said: status.to_string() }) }
}
