//! The root and the mounts on it: which is taken and why, `/etc/fstab`, `--mount`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::platform::Platform;
use crate::vm::{Vm, diolkos};

/// A root directory with the host's programs and libraries in it, by links through a volume, and an `/etc/fstab`.
pub fn root_with(fstab: &str) -> TempDir {
    let root = data::folder();
    for name in ["bin", "lib", "lib64", "usr"] {
        symlink(format!("/host/{name}"), root.path().join(name)).unwrap();
    }
    for name in ["etc", "mnt"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("etc/fstab"), fstab).unwrap();
    fs::write(root.path().join("own"), "of the root\n").unwrap();
    root
}

/// A run in such a root, with the host's own as the volume that its links lead to.
pub fn run_in<'a>(on: Platform, root: &Path, command: &[&'a str]) -> Vm<'a> {
    on.run(command).root(root).volume(Path::new("/"), "/host:ro")
}

/// What `/proc/mounts` has beside what every machine has: source, place, type, and whether it may be written to.
fn mounts(text: &str) -> Vec<String> {
    let own = ["/", "/dev", "/dev/shm", "/proc", "/sys", "/tmp", "/run", "/host"];
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let others = fields.filter(|fields| !own.contains(&fields[1]));
    others.map(|fields| format!("{} {} {} {}", fields[0], fields[1], fields[2], &fields[3][..2])).collect()
}

each_platform! {
    fn the_list_in_a_root_is_honoured(on) {
        let list = "\
# /etc/fstab of some other machine
UUID=0d1e-2f  /            ext4  defaults 0 1
UUID=77       none         swap  sw
//server/x    /mnt/smb     cifs  ro
scratch       /mnt/a\\040b tmpfs mode=700 0 0
tmpfs         /tmp         tmpfs mode=1777
volume1       /also        virtiofs ro
volume1       /later       virtiofs noauto
";
        let root = root_with(list);
        let outcome = run_in(on, root.path(), &["cat", "/proc/mounts", "/also/etc/hostname"]).outcome().expect_status(0);
        assert_eq!(outcome.err(), "", "nothing of it is worth a word");
        let expected = ["scratch /mnt/a\\040b tmpfs rw", "volume1 /also virtiofs ro"];
        let hostname = fs::read_to_string("/etc/hostname").unwrap();
        assert_eq!(mounts(outcome.out().strip_suffix(&hostname).unwrap()), expected);
    }

    fn what_the_list_wants_and_is_not_here_is_told_of(on) {
        let list = "nobody /a virtiofs ro\nnobody /b virtiofs ro,nofail\n/dev/vdc /c erofs ro\n/dev/vdc /d ext4 nofail\n";
        let root = root_with(list);
        let outcome = run_in(on, root.path(), &["cat", "/own"]).outcome().expect_status(0).expect_out("of the root\n");
        let err = outcome.err();
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(lines[0].contains("/etc/fstab: nobody at /a") && lines[0].contains("tag 'nobody'"), "{err}");
        assert!(lines[1].contains("/etc/fstab: /dev/vdc at /c") && lines[1].contains("no such disk"), "{err}");
    }

    fn more_is_mounted_when_asked_for(on) {
        let root = root_with("");
        let script = "
import os
open('/new/place/f', 'w').write('x')
print(oct(os.stat('/new/place').st_mode), os.listdir('/new/place'), os.path.exists('/new/other/f'))
print(open('/again/etc/hostname').read() == open('/host/etc/hostname').read(), os.stat('/again').st_ino == os.stat('/host').st_ino)
for path in ['/fixed/f', '/again/f']:
    try: open(path, 'w')
    except OSError as error: print(path, os.strerror(error.errno))
";
        let mounts = ["--mount", "tmpfs:a:/new/place:mode=750", "--mount", "tmpfs::/new/other", "--mount",
            "tmpfs::/fixed:ro", "--mount", "virtiofs:volume1:/again"];
        let outcome = run_in(on, root.path(), &["python3", "-c", script]).option(&mounts).outcome().expect_status(0);
        outcome.expect_out("0o40750 ['f'] False\nTrue True\n/fixed/f Read-only file system\n/again/f Read-only file system\n");
    }

    fn what_was_asked_for_and_is_not_here_is_fatal(on) {
        for (mount, words) in [
            ("virtiofs:nobody:/x", &["--mount virtiofs:nobody:/x", "tag 'nobody'"][..]),
            ("erofs:/dev/vdz:/x", &["--mount erofs:/dev/vdz:/x", "no such disk"]),
            ("ext4:/dev/sda1:/x", &["--mount ext4:/dev/sda1:/x", "/dev/vda"]),
            ("tmpfs::/proc", &["--mount tmpfs::/proc", "mounted there"]),
            ("tmpfs::/x:size=1G", &["--mount tmpfs::/x", "'size=1G'"]),
        ] {
            on.run(&["true"]).option(&["--mount", mount]).outcome().expect_status(125).expect_line(words);
        }
    }

    fn another_share_can_be_the_root(on) {
        let root = root_with("");
        let vm = on.run(&["/host/bin/cat", "/etc/hostname"]).root(root.path()).volume(Path::new("/"), "/host:ro");
        let vm = vm.option(&["--rootfs", "virtiofs:volume1", "--mount", "virtiofs:root:/mnt/dir"]);
        // It is the host's root, so there is no /host in it, but there is /bin.
        vm.outcome().expect_status(127);
        let vm = on.run(&["cat", "/etc/hostname", "/mnt/dir/own"]).root(root.path()).volume(Path::new("/"), "/host:ro");
        let vm = vm.option(&["--rootfs", "virtiofs:volume1", "--mount", "virtiofs:root:/mnt/dir"]);
        let hostname = fs::read_to_string("/etc/hostname").unwrap();
        vm.outcome().expect_status(0).expect_out(&format!("{hostname}of the root\n"));
    }

    fn a_root_that_is_not_there_is_fatal(on) {
        let folder = data::folder();
        let image = data::random_file(folder.path(), "image", 1 << 20);
        let disk = image.to_str().unwrap();
        let refused = |options: &[&str], words: &[&str]| {
            on.run(&["true"]).option(options).outcome().expect_status(125).expect_line(words).expect_out("")
        };
        refused(&["--rootfs", "rofs"], &["EROFS", "there is no disk"]);
        refused(&["--rootfs", "ext4", "--disk", disk], &["ext4", "vda holds nothing that is known"]);
        refused(&["--rootfs", "ramfs"], &["there is no initrd"]);
    }

    fn the_first_root_that_is_there_is_taken_and_told_of(on) {
        let vm = on.run(&["true"]).option(&["--rootfs", "auto", "--verbose", "--stats"]);
        let err = vm.outcome().expect_status(0).err();
        assert!(err.contains("diolkos: root: virtiofs (root), the first that is there"), "{err}");
        assert!(err.contains("    root: virtiofs (root), the first that is there"), "{err}");
    }
}

