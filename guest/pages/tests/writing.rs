//! Writes past the cache, and pages that are written back while they are under way.

use diolkos_pages::{Found, Frames, PAGE, PageKey, Pages, Surroundings, Writer};
use diolkos_vfs::{MemBytes, Result};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

const KEY: PageKey = PageKey { owner: 1, number: 0 };

/// Frames that are never used again.
struct Memory;

// SAFETY: each block comes from the allocator and is never given back to it.
unsafe impl Frames for Memory {
    fn allocate(&self, order: usize) -> Option<u64> {
        let block = vec![0_u8; ((1 << order) + 1) * PAGE as usize].leak().as_mut_ptr();
        Some(block as u64 + block.align_offset(PAGE as usize) as u64)
    }
    fn release(&self, _: u64, _: usize) {}
    fn at(&self, phys: u64) -> NonNull<u8> {
        NonNull::new(phys as *mut u8).unwrap()
    }
    fn revoke(&self, _: &[u64]) {}
}

impl Surroundings for Memory {
    fn frames(&self) -> &dyn Frames {
        self
    }
    fn pause(&self) {
        std::thread::yield_now();
    }
}

/// The host's file, of a page.
struct HostFile(Mutex<Vec<u8>>);

impl HostFile {
    fn starts_with(&self, bytes: &[u8]) -> bool {
        self.0.lock().unwrap().starts_with(bytes)
    }
}

impl Writer for HostFile {
    fn owner(&self) -> u64 {
        KEY.owner
    }
    fn size(&self) -> u64 {
        PAGE
    }
    fn write(&self, offset: u64, data: &[MemBytes<'_>]) -> Result<()> {
        let mut file = self.0.lock().unwrap();
        let mut at = offset as usize;
        for piece in data {
            // SAFETY: pieces of the cache's memory, which stays.
            let bytes = unsafe { std::slice::from_raw_parts(piece.as_ptr(), piece.len()) };
            file[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        Ok(())
    }
}

/// Brings the page in as the host has it, and stores `word` at byte 8 through a mapping.
fn store(pages: &Arc<Pages>, host: &Arc<HostFile>, word: &[u8]) {
    if !pages.has(KEY) {
        let mut loading = pages.reserve(KEY, 1).ok().unwrap();
        loading.bytes().copy_from_slice(&host.0.lock().unwrap());
        loading.publish(1);
    }
    let writer: Arc<dyn Writer> = host.clone();
    let Found::Pages(pins) = pages.find_to_write(KEY, &writer) else { panic!("the page is there") };
    // SAFETY: the page is pinned, and nobody else is there.
    unsafe { ((pins.phys() + 8) as *mut u8).copy_from(word.as_ptr(), word.len()) };
}

/// Writes `word` at byte 0 past the cache, with a store and its way back in between, and then what `meanwhile` does.
fn overtaken(meanwhile: impl Fn(&Arc<Pages>)) -> (bool, Arc<Pages>, Arc<HostFile>) {
    let pages = Pages::new(Arc::new(Memory));
    let host = Arc::new(HostFile(Mutex::new(vec![b'.'; PAGE as usize])));
    let writing = pages.writing(KEY.owner, 0, 8);
    store(&pages, &host, b"stored");
    host.0.lock().unwrap()[..7].copy_from_slice(b"written");
    pages.write_back(KEY.owner, 0, u64::MAX);
    assert!(host.starts_with(b"........stored"), "what was stored carries what was there before");
    meanwhile(&pages);
    let writer: Arc<dyn Writer> = host.clone();
    (writing.done(&writer, 0, b"written"), pages, host)
}

#[test]
fn a_page_that_carried_old_bytes_to_the_host_is_written_again() {
    let (done, pages, host) = overtaken(|_| {});
    assert!(done);
    pages.write_back(KEY.owner, 0, u64::MAX);
    assert!(host.starts_with(b"written.stored"));
}

#[test]
fn bytes_that_were_overtaken_by_a_page_that_is_gone_have_to_be_written_again() {
    let (done, pages, host) = overtaken(|pages| {
        // The first round takes its second chance.
        while pages.has(KEY) {
            pages.reclaim(1, false);
        }
    });
    assert!(!done && host.starts_with(b"........stored"));
    // Nothing comes between this time.
    let writing = pages.writing(KEY.owner, 0, 8);
    host.0.lock().unwrap()[..7].copy_from_slice(b"written");
    let writer: Arc<dyn Writer> = host.clone();
    assert!(writing.done(&writer, 0, b"written"));
}

#[test]
fn other_pages_and_other_times_do_not_matter() {
    let pages = Pages::new(Arc::new(Memory));
    let host = Arc::new(HostFile(Mutex::new(vec![b'.'; PAGE as usize])));
    let gone = || {
        while pages.has(KEY) {
            pages.reclaim(1, false);
        }
    };
    let writer: Arc<dyn Writer> = host.clone();
    // Written back before it began.
    store(&pages, &host, b"stored");
    pages.write_back(KEY.owner, 0, u64::MAX);
    let writing = pages.writing(KEY.owner, 0, 8);
    gone();
    assert!(writing.done(&writer, 0, b"written"));
    // Of another page, and of another file.
    let others = [pages.writing(KEY.owner, PAGE, 2 * PAGE), pages.writing(2, 0, PAGE)];
    store(&pages, &host, b"stored");
    pages.write_back(KEY.owner, 0, u64::MAX);
    gone();
    assert!(others[0].done(&writer, PAGE, b"x"));
    drop(others);
    assert!(pages.writing(KEY.owner, 0, 8).done(&writer, 0, b"written"));
}
