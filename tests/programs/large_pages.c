/* A file's content in large pages: what a page table holds for 2 MiB at once must still be changed, taken away, protected
 * and cut page by page. `large_pages FILE`, which is writable, 16 MiB long and full of random bytes. */
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, LARGE = 2 << 20, SIZE = 16 << 20, RW = PROT_READ | PROT_WRITE };

static int file;
static unsigned char *content;
static sigjmp_buf back;

static void take(int signal) { siglongjmp(back, signal); }

/* The signal that reading at an address raises, or 0. */
static int raised(volatile unsigned char *at) {
    int signal = sigsetjmp(back, 1);
    if (signal == 0) (void)*at;
    return signal;
}

static unsigned char *map(int protection, int flags, size_t offset, size_t len) {
    unsigned char *at = mmap(NULL, len, protection, flags, file, offset);
    CHECK(at != MAP_FAILED);
    return at;
}

/* Pages are touched from all over, so that the first touch of a large page is anywhere in it. */
static int shows(const unsigned char *at, size_t offset, size_t len) {
    size_t pages = len / PAGE;
    for (size_t i = 0; i < pages; i++) {
        size_t page = (i * 7919 + 300) % pages * PAGE;
        if (memcmp(at + page, content + offset + page, PAGE) != 0) return 0;
    }
    return 1;
}

static void views(void) {
    unsigned char *all = map(PROT_READ, MAP_SHARED, 0, SIZE), *again = map(PROT_READ, MAP_PRIVATE, 0, SIZE);
    CHECK(shows(all, 0, SIZE) && shows(again, 0, SIZE));
    /* Not at the same place in a large page as in the file: small pages. */
    unsigned char *odd = map(PROT_READ, MAP_SHARED, 3 * PAGE, SIZE - 3 * PAGE);
    CHECK(shows(odd, 3 * PAGE, SIZE - 3 * PAGE));

    CHECK(munmap(all + LARGE + 5 * PAGE, PAGE) == 0);
    CHECK(raised(all + LARGE + 5 * PAGE) == SIGSEGV);
    CHECK(shows(all, 0, LARGE + 5 * PAGE) && shows(all + LARGE + 6 * PAGE, LARGE + 6 * PAGE, SIZE - LARGE - 6 * PAGE));
    CHECK(mprotect(all + 3 * LARGE - PAGE, 2 * PAGE, PROT_NONE) == 0);
    CHECK(raised(all + 3 * LARGE - PAGE) == SIGSEGV && raised(all + 3 * LARGE) == SIGSEGV);
    CHECK(raised(all + 3 * LARGE + PAGE) == 0 && raised(all + 3 * LARGE - 2 * PAGE) == 0);
    CHECK(mprotect(all + 3 * LARGE - PAGE, 2 * PAGE, PROT_READ) == 0);
    CHECK(shows(all + 2 * LARGE, 2 * LARGE, 2 * LARGE));

    /* Moved to where it fits large pages, and to where it does not. */
    unsigned char *room = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *moved = mremap(all + 4 * LARGE, 2 * LARGE, 2 * LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    CHECK(moved == room && shows(moved, 4 * LARGE, 2 * LARGE));
    unsigned char *shifted = mremap(moved, 2 * LARGE, 2 * LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 2 * LARGE + PAGE);
    CHECK(shifted == room + 2 * LARGE + PAGE && shows(shifted, 4 * LARGE, 2 * LARGE));
    CHECK(munmap(all, SIZE) == 0 && munmap(room, SIZE) == 0 && munmap(odd, SIZE - 3 * PAGE) == 0);
    CHECK(shows(again, 0, SIZE) && munmap(again, SIZE) == 0);
}

static void copies(void) {
    unsigned char *own = map(RW, MAP_PRIVATE, 0, SIZE), *other = map(PROT_READ, MAP_SHARED, 0, SIZE);
    CHECK(shows(own, 0, SIZE) && shows(other, 0, SIZE));
    size_t at = 2 * LARGE + 77 * PAGE + 5;
    own[at]++;
    CHECK(own[at] == (unsigned char)(content[at] + 1) && other[at] == content[at]);
    CHECK(shows(own, 0, at & -PAGE) && shows(own + 2 * LARGE + 78 * PAGE, 2 * LARGE + 78 * PAGE, LARGE));
    CHECK(madvise(own + 2 * LARGE, LARGE, MADV_DONTNEED) == 0);
    CHECK(shows(own, 0, SIZE) && munmap(own, SIZE) == 0 && munmap(other, SIZE) == 0);
}

static void stores(void) {
    unsigned char *shared = map(RW, MAP_SHARED, 0, SIZE), *other = map(PROT_READ, MAP_SHARED, 0, SIZE), byte;
    CHECK(shows(shared, 0, SIZE) && shows(other, 0, SIZE));
    for (size_t at = 9; at < SIZE; at += LARGE / 2) shared[at] = ++content[at];
    CHECK(shows(other, 0, SIZE) && pread(file, &byte, 1, 9) == 1 && byte == content[9]);
    /* Read-only for a while: the next store faults, and gets its rights back for all of the large page. */
    CHECK(mprotect(shared, SIZE, PROT_READ) == 0 && mprotect(shared, SIZE, RW) == 0);
    for (size_t at = 9; at < SIZE; at += LARGE / 4) shared[at] = ++content[at];
    CHECK(pwrite(file, &content[5 * LARGE], 1, 5 * LARGE) == 1 && shows(shared, 0, SIZE) && shows(other, 0, SIZE));

    /* The end of the file comes to lie in a large page, and goes away again. */
    CHECK(ftruncate(file, 3 * LARGE + 9 * PAGE) == 0);
    CHECK(raised(shared + 3 * LARGE + 9 * PAGE) == SIGBUS && raised(other + 7 * LARGE) == SIGBUS);
    CHECK(shows(shared, 0, 3 * LARGE + 9 * PAGE) && shows(other, 0, 3 * LARGE + 9 * PAGE));
    CHECK(ftruncate(file, SIZE) == 0);
    memset(content + 3 * LARGE + 9 * PAGE, 0, SIZE - 3 * LARGE - 9 * PAGE);
    CHECK(shows(shared, 0, SIZE) && shows(other, 0, SIZE));
    shared[7 * LARGE] = content[7 * LARGE] = 1;
    CHECK(shows(other, 0, SIZE) && munmap(shared, SIZE) == 0 && munmap(other, SIZE) == 0);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    signal(SIGSEGV, take);
    signal(SIGBUS, take);
    file = open(argv[1], O_RDWR);
    content = malloc(SIZE);
    CHECK(file >= 0 && pread(file, content, SIZE, 0) == SIZE);
    views();
    copies();
    stores();
    return verdict();
}
