//! The DAX window under programs that want more of it than there is, or use it in odd ways. On KVM only.

use crate::data;
use crate::linux_sources::{Libc, compiled};
use crate::observation::figure;
use crate::outcome::Outcome;
use crate::platform::Platform;
use std::path::Path;

/// `mapper FILE MIB ROUNDS THREADS` maps a file for writing, adds one to bytes of random pages from every thread, each of
/// which has pages of its own, and prints the sum of all bytes.
const MAPPER: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile unsigned char *memory;
static long pages, rounds, threads;

static void *run(void *number) {
    uint64_t state = 88172645463325252ull + (long)number * 7919;
    for (long i = 0; i < rounds; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        long page = state % (pages / threads) * threads + (long)number;
        memory[page * 4096 + state / 4096 % 4096]++;
    }
    return 0;
}

int main(int argc, char **argv) {
    int file = open(argv[1], O_RDWR);
    pages = atol(argv[2]) * 256, rounds = atol(argv[3]), threads = atol(argv[4]);
    memory = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    pthread_t ids[64];
    for (long i = 0; i < threads; i++) pthread_create(&ids[i], 0, run, (void *)i);
    for (long i = 0; i < threads; i++) pthread_join(ids[i], 0);
    /* One instruction, pages of four chunks: none of them may have to give way to another for ever. */
    long far = pages / 2 * 4096 - 8;
    memcpy((void *)(memory + far), (void *)(memory + far / 3), 0);
    __asm__ volatile("rep movsb" : : "S"(memory + far), "D"(memory + far), "c"(16L) : "memory");
    unsigned long sum = 0;
    for (long i = 0; i < pages * 4096; i += 1) sum += memory[i];
    printf("%lu\n", sum);
    return 0;
}
"#;

/// Maps and changes a file of `mib` MiB in a window; the block of `--stats`.
fn map_and_change(window: &str, policy: &str, mib: usize, rounds: &str, threads: &str) -> Option<String> {
    let kvm = Platform::Kvm.here()?;
    let folder = data::folder();
    data::compile(folder.path(), "mapper", "gcc", &["-pthread"], MAPPER);
    let path = data::file(folder.path(), "file", &vec![0; mib << 20]);
    let size = mib.to_string();
    let vm = kvm.run(&["/data/mapper", "/data/file", &size, rounds, threads]);
    let vm = vm.writable_data(folder.path()).option(&["--stats", "--dax-window", window, "--dax-policy", policy]);
    let outcome = vm.outcome().expect_status(0);
    let expected: u64 = rounds.parse::<u64>().unwrap() * threads.parse::<u64>().unwrap();
    assert_eq!(outcome.out().trim(), expected.to_string(), "what the program sees");
    let sum: u64 = std::fs::read(path).unwrap().iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(sum, expected, "what is in the file");
    Some(outcome.err())
}

#[test]
fn a_shared_mapping_may_be_larger_than_the_window() {
    for policy in ["clock", "lifo"] {
        for window in ["2M", "4M", "16M"] {
            let Some(block) = map_and_change(window, policy, 32, "4000", "1") else { return };
            assert!(figure(&block, "evictions") > 0 && figure(&block, "revocations") > 0, "{window} {policy}: {block}");
            // A fault brings its chunk in, once: nothing is fetched twice for the same touch.
            assert!(figure(&block, "mappings") <= 2 * figure(&block, "faults"), "{window} {policy}: {block}");
            // Of the program itself, maybe; a shared mapping is never a copy.
            assert!(figure(&block, "pages read") < 100, "{window} {policy}: {block}");
        }
    }
}

#[test]
fn taking_a_chunk_back_looks_only_where_it_may_be_mapped() {
    for (window, policy) in [("16M", "clock"), ("4M", "lifo")] {
        let Some(block) = map_and_change(window, policy, 128, "2000", "1") else { return };
        let (looks, mappings) = (figure(&block, "revoke looks"), figure(&block, "mappings"));
        assert!(figure(&block, "revocations") > 500, "{block}");
        // Two tables of 512 entries for a chunk, if it does not begin where one does; the mapping has 32,768.
        assert!(looks > 0 && looks <= 1024 * mappings, "{window} {policy}: {block}");
    }
}

#[test]
fn many_threads_share_a_small_window() {
    let Some(block) = map_and_change("2M", "clock", 16, "200", "40") else { return };
    assert!(figure(&block, "evictions") > 100, "{block}");
}

#[test]
fn large_pages_of_files_are_cut_and_taken_back_like_small_ones() {
    let Some(kvm) = Platform::Kvm.here() else { return };
    let folder = compiled("large_pages", Libc::Glibc);
    let vm = || {
        data::random_file(folder.path(), "file", 16 << 20);
        kvm.run(&["./large_pages", "file"]).writable_data(folder.path())
    };
    let host = vm().on_host().expect_status(0);
    // What the program maps fits the first window, and not the second; the third has chunks too small for large pages.
    for (window, cpus) in [("64M", "1"), ("16M", "2"), ("4M", "1")] {
        let guest = vm().option(&["--stats", "--dax-window", window, "--cpus", cpus]).outcome().expect_status(0);
        assert_eq!(guest.out(), host.out(), "{window}");
        if window == "64M" {
            let block = guest.err();
            // In pieces of 256 KiB the mappings alone would take more: eight of 64 pieces, most of them twice.
            assert!(figure(&block, "faults") < 450, "{block}");
        }
    }
}

