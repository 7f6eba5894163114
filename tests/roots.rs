//! The root and the mounts on it: which is taken and why, `/etc/fstab`, `--mount`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::platform::Platform;
use crate::vm::Vm;

/// A root directory with the host's programs and libraries in it, by links through a volume, and an `/etc/fstab`.
fn root_with(fstab: &str) -> TempDir {
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
fn run_in<'a>(on: Platform, root: &Path, command: &[&'a str]) -> Vm<'a> {
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
