//! The corners of path_resolution(7), every operation on every path.

use crate::ops::{Op, Path};
use crate::{agree, with_worlds};
use diolkos_vfs::{OpenFlags, RenameFlags};

/// A tree with one of everything.
fn scene() -> Vec<Op> {
    let mut ops = vec![
        Op::Mkdir(Path::new("d"), 0o755),
        Op::Mkdir(Path::new("d/e"), 0o755),
        Op::Mkdir(Path::new("empty"), 0o755),
        Op::Write(Path::new("f"), OpenFlags::CREAT, 0, 3, b'f'),
        Op::Write(Path::new("d/f"), OpenFlags::CREAT, 0, 5, b'g'),
        Op::Mknod(Path::new("fifo"), libc::S_IFIFO | 0o644),
        Op::Mknod(Path::new("sock"), libc::S_IFSOCK | 0o644),
        Op::Symlink(Path::new("f"), Path::new("to_f")),
        Op::Symlink(Path::new("d"), Path::new("to_d")),
        Op::Symlink(Path::new("d/"), Path::new("to_d_slash")),
        Op::Symlink(Path::new("f/"), Path::new("to_f_slash")),
        Op::Symlink(Path::new("nothing"), Path::new("dangling")),
        Op::Symlink(Path::new("nothing/"), Path::new("dangling_slash")),
        Op::Symlink(Path::new("/d/e/../../to_d"), Path::new("far")),
        Op::Symlink(Path::new("loop"), Path::new("loop")),
        Op::Symlink(Path::new("."), Path::new("to_dot")),
        Op::Symlink(Path::new("/"), Path::new("to_root")),
        Op::Symlink(Path::new("fifo"), Path::new("to_fifo")),
        Op::Link(Path::new("f"), Path::new("hard"), false),
    ];
    // A chain of 40 links works, one of 41 does not.
    ops.push(Op::Symlink(Path::new("f"), Path::new("link1")));
    ops.extend((2..=41).map(|i| Op::Symlink(Path::new(&format!("link{}", i - 1)), Path::new(&format!("link{i}")))));
    ops
}

fn paths() -> Vec<Path> {
    let mut paths: Vec<Path> = [
        "",
        "/",
        "//",
        ".",
        "..",
        "./",
        "../",
        "f",
        "f/",
        "f/.",
        "f/..",
        "f/x",
        "d",
        "d/",
        "d/.",
        "d/..",
        "d//f",
        "d/./f",
        "d/../f",
        "d/e/../f",
        "d/nothing",
        "d/nothing/",
        "nothing",
        "nothing/",
        "nothing/x",
        "nothing/..",
        "empty",
        "empty/",
        "fifo",
        "fifo/",
        "sock",
        "to_f",
        "to_f/",
        "to_d",
        "to_d/",
        "to_d/f",
        "to_d/..",
        "to_d_slash",
        "to_d_slash/",
        "to_f_slash",
        "dangling",
        "dangling/",
        "dangling_slash",
        "dangling_slash/",
        "far",
        "far/f",
        "far/",
        "loop",
        "loop/",
        "loop/x",
        "to_dot",
        "to_dot/",
        "to_root",
        "to_root/d",
        "to_root/",
        "to_fifo",
        "hard",
        "link39",
        "link40",
        "link41",
        "link40/",
        "/d/e",
        "/../d",
        "d/e",
        "d/e/",
    ]
    .map(Path::new)
    .into();
    paths.push(Path(vec![b'x'; 255]));
    paths.push(Path(vec![b'x'; 256]));
    paths.push(Path([b"nothing/".to_vec(), vec![b'x'; 256]].concat()));
    paths.push(Path([b"f/".to_vec(), vec![b'x'; 256]].concat()));
    paths.push(Path(b"./".repeat(2047)));
    paths.push(Path([b"./".repeat(2047), b"f".to_vec()].concat()));
    paths.push(Path([b"./".repeat(2047), b"ff".to_vec()].concat()));
    paths
}

