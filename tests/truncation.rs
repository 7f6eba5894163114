//! Files cut short on the host while a program has them mapped, or reads them: it gets SIGBUS, or fewer bytes, and never
//! a byte that was not the file's; the machine lives. Files punched: it reads zeros. Files replaced: it keeps the one it
//! has. On KVM only, for QEMU has no window.
//!
//! Files are cut at page boundaries: inside its last page a file reads as zeros beyond its end, on Linux itself too.

use crate::data;
use crate::platform::Platform;
use crate::vm::Vm;
use rustix::fs::FallocateFlags;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;

const PAGE: u64 = 4096;
const PAGES: u64 = 700; // more than a chunk of the window

/// `victim MODE FILE SECONDS [holes]` uses every page of a file again and again, and says how often that went well, how
/// often the page was gone (or punched, with `holes`; or the file another one, with the mode `replaced`), and how often
/// something was there that never was in the file. In the mode `own` it changes the file itself, from another thread.
const VICTIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 700 };
static __thread sigjmp_buf back;
static __thread siginfo_t seen;
static long good, gone, wrong;
static int file, ends[2];
static char buffer[64 * PAGE];

static void on_bus(int signal, siginfo_t *info, void *context) {
    seen = *info;
    siglongjmp(back, 1);
}

static int expected(long page) { return 'a' + page % 26; }

static int holes; /* a page may have been punched */

static void check(long page, int byte) {
    if (byte == expected(page)) good++;
    else if (holes && byte == 0) gone++;
    else wrong++;
}

/* Touches a page of a mapping: 1 when it was there, 0 when the signal said that a byte touched was not. */
static int touch(volatile unsigned char *at, int store, int *byte) {
    if (sigsetjmp(back, 1) == 0) {
        if (store >= 0) at[1] = store;
        *byte = *at;
        return 1;
    }
    int touched = seen.si_addr == (void *)at || (store >= 0 && seen.si_addr == (void *)(at + 1));
    if (seen.si_code != BUS_ADRERR || !touched || holes) wrong++;
    gone++;
    return 0;
}

static void use_mapping(volatile unsigned char *memory) {
    for (long page = 0; page < PAGES; page++) {
        int byte;
        if (touch(memory + page * PAGE, -1, &byte)) check(page, byte);
    }
}

/* What is read is not looked at: a page that a store makes dirty just when it is cut off may come back as zeros. */
static void use_shared(volatile unsigned char *memory) {
    for (long page = 0; page < PAGES; page++) {
        int byte;
        if (touch(memory + page * PAGE, expected(page), &byte)) good++;
    }
}

static void use_copies(void) {
    volatile unsigned char *memory = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    for (long page = 0; page < PAGES; page++) {
        int byte;
        if (touch(memory + page * PAGE, '!', &byte)) check(page, byte);
    }
    munmap((void *)memory, PAGES * PAGE);
}

static void use_kernel(volatile unsigned char *memory) {
    for (long page = 0; page < PAGES; page++) {
        unsigned char byte;
        if (write(ends[1], (void *)(memory + page * PAGE), 1) == 1 && read(ends[0], &byte, 1) == 1) check(page, byte);
        else if (errno == EFAULT) gone++;
        else wrong++;
    }
}

static void use_read(void) {
    for (long page = 0; page < PAGES; page += 64) {
        memset(buffer, '?', sizeof buffer);
        ssize_t n = pread(file, buffer, sizeof buffer, page * PAGE);
        if (n < 0) { wrong++; continue; }
        int zeros = 0;
        for (ssize_t i = 0; i < n; i++)
            if (holes && buffer[i] == 0) zeros = 1;
            else if (buffer[i] != expected(page + i / PAGE)) wrong++;
        int cut = n < (ssize_t)sizeof buffer && page + 64 <= PAGES;
        if (holes && cut) wrong++;
        if (cut || zeros) gone++; else good++;
    }
}

/* Opens the file anew, and reads it in both ways: every byte has to be of one and the same file. */
static void use_replaced(const char *path) {
    static int last;
    int now = open(path, O_RDONLY);
    if (now < 0) { wrong++; return; }
    volatile unsigned char *memory = mmap(0, PAGES * PAGE, PROT_READ, MAP_SHARED, now, 0);
    int first = memory[0];
    for (long page = 0; page < PAGES; page++) {
        int byte;
        if (!touch(memory + page * PAGE, -1, &byte) || byte != first) wrong++;
        if (page % 64 == 0 && (pread(now, buffer, sizeof buffer, page * PAGE) <= 0 || buffer[0] != first)) wrong++;
    }
    if (first == last) good++; else gone++;
    last = first;
    munmap((void *)memory, PAGES * PAGE);
    close(now);
}

/* Cuts the file short at some page and makes it whole again, over and over. */
static void *cut(void *unused) {
    static char whole[PAGES * PAGE];
    unsigned long state = time(0) | 1;
    for (long i = 0; i < PAGES * PAGE; i++) whole[i] = expected(i / PAGE);
    for (;;) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        off_t start = state % PAGES * PAGE;
        if (ftruncate(file, start) || pwrite(file, whole + start, sizeof whole - start, start) < 0) wrong++;
        usleep(state / PAGES % 1000);
    }
    return unused;
}

