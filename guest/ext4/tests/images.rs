//! Images that the standard mke2fs makes, read back and compared with the tree they were made of.

use diolkos_ext4::{Error, Ext4, Feature};
use diolkos_images_testing::{FileBlock, Scene, Times, compare, heap, noise, run, set_mtime, set_xattr, survive, text};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn open(image: &Path) -> Ext4 {
    Ext4::open(FileBlock::open(image)).unwrap()
}

/// Has debugfs do something to an image, line by line.
fn debugfs(image: &Path, requests: &str) {
    let script = image.with_extension("requests");
    fs::write(&script, requests).unwrap();
    run(Command::new("debugfs").args(["-w", "-f"]).arg(&script).arg(image));
}

/// Has the names of every directory sorted and put into an index, as Linux does with long ones.
fn index_directories(image: &Path) {
    // It says by its status that it has changed the image.
    let status = Command::new("e2fsck").args(["-fyD"]).arg(image).output().unwrap().status.code();
    assert!(matches!(status, Some(0 | 1)), "{status:?}");
}

fn find(fs: &Ext4, path: &str) -> diolkos_ext4::Result<diolkos_ext4::Inode> {
    let mut inode = fs.inode(fs.root())?;
    for name in path.split('/') {
        inode = fs.inode(fs.lookup(&inode, name.as_bytes())?.unwrap_or_else(|| panic!("no {name}")))?;
    }
    Ok(inode)
}

