/* A page of a file is one page, whoever looks at it: read(2), write(2), and every mapping. */
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef FALLOC_FL_PUNCH_HOLE /* musl does not have them */
#define FALLOC_FL_KEEP_SIZE 1
#define FALLOC_FL_PUNCH_HOLE 2
#endif

enum { PAGE = 4096, PAGES = 300, SIZE = PAGES * PAGE, RW = PROT_READ | PROT_WRITE };

static int file, reader;
static char *shared, *second;
static sigjmp_buf back;

static void on_fault(int signal) {
    siglongjmp(back, signal);
}

/* The signal that touching a byte ends in; 0 if it is there. */
static int touch(volatile char *at, int store) {
    int signal = sigsetjmp(back, 1);
    if (signal) return signal;
    if (store) *at = 'x';
    else (void)*at;
    return 0;
}

/* Through every way of looking there is `text` at `at`. */
static int is_everywhere(off_t at, const char *text) {
    char buffer[64];
    size_t length = strlen(text);
    return pread(file, buffer, length, at) == (ssize_t)length && memcmp(buffer, text, length) == 0 &&
           pread(reader, buffer, length, at) == (ssize_t)length && memcmp(buffer, text, length) == 0 &&
           memcmp(shared + at, text, length) == 0 && memcmp(second + at, text, length) == 0;
}

static void put(char *to, const char *text) {
    memcpy(to, text, strlen(text));
}

static void stores(void) {
    put(shared + 5 * PAGE + 10, "stored");
    CHECK(is_everywhere(5 * PAGE + 10, "stored"));
    CHECK(second[6 * PAGE] == '.');
    put(shared + 7 * PAGE - 3, "crossing");
    CHECK(is_everywhere(7 * PAGE - 3, "crossing"));
    char *private = mmap(NULL, SIZE, RW, MAP_PRIVATE, reader, 0);
    CHECK(memcmp(private + 5 * PAGE + 10, "stored", 6) == 0);
    put(private + 5 * PAGE + 10, "my own");
    put(shared + 5 * PAGE + 10, "theirs");
    CHECK(is_everywhere(5 * PAGE + 10, "theirs") && memcmp(private + 5 * PAGE + 10, "my own", 6) == 0);
    CHECK(munmap(private, SIZE) == 0);
    CHECK(madvise(shared, SIZE, MADV_DONTNEED) == 0 && is_everywhere(5 * PAGE + 10, "theirs"));
}

static void writes(void) {
    CHECK(pwrite(file, "written", 7, 9 * PAGE - 4) == 7 && is_everywhere(9 * PAGE - 4, "written"));
    CHECK(pwrite(file, "untouched", 9, 290 * PAGE) == 9 && is_everywhere(290 * PAGE, "untouched"));
    put(shared + 11 * PAGE, "left");
    CHECK(pwrite(file, "right", 5, 11 * PAGE + 2048) == 5);
    CHECK(is_everywhere(11 * PAGE, "left") && is_everywhere(11 * PAGE + 2048, "right"));
    CHECK(msync(shared, SIZE, MS_SYNC) == 0);
    CHECK(is_everywhere(11 * PAGE, "left") && is_everywhere(11 * PAGE + 2048, "right"));
    put(shared + 11 * PAGE, "more");
    CHECK(is_everywhere(11 * PAGE, "more") && is_everywhere(11 * PAGE + 2048, "right"));
}

/* The kernel's own accesses to a mapping. */
static void calls(void) {
    put(shared + 20 * PAGE, "from memory");
    CHECK(pwrite(file, shared + 20 * PAGE, 11, 21 * PAGE + 100) == 11 && is_everywhere(21 * PAGE + 100, "from memory"));
    CHECK(pread(file, shared + 22 * PAGE, 11, 21 * PAGE + 100) == 11 && is_everywhere(22 * PAGE, "from memory"));
    CHECK(pwrite(file, shared + 20 * PAGE, 11, 20 * PAGE + 1000) == 11 && is_everywhere(20 * PAGE + 1000, "from memory"));
    CHECK(pread(file, shared + 20 * PAGE + 2000, 11, 20 * PAGE) == 11 && is_everywhere(20 * PAGE + 2000, "from memory"));
}