/// Copies a program of the host's and the libraries it needs to the same places below `root`.
fn install(root: &Path, program: &str) {
    let ldd = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(ldd.stdout).unwrap();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.chain([program]) {
        let place = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(path, place).unwrap();
    }
}

/// A root with a few programs and a tree of files of all kinds.
pub fn small_root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    let tree = root.join("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    for program in ["/usr/bin/md5sum", "/usr/bin/find", "/usr/bin/cat", "/usr/bin/dd", "/usr/bin/touch"] {
        install(&root, program);
    }
    data::random_file(&tree, "random", 300_001);
    data::file(&tree, "empty", b"");
    data::file(&tree, "sub/text", "one line of many\n".repeat(20_000).as_bytes());
    data::file(&tree, "sub/deep/small", b"small");
    for number in 0..300 {
        data::file(&tree, &format!("sub/deep/entry-{number}"), format!("{number}").as_bytes());
    }
    symlink("../random", tree.join("sub/link")).unwrap();
    fs::hard_link(tree.join("random"), tree.join("sub/hard")).unwrap();
    root
}

pub const FILES: [&str; 6] =
    ["tree/random", "tree/empty", "tree/sub/text", "tree/sub/link", "tree/sub/hard", "tree/sub/deep/entry-299"];

/// A cpio archive, packed by `packer` if one is named, of the root that [`image_of_root`] puts into images.
fn archive(root: &Path, packer: Option<&str>) -> PathBuf {
    let archive = root.with_extension("cpio");
    let pack = packer.map_or(String::new(), |packer| format!(" | {packer}"));
    let script = format!("find . | sort | cpio --quiet -o -H newc{pack} >{}", archive.display());
    let status = Command::new("sh").args(["-c", &script]).current_dir(root).status().unwrap();
    assert!(status.success());
    archive
}

