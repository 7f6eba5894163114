//! The tree as a whole: mounts, places and what only a namespace knows. How paths and errnos behave in one file
//! system is compared with the host in `tests/compare`.

use crate::testing::{list, namespace, namespace_on, queues, ramfs, read, spec, ticking, write};
use crate::{
    Errno, Location, Lookup, Namespace, NamespaceConfig, OpenFlags, RenameFlags, Result, SetMetadata, SliceSource,
};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

fn find(namespace: &Namespace, path: &str) -> Result<Location> {
    namespace.find(&namespace.root(), path.as_bytes(), Lookup::FOLLOW)
}

fn path_of(namespace: &Namespace, path: &str) -> Vec<u8> {
    find(namespace, path).unwrap().path()
}

fn names(namespace: &Namespace, path: &str, chunk: usize) -> Vec<Vec<u8>> {
    list(namespace, path, chunk).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// A read-only root with `/etc/passwd` and nothing else, and `/proc` and `/var/lib/x` mounted over it.
fn read_only_share() -> Namespace {
    let root = ramfs(1);
    let setup = namespace_on(root.clone(), false);
    setup.mkdir(&setup.root(), b"/etc", 0o755).unwrap();
    write(&setup, "/etc/passwd", b"root").unwrap();
    let namespace = namespace_on(root, true);
    namespace.mount(b"/proc", ramfs(2), spec("proc", false)).unwrap();
    namespace.mount(b"/var/lib/x", ramfs(3), spec("x y", false)).unwrap();
    namespace
}

#[test]
fn a_mount_needs_no_directory_under_it() {
    let ns = read_only_share();
    assert_eq!(find(&ns, "/proc").unwrap().id().dev, 2);
    assert_eq!(find(&ns, "/var/lib/x").unwrap().id().dev, 3);
    write(&ns, "/var/lib/x/f", b"here").unwrap();
    assert_eq!(read(&ns, &find(&ns, "/var").unwrap(), "lib/x/f"), Ok(b"here".to_vec()));
    // The directories on the way are there to be listed, but not to be written.
    assert_eq!(names(&ns, "/var", 10), [&b"."[..], b"..", b"lib"]);
    assert_eq!(ns.mkdir(&ns.root(), b"/var/new", 0o755), Err(Errno::EROFS));
}

#[test]
fn what_is_covered_does_not_matter() {
    let namespace = namespace();
    namespace.root().inode().symlink(crate::Name::new(b"link").unwrap(), b"/elsewhere").unwrap();
    namespace
        .root()
        .inode()
        .mknod(crate::Name::new(b"file").unwrap(), crate::FileType::Regular.mode_bits(), 0)
        .unwrap();
    for name in ["link", "file", "absent"] {
        let root = ramfs(77);
        namespace.cover(name.as_bytes(), root.clone(), spec(name, false)).unwrap();
        assert!(Arc::ptr_eq(find(&namespace, &["/", name].concat()).unwrap().inode(), &root), "{name}");
        assert_eq!(namespace.cover(name.as_bytes(), root, spec(name, false)).err(), Some(Errno::EBUSY));
    }
    let listed = names(&namespace, "/", 100);
    assert_eq!(listed.iter().filter(|name| name.as_slice() == b"link").count(), 1, "{listed:?}");
}

#[test]
fn parents_and_paths_cross_mounts() {
    let ns = read_only_share();
    let deep = find(&ns, "/var/lib/x").unwrap();
    for (path, whole) in
        [(".", "/var/lib/x"), ("..", "/var/lib"), ("../..", "/var"), ("../../..", "/"), ("../../../..", "/")]
    {
        let place = ns.find(&deep, path.as_bytes(), Lookup::FOLLOW).unwrap();
        assert_eq!(place.path(), whole.as_bytes(), "{path}");
    }
    assert!(ns.find(&deep, b"../../../etc/passwd", Lookup::FOLLOW).is_ok());
    assert_eq!(path_of(&ns, "/proc/../etc/./passwd"), b"/etc/passwd");
}

#[test]
fn mounting_says_what_is_wrong() {
    let ns = read_only_share();
    let mount = |path: &str| ns.mount(path.as_bytes(), ramfs(9), spec("z", false)).map(|mount| mount.target());
    assert_eq!(mount("/"), Err(Errno::EBUSY));
    assert_eq!(mount("/proc"), Err(Errno::EBUSY));
    assert_eq!(mount("/proc/"), Err(Errno::EBUSY));
    assert_eq!(mount("proc"), Err(Errno::EINVAL));
    assert_eq!(mount("/etc/passwd"), Err(Errno::ENOTDIR));
    assert_eq!(mount("/etc/passwd/x"), Err(Errno::ENOTDIR));
    assert_eq!(mount("/etc//new/"), Ok(b"/etc/new".to_vec()));
    let file = ns.find(&ns.root(), b"/etc/passwd", Lookup::empty()).unwrap().inode().clone();
    assert!(Namespace::new(file, spec("f", false), config()).is_err_and(|errno| errno == Errno::ENOTDIR));
}

fn config() -> NamespaceConfig {
    NamespaceConfig { scaffold_dev: 7, clock: ticking(), wait_queues: queues() }
}

#[test]
fn links_lead_to_mount_points() {
    let ns = namespace();
    ns.mkdir(&ns.root(), b"/run", 0o755).unwrap();
    ns.symlink(b"/run", &ns.root(), b"/var_run").unwrap();
    ns.mount(b"/var_run/x", ramfs(2), spec("x", false)).unwrap();
    assert_eq!(path_of(&ns, "/var_run/x"), b"/run/x");
}

#[test]
fn mount_points_can_be_neither_moved_nor_removed() {
    let ns = namespace();
    let root = ns.root();
    ns.mkdir(&root, b"/a", 0o755).unwrap();
    ns.mkdir(&root, b"/b", 0o755).unwrap();
    ns.mount(b"/a/m", ramfs(2), spec("m", false)).unwrap();
    write(&ns, "/a/m/f", b"").unwrap();
    write(&ns, "/f", b"").unwrap();
    let rename = |old: &str, new: &str| ns.rename(&root, old.as_bytes(), &root, new.as_bytes(), RenameFlags::empty());
    assert_eq!(rename("/a/m", "/x"), Err(Errno::EBUSY));
    assert_eq!(rename("/b", "/a/m"), Err(Errno::EBUSY));
    assert_eq!(rename("/f", "/a/m/f"), Err(Errno::EXDEV));
    assert_eq!(ns.link(&root, b"/f", Lookup::empty(), &root, b"/a/m/g"), Err(Errno::EXDEV));
    assert_eq!(ns.rmdir(&root, b"/a/m"), Err(Errno::EBUSY));
    assert_eq!(ns.unlink(&root, b"/a/m"), Err(Errno::EISDIR));
    assert_eq!(ns.mkdir(&root, b"/a/m", 0o755), Err(Errno::EEXIST));
    // `/a` is empty for its own file system, but not for us.
    assert_eq!(ns.rmdir(&root, b"/a"), Err(Errno::EBUSY));
    // The directory above may move, and the mount with it.
    assert_eq!(rename("/a", "/b/c"), Ok(()));
    assert!(find(&ns, "/b/c/m/f").is_ok());
    assert_eq!(path_of(&ns, "/b/c/m"), b"/b/c/m");
    assert_eq!(ns.mounts()[1].target(), b"/b/c/m");
}

#[test]
fn nothing_changes_on_a_read_only_mount() {
    let ns = read_only_share();
    let root = ns.root();
    let none = RenameFlags::empty();
    let open = |path: &str, flags| ns.open(&root, path.as_bytes(), flags, 0o644).map(|_| ());
    let change = |change| find(&ns, "/etc/passwd").unwrap().set_metadata(&change).map(|_| ());
    let answers: Vec<(Result<()>, Errno)> = vec![
        (ns.mkdir(&root, b"/new", 0o755), Errno::EROFS),
        (ns.mkdir(&root, b"/etc", 0o755), Errno::EEXIST),
        (ns.mknod(&root, b"/new", 0o010644, 0), Errno::EROFS),
        (ns.symlink(b"x", &root, b"/new"), Errno::EROFS),
        (ns.symlink(b"x", &root, b"/new/"), Errno::ENOENT),
        (ns.link(&root, b"/etc/passwd", Lookup::empty(), &root, b"/new"), Errno::EROFS),
        (ns.unlink(&root, b"/etc/passwd"), Errno::EROFS),
        (ns.unlink(&root, b"/nothing"), Errno::EROFS),
        (ns.rmdir(&root, b"/etc"), Errno::EROFS),
        (ns.rename(&root, b"/etc", &root, b"/new", none), Errno::EROFS),
        (open("/etc/passwd", OpenFlags::WRONLY), Errno::EROFS),
        (open("/etc/passwd", OpenFlags::TRUNC), Errno::EROFS),
        (open("/etc", OpenFlags::WRONLY), Errno::EISDIR),
        (open("/new", OpenFlags::CREAT), Errno::EROFS),
        (open("/etc", OpenFlags::TMPFILE | OpenFlags::DIRECTORY | OpenFlags::RDWR), Errno::EROFS),
        (find(&ns, "/etc/passwd").unwrap().truncate(0), Errno::EROFS),
        (find(&ns, "/etc/passwd").unwrap().access(2), Errno::EROFS),
        (change(SetMetadata { mode: Some(0), ..SetMetadata::default() }), Errno::EROFS),
    ];
    for (number, (answer, errno)) in answers.into_iter().enumerate() {
        assert_eq!(answer, Err(errno), "number {number}");
    }
    assert_eq!(open("/etc/passwd", OpenFlags::CREAT), Ok(()));
    assert_eq!(read(&ns, &root, "/etc/passwd"), Ok(b"root".to_vec()));
}

#[test]
fn directories_show_mount_points_once() {
    let ns = namespace();
    for name in ["/a", "/b", "/c"] {
        ns.mkdir(&ns.root(), name.as_bytes(), 0o755).unwrap();
    }
    let covered = find(&ns, "/b").unwrap().metadata().unwrap().ino;
    ns.mount(b"/zz", ramfs(2), spec("z", false)).unwrap();
    ns.mount(b"/b", ramfs(3), spec("b", false)).unwrap();
    ns.mount(b"/x", ramfs(4), spec("x", false)).unwrap();
    for chunk in 1..9 {
        assert_eq!(names(&ns, "/", chunk), [&b"."[..], b"..", b"a", b"b", b"c", b"zz", b"x"], "{chunk} at a time");
    }
    // As on Linux, a listing gives the number of what is under the mount.
    assert!(list(&ns, "/", 9).unwrap().contains(&(b"b".to_vec(), covered)));
}

#[test]
fn the_mount_table_is_printed_with_escapes() {
    let ns = read_only_share();
    let text = alloc::string::String::from_utf8(ns.proc_mounts()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "root / tmpfs ro 0 0",
            "proc /proc tmpfs rw 0 0",
            "none /var tmpfs ro 0 0",
            "none /var/lib tmpfs ro 0 0",
            "x\\040y /var/lib/x tmpfs rw 0 0",
        ]
    );
}

