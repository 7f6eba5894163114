//! Guests that take all there is, remember what they must not, and a host on which names change hands.

use super::*;
use std::os::unix::fs::symlink;

/// A share of ten files whose guest may hold `limit` descriptors.
pub(super) fn poor(limit: usize) -> (Bench, Arc<Descriptors>) {
    let directory = tempfile::tempdir().unwrap();
    for i in 0..10 {
        fs::write(directory.path().join(format!("file{i}")), "x").unwrap();
    }
    let pool = Descriptors::new(limit);
    let mut bench = bench_with(directory, true, pool.clone());
    assert_eq!(bench.init().0, 0);
    (bench, pool)
}

impl Bench {
    pub(super) fn forget(&mut self, node: u64, count: u64) {
        let header = self.header(2, node, 8);
        self.driver.call(HIPRIO, &[Part::Out(&header), Part::Out(&words(&[count])), Part::In(16)]);
    }

    pub(super) fn known(&mut self, node: u64) -> bool {
        match self.call(3, node, &words(&[0, 0])).0 {
            0 => true,
            libc::EBADF => false,
            errno => panic!("GETATTR: {errno}"),
        }
    }

    pub(super) fn make(&mut self, opcode: u32, head: &[u32], name: &str) -> (i32, Vec<u8>) {
        self.call(opcode, ROOT, &[halves(head), name.as_bytes().to_vec(), vec![0]].concat())
    }

    /// Names and nodes of a directory, by READDIRPLUS.
    pub(super) fn listed_with_nodes(&mut self) -> Vec<(String, u64)> {
        let handle = word(&self.call(27, ROOT, &halves(&[0, 0])).1, 0);
        let (mut found, mut cookie) = (Vec::new(), 0);
        loop {
            let (errno, list) = self.list(44, ROOT, handle, cookie);
            assert_eq!(errno, 0);
            if list.is_empty() {
                break;
            }
            let mut at = 0;
            while at < list.len() {
                let len = half(&list, at + 128 + 16) as usize;
                let name = String::from_utf8(list[at + 152..at + 152 + len].to_vec()).unwrap();
                found.push((name, word(&list, at)));
                cookie = word(&list, at + 128 + 8);
                at += (152 + len).next_multiple_of(8);
            }
        }
        assert_eq!(self.call(29, ROOT, &[words(&[handle]), halves(&[0, 0]), words(&[0])].concat()).0, 0);
        found.sort();
        // No lookup is counted for these.
        assert_eq!(found.drain(..2).collect::<Vec<_>>(), [(".".into(), 0), ("..".into(), 0)]);
        found
    }
}

#[test]
fn a_guest_that_holds_all_it_may_is_refused_more_until_it_forgets() {
    let (mut bench, pool) = poor(4);
    let nodes: Vec<u64> = (0..4).map(|i| bench.lookup(&format!("file{i}")).unwrap()).collect();
    assert_eq!((pool.used(), bench.lookup("file4")), (4, Err(libc::ENFILE)));
    assert_eq!(bench.lookup("file0"), Ok(nodes[0]), "what is known costs nothing more");
    assert_eq!(bench.open(nodes[0], libc::O_RDONLY), Err(libc::ENFILE));
    assert_eq!(bench.call(27, ROOT, &halves(&[0, 0])).0, libc::ENFILE, "OPENDIR");
    bench.forget(nodes[1], 1);
    let handle = bench.open(nodes[0], libc::O_RDONLY).unwrap();
    assert_eq!(bench.lookup("file4"), Err(libc::ENFILE));
    assert_eq!(bench.call(18, nodes[0], &[words(&[handle]), halves(&[0, 0]), words(&[0])].concat()).0, 0, "RELEASE");
    assert!(bench.lookup("file4").is_ok());
    assert_eq!(pool.used(), 4);
}

#[test]
fn nothing_is_made_that_the_guest_could_not_be_told_of() {
    let (mut bench, pool) = poor(1);
    bench.lookup("file0").unwrap();
    for (opcode, head) in [(8, &[0o100644, 0, 0, 0][..]), (9, &[0o755, 0]), (35, &[libc::O_RDWR as u32, 0o644, 0, 0])] {
        assert_eq!(bench.make(opcode, head, "new").0, libc::ENFILE, "opcode {opcode}");
    }
    assert_eq!(bench.call(6, ROOT, b"new\0target\0").0, libc::ENFILE, "SYMLINK");
    assert_eq!(bench.make(51, &[libc::O_RDWR as u32, 0o644, 0, 0], "").0, libc::ENFILE, "TMPFILE");
    assert!(!bench.path("new").exists());
    assert_eq!(pool.used(), 1);
}

