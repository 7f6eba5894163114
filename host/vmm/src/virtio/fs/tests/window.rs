//! What lies in the window, and what may not.

use super::*;

#[test]
fn a_window_shows_the_file_and_the_file_shows_the_window() {
    let mut bench = bench(true);
    let node = bench.lookup("file").unwrap();
    assert_eq!(bench.map(node, 0, 2 << 20, 3, 2 << 20), 0);
    assert_eq!(bench.window.stats().mapped_bytes, 2 << 20);
    // SAFETY: the first page of the range holds the file, which is there for as long as the test.
    unsafe { bench.window.mapping().as_ptr().add(2 << 20).write_volatile(b'H') };
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"Hello, window");
    assert_eq!(bench.unmap(&[(2 << 20, 2 << 20)]), 0);
    assert_eq!(bench.window.stats().mapped_bytes, 0);
}

#[test]
fn nobody_goes_on_while_another_shows_the_window() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let done = Arc::new(AtomicBool::new(false));
    let shown = done.clone();
    let window = Window::new(WINDOW, true, 100).unwrap().shown_by(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        shown.store(true, Ordering::SeqCst);
        Ok(())
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                window.show();
                assert!(done.load(Ordering::SeqCst), "it can be used");
            });
        }
    });
}

#[test]
fn a_window_is_shown_before_the_first_request_and_maps_nothing_if_it_cannot_be() {
    use crate::kvm::KvmError;
    use std::sync::atomic::{AtomicU32, Ordering};
    for (works, errno) in [(true, 0), (false, libc::ENOMEM)] {
        let shown = Arc::new(AtomicU32::new(0));
        let count = shown.clone();
        let window = Window::new(WINDOW, true, 100).unwrap().shown_by(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let source = std::io::ErrorKind::OutOfMemory.into();
            if works { Ok(()) } else { Err(KvmError { operation: "set a memory slot", source }) }
        });
        let mut bench = bench_on_window(Arc::new(window));
        assert_eq!(shown.load(Ordering::Relaxed), 1);
        let node = bench.lookup("file").unwrap();
        assert_eq!(bench.map(node, 0, 4096, 1, 0), errno);
        bench.driver.reset();
        bench.driver.start(0);
        assert_eq!(bench.init().0, 0);
        assert_eq!(shown.load(Ordering::Relaxed), 1, "once for all");
    }
}

#[test]
fn hostile_mappings_are_refused() {
    let mut bench = bench(true);
    let node = bench.lookup("file").unwrap();
    let page = 4096;
    for (file_offset, len, offset) in [
        (0, 0, 0),
        (0, 1, 0),
        (0, page, 1),
        (1, page, 0),
        (0, page, WINDOW),
        (0, WINDOW + page, 0),
        (0, page, u64::MAX - page + 1),
        (0, u64::MAX - page + 1, page),
        (u64::MAX - page + 1, page, 0),
        (1 << 63, page, 0),
        (i64::MAX as u64 - 0xfff, page, 0),
    ] {
        let errno = bench.map(node, file_offset, len, 1, offset);
        assert_eq!(errno, libc::EINVAL, "{file_offset:#x} {len:#x} {offset:#x}");
    }
    assert_eq!(bench.map(node, 0, page, 4, 0), libc::EINVAL, "flags nobody knows");
    assert_eq!(bench.map(999, 0, page, 1, 0), libc::EBADF, "a node nobody knows");
    let sub = bench.lookup("sub").unwrap();
    assert_ne!(bench.map(sub, 0, page, 0, 0), 0, "a directory");
    for ranges in [&[(0, 0)][..], &[(1, page)], &[(0, u64::MAX)], &[(0, page), (WINDOW, page)]] {
        assert_eq!(bench.unmap(ranges), libc::EINVAL, "{ranges:?}");
    }
    // More ranges announced than sent; more than fit a message.
    assert_eq!(bench.call(49, 0, &halves(&[7])).0, libc::EINVAL);
    assert_eq!(bench.call(49, 0, &halves(&[u32::MAX])).0, libc::ENOMEM);
    assert_eq!(bench.window.stats(), Default::default());
}

#[test]
fn destroy_and_reset_empty_the_window() {
    let mut bench = bench(false);
    for way in ["destroy", "reset"] {
        let node = bench.lookup("file").unwrap();
        assert_eq!(bench.map(node, 0, 4096, 2, 0), 0);
        if way == "destroy" {
            assert_eq!(bench.call(38, 0, &[]).0, 0);
        } else {
            bench.driver.reset();
            bench.driver.start(0);
        }
        assert_eq!(bench.window.stats().mapped_bytes, 0, "{way}");
        assert_eq!(bench.init().0, 0);
    }
}
