/* Threads that run at the same time: what one processor does to memory, locks and signals, the others must see.
 *
 * processors CPUS MILLISECONDS FILE: the machine has CPUS processors; each part runs for MILLISECONDS; FILE is 8 MiB of
 * 64-bit words, each its own offset. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

enum { PAGE = 4096, WORKERS = 4, FILE_SIZE = 8 << 20 };

static int cpus, milliseconds;
static atomic_int stop;
static atomic_ulong wrong;
static int file;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t end_of_part(void) {
    stop = 0;
    wrong = 0;
    return now() + milliseconds * INT64_C(1000000);
}

static void start(pthread_t *threads, int count, void *(*body)(void *)) {
    for (intptr_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, body, (void *)i) != 0) abort();
}

static void join(pthread_t *threads, int count) {
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static uint64_t random_from(uint64_t *state) {
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return *state >> 33;
}

/* ---- What the machine says of its processors ---- */

static void description(void) {
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) == cpus);
    CHECK(sysconf(_SC_NPROCESSORS_CONF) == cpus);
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) == cpus);
    int moved = 1;
    for (int cpu = 0; cpu < cpus; cpu++) {
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        moved &= sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() == cpu;
        moved &= sched_getaffinity(0, sizeof one, &one) == 0 && CPU_COUNT(&one) == 1 && CPU_ISSET(cpu, &one);
    }
    CHECK(moved);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    CPU_SET(cpus, &one);
    REFUSED(sched_setaffinity(0, sizeof one, &one), EINVAL);
    char text[65536];
    int cpuinfo = open("/proc/cpuinfo", O_RDONLY), found = 0;
    ssize_t length = 0, got;
    while ((got = read(cpuinfo, text + length, sizeof text - 1 - length)) > 0) length += got;
    text[length] = 0;
    for (char *at = text; (at = strstr(at, "processor\t:")); at++) found++;
    CHECK(close(cpuinfo) == 0 && found == cpus);
}

/* ---- Two threads that hand a number to and fro without a system call: on one processor each turn needs a switch ---- */

static int rallies;
static atomic_int ball;

static uint64_t switches(void) {
    char text[65536], *line;
    int stat = open("/proc/stat", O_RDONLY);
    ssize_t length = read(stat, text, sizeof text - 1);
    close(stat);
    text[length > 0 ? length : 0] = 0;
    return (line = strstr(text, "ctxt ")) ? strtoull(line + 5, NULL, 10) : 0;
}

static void *hand_back(void *argument) {
    (void)argument;
    for (int turn = 0; turn < rallies; turn++) {
        while (atomic_load(&ball) != 2 * turn + 1) continue;
        atomic_store(&ball, 2 * turn + 2);
    }
    return NULL;
}

static void at_the_same_time(void) {
    pthread_t other;
    ball = 0;
    rallies = cpus == 1 ? 20 : 300;
    start(&other, 1, hand_back);
    uint64_t before = switches();
    for (int turn = 0; turn < rallies; turn++) {
        atomic_store(&ball, 2 * turn + 1);
        while (atomic_load(&ball) != 2 * turn + 2) continue;
    }
    uint64_t after = switches();
    join(&other, 1);
    CHECK(ball == 2 * rallies);
    CHECK(cpus == 1 || after - before < (unsigned)rallies);
}

/* ---- More threads than processors that never enter the kernel: each gets its share ---- */

static _Alignas(64) atomic_ulong spins[3 * 8];

static void *spin(void *argument) {
    atomic_ulong *own = &spins[(intptr_t)argument * 8];
    while (!stop) *own += 1;
    return NULL;
}

static void fairness(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) spins[i * 8] = 0;
    end_of_part();
    start(threads, 3, spin);
    int all = 0;
    /* A busy host may take its time; without fair shares this would never end. */
    while (all < 3) {
        struct timespec some = {0, 10 * 1000 * 1000};
        nanosleep(&some, NULL);
        all = 0;
        for (int i = 0; i < 3; i++) all += spins[i * 8] > 0;
    }
    CHECK(all == 3);
    stop = 1;
    join(threads, 3);
}

