//! Directories.

use super::*;

#[test]
fn large_directories_are_listed_whole_whatever_the_step() {
    for cache in [CacheMode::Auto, CacheMode::None] {
        let rig = Setup { cache, ..Setup::default() }.build();
        std::fs::create_dir(rig.path("d")).unwrap();
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
        let (plus, bare) = (rig.count("fuse.READDIRPLUS"), rig.count("fuse.READDIR"));
        match cache {
            CacheMode::None => assert!(plus == 0 && bare > 3, "attributes nobody may keep are not asked for"),
            _ => assert!(plus > 3, "{plus} {bare}"),
        }
        drop(dir);
        drop(rig.mount);
        assert_eq!(rig.server.lookups_held(), 0);
    }
}

#[test]
fn a_listing_with_attributes_saves_the_lookups() {
    let rig = Setup::default().build();
    for i in 0..50 {
        rig.put(&format!("f{i}"), b"abc");
    }
    let dir = rig.mount.root().open(OpenFlags::DIRECTORY).unwrap();
    let entries = list(&dir, 0, 1000).unwrap();
    assert_eq!(entries.len(), 52);
    for (name, _) in entries.iter().filter(|(name, _)| !name.starts_with('.')) {
        assert_eq!(rig.find(name).unwrap().metadata().unwrap().size, 3);
    }
    assert_eq!((rig.count("fuse.LOOKUP"), rig.count("fuse.GETATTR")), (0, 1));
}