#[test]
fn a_listing_loses_no_name_when_there_are_no_descriptors_for_nodes() {
    let (mut bench, pool) = poor(5);
    let found = bench.listed_with_nodes();
    assert_eq!(
        found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        (0..10).map(|i| format!("file{i}")).collect::<Vec<_>>()
    );
    // One descriptor was the listing's own.
    assert_eq!(found.iter().filter(|(_, node)| *node != 0).count(), 4);
    assert_eq!(pool.used(), 4);
}

#[test]
fn forgetting_is_counted() {
    let (mut bench, pool) = poor(100);
    let node = bench.lookup("file0").unwrap();
    assert_eq!(bench.lookup("file0"), Ok(node));
    let mut link = words(&[node]);
    link.extend(b"linked\0");
    assert_eq!(word(&bench.call(13, ROOT, &link).1, 0), node, "LINK names the same node, and counts");
    assert!(
        bench.listed_with_nodes().contains(&("file0".into(), node)),
        "READDIRPLUS counts, for each of the two names"
    );
    for left in [4, 3, 2, 1] {
        bench.forget(node, 1);
        assert!(bench.known(node), "{left} left");
    }
    bench.forget(node, 1);
    assert!(!bench.known(node));
    // More than there were, none at all, of nobody, of the root.
    let node = bench.lookup("file0").unwrap();
    bench.forget(node, 0);
    assert!(bench.known(node));
    bench.forget(node, u64::MAX);
    assert!(!bench.known(node));
    for (node, count) in [(node, 1), (ROOT, u64::MAX), (0, 1), (u64::MAX, u64::MAX)] {
        bench.forget(node, count);
    }
    assert!(bench.known(ROOT));
    // As a batch, with the same node twice.
    let (one, two) = (bench.lookup("file1").unwrap(), bench.lookup("file2").unwrap());
    let batch = [halves(&[3, 0]), words(&[one, 1, one, 1, two, 7])].concat();
    let header = bench.header(42, 0, batch.len());
    bench.driver.call(HIPRIO, &[Part::Out(&header), Part::Out(&batch), Part::In(16)]);
    assert!(!bench.known(one) && !bench.known(two));
    // What READDIRPLUS told of the others is all that is left.
    assert_eq!(pool.used(), 7);
}

#[test]
fn a_number_means_one_file_for_ever() {
    let (mut bench, pool) = poor(100);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..50 {
        // The host gives the inode number of a deleted file to the next.
        assert_eq!(bench.make(8, &[0o100644, 0, 0, 0], "new").0, 0);
        let node = bench.lookup("new").unwrap();
        assert!(seen.insert(node), "round {round}");
        fs::remove_file(bench.path("new")).unwrap();
        bench.forget(node, 2);
        assert!(!bench.known(node));
        if round % 10 == 0 {
            assert_eq!(bench.init().0, 0);
        }
    }
    assert_eq!(pool.used(), 0);
}

#[test]
fn a_guest_that_leaves_or_starts_anew_leaves_nothing_behind() {
    for way in ["DESTROY", "INIT"] {
        let (mut bench, pool) = poor(100);
        let node = bench.lookup("file0").unwrap();
        let handle = bench.open(node, libc::O_RDONLY).unwrap();
        let listing = word(&bench.call(27, ROOT, &halves(&[0, 0])).1, 0);
        assert_eq!(pool.used(), 3);
        if way == "DESTROY" {
            assert_eq!(bench.call(38, 0, &[]).0, 0);
        }
        assert_eq!(bench.init().0, 0);
        assert_eq!(pool.used(), 0, "{way}");
        assert!(!bench.known(node) && bench.known(ROOT), "{way}");
        assert_eq!(bench.read(node, handle, 0, 1).0, libc::EBADF, "{way}");
        assert_eq!(bench.list(28, ROOT, listing, 0).0, libc::EBADF, "{way}");
        assert!(bench.lookup("file0").is_ok());
    }
}

#[test]
fn handles_belong_to_their_node() {
    let (mut bench, _) = poor(100);
    let (one, two) = (bench.lookup("file0").unwrap(), bench.lookup("file1").unwrap());
    let handle = bench.open(one, libc::O_RDWR).unwrap();
    assert_eq!(bench.read(two, handle, 0, 1).0, libc::EBADF);
    let write = [words(&[handle, 0]), halves(&[1, 0]), words(&[0, 0]), b"y".to_vec()].concat();
    assert_eq!(bench.call(16, two, &write).0, libc::EBADF);
    let release = [words(&[handle]), halves(&[0, 0]), words(&[0])].concat();
    assert_eq!(bench.call(18, two, &release).0, libc::EBADF);
    assert_eq!(bench.call(18, one, &release).0, 0);
    assert_eq!(bench.call(18, one, &release).0, libc::EBADF, "a second time");
}

