//! Roots and mounts in images of ext4, and of ext3 and ext2, which the standard mke2fs makes.

use crate::data;
use crate::each_platform;
use crate::roots::{FILES, image_of_root, lines, root_with, run_in};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The plain form.
const EXT4: [&str; 4] = ["-t", "ext4", "-b", "4096"];

/// Has debugfs do something to an image; what it says.
fn debugfs(image: &Path, request: &str) -> String {
    let output = Command::new("debugfs").args(["-w", "-R", request]).arg(image).output();
    let output = output.unwrap_or_else(|error| panic!("debugfs: {error}; .ci/run names the packages that tests need"));
    String::from_utf8(output.stdout).unwrap()
}

/// The number of a file's inode in an image.
fn inode(image: &Path, path: &str) -> u64 {
    let said = debugfs(image, &format!("stat {path}"));
    let word = said.split_whitespace().skip_while(|word| *word != "Inode:").nth(1);
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{path}: {said}"))
}

/// The byte at which the inode of a file lies in an image of blocks of 4 KiB.
fn place(image: &Path, path: &str) -> usize {
    // "located at block 229, offset 0x0500"
    let said = debugfs(image, &format!("imap {path}"));
    let (_, place) = said.split_once("located at block ").unwrap_or_else(|| panic!("{path}: {said}"));
    let (block, offset) = place.trim().split_once(", offset 0x").unwrap();
    block.parse::<usize>().unwrap() * 4096 + usize::from_str_radix(offset, 16).unwrap()
}

/// The same image with a byte changed.
fn damaged(folder: &Path, image: &Path, at: usize) -> PathBuf {
    let mut bytes = fs::read(image).unwrap();
    bytes[at] ^= 0x5a;
    data::file(folder, "damaged", &bytes)
}

