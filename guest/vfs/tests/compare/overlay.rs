//! An overlay against a plain memory file system with the same files: whatever is done, both answer the same, and what
//! lies below the overlay stays as it was.

use crate::guest::{Guest, clock};
use crate::ops::{Answer, Op, Path, Shown, Value, World};
use crate::random::Dice;
use diolkos_vfs::overlay::{Mappings, Overlay, OverlayConfig};
use diolkos_vfs::ramfs::{Ramfs, RamfsConfig};
use diolkos_vfs::{InodeId, OpenFlags};
use std::sync::Arc;

/// Page tables that nobody has.
struct NoMappings;

impl Mappings for NoMappings {
    fn forget(&self, _file: InodeId, _from: u64, _to: u64) {}
}

/// What must agree: not the size of a directory, nor the blocks of a file with holes, which an overlay takes for content.
fn comparable(answer: Answer) -> Answer {
    let trim = |shown: Shown| {
        let is_dir = shown.mode & libc::S_IFMT == libc::S_IFDIR;
        Shown { blocks: 0, size: if is_dir { 0 } else { shown.size }, ..shown }
    };
    Ok(match answer? {
        Value::Shown(shown) => Value::Shown(trim(shown)),
        Value::Held(inner, shown, bytes) => Value::Held(Box::new(comparable(*inner)), trim(shown), bytes),
        other => other,
    })
}

/// Everything there is, as a list of operations answers it.
fn everything(guest: &Guest) -> Vec<(Op, Answer)> {
    let mut seen = Vec::new();
    let mut left = vec![Path::new("/")];
    while let Some(at) = left.pop() {
        let readdir = Op::Readdir(at.clone());
        let names = guest.run(&readdir);
        if let Ok(Value::Names(names)) = &names {
            for (name, kind) in names.iter().filter(|(name, _)| name != b"." && name != b"..") {
                let path = Path([&at.0[..], b"/", name].concat());
                let looks: &[fn(Path) -> Op] = match kind {
                    8 => &[|path| Op::Stat(path, false), |path| Op::Read(path, 0, 100_000)],
                    10 => &[|path| Op::Stat(path, false), Op::Readlink],
                    _ => &[|path| Op::Stat(path, false)],
                };
                seen.extend(looks.iter().map(|look| look(path.clone())).map(|op| {
                    let answer = comparable(guest.run(&op));
                    (op, answer)
                }));
                if *kind == 4 {
                    left.push(path);
                }
            }
        }
        seen.push((readdir, names));
    }
    seen
}

/// Fails at the first thing that differs.
fn same(ours: &[(Op, Answer)], model: &[(Op, Answer)], when: &str) {
    for (ours, model) in ours.iter().zip(model) {
        assert!(ours == model, "{when}: {ours:?}, not {model:?}");
    }
    assert_eq!(ours.len(), model.len(), "{when}");
}

/// Makes some files, and puts an overlay over them; then operations go on, on it and on a plain copy.
fn compare(seed: u64, whole: u64, operations: usize) {
    let mut dice = Dice(seed);
    let below = Ramfs::new(RamfsConfig::new(1, clock())).root();
    let (lower, plain) = (Guest::on(below.clone()), Guest::new());
    for _ in 0..400 {
        let op = dice.op();
        assert_eq!(lower.run(&op), plain.run(&op));
    }
    let home = Op::Chdir(Path::new("/"));
    for guest in [&lower, &plain] {
        // Something to find, whatever else there is: a file of many pages with a hole in it, and a second name for it.
        for op in [
            home.clone(),
            Op::Mkdir(Path::new("/a"), 0o755),
            Op::Write(Path::new("/big"), OpenFlags::CREAT, 0, 17_000, b'x'),
            Op::Write(Path::new("/big"), OpenFlags::empty(), 40_000, 9_000, b'y'),
            Op::Link(Path::new("/big"), Path::new("/c"), false),
            Op::Link(Path::new("/big"), Path::new("/a/b"), false),
        ] {
            let _ = guest.run(&op);
        }
    }
    let before = everything(&lower);
    assert!(before.len() > 5, "there is something to lie over");
    let memory = RamfsConfig::new(1, clock());
    let config = OverlayConfig { lower: below, memory, mappings: Arc::new(NoMappings), whole, held: seed % 5 * 3 };
    let over = Guest::on(Overlay::new(config).unwrap().root());
    let mut history = Vec::new();
    for count in 0..operations {
        let op = if dice.one_in(50) { home.clone() } else { dice.op() };
        let (ours, model) = (comparable(over.run(&op)), comparable(plain.run(&op)));
        if ours != model {
            let last: Vec<String> = history.iter().rev().take(30).rev().map(|op| format!("{op:?}")).collect();
            panic!("seed {seed}, operation {count} {op:?}: {ours:?}, not {model:?}, after\n{}", last.join("\n"));
        }
        history.push(op);
        if count % 500 == 0 {
            same(&everything(&over), &everything(&plain), &format!("seed {seed}, operation {count}"));
        }
    }
    same(&everything(&over), &everything(&plain), &format!("seed {seed}"));
    same(&everything(&lower), &before, &format!("seed {seed}: what lies below has changed"));
}

#[test]
fn an_overlay_answers_as_a_copy_would_when_pages_are_copied() {
    for seed in 0..40 {
        compare(seed, 0, 2000);
    }
}

#[test]
fn an_overlay_answers_as_a_copy_would_when_files_are_copied() {
    for seed in 100..120 {
        compare(seed, 1 << 20, 2000);
    }
}