each_platform! {
    fn an_archive_is_a_root_like_a_directory(on) {
        let folder = data::folder();
        let root = small_root(folder.path());
        for packer in [None, Some("gzip"), Some("zstd -q")] {
            let archive = archive(&root, packer);
            let same = |command: &[&str]| {
                let run = |place: &Path| on.run(command).root(place).outcome().expect_status(0);
                run(&archive).expect_same(&run(&root));
            };
            same(&[&["/usr/bin/md5sum"], &FILES[..]].concat());
            // Times are whole seconds in an archive, sizes of directories the file system's own, and so is an order.
            if packer.is_none() {
                let command = ["/usr/bin/find", "/tree", "-printf", "%p %y %m %n %U %G %l\n"];
                let listed = |place: &Path| {
                    let out = on.run(&command).root(place).outcome().expect_status(0).out();
                    let mut lines: Vec<_> = out.lines().map(String::from).collect();
                    lines.sort();
                    lines
                };
                assert_eq!(listed(&archive), listed(&root));
            }
        }
    }

    fn an_archive_is_writable_memory(on) {
        let folder = data::folder();
        let root = small_root(folder.path());
        let archive = archive(&root, None);
        let before = fs::read(&archive).unwrap();
        let asked = ["--rootfs", "ramfs", "--initrd", archive.to_str().unwrap()];
        let copy = ["/usr/bin/dd", "if=/tree/random", "of=/tree/empty", "bs=65536", "status=none"];
        on.run(&copy).option(&asked).outcome().expect_status(0).expect_out("");
        // The archive is the root, and not the directory that was named.
        on.run(&["/usr/bin/cat", "/tree/sub/deep/small"]).option(&asked).outcome().expect_status(0).expect_out("small");
        assert!(fs::read(&archive).unwrap() == before, "the archive has changed");
    }

    fn archives_that_are_damaged_are_refused(on) {
        let folder = data::folder();
        let root = small_root(folder.path());
        let whole = fs::read(archive(&root, None)).unwrap();
        let packed = fs::read(archive(&root, Some("gzip"))).unwrap();
        let run = |name: &str, bytes: &[u8]| {
            let path = data::file(folder.path(), name, bytes);
            on.run(&["/usr/bin/cat", "/tree/sub/deep/small"]).root(&path).outcome()
        };
        run("cut", &whole[..whole.len() / 2]).expect_status(125).expect_line(&["initrd", "cut short"]);
        run("cut.gz", &packed[..packed.len() / 2]).expect_status(125).expect_line(&["initrd"]);
        let mut corrupt = whole.clone();
        corrupt[6..14].fill(b'g');
        run("corrupt", &corrupt).expect_status(125).expect_line(&["initrd", "damaged"]);
        run("other", b"#!/bin/sh\n").expect_status(125).expect_line(&["other", "not a directory", "23 21 2f 62 69 6e"]);
    }
}

#[test]
fn auto_passes_over_what_is_not_there() {
    let Some(on) = Platform::Kvm.here() else { return };
    let folder = data::folder();
    let archive = archive(&small_root(folder.path()), None);
    let vm = on.run(&["/usr/bin/cat", "/tree/empty"]).root(&archive).option(&["--rootfs", "auto", "--stats"]);
    let err = vm.outcome().expect_status(0).err();
    for line in [
        "    no virtiofs: there is no share to mount at /",
        "    no rofs: no EROFS image to be the root: there is no disk",
        "    root: ramfs (rootfs), the first that is there",
    ] {
        assert!(err.contains(line), "{err}");
    }
}

#[test]
fn there_is_one_archive_and_it_must_fit() {
    let folder = data::folder();
    let archive = archive(&small_root(folder.path()), None);
    let path = archive.to_str().unwrap();
    let run = |words: &[&str]| {
        let output = diolkos().arg("run").args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["--initrd", path, path, "true"]).contains("there can be one"));
    assert!(run(&["--initrd", "/no/such", "/", "true"]).contains("initrd /no/such"));
    let big = folder.path().join("big");
    fs::File::create(&big).unwrap().set_len(1 << 30).unwrap();
    if Platform::Kvm.here().is_some() {
        let line = run(&["--platform", "kvm", "--memory", "64M", "--initrd", big.to_str().unwrap(), "/", "true"]);
        assert!(line.contains("do not fit into memory"), "{line}");
    }
}