#[test]
fn creating_over_what_cannot_be_opened_holds_nothing() {
    let (mut bench, pool) = poor(100);
    let mut fifo = halves(&[libc::S_IFIFO | 0o666, 0, 0, 0]);
    fifo.extend(b"fifo\0");
    let node = word(&bench.call(8, ROOT, &fifo).1, 0);
    symlink("file0", bench.path("link")).unwrap();
    for name in ["fifo", "link"] {
        assert_eq!(bench.make(35, &[libc::O_RDWR as u32, 0o644, 0, 0], name).0, libc::EBADF, "{name}");
    }
    bench.forget(node, 1);
    assert_eq!(pool.used(), 0);
}

#[test]
fn links_are_never_followed() {
    let (mut bench, _) = poor(100);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), bench.path("way-out")).unwrap();
    symlink(outside.path().join("secret"), bench.path("secret")).unwrap();
    let (way_out, secret) = (bench.lookup("way-out").unwrap(), bench.lookup("secret").unwrap());
    let mut below = b"secret\0".to_vec();
    assert_eq!(bench.call(1, way_out, &below).0, libc::ENOTDIR, "LOOKUP");
    assert_eq!(bench.call(27, way_out, &halves(&[0, 0])).0, libc::ENOTDIR, "OPENDIR");
    assert_eq!(bench.call(10, way_out, &below).0, libc::ENOTDIR, "UNLINK");
    let mut create = halves(&[libc::O_RDWR as u32, 0o644, 0, 0]);
    create.append(&mut below);
    assert_eq!(bench.call(35, way_out, &create).0, libc::ENOTDIR, "CREATE");
    assert_eq!(bench.open(secret, libc::O_RDWR | libc::O_TRUNC), Err(libc::EBADF));
    assert_ne!(bench.map(secret, 0, 4096, 1, 0), 0);
    // The mode, the size, and the owner of the link; a time is set, of the link itself.
    let set = |valid: u32, mode: u32| {
        let mut body = [halves(&[valid, 0]), vec![0; 80]].concat();
        body[68..72].copy_from_slice(&mode.to_le_bytes());
        body
    };
    assert_ne!(bench.call(4, secret, &set(1, 0o777)).0, 0, "mode");
    assert_ne!(bench.call(4, secret, &set(8, 0)).0, 0, "size");
    let before = fs::metadata(outside.path().join("secret")).unwrap();
    assert_eq!(bench.call(4, secret, &set(0x20, 0)).0, 0, "time");
    let after = fs::metadata(outside.path().join("secret")).unwrap();
    assert_eq!((before.modified().unwrap(), before.mode()), (after.modified().unwrap(), after.mode()));
    assert_eq!(fs::symlink_metadata(bench.path("secret")).unwrap().mtime(), 0);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    // Another name of the link, not of what it names.
    let mut link = words(&[secret]);
    link.extend(b"again\0");
    assert_eq!(bench.call(13, ROOT, &link).0, 0);
    assert!(fs::symlink_metadata(bench.path("again")).unwrap().is_symlink());
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_used_leads_nowhere_else() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let (mut bench, _) = poor(100);
    let place = bench.path("place");
    let (real, fake) = (bench.path("real"), bench.path("fake"));
    fs::create_dir(&place).unwrap();
    fs::write(place.join("secret"), "inside").unwrap();
    symlink(outside.path(), &fake).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&place, &real).unwrap();
                fs::rename(&fake, &place).unwrap();
                fs::rename(&place, &fake).unwrap();
                fs::rename(&real, &place).unwrap();
            }
        });
        let (mut inside, mut refused) = (0, 0);
        for _ in 0..2000 {
            let Ok(directory) = bench.lookup("place") else { continue };
            match bench.call(1, directory, b"secret\0") {
                (0, entry) => {
                    let node = word(&entry, 0);
                    let handle = bench.open(node, libc::O_RDONLY).unwrap();
                    assert_eq!(bench.read(node, handle, 0, 100), (0, b"inside".to_vec()));
                    let release = [words(&[handle]), halves(&[0, 0]), words(&[0])].concat();
                    assert_eq!(bench.call(18, node, &release).0, 0);
                    bench.forget(node, 1);
                    inside += 1;
                }
                (errno, _) => {
                    assert_eq!(errno, libc::ENOTDIR);
                    refused += 1;
                }
            }
            bench.forget(directory, 1);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(inside > 0, "{inside} found, {refused} refused");
    });
}

