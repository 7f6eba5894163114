//! What is in an image, whichever format it has.

use crate::{Error, Result};
use diolkos_cpio::Input;
use diolkos_erofs::Erofs;
use diolkos_ext4::Ext4;
use diolkos_images::Format;
use diolkos_vfs::FileType;
use diolkos_vfs::block::Block;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path, without a `/` at the beginning; empty for the root directory.
    pub path: Vec<u8>,
    /// What all its names have in common, and no other file has.
    pub id: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Bytes of content.
    pub size: u64,
    /// When that changed last: seconds since 1970, and nanoseconds where the format has them.
    pub mtime: (i64, Option<u32>),
    /// For a device, its number.
    pub rdev: u64,
    /// For a symbolic link, where it leads.
    pub target: Option<Vec<u8>>,
}

/// Reads content in order: fills the buffer or as much of it as there is.
pub type Reader<'a> = dyn FnMut(&mut [u8]) -> std::result::Result<usize, String> + 'a;

/// Takes a file of an image, and its content.
pub type Visitor<'a> = dyn FnMut(&Node, &mut Reader<'_>) -> Result<()> + 'a;

/// Bytes of a file of the host.
struct FileBlock(File, u64);

impl Block for FileBlock {
    fn len(&self) -> u64 {
        self.1
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> diolkos_vfs::Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|_| diolkos_vfs::Errno::EIO)
    }
}

struct FileInput(File, u64);

impl Input for FileInput {
    fn read(&mut self, buffer: &mut [u8]) -> diolkos_cpio::Result<usize> {
        let n = self.0.read_at(buffer, self.1).map_err(|_| diolkos_cpio::Error::Read(diolkos_vfs::Errno::EIO))?;
        self.1 += n as u64;
        Ok(n)
    }
}

/// Hands every file of the image in `file`, called `path`, to `each`: directories before what is in them.
///
/// # Errors
/// What is wrong with the image, or what `each` says.
pub fn visit(file: &File, path: &Path, each: &mut Visitor<'_>) -> Result<()> {
    let io = |source: io::Error| Error::File { path: path.into(), source };
    let file = file.try_clone().map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let image = |why: String| Error::Image { path: path.into(), why };
    let device = Arc::new(FileBlock(file.try_clone().map_err(io)?, len));
    match (Erofs::open(device.clone()), Ext4::open(device)) {
        (Err(diolkos_images::Error::Absent), Err(diolkos_images::Error::Absent)) => {
            visit_cpio(FileInput(file, 0), &image, each)
        }
        (Err(diolkos_images::Error::Absent), fs) => visit_format("ext4", fs, &image, each),
        (fs, _) => visit_format("erofs", fs, &image, each),
    }
}

/// Hands every file of the file system called `name` to `each`, if there is one.
fn visit_format<F: Format>(
    name: &str,
    fs: diolkos_images::Result<F>,
    image: &dyn Fn(String) -> Error,
    each: &mut Visitor<'_>,
) -> Result<()> {
    let bad = |error: diolkos_images::Error| image(format!("{name}: {error}"));
    let fs = fs.map_err(bad)?;
    let mut left = vec![(fs.root(), Vec::new())];
    let mut directories = HashSet::new();
    while let Some((number, path)) = left.pop() {
        let inode = fs.inode(number).map_err(bad)?;
        let node = node(&fs, &inode, path).map_err(bad)?;
        let mut at = 0;
        each(&node, &mut |buffer| {
            let n = (node.size - at).min(buffer.len() as u64) as usize;
            fs.read(&inode, at, &mut buffer[..n]).map_err(|error| error.to_string())?;
            at += n as u64;
            Ok(n)
        })?;
        if FileType::from_mode(node.mode) != Some(FileType::Directory) {
            continue;
        }
        // Otherwise a damaged image could have directories in themselves, and paths without end.
        if !directories.insert(number) {
            let path = String::from_utf8_lossy(&node.path);
            return Err(image(format!("its directory '{path}' has another name, too")));
        }
        // A path is kept for every file that is left, so none may be long.
        if node.path.len() >= diolkos_cpio::NAME_MAX {
            return Err(image("its directories are too deep".to_string()));
        }
        let before = left.len();
        fs.list(&inode, 0, &mut |entry, _| {
            if entry.name != b"." && entry.name != b".." {
                let separator: &[u8] = if node.path.is_empty() { b"" } else { b"/" };
                left.push((entry.nid, [&node.path, separator, entry.name].concat()));
            }
            true
        })
        .map_err(bad)?;
        left[before..].reverse();
    }
    Ok(())
}

fn node<F: Format>(fs: &F, inode: &F::Inode, path: Vec<u8>) -> diolkos_images::Result<Node> {
    let metadata = fs.metadata(inode);
    let is_link = FileType::from_mode(metadata.mode) == Some(FileType::Symlink);
    Ok(Node {
        path,
        id: metadata.ino,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        nlink: metadata.nlink,
        size: metadata.size,
        mtime: (metadata.mtime.sec, Some(metadata.mtime.nsec)),
        rdev: metadata.rdev,
        target: is_link.then(|| fs.target(inode)).transpose()?,
    })
}

fn visit_cpio(mut input: FileInput, image: &dyn Fn(String) -> Error, each: &mut Visitor<'_>) -> Result<()> {
    let mut said = None;
    let read = diolkos_cpio::read(&mut input, &mut |header, path, content| {
        if said.is_some() {
            return Ok(());
        }
        let mut target = None;
        if FileType::from_mode(header.mode) == Some(FileType::Symlink) {
            let mut bytes = vec![0; (header.size as usize).min(diolkos_cpio::NAME_MAX)];
            let mut done = 0;
            while done < bytes.len() {
                done += content.read(&mut bytes[done..])?;
            }
            target = Some(bytes);
        }
        let node = Node {
            path: path.to_vec(),
            id: u64::from(header.ino),
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            nlink: header.nlink,
            size: u64::from(header.size),
            mtime: (i64::from(header.mtime), None),
            rdev: rustix::fs::makedev(header.rdev.0, header.rdev.1),
            target,
        };
        said = each(&node, &mut |buffer| content.read(buffer).map_err(|error| error.to_string())).err();
        Ok(())
    });
    match (said, read) {
        (Some(error), _) => Err(error),
        (None, Err(diolkos_cpio::Error::NotAnArchive)) => {
            Err(image("it is neither an EROFS or ext4 image nor a cpio archive in the newc format".to_string()))
        }
        (None, read) => read.map(drop).map_err(|error| image(error.to_string())),
    }
}
