//! Disks: the bytes are the file's, what a program writes is in the file afterwards, and what cannot be is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::data;
use crate::each_platform;
use crate::vm::diolkos;

const MIB: usize = 1 << 20;

/// The word before the first space.
fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

fn md5(path: &Path) -> String {
    let output = Command::new("md5sum").arg(path).output().unwrap();
    first_word(&String::from_utf8(output.stdout).unwrap()).to_owned()
}

/// What a disk answers to everything that may be asked of it, by a program that writes to it here and there.
const ASK: &str = r#"
import fcntl, os, struct
fd = os.open("/dev/vda", os.O_RDWR)
ask = lambda number, size: int.from_bytes(fcntl.ioctl(fd, number, bytes(size)), "little")
print("BLKGETSIZE64", ask(0x80081272, 8), "BLKGETSIZE", ask(0x1260, 8), "BLKSSZGET", ask(0x1268, 4), "BLKROGET", ask(0x125e, 4))
stat = os.stat("/dev/vda")
print(oct(stat.st_mode), stat.st_size, os.major(stat.st_rdev), os.minor(stat.st_rdev))
print("end", os.lseek(fd, 0, os.SEEK_END), os.read(fd, 10))
def attempt(name, act):
    try: print(name, act())
    except OSError as error: print(name, os.strerror(error.errno))
size = 1 << 20
attempt("over a border", lambda: os.pwrite(fd, b"x" * 1000, 300))
attempt("many sectors", lambda: os.pwrite(fd, b"y" * 300000, 4096))
attempt("at the end", lambda: os.pwrite(fd, b"z" * 1000, size - 10))
attempt("behind it", lambda: os.pwrite(fd, b"z", size))
attempt("read back", lambda: os.pread(fd, 4, 1298))
attempt("read at the end", lambda: os.pread(fd, 100, size - 12))
attempt("reserve", lambda: os.posix_fallocate(fd, 0, 512))
libc = __import__("ctypes").CDLL(None, use_errno=True)
def fallocate(mode, at, length):
    if libc.fallocate(fd, mode, __import__("ctypes").c_long(at), __import__("ctypes").c_long(length)): raise OSError(__import__("ctypes").get_errno(), "")
attempt("punch sectors", lambda: fallocate(3, 512000, 51200))
attempt("zero sectors", lambda: fallocate(0x11, 614400, 512))
attempt("punch a part", lambda: fallocate(3, 1, 512))
attempt("discard", lambda: fcntl.ioctl(fd, 0x1277, struct.pack("QQ", 716800, 5120)) and None)
attempt("discard behind the end", lambda: fcntl.ioctl(fd, 0x1277, struct.pack("QQ", size, 512)))
attempt("BLKFLSBUF", lambda: fcntl.ioctl(fd, 0x1261, 0))
attempt("fsync", lambda: os.fsync(fd))
attempt("truncate", lambda: os.ftruncate(fd, 5))
os.sync()
"#;

const ANSWERS: &str = "\
BLKGETSIZE64 1048576 BLKGETSIZE 2048 BLKSSZGET 512 BLKROGET 0
0o60660 0 254 0
end 1048576 b''
over a border 1000
many sectors 300000
at the end 10
behind it No space left on device
read back b'xx\\x01\\x01'
read at the end b'\\x01\\x01zzzzzzzzzz'
reserve No such device
punch sectors None
zero sectors None
punch a part Invalid argument
discard None
discard behind the end Invalid argument
BLKFLSBUF 0
fsync None
truncate Invalid argument
";

/// What a megabyte of ones is after [`ASK`], but for the sectors that were discarded.
fn asked() -> Vec<u8> {
    let mut bytes = vec![1; MIB];
    bytes[300..1300].fill(b'x');
    bytes[4096..304_096].fill(b'y');
    bytes[MIB - 10..].fill(b'z');
    bytes[512_000..563_200].fill(0);
    bytes[614_400..614_912].fill(0);
    bytes
}

