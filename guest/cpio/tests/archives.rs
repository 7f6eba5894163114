//! Archives that the standard cpio makes, unpacked and compared with the tree they were made of; and such as nobody should make.

use diolkos_cpio::{Error, Header, Summary, TRAILER, read, unpack};
use diolkos_vfs::ramfs::{Ramfs, RamfsConfig};
use diolkos_vfs::{Errno, Inode, Name, OpenFlags, Result as VfsResult, SliceSink, Timespec};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn ramfs(limit: u64) -> Arc<dyn Inode> {
    let clock = Arc::new(|| Timespec { sec: 77, nsec: 0 });
    Ramfs::new(RamfsConfig { limit, ..RamfsConfig::new(1, clock) }).root()
}

fn unpacked(archive: &[u8]) -> Result<(Arc<dyn Inode>, Summary), Error> {
    let root = ramfs(u64::MAX);
    let summary = unpack(&mut &archive[..], &root)?;
    Ok((root, summary))
}

fn find(root: &Arc<dyn Inode>, path: &str) -> VfsResult<Arc<dyn Inode>> {
    path.split('/').try_fold(root.clone(), |at, name| at.lookup(Name::new(name.as_bytes())?))
}

fn content(inode: Arc<dyn Inode>) -> Vec<u8> {
    let mut bytes = vec![0; inode.metadata().unwrap().size as usize];
    let file = inode.open(OpenFlags::empty()).unwrap();
    assert_eq!(file.read_at(0, &mut SliceSink::new(&mut bytes)).unwrap(), bytes.len());
    bytes
}