static void protections(void) {
    char *area = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, file, 30 * PAGE);
    CHECK(touch(area, 0) == 0 && touch(area, 1) == SIGSEGV);
    CHECK(mprotect(area, 4 * PAGE, RW) == 0);
    put(area + PAGE, "allowed");
    CHECK(is_everywhere(31 * PAGE, "allowed"));
    CHECK(mprotect(area, 4 * PAGE, PROT_READ) == 0 && touch(area + PAGE, 1) == SIGSEGV && touch(area + 2 * PAGE, 1) == SIGSEGV);
    CHECK(mprotect(area, 4 * PAGE, RW) == 0);
    area = mremap(area, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    put(area + 7 * PAGE, "moved");
    CHECK(is_everywhere(37 * PAGE, "moved") && munmap(area, 8 * PAGE) == 0 && is_everywhere(37 * PAGE, "moved"));
    area = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_POPULATE, file, 40 * PAGE);
    put(area + PAGE, "populated");
    CHECK(is_everywhere(41 * PAGE, "populated") && munmap(area, 4 * PAGE) == 0);
    REFUSED(mmap(NULL, PAGE, RW, MAP_SHARED, reader, 0), EACCES);
}

static void sizes(void) {
    struct stat status;
    put(shared + 200 * PAGE, "cut off");
    put(shared + 100 * PAGE + 96, "kept and gone");
    CHECK(ftruncate(file, 100 * PAGE + 100) == 0);
    CHECK(touch(shared + 101 * PAGE, 0) == SIGBUS && touch(second + 200 * PAGE, 0) == SIGBUS);
    CHECK(touch(shared + 101 * PAGE, 1) == SIGBUS);
    CHECK(is_everywhere(100 * PAGE + 96, "kept") && shared[100 * PAGE + 100] == 0 && second[100 * PAGE + 4095] == 0);
    CHECK(pread(file, (char[10]){0}, 10, 100 * PAGE + 95) == 5);
    CHECK(ftruncate(file, SIZE) == 0 && fstat(file, &status) == 0 && status.st_size == SIZE);
    CHECK(shared[200 * PAGE] == 0 && second[100 * PAGE + 100] == 0 && touch(shared + SIZE - 1, 1) == 0);
    put(shared + 50 * PAGE, "a hole");
    CHECK(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50 * PAGE, 2 * PAGE) == 0);
    CHECK(shared[50 * PAGE] == 0 && second[51 * PAGE + 5] == 0 && second[52 * PAGE] == '.');
    put(shared + 50 * PAGE, "filled");
    CHECK(is_everywhere(50 * PAGE, "filled"));
    CHECK(pwrite(file, "longer", 6, SIZE + 3) == 6 && fstat(file, &status) == 0 && status.st_size == SIZE + 9);
}

static void names(void) {
    put(shared + 60 * PAGE, "without a name");
    CHECK(rename("file", "other") == 0 && unlink("other") == 0);
    CHECK(is_everywhere(60 * PAGE, "without a name"));
    put(shared + 61 * PAGE, "still there");
    CHECK(fsync(file) == 0 && is_everywhere(61 * PAGE, "still there"));
}

int main(void) {
    signal(SIGBUS, on_fault);
    signal(SIGSEGV, on_fault);
    char *content = malloc(SIZE);
    memset(content, '.', SIZE);
    file = open("file", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(write(file, content, SIZE) == SIZE);
    reader = open("file", O_RDONLY);
    shared = mmap(NULL, SIZE, RW, MAP_SHARED, file, 0);
    second = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, reader, 0);
    CHECK(shared != MAP_FAILED && second != MAP_FAILED);
    stores();
    writes();
    calls();
    protections();
    sizes();
    names();
    return verdict();
}