int main(int argc, char **argv) {
    struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
    sigaction(SIGBUS, &action, 0);
    const char *mode = argv[1];
    int own = !strcmp(mode, "own"), writes = own || !strcmp(mode, "shared");
    holes = argc > 4;
    file = open(argv[2], writes ? O_RDWR : O_RDONLY);
    if (file < 0 || pipe(ends)) { perror(argv[2]); return 1; }
    int rights = writes && !own ? PROT_READ | PROT_WRITE : PROT_READ;
    pthread_t cutter;
    if (own && pthread_create(&cutter, 0, cut, 0)) return 1;
    volatile unsigned char *memory = mmap(0, PAGES * PAGE, rights, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    puts("ready");
    fflush(stdout);
    time_t end = time(0) + atoi(argv[3]);
    while (time(0) < end) {
        if (!strcmp(mode, "copies")) use_copies();
        else if (!strcmp(mode, "kernel")) use_kernel(memory);
        else if (!strcmp(mode, "read")) use_read();
        else if (!strcmp(mode, "replaced")) use_replaced(argv[2]);
        else if (writes && !own) use_shared(memory);
        else use_mapping(memory);
    }
    printf("good %ld gone %ld wrong %ld\n", good, gone, wrong);
    return 0;
}
"#;

/// What the host does to a file meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    /// Cuts it short at some page, and stretches it again with what it had.
    Cut,
    /// Punches a hole of some pages, and fills it with what was there.
    Punch,
    /// Puts another file of the same size in its place.
    Replace,
}

/// Changes a file with random timing until `over`; returns how often. Whatever is in the file at any time is what
/// `content` has there, or nothing.
fn keep_changing(change: Change, path: &Path, content: &[u8], mut over: impl FnMut() -> bool) -> u64 {
    let mut state = RandomState::new().build_hasher().finish() | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let mut changes = 0;
    while !over() {
        let start = random(PAGES + 1) * PAGE;
        let end = match change {
            Change::Punch => (start + random(64) * PAGE).min(PAGES * PAGE),
            Change::Cut | Change::Replace => PAGES * PAGE,
        };
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match change {
            Change::Cut => file.set_len(start).unwrap(),
            Change::Punch if start == end => {}
            Change::Punch => rustix::fs::fallocate(&file, mode, start, end - start).unwrap(),
            Change::Replace => {
                let new = path.with_extension("new");
                std::fs::write(&new, vec![b'a' + (changes % 26) as u8; content.len()]).unwrap();
                std::fs::rename(new, path).unwrap();
            }
        }
        std::thread::sleep(Duration::from_micros(random(1500)));
        if change != Change::Replace {
            file.write_all_at(&content[start as usize..end as usize], start).unwrap();
        }
        std::thread::sleep(Duration::from_micros(random(1500)));
        changes += 1;
    }
    changes
}

fn await_ready(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    output
}

fn stress(change: Change, mode: &str, on_vm: impl for<'a> Fn(Vm<'a>, &Path) -> Vm<'a>) {
    let Some(kvm) = Platform::Kvm.here() else { return };
    let content = content();
    let folder = victim(mode, if change == Change::Replace { vec![b'z'; content.len()] } else { content.clone() });
    let path = folder.path().join("file");

    let mut command = vec!["/data/victim", mode, "/data/file", "2"];
    command.extend((change == Change::Punch).then_some("holes"));
    disturb(change, mode, &on_vm(kvm.run(&command), folder.path()), &content, &path);
}

/// Runs a victim whose file, `path` with `content`, is changed all the time.
fn disturb(change: Change, mode: &str, vm: &Vm<'_>, content: &[u8], path: &Path) {
    let mut child = vm.start();
    let mut output = await_ready(&mut child);
    let changes = keep_changing(change, path, content, || child.try_wait().unwrap().is_some());
    let (mut out, mut err) = (String::new(), String::new());
    output.read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    println!("{mode}: {changes} changes: {out}{err}");
    assert!(child.wait().unwrap().success(), "{out}{err}");
    check(&out);
    // A host that has much else to do may come to few, but the program has seen what they do.
    assert!(changes > 0, "{changes} changes: {out}");
}

/// What is in the file at first.
fn content() -> Vec<u8> {
    (0..PAGES * PAGE).map(|at| b'a' + (at / PAGE % 26) as u8).collect()
}

/// A folder with the program for a mode and its file.
///
/// What is read comes by message as well, which is a pread(2) of the host's. On a file system whose cache has large
/// folios that may bring zeros in place of what is being cut off, with no machine anywhere near (ext4 of Linux 6.18: one
/// of a hundred native runs of this program for 3 s). In memory the host's own reads are exact, and ours have to be.
fn victim(mode: &str, content: Vec<u8>) -> TempDir {
    let folder = if mode == "read" { data::folder_in_memory() } else { data::folder() };
    data::compile(folder.path(), "victim", "gcc", &["-pthread"], VICTIM);
    data::file(folder.path(), "file", &content);
    folder
}