/* ---- Threads that are told where to run, while they run, wait for a processor or sleep ---- */

enum { MOVED = 6 };
static atomic_int home[MOVED], seen_on[MOVED];
static atomic_ulong reports[MOVED];

/* Odd ones sleep between two looks, even ones run without a system call but getcpu(2). */
static void *stay_home(void *argument) {
    intptr_t own = (intptr_t)argument;
    while (!stop) {
        int before = home[own], here = sched_getcpu();
        /* -1: it is being changed. */
        if (before >= 0 && before != here && home[own] == before) wrong++;
        seen_on[own] = here;
        reports[own]++;
        struct timespec some = {0, 50 * 1000};
        if (own % 2) nanosleep(&some, NULL);
        else for (volatile int i = 0; i < 5000; i++) continue;
    }
    return NULL;
}

static int comes_home(int thread, int cpu) {
    /* A busy host may take its time. */
    int64_t patience = now() + INT64_C(60000000000);
    while (seen_on[thread] != cpu && now() < patience) sched_yield();
    home[thread] = cpu;
    unsigned long before = reports[thread];
    while (reports[thread] < before + 2 && now() < patience) sched_yield();
    return seen_on[thread] == cpu && reports[thread] >= before + 2;
}

static void affinity(void) {
    pthread_t threads[MOVED];
    for (int i = 0; i < MOVED; i++) home[i] = seen_on[i] = -1;
    int64_t end = end_of_part();
    start(threads, MOVED, stay_home);
    uint64_t state = 3, lost = 0, rounds = 0;
    for (; (now() < end || rounds < 10) && lost == 0; rounds++) {
        int where[MOVED];
        for (int i = 0; i < MOVED; i++) {
            home[i] = -1;
            /* Now and then all on one. */
            where[i] = rounds % 4 == 0 ? 0 : (int)(random_from(&state) % (unsigned)cpus);
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(where[i], &one);
            lost += pthread_setaffinity_np(threads[i], sizeof one, &one) != 0;
        }
        for (int i = 0; i < MOVED; i++) lost += !comes_home(i, where[i]);
    }
    stop = 1;
    join(threads, MOVED);
    CHECK(lost == 0);
    CHECK(wrong == 0);
}

/* ---- Locks ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, robust;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static uint64_t guarded, turns[WORKERS];
static int whose;

static void *count_guarded(void *argument) {
    uint64_t own = 0;
    while (!stop || own < 10) {
        pthread_mutex_lock(&mutex);
        uint64_t seen = guarded;
        for (volatile int i = 0; i < 20; i++) continue;
        guarded = seen + 1;
        pthread_mutex_unlock(&mutex);
        own++;
    }
    turns[(intptr_t)argument] = own;
    return NULL;
}

static void *take_turns(void *argument) {
    int own = (int)(intptr_t)argument;
    pthread_mutex_lock(&mutex);
    while (!stop || guarded <= WORKERS) {
        while (whose != own && (!stop || guarded <= WORKERS)) pthread_cond_wait(&condition, &mutex);
        whose = (own + 1) % WORKERS;
        guarded++;
        pthread_cond_broadcast(&condition);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *die_with_lock(void *argument) {
    (void)argument;
    int error = pthread_mutex_lock(&robust);
    if (error == EOWNERDEAD) pthread_mutex_consistent(&robust);
    guarded++;
    return NULL;
}

static _Alignas(64) atomic_int words[2];
static atomic_int together;

/* The kernel adds to a word that a thread adds to as well. */
static void *add_by_kernel(void *argument) {
    (void)argument;
    long times = 0;
    while (!stop || times < 1000) {
        syscall(SYS_futex, &words[1], FUTEX_WAKE_OP, 1, (void *)1, &words[0], FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, -1));
        times++;
    }
    atomic_fetch_add(&together, (int)times);
    return NULL;
}

