//! `diolkos image`: what it makes is a root, what it lists is there, and what cannot be made leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::data;
use crate::each_platform;
use crate::roots::{FILES, small_root};
use crate::vm::diolkos;

/// Every format with every compression of it, as `image build` is told.
const KINDS: [&[&str]; 6] = [
    &["--format", "erofs"],
    &["--format", "erofs", "--compress", "lz4"],
    &["--format", "erofs", "--compress", "lz4hc"],
    &["--format", "cpio"],
    &["--format", "cpio", "--compress", "gzip"],
    &["--format", "cpio", "--compress", "zstd"],
];

fn image(words: &[&str]) -> Output {
    diolkos().arg("image").args(words).output().unwrap()
}

fn build(directory: &Path, output: &Path, options: &[&str]) -> Output {
    image(&[&["build", directory.to_str().unwrap(), "-o", output.to_str().unwrap()], options].concat())
}

/// The one line that says why not.
fn refused(output: &Output) -> String {
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{line}");
    assert!(line.starts_with("diolkos: ") && line.lines().count() == 1, "{line}");
    line
}

fn sorted(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<_> = String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

each_platform! {
    fn an_image_of_any_kind_is_a_root(on) {
        let folder = data::folder();
        let root = small_root(folder.path());
        let path = folder.path().join("image");
        let command = [&["/usr/bin/md5sum"], &FILES[..]].concat();
        let expected = on.run(&command).root(&root).outcome().expect_status(0);
        for kind in KINDS {
            let made = build(&root, &path, kind);
            let said = String::from_utf8_lossy(&made.stderr);
            assert!(made.status.success() && said.contains("compared with"), "{kind:?}: {said}");
            on.run(&command).root(&path).outcome().expect_same(&expected);
        }
    }
}

#[test]
fn what_is_in_an_image_is_listed() {
    let folder = data::folder();
    let root = small_root(folder.path());
    let names = Command::new("find").args([".", "-printf", "%P\n"]).current_dir(&root).output().unwrap();
    // The directory itself has no name of its own.
    let names: Vec<_> = sorted(&names.stdout).into_iter().filter(|name| !name.is_empty()).collect();
    let path = folder.path().join("image");
    for kind in KINDS {
        assert!(build(&root, &path, kind).status.success(), "{kind:?}");
        let list = image(&["ls", path.to_str().unwrap()]);
        let listed: Vec<_> = sorted(&list.stdout).into_iter().filter(|name| name != ".").collect();
        assert_eq!(listed, names, "{kind:?}");
        let long = image(&["ls", "-l", path.to_str().unwrap()]).stdout;
        let long = String::from_utf8_lossy(&long);
        assert!(long.lines().any(|line| line.starts_with("lrwx") && line.contains("sub/link")), "{kind:?}: {long}");
        assert!(long.lines().any(|line| line.contains(" 300001 ") && line.ends_with("tree/random")), "{kind:?}");
    }
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let folder = data::folder();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    data::file(&tree, "a", b"a");
    let path = folder.path().join("image");
    assert!(refused(&build(Path::new("/no/such"), &path, KINDS[0])).contains("/no/such"));
    assert!(refused(&build(&tree, Path::new("/no/such/image"), KINDS[3])).contains("/no/such"));
    refused(&build(&tree, &path, &["--format", "cpio", "--compress", "lz4"]));
    refused(&build(&tree, &path, &["--format", "erofs", "--compress", "zstd"]));
    refused(&build(&tree, &tree.join("inside"), KINDS[3]));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tree"]);
    // What had the name before still has it.
    fs::write(&path, "precious").unwrap();
    let old = fs::File::options().write(true).open(tree.join("a")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_secs(9)).unwrap();
    assert!(refused(&build(&tree, &path, KINDS[3])).contains("tree/a"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn what_is_no_image_is_not_listed() {
    let folder = data::folder();
    let path = data::file(folder.path(), "text", b"not an image at all");
    assert!(refused(&image(&["ls", path.to_str().unwrap()])).contains("text"));
    assert!(refused(&image(&["ls", "/no/such"])).contains("/no/such"));
}
