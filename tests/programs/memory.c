/* Mapping, protecting, moving and giving back memory. */
#include "check.h"
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS };

static char *map(size_t pages) {
    return mmap(NULL, pages * PAGE, RW, ANONYMOUS, -1, 0);
}

/* Some by the call itself: musl checks or rounds by itself what it is given. */
static void refusals(void) {
    REFUSED(mmap(NULL, 0, RW, ANONYMOUS, -1, 0), EINVAL);
    REFUSED(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    REFUSED(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
    REFUSED(mmap(NULL, 1UL << 62, RW, ANONYMOUS, -1, 0), ENOMEM);
    REFUSED(syscall(SYS_mmap, 0x10001, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    char *area = map(8);
    REFUSED(mmap(area, PAGE, RW, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    REFUSED(munmap(area + 1, PAGE), EINVAL);
    REFUSED(munmap(area, 0), EINVAL);
    REFUSED(syscall(SYS_mprotect, area + 1, PAGE, PROT_READ), EINVAL);
    REFUSED(mprotect(area, PAGE, 0x40), EINVAL);
    CHECK(mprotect(area, 0, PROT_READ) == 0);
    REFUSED(madvise(area, PAGE, 77), EINVAL);
    REFUSED(mincore(area + 1, PAGE, (void *)area), EINVAL);
    REFUSED(mremap(area, 8 * PAGE, 16 * PAGE, 8), EINVAL);
}

/* A hole in the middle: what comes before it is done, and the call fails. */
static void holes(void) {
    char *area = map(8);
    unsigned char in_core[8];
    memset(area, 7, 8 * PAGE);
    CHECK(munmap(area + 2 * PAGE, PAGE) == 0);
    REFUSED(mprotect(area, 8 * PAGE, RW), ENOMEM);
    REFUSED(msync(area, 8 * PAGE, MS_SYNC), ENOMEM);
    REFUSED(mincore(area, 8 * PAGE, in_core), ENOMEM);
    CHECK(madvise(area, PAGE, MADV_DONTNEED) == 0 && area[0] == 0 && area[PAGE] == 7);
    REFUSED(madvise(area, 8 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK(area[PAGE] == 0 && area[7 * PAGE] == 0);
    CHECK(munmap(area, 8 * PAGE) == 0);
    CHECK(munmap(area, 8 * PAGE) == 0);
}

static void moving(void) {
    char *area = map(4);
    strcpy(area + PAGE, "moved");
    char *bigger = mremap(area, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CHECK(bigger != MAP_FAILED && strcmp(bigger + PAGE, "moved") == 0 && bigger[63 * PAGE] == 0);
    CHECK(mremap(bigger, 64 * PAGE, 2 * PAGE, 0) == bigger && strcmp(bigger + PAGE, "moved") == 0);
    char *there = map(2);
    CHECK(mremap(bigger, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK(strcmp(there + PAGE, "moved") == 0);
    char *low = mmap(NULL, PAGE, RW, ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && (uintptr_t)low < 0x80000000);
}

/* By the call itself where musl would be in the way. */
static char *remap(void *old, size_t old_len, size_t new_len, int flags, void *where) {
    return (char *)syscall(SYS_mremap, old, old_len, new_len, flags, where);
}

static void leaving_the_old(void) {
    enum { DONTUNMAP = 4 };
    char *area = map(4);
    memset(area, 'o', 4 * PAGE);
    REFUSED(remap(area, 4 * PAGE, 4 * PAGE, DONTUNMAP, NULL), EINVAL);
    REFUSED(remap(area, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | DONTUNMAP, NULL), EINVAL);
    char *moved = remap(area, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | DONTUNMAP, NULL);
    CHECK(moved != MAP_FAILED && moved != area && moved[3 * PAGE] == 'o');
    CHECK(area[0] == 0 && area[3 * PAGE] == 0);
    area[0] = 'n';
    CHECK(moved[0] == 'o');
    /* A second view of what is shared. */
    int file = syscall(SYS_memfd_create, "views", 0);
    CHECK(ftruncate(file, 4 * PAGE) == 0);
    char *view = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, file, 0);
    char *second = remap(view + PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE, NULL);
    CHECK(second != MAP_FAILED && second != view + PAGE);
    view[PAGE + 5] = 'v';
    CHECK(second[5] == 'v');
    REFUSED(remap(view, 0, PAGE, 0, NULL), ENOMEM);
    REFUSED(remap(area, 0, PAGE, MREMAP_MAYMOVE, NULL), EINVAL);
}

static void advice(void) {
    enum { POPULATE_READ = 22, POPULATE_WRITE = 23 };
    unsigned char in_core[4];
    char *area = map(4);
    CHECK(madvise(area, 4 * PAGE, POPULATE_WRITE) == 0 && mincore(area, 4 * PAGE, in_core) == 0);
    CHECK((in_core[0] & in_core[3] & 1) == 1);
    CHECK(mprotect(area + PAGE, PAGE, PROT_READ) == 0);
    CHECK(madvise(area, 4 * PAGE, POPULATE_READ) == 0);
    REFUSED(madvise(area, 4 * PAGE, POPULATE_WRITE), EINVAL);
    CHECK(mprotect(area + PAGE, PAGE, PROT_NONE) == 0);
    REFUSED(madvise(area, 4 * PAGE, POPULATE_READ), EINVAL);
    munmap(area + 2 * PAGE, PAGE);
    REFUSED(madvise(area + 2 * PAGE, 2 * PAGE, POPULATE_READ), ENOMEM);
    int file = syscall(SYS_memfd_create, "short", 0);
    CHECK(ftruncate(file, PAGE) == 0);
    char *beyond = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, file, 0);
    REFUSED(madvise(beyond, 2 * PAGE, POPULATE_READ), EFAULT);
    /* What only page tables hold must not be lost. */
    char *shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(shared, 's', 4 * PAGE);
    CHECK(madvise(shared, 4 * PAGE, MADV_DONTNEED) == 0 && shared[0] == 's' && shared[3 * PAGE] == 's');
    REFUSED(madvise(shared, PAGE, MADV_FREE), EINVAL);
    CHECK(madvise(map(2), 2 * PAGE, MADV_FREE) == 0);
}

static void locking(void) {
    unsigned char in_core[4];
    char *area = map(4);
    CHECK(mlock(area + 100, PAGE) == 0 && mincore(area, 4 * PAGE, in_core) == 0);
    CHECK((in_core[0] & in_core[1] & 1) == 1);
    CHECK(munlock(area, 4 * PAGE) == 0);
    CHECK(syscall(SYS_mlock2, area, PAGE, 1) == 0);
    REFUSED(syscall(SYS_mlock2, area, PAGE, 2), EINVAL);
    munmap(area + 2 * PAGE, PAGE);
    REFUSED(mlock(area, 4 * PAGE), ENOMEM);
    REFUSED(munlock(area, 4 * PAGE), ENOMEM);
    CHECK(mprotect(area, PAGE, PROT_NONE) == 0);
    REFUSED(mlock(area, PAGE), ENOMEM);
    REFUSED(mlockall(0), EINVAL);
    REFUSED(mlockall(4), EINVAL);
    CHECK(munlockall() == 0);
}

static void growing_down(void) {
    char *room = mmap(NULL, 1024 * PAGE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0), *end = room + 1024 * PAGE;
    munmap(room, 1024 * PAGE);
    char *stack = mmap(end - 2 * PAGE, 2 * PAGE, RW, ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    CHECK(stack == end - 2 * PAGE);
    int wrong = 0;
    for (char *at = end - 1; at > end - 200 * PAGE; at -= PAGE) wrong += *at != 0, *at = 'g';
    for (char *at = end - 1; at > end - 200 * PAGE; at -= PAGE) wrong += *at != 'g';
    CHECK(wrong == 0);
    munmap(room, 1024 * PAGE);
}

/* Reservations: address space without memory, of which a little is used. */
static void reservations(void) {
    size_t whole = 1UL << 44;
    char *none = mmap(NULL, whole, PROT_NONE, ANONYMOUS, -1, 0);
    char *unbacked = mmap(NULL, whole, RW, ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(none != MAP_FAILED && unbacked != MAP_FAILED);
    int wrong = 0;
    for (size_t at = 0; at < whole; at += whole / 64) unbacked[at + 123] = (char)(at / (whole / 64));
    for (size_t at = 0; at < whole; at += whole / 64) wrong += unbacked[at + 123] != (char)(at / (whole / 64));
    CHECK(wrong == 0);
    CHECK(mprotect(none + whole / 2, 16 * PAGE, RW) == 0);
    memset(none + whole / 2, 'r', 16 * PAGE);
    CHECK(none[whole / 2 + 15 * PAGE] == 'r');
    CHECK(mmap(none + whole / 4, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0) == none + whole / 4);
    CHECK(munmap(none, whole) == 0 && munmap(unbacked, whole) == 0);
}

/* Each page differs from the next, so each is an area; there is an end to that. */
static void many_areas(void) {
    enum { MANY = 70000 };
    char *area = mmap(NULL, (size_t)MANY * PAGE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    int changed = 0;
    while (changed < MANY && mprotect(area + (size_t)changed * PAGE, PAGE, PROT_READ) == 0) changed += 2;
    CHECK(changed > 60000 && changed < MANY && errno == ENOMEM);
    CHECK(munmap(area, (size_t)MANY * PAGE) == 0);
}

static void heap(void) {
    /* musl's sbrk refuses all but 0, so by malloc and realloc, small and large. */
    unsigned char *block = NULL;
    int wrong = 0;
    for (size_t size = 1; size <= 64 << 20; size *= 4) {
        block = realloc(block, size);
        block[size - 1] = (unsigned char)(size >> 8);
        for (size_t old = 1; old <= size; old *= 4) wrong += block[old - 1] != (unsigned char)(old >> 8);
    }
    free(block);
    CHECK(wrong == 0);
    /* More than there is, at once: refused by both ways, and brk says so by staying where it is. */
    REFUSED(mmap(NULL, 1UL << 45, RW, ANONYMOUS, -1, 0), ENOMEM);
    long end = syscall(SYS_brk, 0);
    CHECK(syscall(SYS_brk, end + (1L << 45)) == end);
    unsigned char *zeroed = calloc(3 << 20, 1);
    for (size_t i = 0; i < 3 << 20; i += 997) wrong += zeroed[i] != 0;
    CHECK(wrong == 0);
}

static void files(void) {
    int passwd = open("/etc/passwd", O_RDONLY), folder = open("/etc", O_RDONLY), zero = open("/dev/zero", O_RDWR);
    REFUSED(mmap(NULL, PAGE, RW, MAP_SHARED, passwd, 0), EACCES);
    REFUSED(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, folder, 0), ENODEV);
    REFUSED(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, passwd, 5), EINVAL);
    char *copy = mmap(NULL, PAGE, RW, MAP_PRIVATE, passwd, 0);
    CHECK(copy != MAP_FAILED && memcmp(copy, "root", 4) == 0);
    copy[0] = 'X';
    char byte = 0;
    CHECK(copy[0] == 'X' && pread(passwd, &byte, 1, 0) == 1 && byte == 'r');
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, passwd, 0);
    CHECK(shared != MAP_FAILED && shared[0] == 'r');
    REFUSED(mprotect(shared, PAGE, RW), EACCES);
    char *zeroes = mmap(NULL, PAGE, RW, MAP_PRIVATE, zero, 0);
    CHECK(zeroes != MAP_FAILED && zeroes[5] == 0);

    int own = memfd_create("own", 0);
    CHECK(ftruncate(own, 2 * PAGE) == 0);
    char *one = mmap(NULL, PAGE, RW, MAP_SHARED, own, 0), *two = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, own, 0);
    one[9] = 'M';
    CHECK(two[9] == 'M' && pread(own, &byte, 1, 9) == 1 && byte == 'M');
    CHECK(pwrite(own, "W", 1, PAGE + 1) == 1 && two[PAGE + 1] == 'W');
}

static void execution(void) {
    static const unsigned char forty_two[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
    char *code = map(1);
    memcpy(code, forty_two, sizeof forty_two);
    CHECK(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
    CHECK(((int (*)(void))(void *)code)() == 42);
}

int main(void) {
    refusals();
    holes();
    moving();
    leaving_the_old();
    advice();
    locking();
    growing_down();
    reservations();
    many_areas();
    heap();
    files();
    execution();
    return verdict();
}
