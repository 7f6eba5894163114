/* The futex call itself: waiting, waking, moving waiters, operations on words. */
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/* From linux/futex.h, which not every C library's compiler finds. */
enum { WAIT, WAKE, CMP_REQUEUE = 4, WAKE_OP = 5, WAIT_BITSET = 9, WAKE_BITSET = 10, PRIVATE = 128 };
/* Adds 4 to the second word, and wakes its waiters if it was 3 (FUTEX_OP_ADD, FUTEX_OP_CMP_EQ). */
enum { ADD_4_IF_3 = 1 << 28 | 4 << 12 | 3 };

static int first, second = 3;
static volatile int returned;

static long futex(int *word, int operation, long value, long value2_or_time, int *word2, long value3) {
    return syscall(SYS_futex, word, operation, value, value2_or_time, word2, value3);
}

static void *wait_on_first(void *unused) {
    futex(&first, WAIT, 0, 0, NULL, 0);
    __sync_fetch_and_add(&returned, 1);
    return unused;
}

static void waiters(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, wait_on_first, NULL);
    /* Each that waits is moved to the second word; this is how we learn that they wait. */
    int moved = 0;
    while (moved < 3) {
        moved += futex(&first, CMP_REQUEUE, 0, INT_MAX, &second, 0);
        usleep(1000);
    }
    CHECK(moved == 3);
    CHECK(futex(&first, WAKE, INT_MAX, 0, NULL, 0) == 0);
    CHECK(returned == 0);
    REFUSED(futex(&second, CMP_REQUEUE, 1, 1, &first, 99), EAGAIN);
    /* One woken and one moved back; one stays. */
    CHECK(futex(&second, CMP_REQUEUE, 1, 1, &first, 3) == 2);
    CHECK(futex(&second, WAKE, INT_MAX, 0, NULL, 0) == 1);
    CHECK(futex(&first, WAKE, INT_MAX, 0, NULL, 0) == 1);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(returned == 3);
}

static void operations(void) {
    CHECK(futex(&first, WAKE_OP, 1, 1, &second, ADD_4_IF_3) == 0);
    CHECK(second == 7);
    CHECK(futex(&first, WAKE | PRIVATE, 1, 0, NULL, 0) == 0);
    REFUSED(futex(&first, WAKE_BITSET, 1, 0, NULL, 0), EINVAL);
}

static int *views[2];

static void *wait_in_one_view(void *unused) {
    futex(views[0], WAIT, 0, 0, NULL, 0);
    return unused;
}

/* Two mappings of one page of a file: the same word, unless the program says that it is private. */
static void shared(void) {
    pthread_t thread;
    int file = syscall(SYS_memfd_create, "word", 0), woken = 0;
    CHECK(ftruncate(file, 4096) == 0);
    for (int i = 0; i < 2; i++) views[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_create(&thread, NULL, wait_in_one_view, NULL);
    usleep(20 * 1000);
    CHECK(futex(views[1], WAKE | PRIVATE, 1, 0, NULL, 0) == 0);
    for (; woken == 0; usleep(1000)) woken = futex(views[1], WAKE, 1, 0, NULL, 0);
    CHECK(woken == 1);
    pthread_join(thread, NULL);
}

static void refusals(void) {
    struct timespec moment = {0, 10 * 1000 * 1000}, wrong = {0, 1000000000}, past = {1, 0};
    REFUSED(futex(&first, WAIT, 1, 0, NULL, 0), EAGAIN);
    REFUSED(futex((int *)((char *)&first + 1), WAIT, 0, 0, NULL, 0), EINVAL);
    REFUSED(futex((int *)8, WAIT, 0, 0, NULL, 0), EFAULT);
    REFUSED(futex(&first, WAIT, 0, (long)&moment, NULL, 0), ETIMEDOUT);
    REFUSED(futex(&first, WAIT, 0, (long)&wrong, NULL, 0), EINVAL);
    REFUSED(futex(&first, WAIT, 0, 8, NULL, 0), EFAULT);
    /* This one takes an absolute time. */
    REFUSED(futex(&first, WAIT_BITSET, 0, (long)&past, NULL, -1), ETIMEDOUT);
    REFUSED(futex(&first, 99, 0, 0, NULL, 0), ENOSYS);
}

int main(void) {
    waiters();
    operations();
    shared();
    refusals();
    return verdict();
}
