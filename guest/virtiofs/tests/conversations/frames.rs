//! Replies whose frame is broken, or that are noise.

use super::*;

#[test]
fn an_honest_host_is_understood() {
    let (host, mount) = start(honestly(), CacheMode::Auto);
    let mount = mount.unwrap();
    let root = mount.root();
    assert_eq!(root.lookup(n("l")).unwrap().readlink().unwrap(), b"target");
    assert_eq!(listing(&root).unwrap(), [".", "..", "f", "l"]);
    let file = root.lookup(n("f")).unwrap().open(OpenFlags::empty()).unwrap();
    assert!(read(&file, 10, 2990).unwrap() == [b'W'; 2990]);
    assert_eq!(mount.counters().get(Tally::WindowRead), 2990);
    for (index, result) in everything(&mount).into_iter().enumerate() {
        assert_eq!(result.is_some(), index == 3, "{index}: {result:?}");
    }
    let used: BTreeSet<_> = host.seen.lock().unwrap().iter().copied().collect();
    assert!(used.len() >= 25, "the spoilers below have all of these to spoil: {used:?}");
}

#[test]
fn the_trace_has_a_line_for_each_request() {
    let mount = start(honestly(), CacheMode::Auto).1.unwrap();
    drop(mount.root().lookup(n("f")));
    drop(mount.root().lookup(n("\u{7}x")));
    drop(mount);
    let want = ["t INIT node 0 = 64 bytes", "t GETATTR node 1 = 104 bytes", "t LOOKUP node 1 f = 128 bytes"];
    TRACE.with_borrow(|trace| {
        assert_eq!(trace[..3], want);
        assert_eq!(trace[3], "t LOOKUP node 1 \\x07x = ENOENT");
        assert_eq!(trace[4..], ["t FORGET of 1 nodes", "t DESTROY node 0 = 0 bytes"]);
    });
}

/// Ways to break an answer that no request may survive with a success.
fn broken(unique: u64, honest: &Answer) -> Vec<Answer> {
    let cut = |len: usize| Answer { bytes: honest.bytes[..len.min(honest.bytes.len())].to_vec(), claimed: len };
    let patched = |at: usize, with: &[u8]| {
        let mut answer = honest.clone();
        answer.bytes[at..at + with.len()].copy_from_slice(with);
        answer
    };
    vec![
        cut(0),
        cut(1),
        cut(15),
        Answer { claimed: usize::MAX, ..honest.clone() },
        Answer { claimed: honest.claimed + (1 << 30), ..honest.clone() },
        patched(0, &0u32.to_le_bytes()),
        patched(0, &15u32.to_le_bytes()),
        patched(0, &u32::MAX.to_le_bytes()),
        patched(8, &(unique + 2).to_le_bytes()),
        patched(8, &0u64.to_le_bytes()),
        patched(4, &1i32.to_le_bytes()),
        patched(4, &(-4096i32).to_le_bytes()),
        patched(4, &i32::MIN.to_le_bytes()),
        patched(4, &i32::MAX.to_le_bytes()),
    ]
}

#[test]
fn a_broken_frame_is_an_error_for_every_request() {
    for (opcode, _) in OPCODES.iter().filter(|(name, _)| !name.contains("FORGET")) {
        for way in 0..14 {
            let rule: Rule =
                Box::new(
                    move |request, answer| {
                        if request.is(opcode) { broken(request.unique, &answer).swap_remove(way) } else { answer }
                    },
                );
            let (host, mount) = start(rule, CacheMode::None);
            let Ok(mount) = mount else { continue };
            let results = everything(&mount);
            let asked = host.seen.lock().unwrap().contains(opcode);
            // These have another way, or nobody to tell; or the name is looked up, and it is not there.
            let quiet = ["RELEASE", "RELEASEDIR", "DESTROY", "SETUPMAPPING", "REMOVEMAPPING", "UNLINK", "RENAME"]
                .contains(opcode);
            let failed = results.iter().flatten().filter(|e| **e != Errno::ENOENT).count();
            assert!(!asked || quiet || failed > 0, "{opcode} broken in way {way} was believed");
            assert!(
                results.iter().flatten().all(|e| matches!(*e, Errno::EIO | Errno::ENOENT)),
                "{opcode} {way}: {results:?}"
            );
        }
    }
}

#[test]
fn noise_never_does_more_than_fail() {
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..3000u64 {
        let (salt, rate) = (random(), 2 + round % 7);
        let rule: Rule = Box::new(move |request, mut answer| {
            let mut dice = salt ^ request.unique.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut roll = || {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice
            };
            if roll() % rate == 0 && !answer.bytes.is_empty() {
                for _ in 0..1 + roll() % 8 {
                    let at = roll() as usize % answer.bytes.len();
                    answer.bytes[at] = [0, 1, 0x7f, 0x80, 0xff, roll() as u8][roll() as usize % 6];
                }
                if roll() % 4 == 0 {
                    answer.claimed = roll() as usize % 300;
                }
            }
            answer
        });
        let (_, mount) = start(rule, CacheMode::Auto);
        if let Ok(mount) = mount {
            everything(&mount);
        }
    }
}