/// An image of a small root, made by `mkfs.erofs` or, for a first option `-t`, by `mke2fs`, and that root.
pub fn image_of_root(folder: &Path, options: &[&str]) -> (PathBuf, PathBuf) {
    let root = if folder.join("root").exists() { folder.join("root") } else { small_root(folder) };
    let image = folder.join("image");
    let _ = fs::remove_file(&image);
    let mut maker = if options.first() == Some(&"-t") {
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.arg("-q").args(options).arg("-d").arg(&root).arg(&image).arg("256M");
        mke2fs
    } else {
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.args(options).arg(&image).arg(&root);
        mkfs
    };
    let made = maker.output();
    let made = made.unwrap_or_else(|error| panic!("{maker:?}: {error}; .ci/run names the packages that tests need"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (root, image)
}

/// What a command prints on a machine with this root, sorted: each file system lists names in an order of its own.
pub fn lines(on: Platform, command: &[&str], root: &Path) -> Vec<String> {
    let out = on.run(command).root(root).outcome().expect_status(0).out();
    let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

each_platform! {
    fn an_image_is_a_root_like_a_directory(on) {
        for options in [&[][..], &["-zlz4"]] {
            let folder = data::folder();
            let (root, image) = image_of_root(folder.path(), options);
            let same = |command: &[&str]| assert_eq!(lines(on, command, &image), lines(on, command, &root));
            same(&[&["/usr/bin/md5sum", "/usr/bin/md5sum"], &FILES[..]].concat());
            // Sizes of directories are the file system's own.
            let facts = ["-printf", "%p %y %m %n %U %G %T@ %l\n"];
            same(&[&["/usr/bin/find", "/tree"], &facts[..]].concat());
            same(&["/usr/bin/find", "/tree", "-type", "f", "-printf", "%p %s\n"]);
        }
    }

    fn an_image_is_read_only_but_under_an_overlay(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &[]);
        let before = fs::read(&image).unwrap();
        let run = |options: &[&str], command: &[&str]| on.run(command).root(&image).option(options).outcome();
        let refused = run(&[], &["/usr/bin/touch", "/tree/new"]).expect_status(1);
        assert!(refused.err().contains("Read-only file system"), "{}", refused.err());
        run(&["--overlay"], &["/usr/bin/touch", "/tree/new"]).expect_status(0);
        let copied = ["/usr/bin/dd", "if=/tree/random", "of=/tree/empty", "bs=65536", "status=none"];
        run(&["--overlay"], &copied).expect_status(0).expect_out("");
        run(&["--rw"], &["/usr/bin/cat"]).expect_status(125).expect_line(&["--rw", "erofs", "--overlay"]);
        assert!(fs::read(&image).unwrap() == before, "the image has changed");
    }

    fn an_image_is_mounted_beside_a_directory(on) {
        let folder = data::folder();
        let (root, image) = image_of_root(folder.path(), &[]);
        let disk = format!("{}:ro", image.display());
        let text = fs::read(root.join("tree/sub/text")).unwrap();
        let asked = ["--disk", &disk, "--mount", "erofs:/dev/vda:/mnt"];
        let outcome = on.run(&["cat", "/mnt/tree/sub/text"]).option(&asked).outcome().expect_status(0);
        assert!(outcome.stdout == text, "not the same bytes");
        let listed = root_with("/dev/vda /mnt erofs ro\n");
        let vm = run_in(on, listed.path(), &["cat", "/mnt/tree/sub/text"]).option(&["--disk", &disk]);
        assert!(vm.outcome().expect_status(0).stdout == text, "not the same bytes");
        let vm = on.run(&["/usr/bin/cat", "/tree/sub/text"]).option(&["--disk", &disk, "--rootfs", "rofs"]);
        assert!(vm.outcome().expect_status(0).stdout == text, "not the same bytes");
    }

    fn images_that_are_damaged_are_refused(on) {
        let folder = data::folder();
        let (_, image) = image_of_root(folder.path(), &[]);
        let whole = fs::read(&image).unwrap();
        let run = |name: &str, bytes: &[u8]| {
            let path = data::file(folder.path(), name, bytes);
            on.run(&["/usr/bin/md5sum", "/tree/random"]).root(&path).outcome()
        };
        let mut corrupt = whole.clone();
        corrupt[1024 + 16..1024 + 48].fill(0xa5);
        run("corrupt", &corrupt).expect_status(125).expect_line(&["vda", "damaged"]);
        // The root directory is there, and what the program needs of the rest is not.
        let outcome = run("cut", &whole[..whole.len() / 2]);
        assert_ne!(outcome.status, 0, "{}", outcome.err());
        run("other", b"#!/bin/sh\n").expect_status(125).expect_line(&["other", "not a directory", "23 21 2f 62 69 6e"]);
    }
}
