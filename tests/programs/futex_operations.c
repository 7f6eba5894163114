/* The rest of the futex call: what WAKE_OP can do, bit sets, REQUEUE without a comparison, both clocks, private and shared. */
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/* From linux/futex.h, which not every C library's compiler finds. */
enum { WAIT, WAKE, REQUEUE = 3, CMP_REQUEUE, WAKE_OP, WAIT_BITSET = 9, WAKE_BITSET, PRIVATE = 128, REALTIME = 256 };
enum { SET, ADD, OR, ANDN, XOR, SHIFT = 8 };
enum { EQ, NE, LT, LE, GT, GE };

static long futex(int *word, int operation, long value, long value2_or_time, int *word2, long value3) {
    return syscall(SYS_futex, word, operation, value, value2_or_time, word2, value3);
}

static int first, second;

static long operate(int operation, int argument, int comparison, int with) {
    uint32_t code = (uint32_t)operation << 28 | (uint32_t)comparison << 24 | (argument & 0xfffu) << 12 | (with & 0xfffu);
    return futex(&first, WAKE_OP | PRIVATE, 1, 1, &second, code);
}

static void words(void) {
    second = 12;
    CHECK(operate(SET, 5, EQ, 12) == 0 && second == 5);
    CHECK(operate(ADD, 7, NE, 0) == 0 && second == 12);
    CHECK(operate(ADD, -3, LT, 0) == 0 && second == 9);
    CHECK(operate(OR, 6, LE, 0) == 0 && second == 15);
    CHECK(operate(ANDN, 5, GT, 0) == 0 && second == 10);
    CHECK(operate(XOR, 3, GE, 0) == 0 && second == 9);
    CHECK(operate(OR | SHIFT, 5, EQ, 0) == 0 && second == 41);
    REFUSED(operate(5, 1, EQ, 0), ENOSYS);
    REFUSED(operate(ADD, 1, 6, 0), ENOSYS);
    REFUSED(futex(&first, WAKE_OP, 1, 1, (int *)8, 0), EFAULT);
}

static volatile int returned;

struct waiting {
    int *word;
    int shared;
    uint32_t bits;
};

static void *wait_for_bits(void *argument) {
    struct waiting *about = argument;
    futex(about->word, WAIT_BITSET | (about->shared ? 0 : PRIVATE), 0, 0, NULL, about->bits);
    __sync_fetch_and_add(&returned, 1);
    return NULL;
}

/* Wakes until somebody was: that a thread waits cannot be seen otherwise. */
static long wake_bits(int *word, int shared, uint32_t bits) {
    long woken = 0;
    for (int i = 0; i < 20000 && woken == 0; i++) {
        woken = futex(word, WAKE_BITSET | (shared ? 0 : PRIVATE), 1, 0, NULL, bits);
        if (!woken) usleep(500);
    }
    return woken;
}

static void bits(int *word, int shared) {
    pthread_t threads[2];
    struct waiting about[2] = {{word, shared, 1}, {word, shared, 6}};
    returned = 0;
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, wait_for_bits, &about[i]);
    CHECK(wake_bits(word, shared, 4) == 1);
    pthread_join(threads[1], NULL);
    CHECK(returned == 1 && futex(word, WAKE_BITSET | (shared ? 0 : PRIVATE), 1, 0, NULL, 8) == 0);
    /* A plain wake is one for all bits. */
    long woken = 0;
    while (!woken) woken = futex(word, WAKE | (shared ? 0 : PRIVATE), 1, 0, NULL, 0);
    CHECK(woken == 1);
    pthread_join(threads[0], NULL);
    CHECK(returned == 2);
    REFUSED(futex(word, WAIT_BITSET, 0, 0, NULL, 0), EINVAL);
}

static void moving(int shared) {
    enum { MANY = 5 };
    int flag = shared ? 0 : PRIVATE;
    pthread_t threads[MANY];
    struct waiting about = {&first, shared, UINT_MAX};
    first = second = 0, returned = 0;
    for (int i = 0; i < MANY; i++) pthread_create(&threads[i], NULL, wait_for_bits, &about);
    long moved = 0;
    while (moved < MANY) moved += futex(&first, REQUEUE | flag, 0, INT_MAX, &second, 0), usleep(500);
    CHECK(moved == MANY);
    CHECK(futex(&first, WAKE | flag, INT_MAX, 0, NULL, 0) == 0 && returned == 0);
    /* Two woken, one moved, two left. */
    CHECK(futex(&second, CMP_REQUEUE | flag, 2, 1, &first, 0) == 3);
    CHECK(futex(&first, WAKE | flag, INT_MAX, 0, NULL, 0) == 1);
    CHECK(futex(&second, WAKE | flag, INT_MAX, 0, NULL, 0) == 2);
    for (int i = 0; i < MANY; i++) pthread_join(threads[i], NULL);
    CHECK(returned == MANY);
    REFUSED(futex(&first, REQUEUE, -1, 1, &second, 0), EINVAL);
    REFUSED(futex(&first, REQUEUE, 1, -1, &second, 0), EINVAL);
}

static int64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void times(void) {
    enum { MS = 1000 * 1000 };
    struct timespec span = {0, 20 * MS};
    for (int flag = 0; flag <= PRIVATE; flag += PRIVATE) {
        int64_t start = now(CLOCK_MONOTONIC);
        REFUSED(futex(&first, WAIT | flag, 0, (long)&span, NULL, 0), ETIMEDOUT);
        CHECK(now(CLOCK_MONOTONIC) - start >= 20 * MS);
        for (int wall = 0; wall < 2; wall++) {
            clockid_t clock = wall ? CLOCK_REALTIME : CLOCK_MONOTONIC;
            int64_t until = now(clock) + 20 * MS;
            struct timespec at = {until / 1000000000, until % 1000000000};
            REFUSED(futex(&first, WAIT_BITSET | flag | (wall ? REALTIME : 0), 0, (long)&at, NULL, -1), ETIMEDOUT);
            CHECK(now(clock) >= until);
        }
    }
    REFUSED(futex(&first, WAKE | REALTIME, 1, 0, NULL, 0), ENOSYS);
    REFUSED(futex(&first, REQUEUE | REALTIME, 1, 1, &second, 0), ENOSYS);
}

int main(void) {
    words();
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), private = 0;
    bits(&private, 0);
    bits(shared, 1);
    moving(0);
    moving(1);
    first = 0;
    times();
    return verdict();
}