each_platform! {
    fn the_bytes_of_a_disk_are_the_files(on) {
        let folder = data::folder();
        let (first, second) = (
            data::random_file(folder.path(), "first", 9 * MIB),
            data::random_file(folder.path(), "second", 3 * MIB + 512 * 7),
        );
        let options = [format!("{}:ro", first.display()), format!("{}", second.display())];
        let vm = on.run(&["md5sum", "/dev/vda", "/dev/vdb"]).option(&["--disk", &options[0], "--disk", &options[1]]);
        let outcome = vm.outcome().expect_status(0);
        assert_eq!(outcome.out(), format!("{}  /dev/vda\n{}  /dev/vdb\n", md5(&first), md5(&second)));
    }

    fn a_disk_answers_and_what_is_written_to_it_is_on_the_host(on) {
        let folder = data::folder();
        let image = data::file(folder.path(), "image", &[1; MIB]);
        let vm = on.run(&["python3", "-c", ASK]).option(&["--disk", image.to_str().unwrap()]);
        vm.outcome().expect_status(0).expect_out(ANSWERS);
        let (mut found, expected) = (fs::read(&image).unwrap(), asked());
        found[716_800..721_920].fill(1);
        let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((differs, found.len()), (None, MIB));
    }

    fn several_threads_use_a_disk_at_once(on) {
        let folder = data::folder();
        let image = data::random_file(folder.path(), "image", 8 * MIB);
        let script = "
import os, threading
a, b = os.open('/dev/vda', os.O_RDONLY), os.open('/dev/vdb', os.O_RDWR)
def copy(part):
    for i in range(16): os.pwrite(b, os.pread(a, 131072, part * 2097152 + i * 131072), part * 2097152 + i * 131072)
threads = [threading.Thread(target=copy, args=(part,)) for part in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
os.fsync(b)
";
        let target = data::file(folder.path(), "target", &vec![0; 8 * MIB]);
        let disks = [format!("{}:ro", image.display()), target.display().to_string()];
        let vm = on.run(&["python3", "-c", script]).option(&["--disk", &disks[0], "--disk", &disks[1], "--cpus", "2"]);
        vm.outcome().expect_status(0).expect_out("");
        assert!(fs::read(image).unwrap() == fs::read(target).unwrap(), "the copy differs");
    }

    fn a_read_only_disk_refuses_writes(on) {
        let folder = data::folder();
        let image = data::random_file(folder.path(), "image", MIB);
        let before = md5(&image);
        let disk = format!("{}:ro", image.display());
        let command = ["dd", "if=/dev/zero", "of=/dev/vda", "bs=512", "count=1", "status=none"];
        let outcome = on.run(&command).option(&["--disk", &disk]).outcome().expect_status(1);
        assert!(outcome.err().contains("Operation not permitted"), "{}", outcome.err());
        assert_eq!(md5(&image), before);
    }
}

#[test]
fn what_was_asked_of_a_disk_is_counted() {
    let Some(on) = crate::platform::Platform::Kvm.here() else { return };
    let folder = data::folder();
    let image = data::random_file(folder.path(), "image", MIB);
    let command = ["dd", "if=/dev/vda", "of=/dev/vda", "bs=4096", "count=2", "skip=4", "conv=fsync", "status=none"];
    let vm = on.run(&command).option(&["--stats", "--disk", image.to_str().unwrap()]);
    let block = vm.outcome().expect_status(0).err();
    let section: Vec<_> =
        block.lines().skip_while(|line| !line.contains(&format!("disk {}", image.display()))).collect();
    let number = |label: &str| {
        let row = section.iter().find_map(|line| line.trim().strip_prefix(label)).unwrap_or_default();
        row.trim().to_owned()
    };
    assert_eq!(
        ["read requests", "write requests", "flushes"].map(number),
        ["2", "2", "1"].map(String::from),
        "{block}"
    );
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    let folder = data::folder();
    let empty = data::file(folder.path(), "empty", b"");
    for (disk, why) in [("/no/such", "No such file"), ("/etc", "Is a directory"), (empty.to_str().unwrap(), "empty")] {
        for platform in ["kvm", "qemu"] {
            let output = diolkos().args(["run", "--platform", platform, "--disk", disk, "/", "true"]).output().unwrap();
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{line}");
            assert!(line.contains(disk) && line.contains(why) && line.lines().count() == 1, "{line}");
        }
    }
}

#[test]
fn a_disk_in_use_is_refused() {
    let Some(on) = crate::platform::Platform::Kvm.here() else { return };
    let folder = data::folder();
    let image = data::random_file(folder.path(), "image", MIB);
    let path = image.to_str().unwrap();
    let mut child = on.run(&["cat"]).option(&["--disk", path]).start();
    let refused = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let outcome = on.run(&["true"]).option(&["--disk", path]).outcome();
        outcome.status == 125 && outcome.err().contains("in use by another machine")
    });
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(refused, "two machines wrote to one disk");
    on.run(&["true"]).option(&["--disk", path]).outcome().expect_status(0);
}

#[test]
fn a_disk_is_free_as_soon_as_the_command_has_ended() {
    let Some(on) = crate::platform::Platform::Kvm.here() else { return };
    let folder = data::folder();
    let image = data::random_file(folder.path(), "image", MIB);
    for _ in 0..5 {
        on.run(&["true"]).option(&["--disk", image.to_str().unwrap()]).outcome().expect_status(0);
        let file = std::fs::File::open(&image).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