#[test]
fn a_directory_moved_away_does_not_lead_up() {
    let (mut bench, _) = poor(100);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("secret"), "secret").unwrap();
    fs::create_dir(bench.path("sub")).unwrap();
    let sub = bench.lookup("sub").unwrap();
    fs::rename(bench.path("sub"), elsewhere.path().join("sub")).unwrap();
    for name in ["..", "../secret", "/", "/etc"] {
        assert_eq!(bench.call(1, sub, format!("{name}\0").as_bytes()).0, libc::EINVAL, "{name}");
    }
    let handle = word(&bench.call(27, sub, &halves(&[0, 0])).1, 0);
    let (errno, list) = bench.list(44, sub, handle, 0);
    let second = list.len() / 2;
    assert_eq!((errno, word(&list, 0), word(&list, second)), (0, 0, 0), "no nodes for . and ..");
}

#[test]
fn the_machine_s_own_memory_is_not_a_file_of_the_share() {
    let share = Share::open(Path::new("/proc/self")).unwrap();
    let server = FileServer::with_descriptors(share, true, CacheMode::Auto, None, Descriptors::new(100)).unwrap();
    let mut driver = Driver::new(Fs::new("root", server, 1), None);
    driver.start(0);
    let mut bench = Bench {
        driver,
        window: Arc::new(Window::new(WINDOW, true, 1).unwrap()),
        directory: tempfile::tempdir().unwrap(),
        unique: 0,
    };
    assert_eq!(bench.init().0, 0);
    for name in ["mem", "environ", "status"] {
        let node = bench.lookup(name).unwrap();
        for flags in [libc::O_RDONLY, libc::O_RDWR] {
            assert_eq!(bench.open(node, flags), Err(libc::EACCES), "{name}");
        }
    }
    // Magic links: what they lead to is not what is found.
    let root = bench.lookup("root").unwrap();
    assert_eq!(bench.call(1, root, b"etc\0").0, libc::ENOTDIR);
}

#[test]
fn names_are_one_component_in_every_request_that_has_one() {
    let (mut bench, pool) = poor(100);
    let file = bench.lookup("file0").unwrap();
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "a/b", "/file0", "file0/", "../file0", &long] {
        let expected = if bad.len() > 255 { libc::ENAMETOOLONG } else { libc::EINVAL };
        let one = |head: Vec<u8>| [head, bad.as_bytes().to_vec(), vec![0]].concat();
        let pair = |head: Vec<u8>, first: &str, second: &str| {
            [head, first.as_bytes().to_vec(), vec![0], second.as_bytes().to_vec(), vec![0]].concat()
        };
        let mut requests = vec![
            (1, one(vec![])),
            (8, one(halves(&[0o100644, 0, 0, 0]))),
            (9, one(halves(&[0o755, 0]))),
            (10, one(vec![])),
            (11, one(vec![])),
            (13, one(words(&[file]))),
            (35, one(halves(&[libc::O_RDWR as u32, 0o644, 0, 0]))),
            (6, pair(vec![], bad, "target")),
        ];
        for (first, second) in [(bad, "good"), ("file1", bad)] {
            requests.push((12, pair(words(&[ROOT]), first, second)));
            requests.push((45, pair([words(&[ROOT]), halves(&[0, 0])].concat(), first, second)));
        }
        for (opcode, body) in requests {
            assert_eq!(bench.call(opcode, ROOT, &body).0, expected, "opcode {opcode}, {bad:?}");
        }
    }
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 10);
    assert_eq!(pool.used(), 1);
}

#[test]
fn files_belong_to_the_user_who_makes_them() {
    let (mut bench, _) = poor(100);
    let directory = bench.directory.path().to_owned();
    if !rustix::process::geteuid().is_root() {
        // The server then acts as itself whatever the guest says.
        return;
    }
    let set = |mode| fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    set(0o755);
    let body = [halves(&[0o755, 0]), b"new\0".to_vec()].concat();
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
        let mut header = bench.header(9, ROOT, body.len());
        header[24..32].copy_from_slice(&halves(&[uid, gid]));
        let reply = bench.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(&body), Part::In(16), Part::In(200)]);
        assert_eq!(-(half(&reply, 4) as i32), libc::EINVAL);
    }
    let mut header = bench.header(9, ROOT, body.len());
    header[24..32].copy_from_slice(&halves(&[1000, 1001]));
    // The share is root's and nobody else may write to it.
    let reply = bench.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(&body), Part::In(16), Part::In(200)]);
    assert_eq!(-(half(&reply, 4) as i32), libc::EACCES);
    set(0o777);
    let reply = bench.driver.call(REQUESTS, &[Part::Out(&header), Part::Out(&body), Part::In(16), Part::In(200)]);
    assert_eq!(half(&reply, 4), 0);
    let made = fs::metadata(bench.path("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1001));
    fs::write(bench.path("by-root"), "").unwrap();
    assert_eq!(bench.make(9, &[0o755, 0], "by-root-again").0, 0, "and it is root again");
    assert_eq!(fs::metadata(bench.path("by-root-again")).unwrap().uid(), 0);
}
