//! Images are made, checked, listed, and appear only when they are right.

use diolkos_image::{Compression, Format, Node, Order, build, visit};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn tree() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/file"), "some text ".repeat(20_000)).unwrap();
    fs::write(tree.join("a-b"), "sorts between a and a/b by bytes").unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::hard_link(tree.join("a/file"), tree.join("a/b/name")).unwrap();
    symlink("a/file", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("a-b"), fs::Permissions::from_mode(0o4750)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap());
    (dir, tree)
}

fn order<'a>(directory: &'a Path, output: &'a Path, format: Format) -> Order<'a> {
    Order { directory, output, format, compression: None }
}

fn list(image: &Path) -> Vec<Node> {
    let mut nodes = Vec::new();
    visit(&File::open(image).unwrap(), image, &mut |node, _| {
        nodes.push(node.clone());
        Ok(())
    })
    .unwrap();
    nodes
}

#[test]
fn every_format_holds_the_tree() {
    let (dir, tree) = tree();
    let image = dir.path().join("image");
    let formats = [
        (Format::Erofs, None),
        (Format::Erofs, Some(Compression::Lz4)),
        (Format::Erofs, Some(Compression::Lz4hc)),
        (Format::Cpio, None),
        (Format::Cpio, Some(Compression::Gzip)),
        (Format::Cpio, Some(Compression::Zstd)),
    ];
    for (format, compression) in formats {
        let mut said = 0;
        let made = build(&Order { compression, ..order(&tree, &image, format) }, &mut |_| said += 1).unwrap();
        assert_eq!(made, (9, fs::metadata(&image).unwrap().len()), "{format:?} {compression:?}");
        assert!(said > 0);
        let mut nodes = list(&image);
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<_> = nodes.iter().map(|node| String::from_utf8_lossy(&node.path).into_owned()).collect();
        assert_eq!(names, ["", "a", "a-b", "a/b", "a/b/name", "a/file", "empty", "link", "socket"]);
        assert_eq!((nodes[4].id, nodes[2].mode), (nodes[5].id, 0o104750));
        assert_eq!(nodes[7].target.as_deref(), Some(&b"a/file"[..]));
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn archives_of_one_tree_are_the_same() {
    let (dir, tree) = tree();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    for image in [&one, &two] {
        build(&order(&tree, image, Format::Cpio), &mut |_| ()).unwrap();
    }
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
}

#[test]
fn what_cannot_be_made_leaves_what_was_there() {
    let (dir, tree) = tree();
    let image = dir.path().join("image");
    fs::write(&image, "before").unwrap();
    let make = |directory: &Path, output: &Path, format, compression| {
        build(&Order { directory, output, format, compression }, &mut |_| ()).unwrap_err().to_string()
    };
    assert!(make(&tree, &image, Format::Erofs, Some(Compression::Gzip)).contains("lz4"));
    assert!(make(&tree, &image, Format::Cpio, Some(Compression::Lz4)).contains("gzip"));
    assert!(make(&dir.path().join("none"), &image, Format::Cpio, None).contains("none: No such file"));
    assert!(make(&tree, &tree.join("image"), Format::Cpio, None).contains("cannot lie in"));
    let large = tree.join("large");
    File::create(&large).unwrap().set_len(4 << 30).unwrap();
    assert!(make(&tree, &image, Format::Cpio, None).contains("large: it has 4 GiB"));
    fs::remove_file(&large).unwrap();
    assert_eq!(fs::read(&image).unwrap(), b"before");
    // A second name outside of the tree is no reason to refuse it.
    fs::write(&large, "x").unwrap();
    fs::hard_link(&large, dir.path().join("outside")).unwrap();
    for format in [Format::Erofs, Format::Cpio] {
        build(&order(&tree, &image, format), &mut |_| ()).unwrap();
    }
}

#[test]
fn what_an_image_cannot_replace_is_left_alone() {
    let (dir, tree) = tree();
    let refused = |output: &Path| build(&order(&tree, output, Format::Cpio), &mut |_| ()).unwrap_err().to_string();
    assert!(refused(dir.path()).contains("not a file"));
    // By another name, too; were it replaced, a device would be gone.
    let link = dir.path().join("null");
    symlink("/dev/null", &link).unwrap();
    assert!(refused(&link).contains("null: it is there and not a file"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(refused(Path::new("/proc/image")).contains("/proc/image: its file system knows no files without a name"));
}

#[test]
fn directories_in_themselves_are_no_end() {
    let (dir, _) = tree();
    let tree = dir.path().join("nest");
    for i in 0..20 {
        fs::create_dir_all(tree.join(format!("directory {i}"))).unwrap();
    }
    let image = dir.path().join("image");
    let mkfs = |words: &[&Path]| std::process::Command::new("mkfs.erofs").args(words).output().unwrap();
    assert!(mkfs(&[Path::new("-Enosbcrc"), &image, &tree]).status.success());
    // Every one of them becomes the root.
    let mut bytes = fs::read(&image).unwrap();
    let nodes = list(&image);
    let root = nodes[0].id.to_le_bytes();
    for node in &nodes[1..] {
        let place = bytes.windows(8).position(|window| window == node.id.to_le_bytes()).unwrap();
        bytes[place..place + 8].copy_from_slice(&root);
    }
    fs::write(&image, bytes).unwrap();
    let mut seen = 0;
    let mut count = |_: &Node, _: &mut diolkos_image::Reader<'_>| {
        seen += 1;
        assert!(seen < 1000, "it has no end");
        Ok(())
    };
    let error = visit(&File::open(&image).unwrap(), &image, &mut count).unwrap_err().to_string();
    assert!(error.contains("its directory 'directory 0' has another name"), "{error}");
}

#[test]
fn what_is_in_an_ext4_image_is_listed() {
    let (dir, tree) = tree();
    let image = dir.path().join("image");
    let mut mke2fs = std::process::Command::new("mke2fs");
    let made = mke2fs.args(["-q", "-t", "ext4", "-d"]).args([&tree, &image]).arg("16M").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let other = dir.path().join("other");
    build(&order(&tree, &other, Format::Erofs), &mut |_| ()).unwrap();
    // Numbers of inodes and sizes of directories are each format's own, and mke2fs keeps no parts of seconds.
    let facts = |image: &Path| -> std::collections::BTreeMap<_, _> {
        let files = list(image).into_iter().filter(|node| node.mode & 0o170000 != 0o040000);
        files
            .map(|node| (node.path, (node.mode, node.uid, node.nlink, node.size, node.mtime.0, node.rdev, node.target)))
            .collect()
    };
    assert_eq!(facts(&image), facts(&other));
    assert!(list(&image).iter().any(|node| node.path == b"lost+found"));
    let mut bytes = fs::read(&image).unwrap();
    bytes[1024 + 0x78] ^= 1;
    fs::write(&image, bytes).unwrap();
    let error = visit(&File::open(&image).unwrap(), Path::new("image"), &mut |_, _| Ok(())).unwrap_err().to_string();
    assert_eq!(error, "image: ext4: the image is damaged: the checksum of the superblock does not fit");
}

#[test]
fn what_is_no_image_says_so() {
    let file = File::open("/proc/self/exe").unwrap();
    let error = visit(&file, Path::new("exe"), &mut |_, _| Ok(())).unwrap_err().to_string();
    assert_eq!(error, "exe: it is neither an EROFS or ext4 image nor a cpio archive in the newc format");
}
