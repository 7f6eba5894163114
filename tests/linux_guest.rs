//! A Linux guest in QEMU: Debian's kernel, with its own virtio-fs client, mounts what `diolkos serve` serves. What a script
//! of busybox prints there, and leaves in the directory, must be what it prints and leaves on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::data;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::serve;
use crate::tools;

const BUSYBOX: &str = "/bin/busybox";
/// In the order in which they need each other.
const MODULES: [&str; 7] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "fuse", "virtiofs"];
const INIT: &str = include_str!("linux_guest/init.sh");
/// What is compared. The shell reads it from its input, so that it has no name to tell of in its complaints; the argument is
/// the directory to work in.
const SCRIPT: &str = include_str!("linux_guest/script.sh");
/// A program of the host's, with the libraries it needs.
const PROGRAM: [&str; 3] = [
    "/usr/bin/python3",
    "-c",
    "import hashlib, json, os; \
    print(json.dumps(sorted(os.listdir('/etc'))), hashlib.sha256(open('/usr/bin/python3', 'rb').read()).hexdigest())",
];

/// Emulated, a Linux kernel takes ten seconds to come up, and longer on a busy host.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn linux_finds_the_hosts_files_and_changes_them_as_the_host_does() {
    let Some(_) = Platform::Qemu.here() else { return };
    let Some(linux) = tools::here(tools::folder().join("linux")) else { return };
    let (here, there) = (work(), data::folder());
    run(Command::new("/bin/cp").arg("--archive").arg(here.path().join("work")).arg(there.path()));
    let (host, program) = on_host(here.path());

    let sockets = data::folder();
    let (work, root) = (sockets.path().join("work"), sockets.path().join("root"));
    let daemons =
        [serve::start(&["--rw"], &work, &there.path().join("work")), serve::start(&[], &root, Path::new("/"))];
    let initrd = initrd(sockets.path(), &linux);
    let guest = Outcome::of(boot(&linux, &initrd, &[("work", &work), ("root", &root)]), PATIENCE).expect_status(0);
    assert_eq!(guest.err(), "", "QEMU's own complaints");
    for daemon in daemons {
        let daemon = Outcome::of(daemon, PATIENCE).expect_status(0);
        assert_eq!(daemon.err(), "", "the daemon's own complaints");
    }

    // The serial line ends lines as terminals do.
    let console = guest.out().replace('\r', "");
    let section = |name: &str| {
        let begin = console.split_once(&format!("-- {name}\n")).unwrap_or_else(|| panic!("no {name}: {console}")).1;
        begin.split_once("-- end\n").unwrap_or_else(|| panic!("no end of {name}: {console}")).0.to_owned()
    };
    let left = |folder: &TempDir| tree(&folder.path().join("work"));
    let read_only = "touch: /root/var/tmp/x: Read-only file system\n";
    same("the script", &section("script"), &host);
    same("the program", &section("program"), &program);
    same("what may not be written", &section("read-only"), read_only);
    same("what is left", &left(&there), &left(&here));
}

/// Panics at the first line that differs.
fn same(what: &str, guest: &str, host: &str) {
    let lines = (0..).zip(guest.lines().zip(host.lines()));
    for (number, (guest, host)) in lines {
        assert_eq!(guest, host, "{what}, line {number}");
    }
    assert_eq!(guest.lines().count(), host.lines().count(), "{what}: lines");
}

/// A folder with the directory to work in.
fn work() -> TempDir {
    let folder = data::folder();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    data::file(&work, "small", b"a line\n");
    data::random_file(&work, "big", 3 << 20);
    folder
}

/// What the script and the program print here.
fn on_host(folder: &Path) -> (String, String) {
    let applets = data::folder();
    run(Command::new(BUSYBOX).args(["--install", "-s"]).arg(applets.path()));
    let script = data::file(applets.path(), "script.sh", SCRIPT.as_bytes());
    let mut shell = Command::new(BUSYBOX);
    shell.args(["sh", "-s"]).arg(folder.join("work")).stdin(fs::File::open(script).unwrap());
    shell.env_clear().env("PATH", applets.path()).env("TZ", "UTC");
    // Not into a pipe: busybox' cat puts the file's own pages there, and what changes them next would be read.
    let printed = applets.path().join("printed");
    run(shell.stdout(fs::File::create(&printed).unwrap()));
    (fs::read_to_string(printed).unwrap(), run(Command::new(PROGRAM[0]).args(&PROGRAM[1..])))
}

/// What a command that must succeed prints.
fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Everything below `folder` but times: names, types, modes, owners, links, sizes, targets, and the bytes of files.
fn tree(folder: &Path) -> String {
    let text = "find . -printf '%P %y %m %U %G %n %s %l\\n' | grep -v '^ ' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum";
    run(Command::new("/bin/sh").args(["-c", text]).current_dir(folder))
}

/// An archive with busybox, the modules, and a first program that mounts the shares and runs the script.
fn initrd(folder: &Path, linux: &Path) -> PathBuf {
    let root = folder.join("initrd");
    for inner in ["bin", "dev", "work", "root"] {
        fs::create_dir_all(root.join(inner)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    data::file(&root, "script.sh", SCRIPT.as_bytes());
    let words = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
    let init = INIT.replace("@MODULES@", &MODULES.join(" ")).replace("@PROGRAM@", &words(&PROGRAM));
    data::file(&root, "init", init.as_bytes());
    let find = |name: String| {
        let path = run(Command::new("/usr/bin/find").arg(linux.join("lib")).args(["-name", &name]));
        PathBuf::from(path.trim())
    };
    for module in MODULES {
        fs::copy(find(format!("{module}.ko")), root.join(format!("{module}.ko"))).unwrap();
    }
    let archive = folder.join("initrd.cpio");
    let text = "chmod 755 init && find . | busybox cpio -o -H newc > ../initrd.cpio";
    run(Command::new("/bin/sh").args(["-c", text]).current_dir(&root));
    archive
}

/// QEMU with `shares`: tags, and the daemons' sockets. Emulation, because a KVM on page tables takes minutes for Linux.
fn boot(linux: &Path, initrd: &Path, shares: &[(&str, &Path)]) -> Child {
    let mut kernels = fs::read_dir(linux.join("boot")).unwrap();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-machine", "q35", "-m", "512M", "-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.args(["-serial", "stdio", "-append", "console=ttyS0 quiet loglevel=0 panic=-1"]);
    qemu.arg("-kernel").arg(kernels.next().expect("the package has a kernel").unwrap().path());
    qemu.arg("-initrd").arg(initrd);
    // The daemons see the guest's memory.
    qemu.args(["-object", "memory-backend-memfd,id=memory,size=512M,share=on", "-numa", "node,memdev=memory"]);
    for (tag, socket) in shares {
        qemu.args(["-chardev", &format!("socket,id={tag},path={}", socket.display())]);
        qemu.args(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag}")]);
    }
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