/// Every operation that takes one path.
fn single(path: &Path) -> Vec<Op> {
    let p = || path.clone();
    let mut ops = vec![
        Op::Stat(p(), true),
        Op::Stat(p(), false),
        Op::Access(p(), 0),
        Op::Access(p(), 1),
        Op::Access(p(), 2),
        Op::Readlink(p()),
        Op::Readdir(p()),
        Op::Read(p(), 1, 10),
        Op::Truncate(p(), 5000),
        Op::Mkdir(p(), 0o755),
        Op::Mknod(p(), libc::S_IFIFO | 0o600),
        Op::Mknod(p(), libc::S_IFREG | 0o600),
        Op::Mknod(p(), libc::S_IFDIR | 0o600),
        Op::Mknod(p(), libc::S_IFLNK | 0o600),
        Op::Symlink(Path::new("target"), p()),
        Op::Symlink(Path::new(""), p()),
        Op::Symlink(Path(vec![b'x'; 4096]), p()),
        Op::Unlink(p()),
        Op::Rmdir(p()),
        Op::Chmod(p(), 0o700),
        Op::Chown(p(), 1, 2, true),
        Op::Chown(p(), 1, 2, false),
        Op::Utimens(p(), 5, 6, true),
        Op::Utimens(p(), -5, 6, false),
        Op::Chdir(p()),
    ];
    let of_interest = [
        OpenFlags::CREAT,
        OpenFlags::EXCL,
        OpenFlags::TRUNC,
        OpenFlags::DIRECTORY,
        OpenFlags::NOFOLLOW,
        OpenFlags::PATH,
        OpenFlags::RDWR,
        OpenFlags::WRONLY,
    ];
    for bits in 0..1 << of_interest.len() {
        let chosen = of_interest.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        let flags = chosen.fold(OpenFlags::NONBLOCK, |flags, (_, flag)| flags | *flag);
        // Access mode 3 is Linux' own affair (an ioctl-only open).
        if !flags.contains(OpenFlags::RDWR | OpenFlags::WRONLY) {
            ops.push(Op::Open(p(), flags, 0o644));
        }
    }
    let unnamed = OpenFlags::TMPFILE | OpenFlags::NONBLOCK;
    for flags in [OpenFlags::empty(), OpenFlags::RDWR, OpenFlags::DIRECTORY, OpenFlags::DIRECTORY | OpenFlags::RDWR] {
        ops.push(Op::Open(p(), flags | unnamed, 0o600));
    }
    ops
}

/// Each operation on a scene of its own, then a look at what it left behind.
fn each_on_a_fresh_scene(ops: Vec<Op>) {
    with_worlds(move |_, host| {
        for op in ops {
            let guest = crate::guest::Guest::new();
            let mut script = vec![Op::Chdir(Path::new("/"))];
            // Our namespace is new each time, and so is the host's root.
            host.fresh_root();
            script.extend(scene());
            script.push(op);
            script.extend([Op::Getcwd, Op::Chdir(Path::new("/")), Op::Readdir(Path::new("/"))]);
            script.extend(["/d", "/empty"].map(|path| Op::Readdir(Path::new(path))));
            script.extend(["/", "/d", "/f", "/d/f", "/nothing"].map(|path| Op::Stat(Path::new(path), true)));
            for (at, op) in script.iter().enumerate() {
                agree(&guest, host, op, &script[..at]);
            }
        }
    });
}

#[test]
fn every_operation_on_every_path_answers_as_on_the_host() {
    each_on_a_fresh_scene(paths().iter().flat_map(single).collect());
}

#[test]
fn every_pair_of_paths_links_and_renames_as_on_the_host() {
    let few: Vec<Path> = [
        "",
        "/",
        ".",
        "..",
        "f",
        "f/",
        "d",
        "d/",
        "d/e",
        "d/e/",
        "d/e/x",
        "d/e/..",
        "d/f",
        "d/.",
        "nothing",
        "nothing/",
        "empty",
        "empty/",
        "fifo",
        "to_f",
        "to_f/",
        "to_d",
        "to_d/",
        "dangling",
        "dangling/",
        "hard",
        "loop/",
        "f/x",
    ]
    .map(Path::new)
    .into();
    let (none, no_replace, exchange) = (RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE);
    let mut ops = Vec::new();
    for (old, new) in few.iter().flat_map(|old| few.iter().map(move |new| (old, new))) {
        ops.extend([false, true].map(|follow| Op::Link(old.clone(), new.clone(), follow)));
        for flags in [none, no_replace, exchange, no_replace | exchange] {
            ops.push(Op::Rename(old.clone(), new.clone(), flags));
        }
    }
    each_on_a_fresh_scene(ops);
}
