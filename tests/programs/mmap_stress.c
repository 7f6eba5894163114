/* Mapping, protecting, moving and giving back memory by many threads at once in one address space. Each thread has a range of
 * its own, and a model of it that says what every page must hold; what must fault is touched, too. Beside that all threads
 * count in one shared file, through mappings that come and go. */
#include "stress.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PAGE = 4096, PAGES = 1024, COUNTERS = 64, RW = PROT_READ | PROT_WRITE };

/* What a thread knows of a page: 0 is no protection and no mapping alike, since both fault. */
struct page {
    uint8_t protection, value;
    /* The file's page it shows, or -1. */
    int file_page;
};

struct range {
    char *start;
    struct page pages[PAGES];
    int file;
    uint8_t content[PAGES];
    uint64_t random;
};

static __thread sigjmp_buf back;
static __thread volatile sig_atomic_t expecting;

static void take(int signal, siginfo_t *info, void *context) {
    (void)context;
    MUST(expecting, "signal %d at %p, which should be there", signal, info->si_addr);
    siglongjmp(back, 1);
}

static int faults(volatile char *at, int write) {
    expecting = 1;
    int faulted = sigsetjmp(back, 1);
    if (!faulted) {
        if (write)
            *at = *at;
        else
            (void)*at;
    }
    expecting = 0;
    return faulted;
}

static char *at(struct range *range, int page) { return range->start + (size_t)page * PAGE; }

static void look(struct range *range, int page) {
    struct page *known = &range->pages[page];
    volatile char *address = at(range, page);
    if (!(known->protection & PROT_READ)) {
        MUST(faults(address, 0), "page %d has no protection and can be read", page);
        return;
    }
    uint8_t wanted = known->file_page >= 0 ? range->content[known->file_page] : known->value;
    uint32_t where = below(&range->random, PAGE);
    MUST((uint8_t)address[where] == wanted, "page %d byte %u is %u, not %u", page, where, (uint8_t)address[where], wanted);
    if (!(known->protection & PROT_WRITE)) MUST(faults(address, 1), "page %d is not for writing and was written", page);
}

static void map_anonymous(struct range *range, int first, int count) {
    int protection = below(&range->random, 4) ? RW : PROT_READ;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (below(&range->random, 8) ? 0 : MAP_POPULATE);
    char *got = mmap(at(range, first), (size_t)count * PAGE, protection, flags, -1, 0);
    MUST(got == at(range, first), "mmap: %m");
    for (int i = first; i < first + count; i++) range->pages[i] = (struct page){(uint8_t)protection, 0, -1};
}

