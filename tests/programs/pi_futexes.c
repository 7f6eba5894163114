/* Locks with priority inheritance: the calls themselves, and the C library's mutexes made of them. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

/* From linux/futex.h, which not every C library's compiler finds. */
enum { LOCK_PI = 6, UNLOCK_PI, TRYLOCK_PI, LOCK_PI2 = 13, PRIVATE = 128, CLOCK_REALTIME_FLAG = 256 };
#define WAITERS 0x80000000u
#define OWNER_DIED 0x40000000u

static long futex(uint32_t *word, int operation, const struct timespec *until) {
    return syscall(SYS_futex, word, operation, 0, until, NULL, 0);
}

static uint32_t self(void) { return (uint32_t)syscall(SYS_gettid); }

/* Waits until another thread has made `*word` what it is to be. */
static void until(volatile uint32_t *word, uint32_t mask, uint32_t wanted) {
    while ((*word & mask) != wanted) usleep(1000);
}

static void alone(void) {
    uint32_t word = 0;
    CHECK(futex(&word, LOCK_PI, NULL) == 0 && word == self());
    REFUSED(futex(&word, LOCK_PI, NULL), EDEADLK);
    REFUSED(futex(&word, TRYLOCK_PI, NULL), EDEADLK);
    CHECK(futex(&word, UNLOCK_PI, NULL) == 0 && word == 0);
    REFUSED(futex(&word, UNLOCK_PI, NULL), EPERM);
    CHECK(futex(&word, TRYLOCK_PI | PRIVATE, NULL) == 0 && word == self());
    CHECK(futex(&word, UNLOCK_PI | PRIVATE, NULL) == 0 && word == 0);
    word = OWNER_DIED;
    CHECK(futex(&word, LOCK_PI, NULL) == 0 && word == (OWNER_DIED | self()));
    CHECK(futex(&word, UNLOCK_PI, NULL) == 0 && word == 0);
    /* Nobody has this number. */
    word = 0x3ffffff0;
    REFUSED(futex(&word, LOCK_PI, NULL), ESRCH);
    word = 0x3ffffff0;
    REFUSED(futex(&word, TRYLOCK_PI, NULL), ESRCH);
    REFUSED(futex((uint32_t *)((char *)&word + 1), LOCK_PI, NULL), EINVAL);
    REFUSED(futex((uint32_t *)8, LOCK_PI, NULL), EFAULT);
    REFUSED(futex((uint32_t *)8, UNLOCK_PI, NULL), EFAULT);
    REFUSED(futex(&word, UNLOCK_PI | CLOCK_REALTIME_FLAG, NULL), ENOSYS);
}

static uint32_t lock_word;
static int order[3], taken;

static void *take_in_turn(void *number) {
    futex(&lock_word, LOCK_PI, NULL);
    order[taken++] = (int)(intptr_t)number;
    futex(&lock_word, UNLOCK_PI, NULL);
    return NULL;
}