/// `writers FILE ROUNDS`: threads write into the same pages of a private mapping at the same moment, each into its own byte.
const WRITERS: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { THREADS = 8, PAGES = 1024 };
static unsigned char *volatile memory;
static pthread_barrier_t barrier;
static long rounds;

static void *run(void *number) {
    for (long round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        for (long page = 0; page < PAGES; page += 16) memory[page * 4096 + (long)number] = 1;
        pthread_barrier_wait(&barrier);
    }
    return 0;
}

int main(int argc, char **argv) {
    int file = open(argv[1], O_RDONLY);
    rounds = atol(argv[2]);
    pthread_t ids[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS + 1);
    for (long i = 0; i < THREADS; i++) pthread_create(&ids[i], 0, run, (void *)i);
    long lost = 0;
    for (long round = 0; round < rounds; round++) {
        memory = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        for (long page = 0; page < PAGES; page += 16)
            for (long i = 0; i < THREADS; i++) lost += memory[page * 4096 + i] != 1;
        munmap(memory, PAGES * 4096);
    }
    printf("%ld lost\n", lost);
    return 0;
}
"#;

#[test]
fn threads_that_write_one_private_page_at_once_get_one_copy() {
    let Some(kvm) = Platform::Kvm.here() else { return };
    let folder = data::folder();
    data::compile(folder.path(), "writers", "gcc", &["-pthread"], WRITERS);
    data::file(folder.path(), "file", &vec![0; 4 << 20]);
    // A chunk that has to come from the host first is where one thread overtakes another.
    for window in ["2M", "0"] {
        let vm = kvm.run(&["/data/writers", "/data/file", "20"]).data(folder.path()).option(&["--dax-window", window]);
        assert_eq!(vm.outcome().expect_status(0).out(), "0 lost\n", "{window}");
    }
}

#[test]
fn a_scan_of_a_mapping_brings_several_chunks_by_one_message() {
    let Some(block) = map_and_change("64M", "clock", 48, "0", "1") else { return };
    let (mappings, ahead) = (figure(&block, "mappings"), figure(&block, "ahead"));
    assert!(mappings >= 24 && ahead >= 16, "{block}");
    assert_eq!(figure(&block, "SETUPMAPPING"), mappings - ahead, "{block}");
}

fn python(folder: &Path, options: &[&str], script: &str) -> Option<Outcome> {
    let kvm = Platform::Kvm.here()?;
    let vm = kvm.run(&["/usr/bin/python3", "-c", script]).data(folder).option(options).option(&["--stats"]);
    Some(vm.outcome().expect_status(0))
}

#[test]
fn files_of_a_page_share_a_window_that_cannot_hold_them_all() {
    let folder = data::folder();
    for number in 0..200 {
        data::file(folder.path(), &number.to_string(), format!("{number:4096}").as_bytes());
    }
    const READ: &str = r#"
import mmap, os
for turn in range(3):
    for number in range(200):
        fd = os.open(f'/data/{number}', os.O_RDONLY)
        assert os.pread(fd, 4000, 0).strip() == b'' and int(os.pread(fd, 1, 4095)) == number % 10
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
            assert int(memory[:]) == number
        os.close(fd)
"#;
    let Some(outcome) = python(folder.path(), &["--dax-window", "2M", "--dax-io", "window"], READ) else { return };
    assert!(figure(&outcome.err(), "evictions") > 400, "{}", outcome.err());
}

#[test]
fn nothing_is_asked_for_when_nothing_is_wanted() {
    let folder = data::folder();
    data::file(folder.path(), "empty", b"");
    data::file(folder.path(), "full", &[b'x'; 3 << 20]);
    const READ: &str = r#"
import errno, mmap, os
for name in ['empty', 'full']:
    fd = os.open('/data/' + name, os.O_RDONLY)
    for at in [0, 1, 4096, 2 << 20, 3 << 20, 1 << 40]:
        assert os.pread(fd, 0, at) == b'' and os.preadv(fd, [], at) == 0 and os.preadv(fd, [bytearray()], at) == 0
    assert os.pread(fd, 10, 3 << 20) == b''
    try:
        mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:0]
    except ValueError:
        assert name == 'empty'
"#;
    for io in ["auto", "window"] {
        let Some(outcome) = python(folder.path(), &["--dax-io", io], READ) else { return };
        assert_eq!(outcome.out(), "");
    }
}

#[test]
fn what_is_read_again_and_again_comes_through_the_window() {
    let folder = data::folder();
    data::random_file(folder.path(), "file", 1 << 20);
    const READ: &str = r#"
import os
fd = os.open('/data/file', os.O_RDONLY)
first = os.pread(fd, 1 << 20, 0)
for turn in range(400):
    assert os.pread(fd, 1 << 20, 0) == first
"#;
    let Some(outcome) = python(folder.path(), &[], READ) else { return };
    let block = outcome.err();
    // Whatever the prices are here, 400 messages of a megabyte are dearer than 256 pages.
    let pieces = figure(&block, "cheaper by message");
    assert!(pieces < 250 && figure(&block, "READ") < 300, "{block}");
    let Some(outcome) = python(folder.path(), &["--dax-io", "window"], READ) else { return };
    assert!(figure(&outcome.err(), "READ") < figure(&block, "READ").max(20), "{}", outcome.err());
}