each_platform! {
    fn an_ext4_image_is_a_root_like_a_directory(on) {
        for options in [&EXT4[..], &["-t", "ext3", "-b", "4096"], &["-t", "ext2", "-b", "1024"]] {
            let folder = data::folder();
            let (root, image) = image_of_root(folder.path(), options);
            let same =
                |command: &[&str]| assert_eq!(lines(on, command, &image), lines(on, command, &root), "{options:?}");
            same(&[&["/usr/bin/md5sum", "/usr/bin/md5sum"], &FILES[..]].concat());
            // Sizes of directories are the file system's own, and mke2fs keeps no parts of seconds.
            same(&["/usr/bin/find", "/tree", "-printf", "%p %y %m %n %U %G %Ts %l\n"]);
            same(&["/usr/bin/find", "/tree", "-type", "f", "-printf", "%p %s\n"]);
            // The numbers of inodes are the image's own.
            let out = on.run(&["/usr/bin/find", "/tree/sub/hard", "-printf", "%i"]).root(&image).outcome().out();
            assert_eq!(out, inode(&image, "/tree/random").to_string(), "{options:?}");
        }
    }

    fn an_ext4_image_is_found_on_a_disk(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &EXT4);
        let disk = format!("{}:ro", image.display());
        let run = |options: &[&str]| on.run(&["/usr/bin/cat", "/tree/sub/deep/small"]).option(options).outcome();
        run(&["--disk", &disk, "--rootfs", "ext4"]).expect_status(0).expect_out("small");
        let vm = on.run(&["/usr/bin/cat", "/tree/sub/deep/small"]).root(&image);
        let err = vm.option(&["--rootfs", "auto", "--verbose"]).outcome().expect_status(0).expect_out("small").err();
        assert!(err.contains("no rofs: no EROFS image to be the root: vda holds ext4"), "{err}");
        assert!(err.contains("root: ext4 (/dev/vda), the first that is there"), "{err}");
    }

    fn an_ext4_image_is_read_only_but_under_an_overlay(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &EXT4);
        let before = fs::read(&image).unwrap();
        let run = |options: &[&str]| on.run(&["/usr/bin/touch", "/tree/new"]).root(&image).option(options).outcome();
        let refused = run(&[]).expect_status(1);
        assert!(refused.err().contains("Read-only file system"), "{}", refused.err());
        run(&["--overlay"]).expect_status(0);
        run(&["--rw"]).expect_status(125).expect_line(&["--rw", "ext4", "--overlay"]);
        assert!(fs::read(&image).unwrap() == before, "the image has changed");
    }

    fn an_ext4_image_is_mounted_beside_a_directory(on) {
        let folder = data::folder();
        let (root, image) = image_of_root(folder.path(), &["-t", "ext3"]);
        let disk = format!("{}:ro", image.display());
        let text = fs::read(root.join("tree/sub/text")).unwrap();
        for kind in ["ext4", "ext3", "ext2"] {
            let mount = format!("{kind}:/dev/vda:/mnt");
            let asked = ["--disk", &disk, "--mount", &mount];
            let vm = on.run(&["grep", "-he", "one line", "-e", " /mnt ", "/mnt/tree/sub/text", "/proc/mounts"]).option(&asked);
            let expected = [&text[..], format!("/dev/vda /mnt {kind} ro,relatime 0 0\n").as_bytes()].concat();
            assert!(vm.outcome().expect_status(0).stdout == expected, "not the same bytes");
        }
        for (line, warned) in [("/dev/vda /mnt ext3 defaults", false), ("/dev/vda /mnt ext3 rw,nodev", true)] {
            let listed = root_with(&format!("{line} 0 0\n"));
            let vm = run_in(on, listed.path(), &["cat", "/mnt/tree/sub/text"]).option(&["--disk", &disk]).outcome();
            assert_eq!(vm.err().contains("mounted read-only"), warned, "{}", vm.err());
            assert!(vm.expect_status(0).stdout == text, "not the same bytes");
        }
        let asked = ["--disk", &disk, "--mount", "ext3:/dev/vda:/mnt:rw"];
        on.run(&["true"]).option(&asked).outcome().expect_status(125).expect_line(&["--mount ext3", "'rw'"]);
        let asked = ["--disk", &disk, "--mount", "erofs:/dev/vda:/mnt"];
        on.run(&["true"]).option(&asked).outcome().expect_status(125).expect_line(&["vda holds ext4"]);
    }

    fn damage_of_an_ext4_image_is_named(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &EXT4);
        let run = |image: &Path| on.run(&["/usr/bin/cat", "/tree/empty", "/tree/random"]).root(image).outcome();
        let superblock = run(&damaged(folder.path(), &image, 1024 + 0x78));
        superblock.expect_status(125).expect_line(&["vda, ext4", "damaged", "checksum of the superblock"]);
        let number = inode(&image, "/tree/empty");
        let at = place(&image, "/tree/empty") + 0x64;
        let outcome = run(&damaged(folder.path(), &image, at)).expect_status(1);
        let err = outcome.err();
        assert!(err.contains("/tree/empty: Structure needs cleaning"), "{err}");
        assert!(err.contains(&format!("vda, ext4: inode {number}: ")) && err.contains("checksum of the inode"), "{err}");
        // The file after it is whole.
        assert_eq!(outcome.stdout.len(), 300_001);
        let cut = fs::read(&image).unwrap();
        let cut = data::file(folder.path(), "cut", &cut[..cut.len() / 2]);
        run(&cut).expect_status(125).expect_line(&["vda, ext4", "shorter than its superblock says"]);
    }

    fn an_ext4_image_with_an_open_journal_is_refused(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &EXT4);
        debugfs(&image, "feature needs_recovery");
        let run = || on.run(&["/usr/bin/cat", "/tree/sub/deep/small"]).root(&image).outcome();
        run().expect_status(125).expect_line(&["vda, ext4", "journal", "e2fsck -p"]);
        let repaired = Command::new("e2fsck").arg("-p").arg(&image).output().unwrap();
        assert!(repaired.status.code() < Some(4), "{repaired:?}");
        run().expect_status(0).expect_out("small");
    }
}