static void in_turn(void) {
    pthread_t threads[3];
    futex(&lock_word, LOCK_PI, NULL);
    for (intptr_t i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, take_in_turn, (void *)i);
        usleep(30 * 1000);
    }
    CHECK(lock_word == (WAITERS | self()) && taken == 0);
    CHECK(futex(&lock_word, UNLOCK_PI, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(order[0] == 0 && order[1] == 1 && order[2] == 2);
    CHECK(lock_word == 0);
}

static uint32_t other_word, release;

static void *hold(void *unused) {
    futex(&other_word, LOCK_PI, NULL);
    until(&release, 1, 1);
    futex(&other_word, UNLOCK_PI, NULL);
    return unused;
}

static void timeouts(void) {
    struct timespec past = {1, 0}, soon;
    pthread_t thread;
    release = 0;
    pthread_create(&thread, NULL, hold, NULL);
    while (other_word == 0) usleep(1000);
    REFUSED(futex(&other_word, TRYLOCK_PI, NULL), EAGAIN);
    REFUSED(futex(&other_word, LOCK_PI, &past), ETIMEDOUT);
    REFUSED(futex(&other_word, LOCK_PI2, &past), ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &soon);
    soon.tv_sec += (soon.tv_nsec + 20000000) / 1000000000;
    soon.tv_nsec = (soon.tv_nsec + 20000000) % 1000000000;
    REFUSED(futex(&other_word, LOCK_PI2, &soon), ETIMEDOUT);
    REFUSED(futex(&other_word, LOCK_PI2 | CLOCK_REALTIME_FLAG, &past), ETIMEDOUT);
    REFUSED(futex(&other_word, UNLOCK_PI, NULL), EPERM);
    release = 1;
    pthread_join(thread, NULL);
    CHECK(other_word == 0);
}

static void *hold_other_and_want_the_first(void *unused) {
    futex(&other_word, LOCK_PI, NULL);
    futex(&lock_word, LOCK_PI, NULL);
    futex(&lock_word, UNLOCK_PI, NULL);
    futex(&other_word, UNLOCK_PI, NULL);
    return unused;
}

static void ring(void) {
    pthread_t thread;
    futex(&lock_word, LOCK_PI, NULL);
    pthread_create(&thread, NULL, hold_other_and_want_the_first, NULL);
    until(&lock_word, WAITERS, WAITERS);
    usleep(20 * 1000);
    REFUSED(futex(&other_word, LOCK_PI, NULL), EDEADLK);
    CHECK(futex(&lock_word, UNLOCK_PI, NULL) == 0);
    pthread_join(thread, NULL);
}

static void *take_and_end(void *unused) {
    futex(&lock_word, LOCK_PI, NULL);
    until(&lock_word, WAITERS, WAITERS);
    usleep(20 * 1000);
    return unused;
}

static void owner_ends(void) {
    pthread_t thread;
    lock_word = 0;
    pthread_create(&thread, NULL, take_and_end, NULL);
    while (lock_word == 0) usleep(1000);
    CHECK(futex(&lock_word, LOCK_PI, NULL) == 0);
    CHECK((lock_word & ~WAITERS) == (OWNER_DIED | self()));
    CHECK(futex(&lock_word, UNLOCK_PI, NULL) == 0 && lock_word == 0);
    pthread_join(thread, NULL);
}

static volatile int handled;

static void count_signal(int signal) { handled += signal == SIGUSR1; }

static void *take_once(void *unused) {
    long result = futex(&other_word, LOCK_PI, NULL);
    futex(&other_word, UNLOCK_PI, NULL);
    return (void *)(result == 0 ? &handled : unused);
}

/* No SA_RESTART: taking a lock goes on all the same. */
static void signals(void) {
    struct sigaction action = {.sa_handler = count_signal};
    pthread_t thread;
    void *result;
    sigaction(SIGUSR1, &action, NULL);
    futex(&other_word, LOCK_PI, NULL);
    pthread_create(&thread, NULL, take_once, NULL);
    until(&other_word, WAITERS, WAITERS);
    for (int i = 0; i < 3; i++) {
        pthread_kill(thread, SIGUSR1);
        while (handled <= i) usleep(1000);
    }
    futex(&other_word, UNLOCK_PI, NULL);
    pthread_join(thread, &result);
    CHECK(result == &handled && handled == 3);
}

static pthread_mutex_t mutex;
static int counter;

static void make_mutex(int robust) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    CHECK(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    if (robust) pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&mutex, &attributes) == 0);
}

static void *count(void *unused) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
        if (i % 1000 == 0) sched_yield();
    }
    return unused;
}

static void *lock_and_end(void *unused) {
    pthread_mutex_lock(&mutex);
    return unused;
}

static void mutexes(void) {
    pthread_t threads[4];
    make_mutex(0);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(counter == 80000);
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_lock(&mutex) == EDEADLK);
    CHECK(pthread_mutex_unlock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == EPERM);
    pthread_mutex_destroy(&mutex);

    make_mutex(1);
    pthread_create(&threads[0], NULL, lock_and_end, NULL);
    pthread_join(threads[0], NULL);
    CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
}

int main(void) {
    alone();
    in_turn();
    timeouts();
    ring();
    owner_ends();
    signals();
    mutexes();
    return verdict();
}
