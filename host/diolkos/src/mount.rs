//! One `--mount TYPE:SOURCE:TARGET[:OPTIONS]`, and one `--rootfs KIND`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use diolkos_common::root::{MountRequest, Root};

/// File systems that the kernel can mount beside the root.
const TYPES: [&str; 6] = ["virtiofs", "erofs", "ext4", "ext3", "ext2", "tmpfs"];

/// Reads a mount.
///
/// # Errors
/// What is wrong with it, and what it should look like.
pub fn parse(text: &OsStr) -> Result<MountRequest, String> {
    let mut words = text.as_bytes().splitn(4, |byte| *byte == b':');
    let mut word = || words.next().map(<[u8]>::to_vec);
    let (Some(fs_type), Some(source), Some(target)) = (word(), word(), word()) else {
        return Err("give TYPE:SOURCE:TARGET, such as tmpfs::/scratch or erofs:/dev/vda:/data:ro".to_owned());
    };
    let utf8 =
        |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "type, source and options must be UTF-8".to_owned());
    let (fs_type, source, options) = (utf8(fs_type)?, utf8(source)?, utf8(word().unwrap_or_default())?);
    if !TYPES.contains(&fs_type.as_str()) {
        return Err(format!("the file systems are {}, not '{fs_type}'", TYPES.join(", ")));
    }
    if !target.starts_with(b"/") || target == b"/" {
        let target = String::from_utf8_lossy(&target).into_owned();
        return Err(format!("the place in the machine must be an absolute path other than '/', not '{target}'"));
    }
    if source.is_empty() && fs_type != "tmpfs" {
        let wanted = if fs_type == "virtiofs" { "the tag of a share" } else { "a disk such as /dev/vda" };
        return Err(format!("the source of {fs_type} is {wanted}, not nothing"));
    }
    Ok(MountRequest { fs_type, source, target, options })
}

/// Reads a kind of root.
///
/// # Errors
/// The kinds there are.
pub fn parse_root(text: &str) -> Result<Root, String> {
    text.parse().map_err(|_| "give 'auto', 'virtiofs', 'virtiofs:TAG', 'rofs', 'ext4' or 'ramfs'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_three_or_four_parts() {
        let mount = |text: &str| parse(text.as_ref()).unwrap();
        let request = |fs_type: &str, source: &str, target: &str, options: &str| MountRequest {
            fs_type: fs_type.into(),
            source: source.into(),
            target: target.into(),
            options: options.into(),
        };
        assert_eq!(mount("tmpfs::/t"), request("tmpfs", "", "/t", ""));
        assert_eq!(mount("erofs:/dev/vdb:/a/b:ro,nofail"), request("erofs", "/dev/vdb", "/a/b", "ro,nofail"));
        assert_eq!(mount("virtiofs:volume1:/v:a:b"), request("virtiofs", "volume1", "/v", "a:b"));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_its_reason() {
        for (text, reason) in [
            ("tmpfs", "TYPE:SOURCE:TARGET"),
            ("tmpfs:/t", "TYPE:SOURCE:TARGET"),
            ("nfs:a:/t", "'nfs'"),
            ("tmpfs:x:t", "'t'"),
            ("tmpfs:x:/", "'/'"),
            ("virtiofs::/t", "the tag of a share"),
            ("ext4::/t", "/dev/vda"),
        ] {
            let error = parse(text.as_ref()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse_root("nfs").unwrap_err().contains("'rofs'"));
    }
}