#[test]
fn a_rename_takes_along_whoever_stands_below() {
    let ns = namespace();
    let root = ns.root();
    for path in ["/a", "/a/b", "/a/b/c", "/z"] {
        ns.mkdir(&root, path.as_bytes(), 0o755).unwrap();
    }
    write(&ns, "/a/b/c/f", b"").unwrap();
    let file = ns.open(&root, b"/a/b/c/f", OpenFlags::PATH, 0).unwrap().location;
    let cwd = find(&ns, "/a/b/c").unwrap();
    let rename = |old: &str, new: &str, flags| ns.rename(&root, old.as_bytes(), &root, new.as_bytes(), flags);
    rename("/a/b", "/z/y", RenameFlags::empty()).unwrap();
    assert_eq!((cwd.path(), file.path()), (b"/z/y/c".to_vec(), b"/z/y/c/f".to_vec()));
    assert_eq!(ns.find(&cwd, b"../..", Lookup::FOLLOW).unwrap().path(), b"/z");
    rename("/a", "/z/y", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(cwd.path(), b"/a/c");
    ns.unlink(&cwd, b"f").unwrap();
    assert!(file.is_removed() && !cwd.is_removed());
    ns.mkdir(&root, b"/new", 0o755).unwrap();
    rename("/new", "/a/c", RenameFlags::empty()).unwrap();
    assert!(cwd.is_removed());
    assert_eq!(ns.find(&cwd, b"x", Lookup::FOLLOW).err(), Some(Errno::ENOENT));
    assert_eq!(ns.find(&cwd, b"..", Lookup::FOLLOW).unwrap().path(), b"/a");
}

#[test]
fn a_very_deep_place_can_be_left() {
    let ns = namespace();
    let mut cwd = ns.root();
    for _ in 0..50_000 {
        ns.mkdir(&cwd, b"d", 0o755).unwrap();
        cwd = ns.find(&cwd, b"d", Lookup::FOLLOW).unwrap();
    }
    assert_eq!(cwd.path().len(), 100_000);
    drop(cwd);
    drop(ns);
}

#[test]
fn places_by_descriptor_take_the_empty_path() {
    let ns = namespace();
    write(&ns, "/f", b"x").unwrap();
    let file = find(&ns, "/f").unwrap();
    assert_eq!(ns.find(&file, b"", Lookup::empty()).err(), Some(Errno::ENOENT));
    assert_eq!(ns.find(&file, b"", Lookup::EMPTY_PATH).unwrap().id(), file.id());
    assert_eq!(ns.find(&file, b"x", Lookup::EMPTY_PATH).err(), Some(Errno::ENOTDIR));
    ns.symlink(b"f", &ns.root(), b"/l").unwrap();
    let link = ns.open(&ns.root(), b"/l", OpenFlags::PATH | OpenFlags::NOFOLLOW, 0).unwrap();
    assert_eq!(ns.readlink(&link.location, b"", Lookup::EMPTY_PATH), Ok(b"f".to_vec()));
    assert_eq!(ns.readlink(&file, b"", Lookup::EMPTY_PATH), Err(Errno::ENOENT));
    let opened = ns.open(&ns.root(), b"/f", OpenFlags::PATH, 0).unwrap();
    assert_eq!(opened.file.write_at(0, &mut SliceSource::new(b"x")), Err(Errno::EBADF));
}

#[test]
fn magic_links_lead_straight_to_a_place() {
    let ns = Arc::new(namespace());
    let root = ns.root();
    ns.mkdir(&root, b"/d", 0o755).unwrap();
    write(&ns, "/d/f", b"inside").unwrap();
    let tree = crate::generated::Tree::new(5, 0x9fa0, Default::default());
    let to = |path: &'static str| {
        let ns = ns.clone();
        tree.node(0o777).magic_link(move || find(&ns, path))
    };
    let file = find(&ns, "/d/f").unwrap();
    let kept = file.clone();
    let held = tree.node(0o777).magic_link(move || Ok(kept.clone()));
    let proc = tree.node(0o555).dir(vec![("cwd", to("/d")), ("exe", to("/d/f")), ("none", to("/x")), ("3", held)]);
    ns.mount(b"/proc", proc, spec("proc", true)).unwrap();
    assert_eq!(read(&ns, &root, "/proc/cwd/f"), Ok(b"inside".to_vec()));
    assert_eq!(read(&ns, &root, "/proc/exe"), Ok(b"inside".to_vec()));
    assert_eq!(read(&ns, &root, "/proc/exe/"), Err(Errno::ENOTDIR));
    assert_eq!(read(&ns, &root, "/proc/none"), Err(Errno::ENOENT));
    assert_eq!(ns.find(&root, b"/proc/cwd/..", Lookup::FOLLOW).unwrap().path(), b"/");
    assert_eq!(ns.readlink(&root, b"/proc/exe", Lookup::empty()), Ok(b"/d/f".to_vec()));
    let nofollow = ns.open(&root, b"/proc/exe", OpenFlags::NOFOLLOW, 0);
    assert_eq!(nofollow.err(), Some(Errno::ELOOP));
    // An unlinked file is still reached, and shown as what it is.
    ns.unlink(&root, b"/d/f").unwrap();
    assert_eq!(read(&ns, &root, "/proc/3"), Ok(b"inside".to_vec()));
    assert_eq!(ns.readlink(&root, b"/proc/3", Lookup::empty()), Ok(b"/d/f (deleted)".to_vec()));
}

#[test]
fn an_unnamed_file_can_get_a_name() {
    let ns = namespace();
    let root = ns.root();
    let flags = OpenFlags::TMPFILE | OpenFlags::DIRECTORY | OpenFlags::RDWR;
    let opened = ns.open(&root, b"/", flags, 0o600).unwrap();
    opened.file.write_at(0, &mut SliceSource::new(b"late")).unwrap();
    assert_eq!(opened.location.metadata().unwrap().nlink, 0);
    ns.link(&opened.location, b"", Lookup::EMPTY_PATH, &root, b"/named").unwrap();
    assert_eq!(read(&ns, &root, "/named"), Ok(b"late".to_vec()));
    ns.unlink(&root, b"/named").unwrap();
    let again = ns.link(&opened.location, b"", Lookup::EMPTY_PATH, &root, b"/named");
    assert_eq!(again, Err(Errno::ENOENT));
    let exclusive = ns.open(&root, b"/", flags | OpenFlags::EXCL, 0o600).unwrap();
    assert_eq!(ns.link(&exclusive.location, b"", Lookup::EMPTY_PATH, &root, b"/n"), Err(Errno::ENOENT));
}
