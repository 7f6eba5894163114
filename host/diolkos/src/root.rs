//! What ROOT is: a directory, or a file that holds a root file system.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use diolkos_common::image::{HEAD, Image, recognise};

/// Looks at what is there; `None` for a directory, and for what there is not, which whoever opens it as one says best.
///
/// # Errors
/// It is a file, and none that can be a root.
pub fn look(path: &Path) -> Result<Option<Image>, String> {
    let Some(kind) = fs::metadata(path).ok().map(|metadata| metadata.file_type()).filter(|kind| !kind.is_dir()) else {
        return Ok(None);
    };
    let shown = path.display();
    // To open a pipe would be to wait for its other end, and what was read of it would be gone.
    if !kind.is_file() && !kind.is_block_device() {
        return Err(format!("{shown}: neither a directory, nor a file or block device with an image"));
    }
    let head = head(path).map_err(|error| format!("{shown}: {error}"))?;
    let image = recognise(&head).ok_or_else(|| {
        format!(
            "{shown}: not a directory, and no image: neither an EROFS or ext4 file system nor a cpio archive begins there ({})",
            beginning(&head)
        )
    })?;
    Ok(Some(image))
}

/// Refuses what is there and not a file as an initrd, which is measured before it is read: a pipe cannot be.
///
/// # Errors
/// It is something else.
pub fn check_initrd(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(format!("--initrd {}: not a file", path.display())),
        // Whoever opens it says best what is wrong with it.
        _ => Ok(()),
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// What is there instead, for people.
fn beginning(head: &[u8]) -> String {
    match head {
        [] => "it is empty".to_owned(),
        head => {
            let bytes: Vec<_> = head.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("its first bytes are {}", bytes.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_directories() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(look(folder.path()), Ok(None));
        assert_eq!(look(Path::new("/no/such")), Ok(None));
        let mut erofs = vec![0; 4096];
        erofs[1024..1028].copy_from_slice(&[0xe2, 0xe1, 0xf5, 0xe0]);
        assert_eq!(look(&file("erofs", &erofs)), Ok(Some(Image::Erofs)));
        assert_eq!(look(&file("cpio", b"070701")), Ok(Some(Image::Cpio)));
        let error = look(&file("text", b"hello")).unwrap_err();
        assert!(error.contains("text: not a directory") && error.contains("68 65 6c 6c 6f"), "{error}");
        assert!(look(&file("empty", b"")).unwrap_err().contains("it is empty"));
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(look(&fifo).unwrap_err().contains("fifo: neither a directory, nor a file"));
        assert!(check_initrd(&fifo).unwrap_err().contains("fifo: not a file"));
        assert_eq!(check_initrd(&folder.path().join("cpio")), Ok(()));
    }
}
