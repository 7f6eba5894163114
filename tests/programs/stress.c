/* Everything that enters the kernel at once, for ten seconds: a timer of 1 ms whose handler clobbers vector registers,
 * page faults, system calls, and arithmetic in vector registers whose result is known.
 *
 * Whatever an interrupt, a fault or a call loses or changes shows as a wrong sum or a wrong page. */
#include "check.h"
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

enum { SECONDS = 10, PAGES = 64, PAGE = 4096 };

static volatile uint64_t ticks;

static void tick(int number) {
    (void)number;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm1, %%xmm1; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15"
                     ::: "xmm0", "xmm1", "xmm7", "xmm15");
    ticks++;
}

typedef double Vector __attribute__((vector_size(32)));

/* Sums that are exact in binary, eight accumulators wide; 1000 rounds a call. */
static int vectors_are_right(double seed) {
    Vector sums[8];
    for (int i = 0; i < 8; i++) sums[i] = (Vector){seed, seed + 1, seed + 2, seed + i};
    for (int round = 0; round < 1000; round++)
        for (int i = 0; i < 8; i++) sums[i] += (Vector){0.5, 0.25, i, 2};
    for (int i = 0; i < 8; i++) {
        Vector right = {seed + 500, seed + 251, seed + 2 + 1000.0 * i, seed + i + 2000};
        for (int lane = 0; lane < 4; lane++)
            if (sums[i][lane] != right[lane]) return 0;
    }
    return 1;
}

static int pages_are_right(uint64_t seed) {
    uint64_t *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return 0;
    int right = 1;
    for (int i = 0; i < PAGES; i++) {
        right &= pages[i * PAGE / 8] == 0;
        pages[i * PAGE / 8 + i] = seed ^ i;
    }
    for (int i = 0; i < PAGES; i++) right &= pages[i * PAGE / 8 + i] == (seed ^ i);
    return munmap(pages, PAGES * PAGE) == 0 && right;
}

static int calls_are_right(int ends[2], uint64_t seed) {
    uint64_t back = 0;
    return syscall(SYS_getpid) == getpid() && syscall(9999) == -1 && errno == ENOSYS &&
           write(ends[1], &seed, sizeof seed) == sizeof seed && read(ends[0], &back, sizeof back) == sizeof back &&
           back == seed;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct itimerval each_ms = {{0, 1000}, {0, 1000}};
    CHECK(setitimer(ITIMER_REAL, &each_ms, NULL) == 0);

    uint64_t rounds = 0, wrong_vectors = 0, wrong_pages = 0, wrong_calls = 0;
    for (double end = now() + SECONDS; now() < end; rounds++) {
        wrong_vectors += !vectors_are_right((double)(rounds % 1000));
        wrong_pages += !pages_are_right(rounds * 0x9e3779b97f4a7c15);
        wrong_calls += !calls_are_right(ends, rounds);
    }
    CHECK(wrong_vectors == 0);
    CHECK(wrong_pages == 0);
    CHECK(wrong_calls == 0);
    /* A busy host may hold the machine back; a timer that stopped would show less. */
    CHECK(ticks > 500 && rounds > 500);
    return verdict();
}
