/* What the stress programs share: arguments `THREADS MILLISECONDS SEED`, random numbers, an end in time, and one way to say
 * that something is wrong. What they print is the same whatever happened, as long as all was right. */
#ifndef STRESS_H
#define STRESS_H

#include "check.h"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 64 };

static int thread_count = 4;
static uint64_t milliseconds = 300, seed = 1, started;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void start(int count, char **arguments) {
    if (count > 1) thread_count = atoi(arguments[1]);
    if (count > 2) milliseconds = strtoull(arguments[2], NULL, 10);
    if (count > 3) seed = strtoull(arguments[3], NULL, 10);
    if (thread_count < 1 || thread_count > MOST_THREADS) {
        fprintf(stderr, "usage: %s [THREADS (1 to %d) [MILLISECONDS [SEED]]]\n", arguments[0], MOST_THREADS);
        exit(2);
    }
    started = now_ns();
}

static int is_over(void) { return now_ns() - started >= milliseconds * 1000000; }

/* xorshift64*; each thread has a state of its own. */
static uint64_t random_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

static uint64_t random_start(int thread) { return (seed + 1) * 0x9e3779b97f4a7c15 + (uint64_t)thread * 0xbf58476d1ce4e5b9 + 1; }

static uint32_t below(uint64_t *state, uint32_t limit) { return (uint32_t)(random_next(state) >> 33) % limit; }

/* Ends the program: what is wrong once would only be hidden by going on. */
#define MUST(condition, ...)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            dprintf(2, "%s:%d: not %s: ", __FILE__, __LINE__, #condition);                                             \
            dprintf(2, __VA_ARGS__);                                                                                   \
            dprintf(2, " (seed %llu)\n", (unsigned long long)seed);                                                    \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Runs `work` in all threads at once until it returns. Who is not back long after the time is up hangs. */
static void run_all(void *(*work)(void *), const char *name) {
    pthread_t threads[MOST_THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    for (intptr_t i = 0; i < thread_count; i++) {
        int error = pthread_create(&threads[i], &small, work, (void *)i);
        MUST(error == 0, "thread %d: %s", (int)i, strerror(error));
    }
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], NULL);
    dprintf(1, "%s: done\n", name);
}

#endif