#[test]
fn every_kind_reads_back() {
    let scene = Scene::new();
    scene.fill();
    scene.write(&"n".repeat(255), b"as long as names can be");
    for len in [1, 58, 59, 60, 61, 1000] {
        symlink("y".repeat(len), scene.tree().join(format!("link of {len}"))).unwrap();
    }
    // More than there is room for in the inode.
    set_xattr(&scene.tree().join("link of 58"), "trusted.large", &[b'l'; 200]);
    // For the owner, user 1000, the group, a mask and all others, as programs hand it over.
    let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 6, 1000), (4, 5, !0), (0x10, 7, !0), (0x20, 0, !0)];
    let entry =
        |(tag, may, who): (u16, u16, u32)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &who.to_le_bytes()].concat();
    let list = [&2u32.to_le_bytes()[..], &entries.map(entry).concat()].concat();
    set_xattr(&scene.tree().join("text/4000"), "system.posix_acl_access", &list);
    for (name, sec) in [("1901", -(1i64 << 31)), ("1969", -1), ("2038", (1 << 31) - 1)] {
        scene.write(name, b"");
        set_mtime(&scene.tree().join(name), sec, 0);
    }
    let kinds: [(&str, &[&str]); 9] = [
        ("ext4", &["-t", "ext4", "-b", "4096"]),
        ("ext4-64k", &["-t", "ext4", "-b", "65536", "-F"]),
        ("ext4-no-checksums", &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum"]),
        ("ext4-32", &["-t", "ext4", "-b", "4096", "-O", "^64bit,^flex_bg,^extent"]),
        ("ext4-more", &["-t", "ext4", "-b", "4096", "-O", "bigalloc,metadata_csum_seed,large_dir,mmp,quota"]),
        ("ext3", &["-t", "ext3", "-b", "4096"]),
        ("short-inodes", &["-t", "ext4", "-b", "4096", "-I", "128"]),
        ("ext4-1k", &["-t", "ext4", "-b", "1024"]),
        ("ext2", &["-t", "ext2", "-b", "1024"]),
    ];
    for (name, options) in kinds {
        println!("{name}");
        if options.contains(&"1024") {
            // A target is no longer than a block.
            let _ = fs::remove_file(scene.tree().join("long link"));
        }
        // Short inodes have no room for attributes, and larger ones need few blocks of these.
        let image = scene.ext4(name, "600M", options);
        let count = compare(&open(&image), 2, &scene.tree(), Times::Seconds);
        assert!(count > 2000, "{count}");
        index_directories(&image);
        assert_eq!(compare(&open(&image), 2, &scene.tree(), Times::Seconds), count, "with indexes");
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn names_without_types_and_inodes_without_a_choice_are_read() {
    let scene = Scene::new();
    scene.write("d/file", b"content");
    for options in [["-t", "ext2", "-O", "^filetype"], ["-t", "ext2", "-r", "0"]] {
        let fs = open(&scene.ext4("old", "8M", &options));
        let directory = find(&fs, "d").unwrap();
        let mut names = Vec::new();
        fs.list(&directory, 0, &mut |entry, _| {
            assert_eq!(entry.file_type, None, "{options:?}");
            names.push(entry.name.to_vec());
            true
        })
        .unwrap();
        assert_eq!(names, [&b"."[..], b"..", b"file"]);
        let mut content = [0; 7];
        fs.read(&find(&fs, "d/file").unwrap(), 0, &mut content).unwrap();
        assert_eq!(&content, b"content");
    }
}

#[test]
fn large_directories_are_searched_and_listed() {
    const COUNT: usize = 20_000;
    let scene = Scene::new();
    for i in 0..COUNT {
        scene.write(&format!("d/{i:x}"), b"");
    }
    let image = scene.ext4("large", "64M", &["-t", "ext4", "-N", "30000"]);
    // Whatever is removed leaves room that is no name's.
    debugfs(&image, "rm /d/7\nrm /d/1234\n");
    for indexed in [false, true] {
        if indexed {
            index_directories(&image);
        }
        let fs = open(&image);
        let directory = find(&fs, "d").unwrap();
        heap::limited(|| {
            for i in (0..COUNT).step_by(97) {
                assert!(fs.lookup(&directory, format!("{i:x}").as_bytes()).unwrap().is_some());
            }
            for absent in [&b"0x"[..], b"-", b"zzz", b"fffff", b"10000000", b"7", b"1234"] {
                assert_eq!(fs.lookup(&directory, absent), Ok(None));
            }
        });
        // Listed in parts, each of which goes on where the last one ended.
        let (mut names, mut cookie) = (std::collections::BTreeSet::new(), 0);
        loop {
            let (before, mut room) = (names.len(), 1000);
            fs.list(&directory, cookie, &mut |entry, next| {
                room -= 1;
                if room > 0 {
                    (cookie, _) = (next, names.insert(entry.name.to_vec()));
                }
                room > 0
            })
            .unwrap();
            if names.len() == before {
                break;
            }
        }
        assert_eq!(names.len(), COUNT + 2 - 2);
    }
}

#[test]
fn large_sparse_files_and_trees_of_many_extents_are_read() {
    const SIZE: u64 = 200 << 30;
    const PIECES: u64 = 3000;
    let scene = Scene::new();
    let file = File::create(scene.tree().join("sparse")).unwrap();
    file.set_len(SIZE + 5).unwrap();
    file.write_all_at(b"!", SIZE - 7).unwrap();
    let file = File::create(scene.tree().join("pieces")).unwrap();
    for i in 0..PIECES {
        file.write_all_at(format!("{i:08}").as_bytes(), i * 8192).unwrap();
    }
    for options in [&["-t", "ext4", "-b", "1024"][..], &["-t", "ext4", "-b", "4096"], &["-t", "ext3", "-b", "4096"]] {
        let options = if options.contains(&"1024") { options } else { &[options, &["-O", "large_file"]].concat() };
        let fs = open(&scene.ext4("sparse", "64M", options));
        let inode = find(&fs, "sparse").unwrap();
        assert_eq!(inode.size, SIZE + 5);
        let mut bytes = [9; 16];
        fs.read(&inode, SIZE - 11, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(fs.read(&inode, SIZE, &mut bytes), Err(Error::Corrupt("content past the end of a file")));
        let data = (SIZE - 7) & !if options.contains(&"1024") { 1023 } else { 4095 };
        assert_eq!((fs.seek(&inode, 5, false), fs.seek(&inode, 5, true)), (Ok(data), Ok(5)), "{options:?}");
        assert_eq!((fs.seek(&inode, data, true), fs.seek(&inode, SIZE, true)), (Ok(SIZE), Ok(SIZE)), "{options:?}");
        assert_eq!(fs.seek(&inode, SIZE, false), Ok(inode.size));
        let inode = find(&fs, "pieces").unwrap();
        for i in (0..PIECES).step_by(7) {
            let mut bytes = [1; 9];
            fs.read(&inode, (i * 8192).saturating_sub(1), &mut bytes).unwrap();
            assert_eq!(bytes[usize::from(i > 0)..][..8], *format!("{i:08}").as_bytes());
            assert_eq!(fs.seek(&inode, i * 8192 + 4096, true), Ok(i * 8192 + 4096));
        }
    }
}

#[test]
fn what_is_allocated_and_not_written_reads_as_zeros() {
    let scene = Scene::new();
    scene.write("file", &[b'x'; 20 * 4096]);
    scene.write("empty", b"");
    let image = scene.ext4("image", "8M", &["-t", "ext4", "-b", "4096"]);
    // What was in the file is in blocks that nobody has cleared.
    debugfs(&image, "rm /file\nfallocate /empty 0 5\nsif /empty size 40960\nfallocate /empty 8 30\n");
    let fs = open(&image);
    let inode = find(&fs, "empty").unwrap();
    let mut bytes = vec![1; 40960];
    fs.read(&inode, 0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(inode.blocks, (6 + 23) * 8);
    assert_eq!((fs.seek(&inode, 0, false), fs.seek(&inode, 0, true)), (Ok(40960), Ok(0)));
    assert!(fs::read(&image).unwrap().chunks(4096).any(|block| block == [b'x'; 4096]), "nothing was left to be seen");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let scene = Scene::new();
    scene.write("file", b"content");
    for feature in ["inline_data", "encrypt", "casefold", "ea_inode", "meta_bg,^resize_inode"] {
        let image = scene.ext4("image", "8M", &["-t", "ext4", "-O", feature]);
        let refused = Ext4::open(FileBlock::open(&image)).map(drop).unwrap_err().to_string();
        assert!(refused.contains(feature.split(',').next().unwrap()), "{refused}");
    }
    let bytes = fs::read(scene.ext4("image", "8M", &["-t", "ext4", "-O", "^metadata_csum"])).unwrap();
    let with = |at: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[1024 + at..][..4].copy_from_slice(&value.to_le_bytes());
        Ext4::open(Arc::new(bytes)).map(drop)
    };
    let incompat = u32::from_le_bytes(bytes[1024 + 0x60..][..4].try_into().unwrap());
    assert_eq!(with(0x38, 0), Err(Error::Absent));
    assert_eq!(with(0x60, incompat | 1 << 20), Err(Error::Unsupported(Feature::Bits(1 << 20))));
    assert_eq!(with(0x4, 1 << 30), Err(Error::Corrupt("it is shorter than its superblock says")));
    assert_eq!(with(0x18, 7), Err(Error::Corrupt("the size of a block")));
    for short in [0, 1024, 2047] {
        assert_eq!(Ext4::open(Arc::new(bytes[..short].to_vec())).map(drop), Err(Error::Absent));
    }
    let short = Ext4::open(Arc::new(bytes[..4 << 20].to_vec())).map(drop);
    assert_eq!(short, Err(Error::Corrupt("it is shorter than its superblock says")));
}

#[test]
fn an_image_whose_journal_is_not_replayed_is_refused() {
    let scene = Scene::new();
    scene.write("file", b"content");
    let image = scene.ext4("image", "16M", &["-t", "ext4"]);
    let block = scene.path("block");
    fs::write(&block, [7; 1024]).unwrap();
    debugfs(&image, &format!("jo\njw -b 9000 {}\njc\n", block.display()));
    let refused = Ext4::open(FileBlock::open(&image)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("journal") && refused.contains("e2fsck -p"), "{refused}");
    let _ = Command::new("e2fsck").arg("-p").arg(&image).output().unwrap();
    find(&open(&image), "file").unwrap();
}

#[test]
fn damage_is_named() {
    let scene = Scene::new();
    scene.write("d/file", &noise(1, 100_000));
    let bytes = fs::read(scene.ext4("image", "8M", &["-t", "ext4", "-b", "4096"])).unwrap();
    let damaged = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        Ext4::open(Arc::new(bytes))
    };
    assert_eq!(damaged(1024 + 0x78).map(drop), Err(Error::Checksum("the superblock")));
    let directory = bytes.windows(4).position(|four| four == b"file").unwrap();
    assert_eq!(
        find(&damaged(directory + 20).unwrap(), "d/file").map(drop),
        Err(Error::Checksum("a block of a directory"))
    );
    // The table of groups is in the second block.
    assert_eq!(
        find(&damaged(4096 + 0x10).unwrap(), "d").map(drop),
        Err(Error::Checksum("the descriptor of its group"))
    );
    let table = u32::from_le_bytes(bytes[4096 + 8..][..4].try_into().unwrap()) as usize * 4096;
    assert_eq!(find(&damaged(table + 256).unwrap(), "d").map(drop), Err(Error::Checksum("the inode")));
}

/// Real images with bytes changed at random: nothing panics, nothing takes more memory than there is, and everything ends.
#[test]
fn damaged_images_do_no_harm() {
    const CASES: u64 = 10_000;
    let scene = Scene::new();
    for i in 0..20 {
        scene.write(&format!("d{}/text {i}", i % 3), &text(i, 3000 * i as usize));
    }
    for i in 0..300 {
        scene.write(&format!("many/a name of some length, number {i}"), b"");
    }
    let pieces = File::create(scene.tree().join("pieces")).unwrap();
    for i in 0..400 {
        pieces.write_all_at(b"piece", i * 8192).unwrap();
    }
    symlink("z".repeat(200), scene.tree().join("link")).unwrap();
    set_xattr(&scene.tree().join("pieces"), "user.name", &[b'v'; 300]);
    let kinds: [&[&str]; 4] = [
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^has_journal,^resize_inode"],
        &["-t", "ext2", "-b", "1024", "-O", "^resize_inode"],
        &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^has_journal,^resize_inode"],
        &["-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode"],
    ];
    let image = |kind: &&[&str]| {
        let image = scene.ext4("image", "4M", kind);
        index_directories(&image);
        fs::read(image).unwrap()
    };
    let images: Vec<_> = kinds.iter().map(image).collect();
    // The superblock, descriptors and tables of inodes, then directories and what maps files.
    let places = [(1024, 2048), (2048, 128 << 10), (128 << 10, 512 << 10)];
    let opened = survive(&images, &places, CASES, |bytes| Ext4::open(Arc::new(bytes)).ok());
    assert!(opened > CASES / 2, "{opened}");
}
