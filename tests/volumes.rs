//! Several shares at once: each with a window of its own size or none, bytes going from one to another, the same files
//! by several ways, and how many there can be.

use std::fs;
use std::path::Path;

use crate::data;
use crate::each_platform;
use crate::linux_sources::{Libc, compiled};
use crate::platform::Platform;

/// The rows of the section of `--stats` about what the guest did with share `tag`, and the number beside `label` in it.
fn used(block: &str, tag: &str, label: &str) -> String {
    let title = format!("  share '{tag}', as used");
    let rows = block.lines().skip_while(|line| *line != title).skip(1).take_while(|line| line.starts_with("    "));
    let row = rows.map(str::trim).find_map(|row| row.strip_prefix(label)).unwrap_or_default();
    row.trim().to_owned()
}

const MIB: usize = 1 << 20;

#[test]
fn each_share_has_its_own_window_or_none() {
    let Some(on) = Platform::Kvm.here() else { return };
    let [big, small, none] = [(); 3].map(|()| data::folder());
    let mut expected = Vec::new();
    for folder in [&big, &small, &none] {
        expected.extend(fs::read(data::random_file(folder.path(), "f", 12 * MIB)).unwrap());
    }
    let options = ["--stats", "--dax-window", "64M", "--dax-io", "window"];
    let vm = on.run(&["/bin/cat", "/big/f", "/small/f", "/none/f"]).option(&options);
    let vm = vm.volume(big.path(), "/big:ro").volume(small.path(), "/small:ro:dax=4M");
    let outcome = vm.volume(none.path(), "/none:ro:dax=0").outcome().expect_status(0);
    assert!(outcome.stdout == expected, "not the same bytes");
    let block = outcome.err();
    assert!(block.contains("root 64M, volume1 64M, volume2 4M, volume3 off ("), "{block}");
    for (tag, window, message) in
        [("volume1", "12.0 MiB", ""), ("volume2", "12.0 MiB", ""), ("volume3", "", "12.0 MiB")]
    {
        assert_eq!(used(&block, tag, "window bytes read"), window, "{tag}: {block}");
        assert_eq!(used(&block, tag, "message bytes read"), message, "{tag}: {block}");
    }
    assert_eq!(used(&block, "volume1", "window evictions"), "", "{block}");
    assert_ne!(used(&block, "volume2", "window evictions"), "", "{block}");
}

/// Windows `from` and `to` for the two shares of [`copies_meet`], as options of a volume.
fn copies_meet(on: Platform, from_options: &str, to_options: &str) {
    let (programs, from, to) = (compiled("windows", Libc::Glibc), data::folder(), data::folder());
    // Three chunks and a bit: with windows of two or three, pages give way while they are being copied.
    let source = data::random_file(from.path(), "f", 6 * MIB + 12345);
    let vm = on.run(&["/programs/windows", "/from/f", "/to/f"]).volume(programs.path(), "/programs:ro");
    let vm = vm.volume(from.path(), &format!("/from:{from_options}")).volume(to.path(), &format!("/to:{to_options}"));
    let outcome = vm.outcome().expect_status(0);
    assert!(!outcome.out().contains("NO"), "{}", outcome.out());
    let (source, copy) = (fs::read(source).unwrap(), fs::read(to.path().join("f")).unwrap());
    let half = source.len() / 2;
    let wanted = [&source[half..half * 2], &source[half..]].concat();
    assert!(copy == wanted, "the host has other bytes");
}

#[test]
fn bytes_go_from_window_to_window() {
    let Some(on) = Platform::Kvm.here() else { return };
    for (from, to) in [("ro", "rw"), ("ro:dax=4M", "rw:dax=6M"), ("ro:dax=4M", "dax=0"), ("ro:dax=0", "rw:dax=6M")] {
        copies_meet(on, from, to);
    }
}

each_platform! {
    fn bytes_go_from_share_to_share(on) { copies_meet(on, "ro", "dax=0"); }

    fn one_directory_may_be_shared_twice(on) {
        let folder = data::folder();
        data::file(folder.path(), "f", b"first");
        let vm = on.run(&["/usr/bin/python3", "-c", TWICE]).option(&["--cache", "none"]);
        let outcome = vm.volume(folder.path(), "/a:ro").volume(folder.path(), "/b").outcome().expect_status(0);
        assert_eq!(outcome.out(), "second\nthird\n['g']\n30\n", "{}", outcome.err());
    }

    fn shares_may_overlap(on) {
        let folder = data::folder();
        fs::create_dir_all(folder.path().join("in/deep")).unwrap();
        data::file(&folder.path().join("in/deep"), "f", b"one");
        let vm = on.run(&["/usr/bin/python3", "-c", OVERLAPPING]).option(&["--cache", "none"]);
        // The last one appears inside another share, where there is no such directory.
        let vm = vm.volume(folder.path(), "/out").volume(&folder.path().join("in"), "/in:ro");
        let vm = vm.volume(&folder.path().join("in/deep"), "/deep").volume(&folder.path().join("in/deep"), "/out/here");
        vm.outcome().expect_status(0).expect_out("one one\ntwo two two\n['deep', 'x']\n");
    }

    fn there_may_be_a_dozen(on) {
        let folders: Vec<_> = (0..12).map(|_| data::folder()).collect();
        let names: Vec<_> = (b'a'..b'm').map(|letter| format!("/v{}", char::from(letter))).collect();
        let files: Vec<_> = names.iter().map(|name| format!("{name}/f")).collect();
        let command: Vec<&str> = ["/bin/cat", "/proc/mounts"].into_iter().chain(files.iter().map(|file| &**file)).collect();
        let mut vm = on.run(&command);
        for (i, (folder, name)) in folders.iter().zip(&names).enumerate() {
            data::file(folder.path(), "f", format!("{name}\n").as_bytes());
            vm = vm.volume(folder.path(), &format!("{name}:{}", ["ro", "rw:dax=2M", "dax=0"][i % 3]));
        }
        // On QEMU an option about windows is remarked on.
        let out = vm.outcome().expect_status(0).out();
        assert_eq!(out.lines().filter(|line| line.contains(" /v") && line.contains("virtiofs")).count(), 12, "{out}");
        assert!(out.ends_with(&format!("{}\n", names.join("\n"))), "{out}");
    }

    fn too_many_are_refused_before_anything_starts(on) {
        let mut vm = on.run(&["/bin/true"]);
        for i in 0..40 {
            vm = vm.volume(Path::new("/etc"), &format!("/v{i}:ro"));
        }
        vm.outcome().expect_status(125).expect_line(&["41 are too many"]);
    }
}

/// One directory, at /a read-only and at /b.
const TWICE: &str = "
import os
open('/b/f', 'w').write('second')
print(open('/a/f').read())
open('/b/g', 'w').write('third')
print(open('/a/g').read())
os.unlink('/b/f')
print(os.listdir('/a'))
try:
    open('/a/x', 'w')
except OSError as error:
    print(error.errno)
";

/// A directory at /out, what is in it at /in, and what is in that at /deep and /out/here.
const OVERLAPPING: &str = "
import os
def read(path):
    with open(path) as file:
        return file.read()
print(read('/out/in/deep/f'), read('/deep/f'))
with open('/deep/f', 'w') as file:
    file.write('two')
print(read('/out/in/deep/f'), read('/out/here/f'), read('/in/deep/f'))
open('/out/in/x', 'w').close()
print(sorted(os.listdir('/in')))
";