/// The program saw both that pages were there and that they were not, and nothing else.
fn check(out: &str) {
    let counts: Vec<u64> = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [good, gone, wrong] = counts[..] else { panic!("{out}") };
    assert!(wrong == 0 && good > 0 && gone > 0, "{out}");
}

#[test]
fn a_program_that_reads_a_mapping_gets_sigbus_where_the_file_is_gone() {
    stress(Change::Cut, "map", |vm, folder| vm.data(folder));
}

#[test]
fn a_program_that_writes_a_mapping_gets_sigbus_where_the_file_is_gone() {
    stress(Change::Cut, "shared", |vm, folder| vm.writable_data(folder));
}

#[test]
fn a_program_that_cuts_its_own_file_under_a_mapping_gets_sigbus_there() {
    let Some(kvm) = Platform::Kvm.here() else { return };
    for window in ["2M", "64M"] {
        let folder = victim("own", content());
        let vm = kvm.run(&["/data/victim", "own", "/data/file", "2"]).writable_data(folder.path());
        check(&vm.option(&["--dax-window", window]).outcome().expect_status(0).out());
    }
}

#[test]
fn the_other_processor_hears_of_it_too() {
    let Some(kvm) = Platform::Kvm.here() else { return };
    // Devices interrupt the first processor; here it is idle.
    for mode in ["map", "read"] {
        let folder = victim(mode, content());
        let path = folder.path().join("file");
        let vm = kvm.run(&["/usr/bin/taskset", "-c", "1", "/data/victim", mode, "/data/file", "2"]).data(folder.path());
        disturb(Change::Cut, mode, &vm.option(&["--cpus", "2"]), &content(), &path);
    }
    // One thread cuts while the other looks.
    let folder = victim("own", content());
    let vm = kvm.run(&["/data/victim", "own", "/data/file", "2"]).writable_data(folder.path());
    check(&vm.option(&["--cpus", "2"]).outcome().expect_status(0).out());
}

#[test]
fn private_copies_are_of_what_was_in_the_file() {
    stress(Change::Cut, "copies", |vm, folder| vm.data(folder));
}

#[test]
fn the_kernel_reads_the_programs_memory_like_the_program() {
    stress(Change::Cut, "kernel", |vm, folder| vm.data(folder));
}

#[test]
fn a_read_ends_early_and_brings_nothing_that_was_not_in_the_file() {
    stress(Change::Cut, "read", |vm, folder| vm.data(folder));
}

#[test]
fn a_small_window_makes_no_difference() {
    stress(Change::Cut, "map", |vm, folder| vm.data(folder).option(&["--dax-window", "4M"]));
    stress(Change::Cut, "read", |vm, folder| vm.data(folder).option(&["--dax-window", "8M", "--dax-policy", "lifo"]));
}

#[test]
fn every_window_and_policy_survives() {
    for (window, policy) in [("2M", "lifo"), ("4M", "clock"), ("64M", "lifo")] {
        let options = ["--dax-window", window, "--dax-policy", policy, "--dax-io", "window"];
        stress(Change::Cut, "map", |vm, folder| vm.data(folder).option(&options));
        stress(Change::Cut, "read", |vm, folder| vm.data(folder).option(&options));
    }
}

#[test]
fn a_hole_that_is_punched_reads_as_zeros() {
    for window in ["2M", "64M"] {
        let options = ["--dax-window", window, "--dax-io", "window"];
        stress(Change::Punch, "map", |vm, folder| vm.data(folder).option(&options));
        stress(Change::Punch, "read", |vm, folder| vm.data(folder).option(&options));
    }
    stress(Change::Punch, "read", |vm, folder| vm.data(folder));
}

#[test]
fn a_file_that_is_replaced_stays_itself_for_who_has_it_open() {
    for cache in ["auto", "none"] {
        stress(Change::Replace, "replaced", |vm, folder| {
            vm.data(folder).option(&["--dax-window", "4M", "--cache", cache])
        });
    }
}

#[test]
fn a_program_whose_own_text_is_cut_dies_of_sigbus() {
    const SLEEPER: &str = r#"
        #include <stdio.h>
        #include <unistd.h>
        int main(void) {
            puts("ready");
            fflush(stdout);
            for (;;) usleep(1000);
        }
    "#;
    let Some(kvm) = Platform::Kvm.here() else { return };
    let folder = data::folder();
    let program = data::compile(folder.path(), "sleeper", "gcc", &[], SLEEPER);
    let vm = kvm.run(&["/data/sleeper"]).data(folder.path());
    let mut child = vm.start();
    let _output = await_ready(&mut child);
    OpenOptions::new().write(true).open(program).unwrap().set_len(0).unwrap();
    let outcome = vm.finish(child).expect_status(128 + 7);
    assert!(outcome.err().contains("SIGBUS"), "{}", outcome.err());
}
