/* POSIX threads: creation, joining, locks of all kinds, storage and names. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

enum { THREADS = 8, ROUNDS = 10000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int counter, ready;
static __thread int own = 5;

static void *count(void *argument) {
    own++;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
        if (i % 1000 == 0) sched_yield();
    }
    return own == 6 ? argument : NULL;
}

static void *wait_until_ready(void *unused) {
    pthread_mutex_lock(&lock);
    while (!ready) pthread_cond_wait(&changed, &lock);
    counter++;
    pthread_mutex_unlock(&lock);
    return unused;
}

static void locks(void) {
    pthread_t threads[THREADS];
    int created = 0, right = 0;
    for (intptr_t i = 0; i < THREADS; i++) created += pthread_create(&threads[i], NULL, count, (void *)(i + 1)) == 0;
    for (intptr_t i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        right += result == (void *)(i + 1);
    }
    CHECK(created == THREADS && right == THREADS);
    CHECK(counter == THREADS * ROUNDS);
    CHECK(own == 5);

    counter = 0;
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, wait_until_ready, NULL);
    usleep(10000);
    pthread_mutex_lock(&lock);
    CHECK(counter == 0);
    ready = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK(counter == THREADS);
}

static pthread_mutex_t robust;

static void *die_with_the_lock(void *unused) {
    pthread_mutex_lock(&robust);
    return unused;
}

static void owners_that_die(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    pthread_t thread;
    pthread_create(&thread, NULL, die_with_the_lock, NULL);
    pthread_join(thread, NULL);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&robust) == 0);
    CHECK(pthread_mutex_unlock(&robust) == 0);
}

static struct timespec in_a_moment(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += 20 * 1000 * 1000;
    if (time.tv_nsec >= 1000000000) time.tv_sec++, time.tv_nsec -= 1000000000;
    return time;
}

static void time_limits(void) {
    sem_t semaphore;
    sem_init(&semaphore, 0, 1);
    struct timespec limit = in_a_moment(CLOCK_REALTIME);
    CHECK(sem_timedwait(&semaphore, &limit) == 0);
    REFUSED(sem_timedwait(&semaphore, &limit), ETIMEDOUT);
    limit = in_a_moment(CLOCK_REALTIME);
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&changed, &lock, &limit) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

static pthread_barrier_t barrier;
static int phase[4];
static volatile int out_of_step;

static void *step(void *argument) {
    for (int i = 0; i < 100; i++) {
        phase[(intptr_t)argument] = i;
        pthread_barrier_wait(&barrier);
        for (int other = 0; other < 4; other++) out_of_step += phase[other] != i;
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void barriers(void) {
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 4);
    for (intptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, step, (void *)i);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(out_of_step == 0);
}

static volatile int go;

/* Never calls the kernel: only a timer can take the processor away. */
static void *spin(void *unused) {
    while (!go) continue;
    return unused;
}

static void *return_own_id(void *unused) {
    (void)unused;
    return (void *)(intptr_t)syscall(SYS_gettid);
}

static void *exit_early(void *unused) {
    pthread_exit(unused);
}

static void *sleep_for_ever(void *unused) {
    for (;;) sleep(1000);
    return unused;
}

static void lives(void) {
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, spin, NULL);
    usleep(10000);
    go = 1;
    CHECK(pthread_join(thread, NULL) == 0);

    /* Many, one after the other: stacks and ids are used again. */
    int joined = 0;
    for (int i = 0; i < 500; i++)
        joined += pthread_create(&thread, NULL, exit_early, &joined) == 0 && pthread_join(thread, &result) == 0 &&
                  result == &joined;
    CHECK(joined == 500);

    pthread_create(&thread, NULL, return_own_id, NULL);
    pthread_join(thread, &result);
    CHECK((long)result > 0 && (long)result != syscall(SYS_gettid));
    CHECK(getpid() == syscall(SYS_gettid));

    pthread_create(&thread, NULL, sleep_for_ever, NULL);
    CHECK(pthread_cancel(thread) == 0);
    CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);

    char name[16];
    CHECK(pthread_setname_np(pthread_self(), "hello") == 0);
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strcmp(name, "hello") == 0);

    /* One that still sleeps does not keep the program from ending. */
    pthread_create(&thread, NULL, sleep_for_ever, NULL);
}

int main(void) {
    locks();
    owners_that_die();
    time_limits();
    barriers();
    lives();
    return verdict();
}
