//! A tree in memory and somebody who is not root. Each test's thread is a caller of its own.

use super::*;
use crate::testing::{namespace_on, ramfs};
use crate::{Lookup, Namespace, OpenFlags, RenameFlags};
use std::cell::RefCell;
use std::vec;

std::thread_local! {
    static ASKING: RefCell<Option<Arc<Caller>>> = const { RefCell::new(None) };
}

/// Does `work` as this user of group 100, with these further groups and capabilities.
fn acting<T>(uid: u32, groups: &[u32], capabilities: u64, work: impl FnOnce() -> T) -> T {
    set_callers(|| ASKING.with_borrow(Clone::clone));
    let caller = Caller { uid, gid: 100, groups: groups.to_vec(), capabilities };
    ASKING.set(Some(Arc::new(caller)));
    let result = work();
    ASKING.set(None);
    result
}

fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    acting(uid, &[], 0, work)
}

/// A tree with `/dir`, whose mode and owner are given, and `/dir/file`, of mode 0640, user 7 and group 8.
fn tree(dev: u64, mode: u32, uid: u32) -> Namespace {
    let namespace = namespace_on(ramfs(dev), false);
    let root = namespace.root();
    namespace.mkdir(&root, b"dir", 0o700).unwrap();
    drop(namespace.open(&root, b"dir/file", OpenFlags::WRONLY | OpenFlags::CREAT, 0o640).unwrap());
    change(&namespace, b"dir", SetMetadata { mode: Some(mode), uid: Some(uid), ..Default::default() }).unwrap();
    change(&namespace, b"dir/file", SetMetadata { uid: Some(7), gid: Some(8), ..Default::default() }).unwrap();
    namespace
}

fn change(namespace: &Namespace, path: &[u8], change: SetMetadata) -> Result<Metadata> {
    namespace.find(&namespace.root(), path, Lookup::empty())?.set_metadata(&change)
}

fn open(namespace: &Namespace, path: &[u8], flags: OpenFlags) -> Result<()> {
    namespace.open(&namespace.root(), path, flags, 0o666).map(drop)
}

#[test]
fn owner_group_and_others_have_bits_of_their_own() {
    let namespace = tree(0x7_5000, 0o755, 0);
    let (read, write) = (OpenFlags::empty(), OpenFlags::WRONLY);
    let open = |flags| open(&namespace, b"dir/file", flags);
    as_user(7, || assert_eq!((open(read), open(write), open(OpenFlags::TRUNC)), (Ok(()), Ok(()), Ok(()))));
    let denied = Err(Errno::EACCES);
    as_user(9, || assert_eq!((open(read), open(write), open(OpenFlags::PATH)), (denied, denied, Ok(()))));
    acting(9, &[8], 0, || assert_eq!((open(read), open(write), open(OpenFlags::TRUNC)), (Ok(()), denied, denied)));
    acting(9, &[], DAC_READ_SEARCH, || assert_eq!((open(read), open(write)), (Ok(()), denied)));
    acting(9, &[], DAC_OVERRIDE, || assert_eq!((open(read), open(write)), (Ok(()), Ok(()))));
    // The owner's own bits count even if they are fewer than the others'.
    change(&namespace, b"dir/file", SetMetadata { mode: Some(0o066), ..Default::default() }).unwrap();
    as_user(7, || assert_eq!(open(read), denied));
    as_user(9, || assert_eq!(open(read), Ok(())));
    as_user(9, || assert_eq!(open(OpenFlags::NOATIME), Err(Errno::EPERM)));
    assert_eq!(open(write), Ok(()), "whom the machine runs as is not judged here");
}

