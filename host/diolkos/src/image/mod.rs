//! `diolkos image`: the command line of `diolkos_image`.

pub mod args;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use diolkos_image::{Compression, Format, Node, Order, build, visit};
use diolkos_vfs::FileType;

use self::args::{BuildOptions, ImageCommand, LsOptions};
use crate::verdict::{OWN_FAILURE, say};

/// How often progress is shown.
const STEP: Duration = Duration::from_millis(100);

/// Does what `command` asks for.
pub fn image(command: &ImageCommand) -> ExitCode {
    let done = match command {
        ImageCommand::Build(options) => make(options),
        ImageCommand::Ls(options) => list(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            say(&line);
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn make(options: &BuildOptions) -> Result<(), String> {
    let order = Order {
        directory: &options.dir,
        output: &options.output,
        format: match options.format {
            args::Format::Erofs => Format::Erofs,
            args::Format::Cpio => Format::Cpio,
        },
        compression: options.compress.map(|compression| match compression {
            args::Compression::Lz4 => Compression::Lz4,
            args::Compression::Lz4hc => Compression::Lz4hc,
            args::Compression::Gzip => Compression::Gzip,
            args::Compression::Zstd => Compression::Zstd,
        }),
    };
    let shown = io::stderr().is_terminal();
    let mut last: Option<Instant> = None;
    let made = build(&order, &mut |what| {
        if shown && last.is_none_or(|last| last.elapsed() >= STEP) {
            last = Some(Instant::now());
            eprint!("\r\x1b[K{what}");
        }
    });
    if shown {
        eprint!("\r\x1b[K");
    }
    let (files, bytes) = made.map_err(|error| error.to_string())?;
    eprintln!("{}: {files} files, {bytes} bytes, compared with {}", options.output.display(), options.dir.display());
    Ok(())
}

fn list(options: &LsOptions) -> Result<(), String> {
    let path = &options.file;
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut broken = None;
    visit(&file, path, &mut |node, _| {
        if broken.is_none() {
            broken = write_node(&mut out, node, options.long).err();
        }
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    match broken.map_or_else(|| out.flush(), Err) {
        // Whoever reads this has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("cannot write the list: {error}")),
    }
}

fn write_node(out: &mut impl Write, node: &Node, long: bool) -> io::Result<()> {
    let name: &[u8] = if node.path.is_empty() { b"." } else { &node.path };
    if long {
        let size = match FileType::from_mode(node.mode) {
            Some(FileType::CharDevice | FileType::BlockDevice) => {
                format!("{},{}", rustix::fs::major(node.rdev), rustix::fs::minor(node.rdev))
            }
            _ => node.size.to_string(),
        };
        let mode = mode_text(node.mode);
        write!(out, "{mode} {:>3} {:>5} {:>5} {size:>10} {:>10} ", node.nlink, node.uid, node.gid, node.mtime.0)?;
    }
    out.write_all(name)?;
    if let Some(target) = node.target.as_ref().filter(|_| long) {
        out.write_all(b" -> ")?;
        out.write_all(target)?;
    }
    out.write_all(b"\n")
}

/// A mode as ls(1) shows it.
fn mode_text(mode: u32) -> String {
    let kind = match FileType::from_mode(mode) {
        Some(FileType::Fifo) => 'p',
        Some(FileType::CharDevice) => 'c',
        Some(FileType::Directory) => 'd',
        Some(FileType::BlockDevice) => 'b',
        Some(FileType::Regular) | None => '-',
        Some(FileType::Symlink) => 'l',
        Some(FileType::Socket) => 's',
    };
    let mut text = String::from(kind);
    // Of each class: where its bits are, and the special bit that its x shows.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        let texts = [0o100644, 0o40755, 0o104711, 0o102640, 0o41777, 0o120777, 0o101000].map(mode_text);
        let expected =
            ["-rw-r--r--", "drwxr-xr-x", "-rws--x--x", "-rw-r-S---", "drwxrwxrwt", "lrwxrwxrwx", "---------T"];
        assert_eq!(texts, expected);
    }
}
