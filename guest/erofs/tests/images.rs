//! Images that the standard mkfs.erofs makes, read back and compared with the tree they were made of.

use diolkos_erofs::{Erofs, Error, Feature};
use diolkos_images_testing::{FileBlock, Scene, Times, compare, heap, noise, set_xattr, survive, text};
use diolkos_vfs::block::Block;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

fn open(image: &Path) -> Erofs {
    Erofs::open(FileBlock::open(image)).unwrap()
}

/// Times are kept where inodes are long, which mkfs.erofs makes unless told otherwise.
fn check(scene: &Scene, name: &str, options: &[&str]) {
    let fs = open(&scene.erofs(name, options));
    let times = if options.contains(&"-Eforce-inode-compact") { Times::Lost } else { Times::Exact };
    let count = compare(&fs, fs.root(), &scene.tree(), times);
    assert!(count > 2000, "{count}");
}

#[test]
fn every_mode_of_mkfs_reads_back() {
    let scene = Scene::new();
    scene.fill();
    let modes: [(&str, &[&str]); 11] = [
        ("plain", &[]),
        ("not-inline", &["-Enoinline_data"]),
        ("no-checksum", &["-Enosbcrc"]),
        ("chunks", &["--chunksize=4096"]),
        ("big-chunks", &["--chunksize=1048576", "-Eforce-chunk-indexes"]),
        ("lz4", &["-zlz4"]),
        ("lz4hc", &["-zlz4hc,12"]),
        ("big-clusters", &["-zlz4hc", "-C65536"]),
        ("largest-clusters", &["-zlz4", "-C1048576"]),
        ("tails", &["-zlz4hc", "-C16384", "-Eztailpacking"]),
        ("legacy", &["-zlz4", "-Elegacy-compress"]),
    ];
    for (name, options) in modes {
        println!("{name}");
        check(&scene, name, options);
    }
}

#[test]
fn inodes_may_be_short() {
    let scene = Scene::new();
    scene.write("file", b"content");
    let fs = open(&scene.erofs("short", &["-Eforce-inode-compact", "-T1234567890"]));
    let file = fs.inode(fs.lookup(&fs.inode(fs.root()).unwrap(), b"file").unwrap().unwrap()).unwrap();
    assert_eq!((file.mtime.sec, file.mtime.nsec, file.nlink, file.size), (1_234_567_890, 0, 1, 7));
}

#[test]
fn large_directories_are_searched_and_listed() {
    const COUNT: usize = 100_000;
    let scene = Scene::new();
    for i in 0..COUNT {
        scene.write(&format!("d/{i:x}"), b"");
    }
    let fs = open(&scene.erofs("large", &[]));
    let dir = fs.inode(fs.lookup(&fs.inode(fs.root()).unwrap(), b"d").unwrap().unwrap()).unwrap();
    for i in (0..COUNT).step_by(997) {
        assert!(fs.lookup(&dir, format!("{i:x}").as_bytes()).unwrap().is_some());
    }
    for absent in [&b"0x"[..], b"-", b"zzz", b"fffff", b"10000000"] {
        assert_eq!(fs.lookup(&dir, absent), Ok(None));
    }
    // Listed in parts, each of which goes on where the last one ended.
    let (mut names, mut cookie) = (std::collections::BTreeSet::new(), 0);
    loop {
        let mut room = 1000;
        let before = names.len();
        fs.list(&dir, cookie, &mut |entry, next| {
            if room == 0 {
                return false;
            }
            room -= 1;
            cookie = next;
            names.insert(entry.name.to_vec());
            true
        })
        .unwrap();
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names.len(), COUNT + 2);
}

