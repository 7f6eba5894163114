/* Clocks, sleeping and timers. Nothing here has an upper bound on time: the machine may be busy. */
#include "check.h"
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <stdint.h>
#include <time.h>

static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    ticks++;
}

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t nanoseconds_by_call(clockid_t clock) {
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void clocks(void) {
    struct timespec time;
    REFUSED(clock_gettime(99, &time), EINVAL);
    REFUSED(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8), EFAULT);
    CHECK(clock_getres(CLOCK_MONOTONIC, &time) == 0 && time.tv_sec == 0 && time.tv_nsec == 1);
    CHECK(nanoseconds(CLOCK_REALTIME) > INT64_C(1700000000) * 1000000000);

    /* By the vDSO and by the call, in turn: never backwards. */
    int64_t last = nanoseconds(CLOCK_MONOTONIC);
    int backwards = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t now = i % 2 ? nanoseconds(CLOCK_MONOTONIC) : nanoseconds_by_call(CLOCK_MONOTONIC);
        backwards += now < last;
        last = now;
    }
    CHECK(backwards == 0);

    int64_t used = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), start = nanoseconds(CLOCK_MONOTONIC);
    while (nanoseconds(CLOCK_MONOTONIC) - start < 20 * 1000 * 1000) continue;
    CHECK(nanoseconds(CLOCK_PROCESS_CPUTIME_ID) > used);
}

static void sleeping(void) {
    struct timespec moment = {0, 10 * 1000 * 1000}, wrong = {0, 1000000000}, negative = {-1, 0};
    int64_t start = nanoseconds(CLOCK_MONOTONIC);
    CHECK(nanosleep(&moment, NULL) == 0);
    CHECK(nanoseconds(CLOCK_MONOTONIC) - start >= 10 * 1000 * 1000);
    REFUSED(nanosleep(&wrong, NULL), EINVAL);
    REFUSED(nanosleep(&negative, NULL), EINVAL);
    REFUSED(nanosleep((void *)8, NULL), EFAULT);
    clock_gettime(CLOCK_MONOTONIC, &moment);
    int64_t until = nanoseconds(CLOCK_MONOTONIC) + 10 * 1000 * 1000;
    moment = (struct timespec){until / 1000000000, until % 1000000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL) == 0);
    CHECK(nanoseconds(CLOCK_MONOTONIC) >= until);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL) == EINVAL);
}

static void interval_timers(void) {
    signal(SIGALRM, tick);
    struct itimerval each_10_ms = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}}, before;
    CHECK(setitimer(ITIMER_REAL, &each_10_ms, NULL) == 0);
    while (ticks < 3) pause();
    CHECK(setitimer(ITIMER_REAL, &off, &before) == 0);
    CHECK(before.it_interval.tv_usec == 10000);
    /* A program that never calls the kernel is interrupted too. */
    ticks = 0;
    setitimer(ITIMER_REAL, &each_10_ms, NULL);
    while (ticks < 3) continue;
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK(ticks >= 3);
    CHECK(alarm(1000) == 0);
    unsigned left = alarm(0);
    CHECK(left > 900 && left <= 1000);
    each_10_ms.it_value.tv_usec = 1000000;
    REFUSED(setitimer(ITIMER_REAL, &each_10_ms, NULL), EINVAL);
    REFUSED(setitimer(7, &off, NULL), EINVAL);
}

static void posix_timers(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value = {.sival_int = 42}};
    struct itimerspec once = {{0, 0}, {0, 10 * 1000 * 1000}}, later = {{0, 0}, {1000, 0}}, left;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &once, NULL) == 0);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_code == SI_TIMER && info.si_value.sival_int == 42);
    CHECK(timer_settime(timer, 0, &later, NULL) == 0);
    CHECK(timer_gettime(timer, &left) == 0 && left.it_value.tv_sec > 900 && left.it_interval.tv_sec == 0);
    CHECK(timer_delete(timer) == 0);
    REFUSED(timer_create(99, &event, &timer), EINVAL);
}

int main(void) {
    clocks();
    sleeping();
    interval_timers();
    posix_timers();
    return verdict();
}
