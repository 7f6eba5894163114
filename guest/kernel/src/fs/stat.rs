//! Attributes as stat(2), statx(2) and statfs(2) lay them out.

use diolkos_vfs::{Metadata, StatFs, Timespec};
use linux_raw_sys::general::{self as raw, STATX_BASIC_STATS, STATX_MNT_ID};

/// Major and minor number of a device number, as makedev(3) packs them.
pub fn split_device(device: u64) -> (u32, u32) {
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    (major as u32, minor as u32)
}

/// `major` and `minor` as one device number (makedev(3)).
pub const fn join_device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (major & 0xfff) << 8 | (major & 0xffff_f000) << 32 | minor & 0xff | (minor & 0xffff_ff00) << 12
}

/// `struct stat`.
pub fn stat(meta: &Metadata) -> raw::stat {
    raw::stat {
        st_dev: meta.dev,
        st_ino: meta.ino,
        st_nlink: meta.nlink.into(),
        st_mode: meta.mode,
        st_uid: meta.uid,
        st_gid: meta.gid,
        __pad0: 0,
        st_rdev: meta.rdev,
        st_size: meta.size as i64,
        st_blksize: meta.blksize.into(),
        st_blocks: meta.blocks as i64,
        // The fields are unsigned in the header and signed in every C library: a time before 1970 survives.
        st_atime: meta.atime.sec as u64,
        st_atime_nsec: meta.atime.nsec.into(),
        st_mtime: meta.mtime.sec as u64,
        st_mtime_nsec: meta.mtime.nsec.into(),
        st_ctime: meta.ctime.sec as u64,
        st_ctime_nsec: meta.ctime.nsec.into(),
        __unused: [0; 3],
    }
}

fn timestamp(time: Timespec) -> raw::statx_timestamp {
    raw::statx_timestamp { tv_sec: time.sec, tv_nsec: time.nsec, __reserved: 0 }
}

/// `struct statx`. Like Linux we give everything we have, whatever the caller's mask asked for (statx(2), "the
/// kernel may return fields that weren't requested"); the time of birth is not among it.
pub fn statx(meta: &Metadata, mount_id: u64) -> raw::statx {
    let ((dev_major, dev_minor), (rdev_major, rdev_minor)) = (split_device(meta.dev), split_device(meta.rdev));
    raw::statx {
        stx_mask: STATX_BASIC_STATS | STATX_MNT_ID,
        stx_blksize: meta.blksize,
        stx_attributes: 0,
        stx_nlink: meta.nlink,
        stx_uid: meta.uid,
        stx_gid: meta.gid,
        stx_mode: meta.mode as u16,
        __spare0: [0],
        stx_ino: meta.ino,
        stx_size: meta.size,
        stx_blocks: meta.blocks,
        stx_attributes_mask: 0,
        stx_atime: timestamp(meta.atime),
        stx_btime: timestamp(Timespec::default()),
        stx_ctime: timestamp(meta.ctime),
        stx_mtime: timestamp(meta.mtime),
        stx_rdev_major: rdev_major,
        stx_rdev_minor: rdev_minor,
        stx_dev_major: dev_major,
        stx_dev_minor: dev_minor,
        stx_mnt_id: mount_id,
        stx_dio_mem_align: 0,
        stx_dio_offset_align: 0,
        stx_subvol: 0,
        stx_atomic_write_unit_min: 0,
        stx_atomic_write_unit_max: 0,
        stx_atomic_write_segments_max: 0,
        stx_dio_read_offset_align: 0,
        stx_atomic_write_unit_max_opt: 0,
        __spare2: [0],
        __spare3: [0; 8],
    }
}

/// `ST_VALID`, the bit of `f_flags` that says the others mean something (statfs(2)).
const ST_VALID: i64 = 0x20;
/// `ST_RDONLY`.
const ST_RDONLY: i64 = 1;

/// `struct statfs` of a file system with device number `dev`.
pub fn statfs(fs: &StatFs, dev: u64, read_only: bool) -> raw::statfs {
    raw::statfs {
        f_type: fs.magic as i64,
        f_bsize: fs.bsize.into(),
        f_blocks: fs.blocks as i64,
        f_bfree: fs.bfree as i64,
        f_bavail: fs.bavail as i64,
        f_files: fs.files as i64,
        f_ffree: fs.ffree as i64,
        f_fsid: raw::__kernel_fsid_t { val: [dev as i32, (dev >> 32) as i32] },
        f_namelen: fs.namelen.into(),
        f_frsize: fs.frsize.into(),
        f_flags: ST_VALID | if read_only { ST_RDONLY } else { 0 },
        f_spare: [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        Metadata {
            ino: 7,
            dev: join_device(0, 42),
            mode: 0o100644,
            nlink: 2,
            uid: 1000,
            gid: 100,
            rdev: join_device(136, 1),
            size: u64::from(u32::MAX) + 5,
            blocks: 8,
            blksize: 4096,
            atime: Timespec { sec: -1, nsec: 999_999_999 },
            mtime: Timespec { sec: 2, nsec: 3 },
            ctime: Timespec { sec: 4, nsec: 5 },
        }
    }

    #[test]
    fn device_numbers_split_and_join() {
        for (major, minor) in
            [(0, 0), (1, 3), (136, 1), (0xfff, 0xff), (0x1234_5678, 0x9abc_def0), (u32::MAX, u32::MAX)]
        {
            assert_eq!(split_device(join_device(major, minor)), (major, minor));
        }
        // What glibc's makedev(5, 1) and makedev(259, 0x12345) give.
        assert_eq!(join_device(5, 1), 0x501);
        assert_eq!(join_device(259, 0x12345), 0x1231_0345);
    }

    #[test]
    fn stat_is_the_kernels_144_bytes() {
        assert_eq!(size_of::<raw::stat>(), 144);
        let packed = stat(&sample());
        assert_eq!(packed.st_size, i64::from(u32::MAX) + 5);
        assert_eq!(packed.st_atime as i64, -1);
        assert_eq!((packed.st_mode, packed.st_nlink, packed.st_rdev), (0o100644, 2, 0x8801));
    }

    #[test]
    fn statx_is_the_kernels_256_bytes() {
        assert_eq!(size_of::<raw::statx>(), 256);
        let packed = statx(&sample(), 9);
        assert_eq!((packed.stx_rdev_major, packed.stx_rdev_minor), (136, 1));
        assert_eq!((packed.stx_dev_minor, packed.stx_mnt_id), (42, 9));
        assert_eq!((packed.stx_atime.tv_sec, packed.stx_atime.tv_nsec), (-1, 999_999_999));
        assert_eq!(packed.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    }

    #[test]
    fn statfs_tells_whether_it_is_read_only() {
        assert_eq!(size_of::<raw::statfs>(), 120);
        let fs = StatFs { magic: 0x0102_1994, bsize: 4096, namelen: 255, ..StatFs::default() };
        assert_eq!(statfs(&fs, 0x1_0000_0002, true).f_flags, ST_VALID | ST_RDONLY);
        let packed = statfs(&fs, 0x1_0000_0002, false);
        assert_eq!((packed.f_flags, packed.f_fsid.val), (ST_VALID, [2, 1]));
    }
}