#[test]
fn a_directory_is_searched_and_written_by_who_may() {
    let namespace = tree(0x7_5100, 0o711, 0);
    let root = namespace.root();
    let denied = Err(Errno::EACCES);
    as_user(9, || {
        assert!(namespace.find(&root, b"dir/file", Lookup::empty()).is_ok());
        assert_eq!(open(&namespace, b"dir", OpenFlags::DIRECTORY), denied, "no listing");
        assert_eq!(namespace.mkdir(&root, b"dir/new", 0o700), denied);
        assert_eq!(namespace.mkdir(&root, b"dir/file", 0o700), Err(Errno::EEXIST), "which Linux sees first");
        assert_eq!(open(&namespace, b"dir/new", OpenFlags::CREAT | OpenFlags::WRONLY), denied);
        assert_eq!(namespace.unlink(&root, b"dir/file"), denied);
        assert_eq!(namespace.unlink(&root, b"dir/nothing"), Err(Errno::ENOENT));
    });
    change(&namespace, b"dir", SetMetadata { mode: Some(0o766), ..Default::default() }).unwrap();
    as_user(9, || {
        assert_eq!(namespace.find(&root, b"dir/file", Lookup::empty()).err(), Some(Errno::EACCES));
        assert_eq!(namespace.find(&root, b"dir/.", Lookup::empty()).err(), Some(Errno::EACCES));
        assert_eq!(namespace.find(&root, b"dir/nothing/x", Lookup::empty()).err(), Some(Errno::EACCES));
    });
    change(&namespace, b"dir", SetMetadata { mode: Some(0o777), ..Default::default() }).unwrap();
    as_user(9, || {
        namespace.mkdir(&root, b"dir/own", 0o700).unwrap();
        let own = namespace.find(&root, b"dir/own", Lookup::empty()).unwrap().metadata().unwrap();
        assert_eq!((own.uid, own.gid), (9, 100));
        assert_eq!(namespace.unlink(&root, b"dir/file"), Ok(()));
    });
}

#[test]
fn a_sticky_directory_keeps_names_for_their_owners() {
    let namespace = tree(0x7_5200, 0o1777, 3);
    let root = namespace.root();
    let rename = |from: &[u8], to: &[u8], flags| namespace.rename(&root, from, &root, to, flags);
    let none = RenameFlags::empty();
    as_user(9, || {
        assert_eq!(namespace.unlink(&root, b"dir/file"), Err(Errno::EPERM));
        assert_eq!(rename(b"dir/file", b"dir/other", none), Err(Errno::EPERM));
        namespace.mkdir(&root, b"dir/mine", 0o700).unwrap();
        drop(namespace.open(&root, b"dir/my-file", OpenFlags::CREAT, 0o600).unwrap());
        assert_eq!(rename(b"dir/my-file", b"dir/file", none), Err(Errno::EPERM), "which would take it away");
        assert_eq!(rename(b"dir/my-file", b"dir/file", RenameFlags::NOREPLACE), Err(Errno::EEXIST));
        assert_eq!(rename(b"dir/my-file", b"dir/mine/f", none), Ok(()));
        assert_eq!(rename(b"dir/mine", b"mine", none), Err(Errno::EACCES), "the root is not theirs to write");
    });
    as_user(3, || assert_eq!(rename(b"dir/file", b"dir/moved", none), Ok(()), "the directory's owner may"));
    as_user(7, || assert_eq!(namespace.unlink(&root, b"dir/moved"), Ok(()), "and the file's"));
    // A directory in other hands cannot be given another parent.
    change(&namespace, b"", SetMetadata::default()).unwrap_err();
    change(&namespace, b"dir", SetMetadata { mode: Some(0o777), ..Default::default() }).unwrap();
    as_user(4, || {
        namespace.mkdir(&root, b"dir/four", 0o777).unwrap();
        assert_eq!(rename(b"dir/mine", b"dir/renamed", none), Ok(()));
        assert_eq!(rename(b"dir/renamed", b"dir/four/renamed", none), Err(Errno::EACCES));
        assert_eq!(rename(b"dir/four", b"dir/renamed", RenameFlags::EXCHANGE), Ok(()));
    });
}