/// Runs a filter in a directory.
fn filter(dir: &Path, command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

fn compare(mine: &Arc<dyn Inode>, host: &Path) {
    let (here, there) = (mine.metadata().unwrap(), fs::symlink_metadata(host).unwrap());
    let at = host.display();
    assert_eq!((here.mode, here.uid, here.gid), (there.mode(), there.uid(), there.gid()), "{at}");
    assert_eq!((here.mtime.sec, here.rdev), (there.mtime(), there.rdev()), "{at}");
    if there.is_dir() {
        for entry in fs::read_dir(host).unwrap() {
            let name = entry.unwrap().file_name();
            compare(&mine.lookup(Name::new(name.as_encoded_bytes()).unwrap()).unwrap(), &host.join(name));
        }
        return;
    }
    assert_eq!(u64::from(here.nlink), there.nlink(), "{at}");
    if there.is_symlink() {
        assert_eq!(mine.readlink().unwrap(), fs::read_link(host).unwrap().as_os_str().as_encoded_bytes());
    } else if there.is_file() {
        assert!(content(mine.clone()) == fs::read(host).unwrap(), "{at}");
    } else {
        assert!(there.file_type().is_fifo());
    }
}

/// A tree, and the archive of it that cpio makes.
fn scene() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = dir.path();
    fs::create_dir_all(tree.join("a/deep/directory")).unwrap();
    for (i, len) in [0, 1, 3, 4, 4095, 4096, 70_000, 1_000_001].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at.wrapping_mul(at) >> (i + 3)) as u8).collect();
        fs::write(tree.join(format!("a/{len}")), bytes).unwrap();
    }
    fs::hard_link(tree.join("a/70000"), tree.join("a/deep/70000")).unwrap();
    fs::hard_link(tree.join("a/70000"), tree.join("z")).unwrap();
    symlink("a/deep", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("a/1"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(tree.join("a/4"), Some(1000), Some(100_000)).unwrap();
    assert!(Command::new("mkfifo").arg(tree.join("fifo")).status().unwrap().success());
    let names = filter(tree, &["find", ".", "-print"], b"");
    let archive = filter(tree, &["cpio", "-o", "-H", "newc"], &names);
    (dir, archive)
}

#[test]
fn what_cpio_makes_is_unpacked_however_it_is_compressed() {
    let (dir, archive) = scene();
    let compressors: [&[&str]; 6] = [
        &["cat"],
        &["gzip", "-n"],
        &["gzip", "-1"],
        &["zstd"],
        &["zstd", "-19", "--zstd=wlog=21"],
        &["zstd", "--no-check", "-T2", "-B1M"],
    ];
    for command in compressors {
        let (root, summary) = unpacked(&filter(dir.path(), command, &archive)).unwrap();
        compare(&root, dir.path());
        assert_eq!((summary.entries, summary.garbage), (16, false), "{command:?}");
    }
    let large = "zstd in windows above 2 MiB (--zstd=wlog=21)";
    for (command, name) in [(["xz", "-c"], "xz"), (["lz4", "-l"], "lz4"), (["zstd", "-19"], large)] {
        let error = unpacked(&filter(dir.path(), &command, &archive)).err();
        assert_eq!(error, Some(Error::Compression(name)));
    }
}

/// An archive of these entries.
fn archive(entries: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |name: &[u8], header: Header, content: &[u8]| {
        bytes.extend(Header { size: content.len() as u32, ..header }.encode(name));
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    for (i, (name, mode, content)) in entries.iter().enumerate() {
        add(name, Header { mode: *mode, nlink: 1, ino: i as u32, ..Header::default() }, content);
    }
    add(TRAILER, Header::default(), b"");
    bytes
}

const FILE: u32 = 0o100644;

#[test]
fn archives_follow_each_other_compressed_or_not() {
    let dir = Path::new("/");
    let (one, two) = (archive(&[(b"early/microcode", FILE, b"1")]), archive(&[(b"two", FILE, b"2")]));
    let three =
        filter(dir, &["gzip"], &[archive(&[(b"three", FILE, b"3")]), archive(&[(b"two", FILE, b"again")])].concat());
    let four = filter(dir, &["zstd"], &archive(&[(b"four", FILE, b"4")]));
    let all = [&one[..], &[0; 500], &two, &three, &[0; 3], &four, &[0; 1000]].concat();
    let (root, summary) = unpacked(&all).unwrap();
    assert_eq!(summary, Summary { entries: 5, bytes: 9, garbage: false });
    for (path, expected) in [("early/microcode", &b"1"[..]), ("two", b"again"), ("three", b"3"), ("four", b"4")] {
        assert_eq!(content(find(&root, path).unwrap()), expected, "{path}");
    }
    let (_, summary) = unpacked(&[&one[..], b"garbage"].concat()).unwrap();
    assert_eq!((summary.entries, summary.garbage), (1, true));
    let (_, summary) = unpacked(&[&one[..], &[0x1f, 0x8b, 9, 9, 9]].concat()).unwrap();
    assert!(summary.garbage);
}

#[test]
fn names_are_taken_as_relative_and_never_lead_upwards() {
    let entries: [(&[u8], u32, &[u8]); 5] = [
        (b".", 0o40700, b""),
        (b"./a/b", FILE, b"1"),
        (b"/c//./d", FILE, b"2"),
        (b"a", 0o40711, b""),
        (b"link", 0o120777, b"/etc/passwd"),
    ];
    let (root, _) = unpacked(&archive(&entries)).unwrap();
    assert_eq!(content(find(&root, "a/b").unwrap()), b"1");
    assert_eq!(content(find(&root, "c/d").unwrap()), b"2");
    let mode = |path| find(&root, path).unwrap().metadata().unwrap().mode;
    assert_eq!((root.metadata().unwrap().mode, mode("a"), mode("c")), (0o40700, 0o40711, 0o40755));
    for name in [&b"../x"[..], b"a/../../x", b".."] {
        assert!(matches!(unpacked(&archive(&[(name, FILE, b"")])), Err(Error::Entry { .. })));
    }
    let through = [(&b"l"[..], 0o120777, &b"/"[..]), (b"l/x", FILE, b"")];
    assert_eq!(unpacked(&archive(&through)).err(), Some(Error::Make { name: "l/x".into(), errno: Errno::ENOTDIR }));
    let over = [(&b"d/x"[..], FILE, &b""[..]), (b"d", FILE, b"")];
    assert_eq!(unpacked(&archive(&over)).err(), Some(Error::Make { name: "d".into(), errno: Errno::EISDIR }));
}

#[test]
fn what_is_no_archive_says_so() {
    let whole = archive(&[(b"file", FILE, &[7; 1000])]);
    for bytes in [&b""[..], b"07070", b"#!/bin/sh\nexit 0\n", &[0; 4000]] {
        assert_eq!(unpacked(bytes).err(), Some(Error::NotAnArchive));
    }
    for end in [7, 111, 140, 1000, whole.len() - 100] {
        assert_eq!(unpacked(&whole[..end]).err(), Some(Error::Short), "{end}");
    }
    let gzip = filter(Path::new("/"), &["gzip"], &whole);
    assert_eq!(unpacked(&gzip[..gzip.len() / 2]).err(), Some(Error::Short));
    let mut huge = whole.clone();
    huge[54..62].copy_from_slice(b"FFFFFFFF");
    assert_eq!(unpacked(&huge).err(), Some(Error::Short));
    huge[94..102].copy_from_slice(b"FFFFFFFF");
    assert!(matches!(unpacked(&huge), Err(Error::Entry { .. })));
    let full = unpack(&mut &whole[..], &ramfs(0)).unwrap_err();
    assert_eq!(full, Error::Make { name: "file".into(), errno: Errno::ENOSPC });
}

/// Real archives with bytes changed at random: nothing panics, and everything ends.
#[test]
fn damaged_archives_do_no_harm() {
    let (dir, plain) = scene();
    let plain = plain[..200_000.min(plain.len())].to_vec();
    let small = archive(&[(b"d/f", FILE, b"12345"), (b"l", 0o120777, b"target"), (b"e", 0o40755, b"")]);
    let gzip = filter(dir.path(), &["gzip"], &[&small[..], &plain[..20_000]].concat());
    let zstd = filter(dir.path(), &["zstd"], &[&small[..], &plain[..20_000]].concat());
    let originals = [small, gzip, zstd];
    let (mut state, mut good) = (1u64, 0);
    let mut dice = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for case in 0..10_000 {
        let mut bytes = originals[case % 3].clone();
        for _ in 0..=dice(4) {
            let at = dice(bytes.len());
            bytes[at] = if dice(2) == 0 { b"0123456789ABCDEF"[dice(16)] } else { dice(256) as u8 };
        }
        let root = ramfs(1 << 20);
        good += u32::from(unpack(&mut &bytes[..], &root).is_ok());
        let _ = read(&mut &bytes[..], &mut |_, _, _| Ok(()));
    }
    assert!((100..9_900).contains(&good), "{good}");
}
