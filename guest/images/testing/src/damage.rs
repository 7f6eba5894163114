//! Real images with bytes changed at random.

use crate::noise;
use diolkos_images::Format;
use diolkos_vfs::FileType;
use std::time::{Duration, Instant};

/// Looks at everything that an image claims to have, as far as it lets itself be looked at.
fn explore<F: Format>(fs: &F, mut budget: u64) {
    let mut left = vec![(fs.root(), 0)];
    let mut buffer = vec![0; 64 << 10];
    while let Some((number, depth)) = left.pop() {
        budget -= 1;
        if budget == 0 {
            return;
        }
        let Ok(inode) = fs.inode(number) else { continue };
        let metadata = fs.metadata(&inode);
        assert!(FileType::from_mode(metadata.mode).is_some(), "every inode has a type");
        let _ = (fs.xattrs(&inode), fs.target(&inode), fs.lookup(&inode, b"many"), fs.seek(&inode, 0, true));
        for at in [0, metadata.size / 2, metadata.size.saturating_sub(1000)] {
            let len = (metadata.size - at).min(buffer.len() as u64) as usize;
            let _ = fs.read(&inode, at, &mut buffer[..len]);
        }
        if depth < 4 {
            let mut entries = 0;
            let _ = fs.list(&inode, 0, &mut |entry, _| {
                entries += 1;
                left.push((entry.nid, depth + 1));
                entries < 200
            });
        }
    }
}

/// Changes one to eight bytes of the images, `cases` times, mostly from the first byte to the second of one of `places`, and looks at what is left: nothing may panic or
/// ask for more memory in one piece than the guest's heap has, and everything must end. How many images could be opened.
pub fn survive<F: Format>(
    images: &[Vec<u8>],
    places: &[(usize, usize)],
    cases: u64,
    open: impl Fn(Vec<u8>) -> Option<F>,
) -> u64 {
    let (mut opened, mut longest) = (0, Duration::ZERO);
    for case in 0..cases {
        let mut bytes = images[case as usize % images.len()].clone();
        let dice = noise(case * 2 + 12345, 64);
        for change in dice.chunks_exact(8).take(1 + (case % 8) as usize) {
            let number = u64::from_le_bytes(change.try_into().unwrap());
            let place = places[(number >> 48) as usize % places.len()];
            let (first, end) = if number % 4 == 0 { (0, bytes.len()) } else { place };
            let at = first + (number >> 16) as usize % (end.min(bytes.len()) - first);
            bytes[at] = if number % 8 < 4 { bytes[at] ^ 1 << (number >> 8 & 7) } else { (number >> 8) as u8 };
        }
        let started = Instant::now();
        crate::heap::limited(|| {
            if let Some(fs) = open(bytes) {
                opened += 1;
                explore(&fs, 300);
            }
        });
        longest = longest.max(started.elapsed());
    }
    assert!(longest.as_secs() < 20, "{longest:?}");
    println!("{opened} of {cases} opened, {longest:?} at most");
    opened
}