static void *add_by_hand(void *argument) {
    (void)argument;
    int times = 0;
    for (; !stop || times < 1000; times++) {
        atomic_fetch_add(&words[0], 1);
        for (volatile int i = 0; i < 50; i++) continue;
    }
    atomic_fetch_add(&together, times);
    return NULL;
}

static void wait_until(int64_t end) {
    while (now() < end) {
        struct timespec some = {0, 1000 * 1000};
        nanosleep(&some, NULL);
    }
    stop = 1;
}

static void locks(void) {
    pthread_t threads[WORKERS];
    guarded = 0;
    int64_t end = end_of_part();
    start(threads, WORKERS, count_guarded);
    wait_until(end);
    join(threads, WORKERS);
    uint64_t sum = 0;
    for (int i = 0; i < WORKERS; i++) sum += turns[i];
    CHECK(sum == guarded && sum > 0);

    guarded = 0;
    end = end_of_part();
    start(threads, WORKERS, take_turns);
    wait_until(end);
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    join(threads, WORKERS);
    CHECK(guarded > WORKERS);

    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    guarded = 0;
    int rounds = 0;
    for (end = end_of_part(); now() < end || rounds < 3; rounds++) {
        start(threads, WORKERS, die_with_lock);
        join(threads, WORKERS);
    }
    CHECK(guarded == (uint64_t)rounds * WORKERS);

    end = end_of_part();
    words[0] = together = 0;
    start(threads, 1, add_by_kernel);
    start(threads + 1, 1, add_by_hand);
    wait_until(end);
    join(threads, 2);
    CHECK(words[0] == together);
}

/* ---- Memory that changes under threads that use it ---- */

static _Atomic(uint64_t) published;
static volatile uint64_t *shared_page;
static _Thread_local sigjmp_buf back;
static _Thread_local volatile int guarded_access;

static void on_fault(int number) {
    (void)number;
    if (!guarded_access) abort();
    siglongjmp(back, 1);
}

/* Word 0 holds the number of the page that is there; a reader must never see an older one than was published before,
 * and keeps writing into word 1. */
static void *use_page(void *argument) {
    (void)argument;
    while (!stop) {
        if (sigsetjmp(back, 0) != 0) continue;
        guarded_access = 1;
        for (int i = 0; i < 100; i++) {
            uint64_t before = atomic_load(&published), seen = shared_page[0];
            if (seen != 0 && seen < before) wrong++;
            shared_page[1] = 0xdeadbeefdeadbeef;
        }
        guarded_access = 0;
    }
    return NULL;
}

static int is_zero(const volatile uint64_t *page, int words_to_check) {
    for (int i = 0; i < words_to_check; i++)
        if (page[i] != 0) return 0;
    return 1;
}

