/* Large reads and writes by message, straight from and to the program's memory: of every shape, and taken away meanwhile. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { PAGE = 4096, SIZE = 3 << 20, HALF = SIZE / 2, RW = PROT_READ | PROT_WRITE };

static int file, copy;
static unsigned char *expected;

static unsigned char *map(size_t length) {
    return mmap(NULL, length, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int is_content(const unsigned char *at, long offset, long length) {
    return memcmp(at, expected + offset, length) == 0;
}

static void make(void) {
    expected = malloc(SIZE);
    for (unsigned i = 0; i < SIZE; i++) expected[i] = (i * 2654435761u) >> 24;
    file = open("content", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(write(file, expected, SIZE) == SIZE);
}

/* Pages that are there, and that are not; with a beginning and an end in the middle of a page. */
static void shapes(void) {
    unsigned char *fresh = map(SIZE + PAGE), *heap = malloc(SIZE);
    CHECK(pread(file, fresh, SIZE, 0) == SIZE && is_content(fresh, 0, SIZE));
    memset(fresh, 1, SIZE + PAGE);
    CHECK(pread(file, fresh + 77, SIZE - 1000, 500) == SIZE - 1000 && is_content(fresh + 77, 500, SIZE - 1000));
    CHECK(fresh[76] == 1 && fresh[77 + SIZE - 1000] == 1);
    CHECK(pread(file, heap, 100000, SIZE - 50000) == 50000 && is_content(heap, SIZE - 50000, 50000));
    CHECK(pread(file, heap, SIZE, SIZE) == 0);
    struct iovec parts[] = {{fresh + 1, 20000}, {heap, 3}, {heap + 9, 0}, {heap + 4096, 300001}, {fresh + 500000, 40000}};
    CHECK(preadv(file, parts, 5, 12345) == 360004);
    CHECK(is_content(fresh + 1, 12345, 20000) && is_content(heap, 32345, 3) && is_content(heap + 4096, 32348, 300001));
    CHECK(is_content(fresh + 500000, 332349, 40000));
    /* Every other page of another mapping: none lies beside the next. */
    for (long at = 0; at < SIZE; at += 2 * PAGE)
        *(char *)mmap(fresh + at, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) = 0;
    CHECK(pread(file, fresh, SIZE, 0) == SIZE && is_content(fresh, 0, SIZE));
    CHECK(pwrite(copy, fresh, SIZE, 0) == SIZE && pread(copy, heap, SIZE, 0) == SIZE && is_content(heap, 0, SIZE));
    CHECK(pwrite(copy, expected + 3, SIZE - 3, 1) == SIZE - 3 && pread(copy, heap, SIZE, 1) == SIZE - 1);
    CHECK(is_content(heap, 3, SIZE - 3));
    CHECK(munmap(fresh, SIZE + PAGE) == 0);
    free(heap);
}

/* Memory that ends, or may not be written, or is a file's. */
static void not_to_be_had(void) {
    unsigned char *memory = map(SIZE);
    CHECK(mprotect(memory + HALF, PAGE, PROT_READ) == 0);
    CHECK(pread(file, memory, SIZE, 0) == HALF && is_content(memory, 0, HALF));
    CHECK(memory[HALF] == 0);
    REFUSED(pread(file, memory + HALF, HALF, 0), EFAULT);
    CHECK(munmap(memory + HALF, PAGE) == 0);
    CHECK(pread(file, memory, SIZE, 4096) == HALF && is_content(memory, 4096, HALF));
    CHECK(pwrite(copy, memory, SIZE, 0) == HALF);
    REFUSED(pread(file, memory + HALF, HALF, 0), EFAULT);
    REFUSED(pwrite(copy, memory + HALF, HALF, 0), EFAULT);
    unsigned char *private = mmap(NULL, HALF, RW, MAP_PRIVATE, file, 0);
    private[5 * PAGE] = 9;
    CHECK(pwrite(copy, private, HALF, 0) == HALF && pread(copy, memory, HALF, 0) == HALF);
    CHECK(memory[5 * PAGE] == 9);
    memory[5 * PAGE] = expected[5 * PAGE];
    CHECK(is_content(memory, 0, HALF));
    CHECK(pread(file, private, HALF, HALF) == HALF && is_content(private, HALF, HALF));
    CHECK(munmap(private, HALF) == 0 && munmap(memory, HALF) == 0);
}

static unsigned char *_Atomic place;
static atomic_int over;

/* Takes memory away while it is read into, and uses what is free then for something else. */
static void *taker(void *unused) {
    (void)unused;
    long wrong = 0;
    while (!over) {
        unsigned char *memory = place;
        if (memory == NULL) continue;
        madvise(memory, HALF, MADV_DONTNEED);
        unsigned char *other = map(HALF);
        memset(other, 0xa5, HALF);
        sched_yield();
        for (long at = 0; at < HALF; at += 64) wrong += other[at] != 0xa5;
        munmap(other, HALF);
    }
    return (void *)wrong;
}

static void taken_away(void) {
    pthread_t thread;
    void *wrong;
    long all = 0, good = 1;
    unsigned char *memory = map(HALF);
    CHECK(pthread_create(&thread, NULL, taker, NULL) == 0);
    place = memory;
    for (int i = 0; i < 300; i++) {
        all += pread(file, memory, HALF, i * 1000) == HALF;
        /* What was thrown away is zero, the rest the file's. */
        for (long at = 0; at < HALF; at += 4099)
            good &= ((volatile unsigned char *)memory)[at] == 0 || memory[at] == 0 || memory[at] == expected[i * 1000 + at];
        all += pwrite(copy, memory, HALF, 0) == HALF;
    }
    over = 1;
    pthread_join(thread, &wrong);
    CHECK(all == 600 && good);
    CHECK(wrong == NULL);
}

int main(void) {
    make();
    copy = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0644);
    shapes();
    not_to_be_had();
    taken_away();
    return verdict();
}