#[test]
fn large_sparse_files_take_nothing() {
    const SIZE: u64 = 4 << 30;
    let scene = Scene::new();
    let file = File::create(scene.tree().join("sparse")).unwrap();
    file.set_len(SIZE + 5).unwrap();
    file.write_all_at(b"!", SIZE - 7).unwrap();
    let image = scene.erofs("sparse", &["--chunksize=1048576"]);
    assert!(fs::metadata(&image).unwrap().len() < 8 << 20);
    let fs = open(&image);
    let inode = fs.inode(fs.lookup(&fs.inode(fs.root()).unwrap(), b"sparse").unwrap().unwrap()).unwrap();
    assert_eq!(inode.size, SIZE + 5);
    let mut bytes = [9; 16];
    fs.read(&inode, SIZE - 11, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(fs.read(&inode, SIZE, &mut bytes), Err(Error::Corrupt("content past the end of a file")));
}

#[test]
fn long_extents_need_no_memory_in_one_piece() {
    const LEN: usize = 1 << 20;
    let scene = Scene::new();
    // Of zeros mkfs.erofs makes extents of some six million bytes, where clusters may be of several blocks.
    let content = [text(1, 100_000), vec![0; 20 << 20], text(2, 100_000)].concat();
    scene.write("file", &content);
    for options in [&["-zlz4hc", "-C65536"][..], &["-zlz4hc", "-C65536", "-Elegacy-compress"]] {
        let fs = open(&scene.erofs("image", options));
        let file = fs.inode(fs.lookup(&fs.inode(fs.root()).unwrap(), b"file").unwrap().unwrap()).unwrap();
        let mut buffer = vec![1; LEN];
        for (i, part) in content.chunks(LEN).enumerate() {
            let read = &mut buffer[..part.len()];
            heap::limited(|| fs.read(&file, (i * LEN) as u64, read)).unwrap();
            assert!(read == part, "{options:?}, MiB {i}");
        }
    }
}

/// mkfs.erofs 1.5 stores a chunk of zeros where newer ones leave a hole: made by hand out of the former.
#[test]
fn holes_read_as_zeros_and_are_found() {
    let scene = Scene::new();
    let content = [noise(1, 8192), vec![7; 4096 * 50], noise(2, 4096)].concat();
    scene.write("file", &content);
    let mut bytes = fs::read(scene.erofs("holes", &["--chunksize=4096", "-Enosbcrc"])).unwrap();
    // The table's fifty entries of the one chunk that is stored once.
    let is_run = |at: usize| bytes[at..at + 200].chunks(4).all(|entry| entry == &bytes[at..at + 4]) && bytes[at] != 0;
    let table = (1152..bytes.len() - 200).step_by(4).find(|at| is_run(*at)).unwrap();
    bytes[table..table + 200].fill(0xff);
    let fs = Erofs::open(Arc::new(bytes)).unwrap();
    let inode = fs.inode(fs.lookup(&fs.inode(fs.root()).unwrap(), b"file").unwrap().unwrap()).unwrap();
    let mut read = vec![1; content.len()];
    fs.read(&inode, 0, &mut read).unwrap();
    let holed = [noise(1, 8192), vec![0; 4096 * 50], noise(2, 4096)].concat();
    assert!(read == holed);
    let (hole, end) = (8192, 8192 + 4096 * 50);
    assert_eq!((fs.seek(&inode, 5, true), fs.seek(&inode, 5, false)), (Ok(hole), Ok(5)));
    assert_eq!((fs.seek(&inode, hole + 1, true), fs.seek(&inode, hole + 1, false)), (Ok(hole + 1), Ok(end)));
    assert_eq!(fs.seek(&inode, end, true), Ok(inode.size));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let scene = Scene::new();
    scene.write("file", &text(1, 100_000));
    let bytes = fs::read(scene.erofs("image", &["-zlz4", "-Enosbcrc"])).unwrap();
    let with = |at: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[1024 + at..][..4].copy_from_slice(&value.to_le_bytes());
        Erofs::open(Arc::new(bytes)).map(|_| ())
    };
    let incompat = u32::from_le_bytes(bytes[1024 + 80..][..4].try_into().unwrap());
    assert_eq!(with(0, 7), Err(Error::Absent));
    assert_eq!(with(80, incompat | 1 << 20), Err(Error::Unsupported(Feature::Bits(1 << 20))));
    let refused = with(80, incompat | 0x20).unwrap_err().to_string();
    assert!(refused.contains("fragments"), "{refused}");
    assert_eq!(with(4, 1).err(), None, "no checksum, no check");
    let mut summed = fs::read(scene.erofs("summed", &[])).unwrap();
    summed[1024 + 60] ^= 1;
    assert_eq!(Erofs::open(Arc::new(summed)).map(|_| ()), Err(Error::Checksum("the superblock")));
    for short in [0, 1024, 1151] {
        assert_eq!(Erofs::open(Arc::new(bytes[..short].to_vec())).map(|_| ()), Err(Error::Absent));
    }
}

/// A device as long as can be said, with an image at the beginning and inodes of many attributes everywhere else.
struct Endless(Vec<u8>);

impl Block for Endless {
    fn len(&self) -> u64 {
        u64::MAX / 512 * 512
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> diolkos_vfs::Result<()> {
        // Long, with 0xffff of the attributes' units, a regular file of a byte.
        let inode = [&[1, 0, 0xff, 0xff, 0xa4, 0x81, 0, 0, 1][..], &[0; 55]].concat();
        for (at, byte) in (offset..).zip(buffer) {
            *byte = self.0.get(at as usize).copied().unwrap_or(inode[at as usize % 64]);
        }
        Ok(())
    }
}

#[test]
fn nothing_lies_at_the_end_of_all_addresses() {
    let scene = Scene::new();
    scene.write("file", b"content");
    let bytes = fs::read(scene.erofs("image", &[])).unwrap();
    let meta = u64::from(u32::from_le_bytes(bytes[1024 + 40..][..4].try_into().unwrap())) << 12;
    let device = Endless(bytes);
    let last = (device.len() - 64 - meta) / 32;
    let fs = Erofs::open(Arc::new(device)).unwrap();
    let looked = fs.inode(last).and_then(|inode| fs.xattrs(&inode));
    assert_eq!(looked, Err(Error::Corrupt("the number of an inode")));
    let near = fs.inode((1 << 40) / 32).unwrap();
    assert_eq!(near.size, 1);
}

/// Real images with bytes changed at random: nothing panics, and everything ends.
#[test]
fn damaged_images_do_no_harm() {
    const CASES: u64 = 10_000;
    let scene = Scene::new();
    for i in 0..20 {
        scene.write(&format!("d{}/text {i}", i % 3), &text(i, 3000 * i as usize));
        scene.write(&format!("d{}/noise {i}", i % 3), &noise(i, 500 * i as usize));
    }
    scene.write("zeros", &vec![0; 300_000]);
    set_xattr(&scene.tree().join("zeros"), "user.name", b"value");
    set_xattr(&scene.tree().join("d0"), "user.name", b"value");
    let modes: [&[&str]; 5] = [
        &["-Enosbcrc"],
        &["-Enosbcrc", "--chunksize=4096"],
        &["-Enosbcrc", "-zlz4", "-Eztailpacking"],
        &["-Enosbcrc", "-zlz4", "-C65536"],
        &["-Enosbcrc", "-zlz4", "-Elegacy-compress"],
    ];
    let images: Vec<Vec<u8>> =
        modes.iter().enumerate().map(|(i, mode)| fs::read(scene.erofs(&format!("{i}"), mode)).unwrap()).collect();
    // Metadata is at the beginning, and where most harm is done.
    let opened = survive(&images, &[(1024, 12 << 10)], CASES, |bytes| Erofs::open(Arc::new(bytes)).ok());
    assert!(opened > CASES / 2, "{opened}");
}