static void replaced_pages(void) {
    pthread_t threads[WORKERS];
    shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared_page[0] = published = 1;
    int64_t end = end_of_part();
    start(threads, WORKERS, use_page);
    uint64_t number = 1, dirty = 0;
    while (now() < end || number < 50) {
        number++;
        switch (number % 4) {
        case 0:
            mmap((void *)shared_page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            break;
        case 1:
            munmap((void *)shared_page, PAGE);
            mmap((void *)shared_page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            break;
        case 2: madvise((void *)shared_page, PAGE, MADV_DONTNEED); break;
        case 3:
            mmap((void *)shared_page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
            break;
        }
        shared_page[0] = number;
        atomic_store(&published, number);
        /* What was freed may be used again: nobody may still write there. */
        volatile uint64_t *fresh = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        dirty += !is_zero(fresh, 16 * PAGE / 8);
        munmap((void *)fresh, 16 * PAGE);
    }
    stop = 1;
    join(threads, WORKERS);
    munmap((void *)shared_page, PAGE);
    CHECK(wrong == 0);
    CHECK(dirty == 0);
}

static void *increment_page(void *argument) {
    intptr_t own = (intptr_t)argument;
    while (!stop) {
        if (sigsetjmp(back, 0) != 0) continue;
        guarded_access = 1;
        for (int i = 0; i < 100; i++) shared_page[own]++;
        guarded_access = 0;
    }
    return NULL;
}

static void protected_pages(void) {
    pthread_t threads[WORKERS];
    shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int64_t end = end_of_part();
    start(threads, WORKERS, increment_page);
    while (shared_page[0] == 0) sched_yield();
    uint64_t changed = 0, rounds = 0;
    for (; now() < end || rounds < 50; rounds++) {
        mprotect((void *)shared_page, PAGE, PROT_READ);
        uint64_t sum = 0, again = 0;
        for (int i = 0; i < WORKERS; i++) sum += shared_page[i];
        for (volatile int i = 0; i < 2000; i++) continue;
        for (int i = 0; i < WORKERS; i++) again += shared_page[i];
        changed += sum != again;
        mprotect((void *)shared_page, PAGE, PROT_READ | PROT_WRITE);
        for (volatile int i = 0; i < 2000; i++) continue;
    }
    stop = 1;
    join(threads, WORKERS);
    munmap((void *)shared_page, PAGE);
    CHECK(changed == 0);
}

/* Each thread maps, fills, moves and unmaps memory of its own. */
static void *map_own(void *argument) {
    uint64_t state = (uintptr_t)argument + 1, rounds = 0;
    while (!stop || rounds < 20) {
        size_t pages = 1 + random_from(&state) % 40;
        uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) abort();
        for (size_t i = 0; i < pages; i++) {
            if (memory[i * 512] != 0) wrong++;
            memory[i * 512] = state ^ i;
        }
        if (rounds % 3 == 0) {
            memory = mremap(memory, pages * PAGE, (pages + 3) * PAGE, MREMAP_MAYMOVE);
            if (memory == MAP_FAILED) abort();
            if (memory[pages * 512] != 0) wrong++;
        }
        for (size_t i = 0; i < pages; i++)
            if (memory[i * 512] != (state ^ i)) wrong++;
        munmap(memory, (rounds % 3 == 0 ? pages + 3 : pages) * PAGE);
        rounds++;
    }
    return NULL;
}

static uint64_t *common;
enum { COMMON = 8 << 20 };

/* All threads fault the same pages in. */
static void *touch_common(void *argument) {
    uint64_t *sum = calloc(1, sizeof *sum);
    (void)argument;
    for (size_t at = 0; at < COMMON / 8; at += 512) {
        __atomic_fetch_add(&common[at], 1, __ATOMIC_RELAXED);
        *sum += 1;
    }
    free(sum);
    return NULL;
}

static void mapping(void) {
    pthread_t threads[WORKERS];
    int64_t end = end_of_part();
    start(threads, WORKERS, map_own);
    wait_until(end);
    join(threads, WORKERS);
    CHECK(wrong == 0);
    uint64_t rounds = 0, odd = 0;
    for (end = end_of_part(); now() < end || rounds < 2; rounds++) {
        common = mmap(NULL, COMMON, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        /* Without large pages there are more faults to run into each other. */
        if (rounds % 2) mprotect((char *)common + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        start(threads, WORKERS, touch_common);
        join(threads, WORKERS);
        for (size_t at = 0; at < COMMON / 8; at += 512) odd += common[at] != WORKERS;
        munmap(common, COMMON);
    }
    CHECK(odd == 0);
}

/* ---- Files: read and mapped by all at once, through however small a window ---- */

static void *use_file(void *argument) {
    uint64_t state = (uintptr_t)argument + 77, rounds = 0;
    static _Thread_local uint64_t buffer[8192];
    while (!stop || rounds < 10) {
        uint64_t offset = random_from(&state) % (FILE_SIZE / PAGE - 16) * PAGE;
        if (rounds % 2) {
            if (pread(file, buffer, sizeof buffer, (off_t)offset) != sizeof buffer) wrong++;
            for (size_t i = 0; i < 8192; i++)
                if (buffer[i] != offset + 8 * i) wrong++;
        } else {
            uint64_t *map = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, (off_t)offset);
            if (map == MAP_FAILED) abort();
            for (size_t i = 0; i < 16 * 512; i += 64)
                if (map[i] != offset + 8 * i) wrong++;
            map[512] = 1;
            for (size_t i = 0; i < 16 * 512; i += 64)
                if (map[i] != (i == 512 ? 1 : offset + 8 * i)) wrong++;
            munmap(map, 16 * PAGE);
        }
        rounds++;
    }
    return NULL;
}

static void files(void) {
    pthread_t threads[WORKERS];
    int64_t end = end_of_part();
    start(threads, WORKERS, use_file);
    wait_until(end);
    join(threads, WORKERS);
    CHECK(wrong == 0);
}

/* ---- Small reads of what is in memory: of a shared position, of files that are closed, into memory that goes ---- */

enum { BLOCKS = FILE_SIZE / PAGE };
static int shared_file;
static atomic_int victim, times_read[BLOCKS];

static int is_block(const uint64_t *words, uint64_t offset) { return words[0] == offset && words[511] == offset + 511 * 8; }

/* Each block must come to one thread. */
static void *read_in_turn(void *argument) {
    uint64_t words[PAGE / 8];
    (void)argument;
    while (read(shared_file, words, PAGE) == PAGE) {
        if (!is_block(words, words[0]) || words[0] >= FILE_SIZE) wrong++;
        else times_read[words[0] / PAGE]++;
    }
    return NULL;
}

static void *read_victim(void *argument) {
    uint64_t state = (uintptr_t)argument + 5, words[PAGE / 8];
    while (!stop) {
        uint64_t offset = random_from(&state) % BLOCKS * PAGE;
        ssize_t got = pread(victim, words, PAGE, (off_t)offset);
        if (got == PAGE ? !is_block(words, offset) : got != -1 || errno != EBADF) wrong++;
    }
    return NULL;
}

static void *read_into_page(void *argument) {
    (void)argument;
    while (!stop) {
        ssize_t got = pread(file, (void *)shared_page, PAGE, 0);
        /* The page may go in the middle. */
        if (got <= 0 && (got != -1 || errno != EFAULT)) wrong++;
    }
    return NULL;
}

static void reads(void) {
    pthread_t threads[WORKERS];
    shared_file = open("/proc/self/fd/3", O_RDONLY);
    CHECK(shared_file >= 0);
    int64_t end = end_of_part();
    uint64_t passes = 0, odd = 0;
    for (; now() < end || passes < 2; passes++) {
        for (int i = 0; i < BLOCKS; i++) times_read[i] = 0;
        lseek(shared_file, 0, SEEK_SET);
        start(threads, WORKERS, read_in_turn);
        join(threads, WORKERS);
        for (int i = 0; i < BLOCKS; i++) odd += times_read[i] != 1;
    }
    CHECK(odd == 0 && wrong == 0);

    end = end_of_part();
    victim = dup(shared_file);
    start(threads, WORKERS, read_victim);
    for (uint64_t rounds = 0; now() < end || rounds < 100; rounds++) {
        /* The last of its kind may go while it is read: the file is opened anew each time. */
        close(victim);
        for (volatile int i = 0; i < 2000; i++) continue;
        victim = open("/proc/self/fd/3", O_RDONLY);
        for (volatile int i = 0; i < 20000; i++) continue;
    }
    stop = 1;
    join(threads, WORKERS);
    CHECK(wrong == 0);

    shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    end = end_of_part();
    start(threads, WORKERS, read_into_page);
    uint64_t dirty = 0;
    for (uint64_t rounds = 0; now() < end || rounds < 50; rounds++) {
        munmap((void *)shared_page, PAGE);
        /* What was freed is nobody's to write to: it may come back here. */
        volatile uint64_t *fresh = mmap((char *)shared_page + 64 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (volatile int i = 0; i < 1000; i++) continue;
        if (shared_page < fresh || shared_page >= fresh + 16 * PAGE / 8) dirty += !is_zero(fresh, 16 * PAGE / 8);
        munmap((void *)fresh, 16 * PAGE);
        mmap((void *)shared_page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        for (volatile int i = 0; i < 1000; i++) continue;
    }
    stop = 1;
    join(threads, WORKERS);
    CHECK(wrong == 0);
    CHECK(dirty == 0);
    munmap((void *)shared_page, PAGE);
}

/* ---- Signals to threads that run elsewhere and never enter the kernel by themselves ---- */

static atomic_ulong taken[WORKERS];
static _Thread_local int own_number;

static void on_signal(int number) {
    (void)number;
    taken[own_number]++;
}

static void *spin_until_stopped(void *argument) {
    own_number = (int)(intptr_t)argument;
    atomic_fetch_add(&together, 1);
    uint64_t a = own_number, b = 1;
    while (!stop) {
        a = a * 3 + b;
        b ^= a;
    }
    return (void *)(a ^ b);
}

static void signals(void) {
    pthread_t threads[WORKERS];
    int spinners = cpus > WORKERS ? WORKERS : cpus;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    int64_t end = end_of_part();
    together = 0;
    for (int i = 0; i < WORKERS; i++) taken[i] = 0;
    start(threads, spinners, spin_until_stopped);
    while (together < spinners) sched_yield();
    uint64_t rounds = 0;
    for (; now() < end || rounds < 10; rounds++) {
        int target = (int)(rounds % spinners);
        uint64_t before = taken[target];
        pthread_kill(threads[target], SIGUSR1);
        while (taken[target] == before) continue;
    }
    stop = 1;
    join(threads, spinners);
    uint64_t sum = 0;
    for (int i = 0; i < spinners; i++) sum += taken[i];
    CHECK(sum == rounds);
}

/* ---- Threads that come and go ---- */

static void *nothing(void *argument) { return argument; }

static void *make_threads(void *argument) {
    (void)argument;
    uint64_t rounds = 0;
    while (!stop || rounds < 5) {
        pthread_t threads[3];
        start(threads, 3, nothing);
        for (intptr_t i = 0; i < 3; i++) {
            void *result;
            pthread_join(threads[i], &result);
            if (result != (void *)i) wrong++;
        }
        rounds++;
    }
    return NULL;
}

static int ends[2];
static void *echo(void *argument) {
    (void)argument;
    uint64_t number;
    while (read(ends[0], &number, sizeof number) == sizeof number && number != 0)
        if (write(ends[1], &number, sizeof number) != sizeof number) wrong++;
    return NULL;
}

static void coming_and_going(void) {
    pthread_t threads[WORKERS];
    int64_t end = end_of_part();
    start(threads, WORKERS, make_threads);
    wait_until(end);
    join(threads, WORKERS);
    CHECK(wrong == 0);

    int there[2], here[2];
    CHECK(pipe(there) == 0 && pipe(here) == 0);
    ends[0] = there[0];
    ends[1] = here[1];
    end = end_of_part();
    start(threads, 1, echo);
    uint64_t number = 0, back_again;
    for (int rounds = 0; now() < end || rounds < 10; rounds++) {
        number++;
        if (write(there[1], &number, 8) != 8 || read(here[0], &back_again, 8) != 8 || back_again != number) wrong++;
    }
    number = 0;
    CHECK(write(there[1], &number, 8) == 8);
    join(threads, 1);
    CHECK(wrong == 0);
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    cpus = atoi(arguments[1]);
    milliseconds = atoi(arguments[2]);
    file = open(arguments[3], O_RDONLY);
    CHECK(file >= 0);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    description();
    at_the_same_time();
    fairness();
    affinity();
    locks();
    replaced_pages();
    protected_pages();
    mapping();
    files();
    reads();
    signals();
    coming_and_going();
    /* The end of the process ends threads that run elsewhere. */
    pthread_t threads[WORKERS];
    stop = 0;
    start(threads, cpus > WORKERS ? WORKERS : cpus, spin_until_stopped);
    return verdict();
}
