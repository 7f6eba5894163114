//! Directories, also those that go away meanwhile.

use super::*;

#[test]
fn directories_are_listed_in_pieces_with_and_without_nodes() {
    let mut bench = bench(true);
    for i in 0..200 {
        fs::write(bench.path(&format!("entry-{i:03}")), "").unwrap();
    }
    let mut expected: Vec<(String, u64)> = fs::read_dir(bench.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), inode(&entry.path())))
        .collect();
    expected.extend([".", ".."].map(|name| (name.into(), inode(&bench.path(name)))));
    expected.sort();
    let (errno, opened) = bench.call(27, ROOT, &halves(&[0, 0]));
    assert_eq!(errno, 0);
    let handle = word(&opened, 0);
    for (opcode, head) in [(28, 0), (44, 128)] {
        let (mut found, mut cookie) = (Vec::new(), 0);
        loop {
            let (errno, piece) = bench.list(opcode, ROOT, handle, cookie);
            assert_eq!(errno, 0);
            if piece.is_empty() {
                break;
            }
            let mut at = 0;
            while at < piece.len() {
                let len = half(&piece, at + head + 16) as usize;
                let name = &piece[at + head + 24..at + head + 24 + len];
                found.push((String::from_utf8(name.to_vec()).unwrap(), word(&piece, at + head)));
                if opcode == 44 {
                    // A guest knows these two, and has no use for a node of theirs.
                    assert_eq!(word(&piece, at) == 0, matches!(name, b"." | b".."), "a node");
                }
                cookie = word(&piece, at + head + 8);
                at += (head + 24 + len).next_multiple_of(8);
            }
        }
        found.sort();
        assert_eq!(found, expected, "opcode {opcode}");
    }
    assert_eq!(bench.list(28, 77, handle, 0).0, libc::EBADF, "another node's handle");
    assert_ne!(bench.list(28, ROOT, handle, u64::MAX).0, 0, "a cookie from nowhere");
    assert_eq!(bench.call(29, ROOT, &[words(&[handle]), halves(&[0, 0]), words(&[0])].concat()).0, 0);
    assert_eq!(bench.list(28, ROOT, handle, 0).0, libc::EBADF, "closed");
}

#[test]
fn an_entry_that_cannot_be_looked_up_is_listed_all_the_same() {
    use super::guard::{Guard, Privilege};
    use super::listing::Listings;
    use super::passthrough::See;
    use fuse_backend_rs::api::filesystem::{Context, Entry, FileSystem, OpenOptions};
    use fuse_backend_rs::transport::FsCacheReqHandler;
    use std::os::fd::AsRawFd;

    /// A directory where nothing can be looked up.
    struct Unlucky(fs::File);
    impl FileSystem for Unlucky {
        type Inode = u64;
        type Handle = u64;
        fn opendir(&self, _: &Context, _: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
            Ok((Some(5), OpenOptions::empty()))
        }
        fn setupmapping(
            &self,
            _: &Context,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            _: u64,
            window: &mut dyn FsCacheReqHandler,
        ) -> io::Result<()> {
            window.map(0, 0, 0, 0, self.0.as_raw_fd())
        }
    }
    impl See for Unlucky {
        fn see(&self, _: &Context, _: u64, _: &std::ffi::CStr) -> io::Result<Entry> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "").unwrap();
    fs::write(directory.path().join("b"), "").unwrap();
    let server = Guard(Listings::new(Unlucky(fs::File::open(directory.path()).unwrap())), Privilege::current());
    let context = Context::new();
    server.opendir(&context, ROOT, 0).unwrap();
    let mut found = Vec::new();
    let mut add = |entry: fuse_backend_rs::api::filesystem::DirEntry<'_>, node: Entry| {
        found.push((entry.name.to_vec(), entry.ino, node.inode));
        Ok(1)
    };
    server.readdirplus(&context, ROOT, 5, 4096, 0, &mut add).unwrap();
    found.sort();
    let expected = [".", "..", "a", "b"].map(|name| (name.into(), inode(&directory.path().join(name)), 0));
    assert_eq!(found, expected);
}

#[test]
fn a_directory_that_vanishes_gives_errors() {
    let mut bench = bench(false);
    let node = bench.lookup("file").unwrap();
    fs::remove_dir_all(bench.directory.path()).unwrap();
    assert_eq!(bench.lookup("file"), Err(libc::ENOENT));
    assert_eq!(bench.lookup("sub"), Err(libc::ENOENT));
    // What the guest still holds is still there, as an open file is.
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(bench.read(node, handle, 0, 5), (0, b"hello".to_vec()));
    assert_eq!(bench.init().0, 0, "even from the start");
    assert_eq!(bench.lookup("file"), Err(libc::ENOENT));
}

#[test]
fn a_directory_that_is_replaced_stays_the_old_one() {
    let parent = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir_in(parent.path()).unwrap();
    let path = directory.path().to_owned();
    let moved = parent.path().join("moved");
    fs::write(path.join("file"), "old").unwrap();
    let mut bench = bench_on(directory, false);
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("other"), "new").unwrap();
    bench.init();
    assert!(bench.lookup("file").is_ok());
    assert_eq!(bench.lookup("other"), Err(libc::ENOENT));
}