#[test]
fn attributes_are_changed_by_owners() {
    let namespace = tree(0x7_5300, 0o755, 0);
    let change = |change| change_of(&namespace, change);
    let mode = |mode| SetMetadata { mode: Some(mode), ..Default::default() };
    let owner = |uid, gid| SetMetadata { uid, gid, ..Default::default() };
    let now = SetMetadata { atime: Some(SetTime::Now), mtime: Some(SetTime::Now), ..Default::default() };
    let half = SetMetadata { atime: None, ..now };
    as_user(9, || {
        for refused in [mode(0o777), owner(Some(9), None), owner(None, Some(100)), owner(Some(7), None), half] {
            assert_eq!(change(refused), Err(Errno::EPERM), "{refused:?}");
        }
        assert_eq!(change(now), Err(Errno::EACCES));
    });
    as_user(7, || {
        assert_eq!(change(half).map(drop), Ok(()));
        assert_eq!(change(mode(0o2755)).unwrap().mode & 0o7777, 0o755, "not of the file's group");
        assert_eq!(change(owner(Some(7), Some(8))).map(drop), Ok(()), "as it is");
        assert_eq!(change(owner(Some(8), None)), Err(Errno::EPERM));
        assert_eq!(change(owner(None, Some(44))), Err(Errno::EPERM));
        assert_eq!(change(owner(None, Some(100))).unwrap().gid, 100);
        assert_eq!(change(mode(0o2765)).unwrap().mode & 0o7777, 0o2765);
    });
    acting(9, &[100], 0, || assert_eq!(change(now).map(drop), Ok(()), "who may write may touch"));
    acting(9, &[], CHOWN, || assert_eq!(change(owner(Some(1), Some(2))).unwrap().uid, 1));
    acting(9, &[], FOWNER, || assert_eq!(change(mode(0)).map(drop), Ok(())));
}

fn change_of(namespace: &Namespace, what: SetMetadata) -> Result<Metadata> {
    change(namespace, b"dir/file", what)
}

#[test]
fn extended_attributes_follow_the_bits() {
    let namespace = tree(0x7_5400, 0o1777, 0);
    let find = |path: &[u8]| namespace.find(&namespace.root(), path, Lookup::empty()).unwrap();
    let (file, dir) = (find(b"dir/file"), find(b"dir"));
    let mut value = vec![0; 10];
    let name = |text: &'static str| XattrName::new(text.as_bytes()).unwrap();
    let set = |place: &Location, text| place.set_xattr(name(text), b"v", crate::XattrFlags::empty());
    for text in ["user.a", "trusted.a", "security.a"] {
        set(&file, text).unwrap();
    }
    as_user(9, || {
        assert_eq!(set(&file, "user.a"), Err(Errno::EACCES));
        assert_eq!(file.xattr(name("user.a"), &mut value), Err(Errno::EACCES));
        assert_eq!(file.xattr(name("trusted.a"), &mut value), Err(Errno::ENODATA));
        assert_eq!(set(&file, "trusted.a"), Err(Errno::EPERM));
        assert_eq!(file.xattr(name("security.a"), &mut value), Ok(1));
        assert_eq!(file.remove_xattr(name("security.a")), Err(Errno::EPERM));
        assert_eq!(set(&dir, "user.a"), Err(Errno::EPERM), "the directory is sticky");
    });
    acting(9, &[8], 0, || assert_eq!(file.xattr(name("user.a"), &mut value), Ok(1)));
    as_user(7, || assert_eq!(set(&file, "user.b"), Ok(())));
    acting(9, &[], SYS_ADMIN, || assert_eq!(file.remove_xattr(name("trusted.a")), Ok(())));
}

#[test]
fn who_writes_a_file_takes_its_set_ids() {
    let namespace = tree(0x7_5500, 0o755, 0);
    let find = || namespace.find(&namespace.root(), b"dir/file", Lookup::empty()).unwrap();
    let mode = || find().metadata().unwrap().mode & 0o7777;
    let give = |mode| assert!(change_of(&namespace, SetMetadata { mode: Some(mode), ..Default::default() }).is_ok());
    give(0o6777);
    as_user(9, || remove_privileges(find().inode()).unwrap());
    assert_eq!(mode(), 0o777);
    give(0o6766);
    acting(9, &[8], 0, || find().truncate(3).unwrap());
    assert_eq!(mode(), 0o2766, "set-group-id without execution is something else");
    as_user(9, || open(&namespace, b"dir/file", OpenFlags::TRUNC).unwrap());
    assert_eq!(mode(), 0o766);
    give(0o6777);
    acting(9, &[], FSETID, || find().truncate(3).unwrap());
    find().truncate(4).unwrap();
    assert_eq!(mode(), 0o6777);
}
