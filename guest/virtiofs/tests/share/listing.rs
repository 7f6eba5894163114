//! Directories.

use super::*;

#[test]
fn large_directories_are_listed_whole_whatever_the_step() {
    for cache in [CacheMode::Auto, CacheMode::None] {
        let rig = Setup { cache, ..Setup::default() }.build();
        ["d", "few"].into_iter().for_each(|name| std::fs::create_dir(rig.path(name)).unwrap());
        (0..40).for_each(|i| drop(rig.put(&format!("few/{i}"), b"abc")));
        // From here on attributes seem worth it.
        go_through(&rig, "few", 40);
        let before = rig.count("fuse.READDIRPLUS");
        let mut wanted: BTreeSet<String> = [".".into(), "..".into()].into();
        for i in 0..3000 {
            let name = format!("file number {i}");
            rig.put(&format!("d/{name}"), b"");
            wanted.insert(name);
        }
        let dir = rig.open("d", OpenFlags::DIRECTORY).unwrap();
        for step in [1_000_000, 700, 1] {
            let (mut cookie, mut seen) = (0, BTreeSet::new());
            loop {
                let entries = list(&dir, cookie, step).unwrap();
                let Some((_, next)) = entries.last() else { break };
                cookie = *next;
                for (name, _) in entries {
                    assert!(seen.insert(name.clone()), "{name} twice at step {step}");
                }
                if step == 1 && seen.len() > 300 {
                    break;
                }
            }
            assert!(step == 1 || seen == wanted, "{} of {}", seen.len(), wanted.len());
        }
        let (plus, bare) = (rig.count("fuse.READDIRPLUS") - before, rig.count("fuse.READDIR"));
        match cache {
            CacheMode::None => assert!(plus == 0 && bare > 3, "attributes nobody may keep are not asked for"),
            _ => assert!(plus > 3, "{plus} {bare}"),
        }
        drop(dir);
        drop(rig.mount);
        assert_eq!(rig.server.lookups_held(), 0);
    }
}

/// Three directories of so many files.
fn directories(files: usize) -> Rig {
    let rig = Setup::default().build();
    for directory in ["a", "b", "c"] {
        std::fs::create_dir(rig.path(directory)).unwrap();
        (0..files).for_each(|i| drop(rig.put(&format!("{directory}/f{i}"), b"abc")));
    }
    rig
}

/// Lists a directory, and looks at so many of its names in the order in which they are listed. Returns how many LOOKUPs,
/// READDIRPLUSes and READDIRs that took.
fn go_through(rig: &Rig, directory: &str, names: usize) -> [u64; 3] {
    let sent = || ["fuse.LOOKUP", "fuse.READDIRPLUS", "fuse.READDIR"].map(|name| rig.count(name));
    let before = sent();
    let dir = rig.open(directory, OpenFlags::DIRECTORY).unwrap();
    let entries = list(&dir, 0, 1000).unwrap();
    assert!(list(&dir, entries.last().unwrap().1, 1000).unwrap().is_empty(), "that was all");
    for (name, _) in entries.iter().filter(|(name, _)| !name.starts_with('.')).take(names) {
        assert_eq!(rig.find(&format!("{directory}/{name}")).unwrap().metadata().unwrap().size, 3);
    }
    let after = sent();
    std::array::from_fn(|i| after[i] - before[i])
}

#[test]
fn who_goes_through_a_listing_gets_the_attributes() {
    let rig = directories(100);
    assert_eq!(go_through(&rig, "a", 100), [3, 2, 2], "two names are looked up, and the directory's own");
    assert_eq!(go_through(&rig, "b", 100), [1, 2, 0], "and the next time attributes come with the listing");
    assert!(rig.count("fuse.GETATTR") <= 1);
    assert_eq!(rig.tally(Tally::NamesAhead), 100);
    drop(rig.mount);
    assert_eq!(rig.server.lookups_held(), 0);
}

#[test]
fn who_goes_through_a_large_directory_gets_all_of_it() {
    let rig = directories(1);
    (0..1500).for_each(|i| drop(rig.put(&format!("a/{i}"), b"abc")));
    let dir = rig.open("a", OpenFlags::DIRECTORY).unwrap();
    let entries = list(&dir, 0, 2000).unwrap();
    for (name, _) in entries.iter().filter(|(name, _)| !name.starts_with('.')) {
        rig.find(&format!("a/{name}")).unwrap();
    }
    assert!(rig.count("fuse.LOOKUP") < 20, "{} LOOKUPs", rig.count("fuse.LOOKUP"));
}

#[test]
fn who_lists_only_gets_names_only() {
    let rig = directories(100);
    for directory in ["a", "b", "c", "a"] {
        assert_eq!(
            go_through(&rig, directory, 0)[1..],
            [0, 2],
            "one for the names, and one to hear that there are no more"
        );
    }
}

#[test]
fn who_has_listed_in_vain_for_attributes_gets_them_no_longer() {
    let rig = directories(100);
    assert_eq!(go_through(&rig, "a", 100)[1], 2);
    assert_eq!(go_through(&rig, "b", 0)[1..], [2, 0], "so far they were wanted");
    go_through(&rig, "c", 0);
    assert_eq!(go_through(&rig, "c", 0)[1..], [0, 2]);
}

#[test]
fn a_listing_that_begins_again_sees_what_has_come_since() {
    let rig = directories(1);
    let dir = rig.open("a", OpenFlags::DIRECTORY).unwrap();
    let end = list(&dir, 0, 1000).unwrap().last().unwrap().1;
    rig.put("a/new", b"");
    assert_eq!(list(&dir, 0, 1000).unwrap().len(), 4);
    assert!(list(&dir, end, 1000).is_ok());
    let empty = rig.mount.root().open(OpenFlags::DIRECTORY).unwrap();
    assert_eq!(list(&empty, 0, 2).unwrap().len(), 2, "the dots alone");
    assert_eq!(list(&empty, list(&empty, 0, 2).unwrap()[1].1, 1000).unwrap().len(), 3);
}