static void map_file(struct range *range, int first, int count) {
    int offset = (int)below(&range->random, (uint32_t)(PAGES - count + 1)), shared = (int)below(&range->random, 2);
    char *got = mmap(at(range, first), (size_t)count * PAGE, shared ? RW : PROT_READ,
                     (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, range->file, (off_t)offset * PAGE);
    MUST(got == at(range, first), "mmap of a file: %m");
    for (int i = 0; i < count; i++) {
        range->pages[first + i] = (struct page){(uint8_t)(shared ? RW : PROT_READ), 0, offset + i};
    }
}

static void unmap(struct range *range, int first, int count) {
    /* The place must stay ours, or another thread's mapping would come there. */
    char *got = mmap(at(range, first), (size_t)count * PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    MUST(got == at(range, first), "reserving: %m");
    for (int i = first; i < first + count; i++) range->pages[i] = (struct page){0, 0, -1};
}

static void store(struct range *range, int first, int count) {
    uint8_t value = (uint8_t)random_next(&range->random);
    for (int i = first; i < first + count; i++) {
        if (!(range->pages[i].protection & PROT_WRITE)) continue;
        memset(at(range, i), value, PAGE);
        if (range->pages[i].file_page >= 0)
            range->content[range->pages[i].file_page] = value;
        else
            range->pages[i].value = value;
    }
}

static void protect(struct range *range, int first, int count) {
    static const int choices[] = {PROT_NONE, PROT_READ, RW};
    int protection = choices[below(&range->random, 3)];
    MUST(mprotect(at(range, first), (size_t)count * PAGE, protection) == 0, "mprotect: %m");
    for (int i = first; i < first + count; i++) {
        /* A private mapping of a file becomes the thread's own only when it is written; that is left out. */
        if (range->pages[i].file_page >= 0 && protection == RW) {
            unmap(range, i, 1);
            continue;
        }
        range->pages[i].protection = (uint8_t)protection;
    }
}

static void discard(struct range *range, int first, int count) {
    MUST(madvise(at(range, first), (size_t)count * PAGE, MADV_DONTNEED) == 0, "madvise: %m");
    for (int i = first; i < first + count; i++) {
        if (range->pages[i].file_page < 0) range->pages[i].value = 0;
    }
}

/* Out of the range, larger, and back again. */
static void move(struct range *range, int first, int count) {
    for (int i = first; i < first + count; i++) {
        if (range->pages[i].protection != RW || range->pages[i].file_page >= 0) return;
    }
    /* One area: mremap takes no more. */
    size_t len = (size_t)count * PAGE;
    if (mprotect(at(range, first), len, PROT_READ) != 0 || mprotect(at(range, first), len, RW) != 0) return;
    char *away = mremap(at(range, first), len, len, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */);
    if (away == MAP_FAILED) return;
    for (int i = 0; i < count; i++) {
        uint8_t wanted = range->pages[first + i].value;
        MUST((uint8_t)away[(size_t)i * PAGE + 9] == wanted, "page %d was lost on the way", first + i);
        MUST(*(volatile char *)(at(range, first + i) + 9) == 0, "page %d is still where it was", first + i);
    }
    char *home = mremap(away, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at(range, first));
    MUST(home == at(range, first), "mremap back: %m");
}

/* All threads count in the pages of one file, which each maps for itself and in pieces. */
static int shared_file;
static uint64_t added[MOST_THREADS];

static void count_together(struct range *range, int thread) {
    uint32_t page = below(&range->random, COUNTERS);
    uint64_t *counter = mmap(NULL, PAGE, RW, MAP_SHARED, shared_file, (off_t)page * PAGE);
    MUST(counter != MAP_FAILED, "mmap of the shared file: %m");
    for (int i = 0; i < 10; i++) __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    added[thread] += 10;
    if (below(&range->random, 2)) madvise(counter, PAGE, MADV_DONTNEED);
    MUST(*counter >= 10, "what was counted is gone");
    MUST(munmap(counter, PAGE) == 0, "munmap: %m");
}

static int new_file(int pages) {
    int file = (int)syscall(SYS_memfd_create, "stress", 0);
    MUST(file >= 0 && ftruncate(file, (off_t)pages * PAGE) == 0, "memfd: %m");
    return file;
}

static void *work(void *number) {
    int thread = (int)(intptr_t)number;
    struct range *range = calloc(1, sizeof *range);
    range->random = random_start(thread);
    range->file = new_file(PAGES);
    range->start = mmap(NULL, (size_t)PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int i = 0; i < PAGES; i++) range->pages[i] = (struct page){0, 0, -1};
    while (!is_over()) {
        int count = 1 + (int)below(&range->random, below(&range->random, 8) ? 16 : 600);
        int first = (int)below(&range->random, (uint32_t)(PAGES - count + 1));
        switch (below(&range->random, 16)) {
        case 0: case 1: case 2: map_anonymous(range, first, count); break;
        case 3: case 4: map_file(range, first, count); break;
        case 5: unmap(range, first, count); break;
        case 6: case 7: case 8: store(range, first, count); break;
        case 9: case 10: protect(range, first, count); break;
        case 11: discard(range, first, count); break;
        case 12: case 13: move(range, first, count); break;
        default: count_together(range, thread); break;
        }
        for (int i = 0; i < 8; i++) look(range, (int)below(&range->random, PAGES));
    }
    for (int i = 0; i < PAGES; i++) look(range, i);
    munmap(range->start, (size_t)PAGES * PAGE);
    close(range->file);
    free(range);
    return NULL;
}

int main(int count, char **arguments) {
    struct sigaction action = {.sa_sigaction = take, .sa_flags = SA_SIGINFO};
    start(count, arguments);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    shared_file = new_file(COUNTERS);
    run_all(work, "ranges and a shared file");
    uint64_t counted = 0, wanted = 0;
    for (int i = 0; i < COUNTERS; i++) {
        uint64_t counter = 0;
        MUST(pread(shared_file, &counter, sizeof counter, (off_t)i * PAGE) == sizeof counter, "pread: %m");
        counted += counter;
    }
    for (int i = 0; i < thread_count; i++) wanted += added[i];
    CHECK(counted == wanted && wanted > 0);
    return verdict();
}
