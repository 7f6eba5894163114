/* Timers of every kind: each clock, each way to tell, overruns, the three of setitimer(2), timerfd. No upper bounds on time. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif

enum { MS = 1000 * 1000 };

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static struct timespec from(int64_t ns) {
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static void burn(void) {
    for (volatile int i = 0; i < 10000; i++) continue;
}

static sigset_t realtime;

/* Each clock's timer tells by a signal, relative and absolute. */
static void every_clock(void) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC,         CLOCK_BOOTTIME,
                                       CLOCK_TAI,      CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        timer_t timer;
        siginfo_t info;
        struct timespec none = {0, 0};
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = (int)i};
        CHECK(timer_create(clocks[i], &event, &timer) == 0);
        struct itimerspec once = {{0, 0}, {0, 5 * MS}}, at = {{0, 0}, from(nanoseconds(clocks[i]) + 5 * MS)}, left;
        CHECK(timer_settime(timer, 0, &once, NULL) == 0);
        while (sigtimedwait(&realtime, &info, &none) != SIGRTMIN) burn();
        CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == (int)i && info.si_overrun == 0);
        CHECK(timer_settime(timer, TIMER_ABSTIME, &at, NULL) == 0);
        while (sigtimedwait(&realtime, &info, &none) != SIGRTMIN) burn();
        CHECK(nanoseconds(clocks[i]) >= at.it_value.tv_sec * INT64_C(1000000000) + at.it_value.tv_nsec);
        CHECK(timer_gettime(timer, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
        CHECK(timer_delete(timer) == 0);
    }
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    REFUSED(timer_create(CLOCK_MONOTONIC_RAW, &event, &timer), EOPNOTSUPP);
    REFUSED(timer_create(CLOCK_REALTIME_COARSE, &event, &timer), EOPNOTSUPP);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &(struct timespec){0, 1}, NULL) == EOPNOTSUPP);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC_COARSE, 0, &(struct timespec){0, 1}, NULL) == EOPNOTSUPP);
    REFUSED(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &(struct timespec){0, 1}, NULL), EOPNOTSUPP);
    event.sigev_signo = 65;
    REFUSED(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
    event.sigev_notify = 77;
    REFUSED(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
}

static void overruns(void) {
    timer_t timer;
    siginfo_t info;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec each = {{0, 2 * MS}, {0, 2 * MS}}, off = {{0, 0}, {0, 0}}, old;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &each, NULL) == 0);
    usleep(50 * 1000);
    CHECK(sigwaitinfo(&realtime, &info) == SIGRTMIN && info.si_overrun >= 20);
    CHECK(timer_getoverrun(timer) == info.si_overrun);
    CHECK(timer_settime(timer, 0, &off, &old) == 0 && old.it_interval.tv_nsec == 2 * MS);
    struct timespec none = {0, 0};
    while (sigtimedwait(&realtime, &info, &none) == SIGRTMIN) continue;
    CHECK(timer_delete(timer) == 0);
    REFUSED(syscall(SYS_timer_delete, 123456), EINVAL);
    REFUSED(syscall(SYS_timer_getoverrun, 123456), EINVAL);
    REFUSED(syscall(SYS_timer_settime, 123456, 0, &off, NULL), EINVAL);
}

static volatile int told, told_value, told_tid;

static void by_thread(union sigval value) {
    told_value = value.sival_int;
    told = 1;
}

static void note_thread(int number) {
    (void)number;
    told_tid = (int)syscall(SYS_gettid);
}

static volatile int other_tid, stop;

static void *other(void *unused) {
    sigset_t second;
    sigemptyset(&second);
    sigaddset(&second, SIGRTMIN + 1);
    pthread_sigmask(SIG_UNBLOCK, &second, NULL);
    other_tid = (int)syscall(SYS_gettid);
    while (!stop) usleep(1000);
    return unused;
}

static void ways_to_tell(void) {
    timer_t timer;
    struct itimerspec once = {{0, 0}, {0, 5 * MS}}, left;
    struct sigevent quiet = {.sigev_notify = SIGEV_NONE};
    CHECK(timer_create(CLOCK_MONOTONIC, &quiet, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
    CHECK(timer_gettime(timer, &left) == 0);
    while (left.it_value.tv_nsec) usleep(1000), timer_gettime(timer, &left);
    CHECK(timer_delete(timer) == 0);

    struct sigevent thread = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 7, .sigev_notify_function = by_thread};
    CHECK(timer_create(CLOCK_MONOTONIC, &thread, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
    while (!told) usleep(1000);
    CHECK(told_value == 7 && timer_delete(timer) == 0);

    pthread_t id;
    signal(SIGRTMIN + 1, note_thread);
    pthread_create(&id, NULL, other, NULL);
    while (!other_tid) usleep(1000);
    struct sigevent one = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1};
    one.sigev_notify_thread_id = other_tid;
    int number = 0;
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &one, &number) == 0);
    CHECK(syscall(SYS_timer_settime, number, 0, &once, NULL) == 0);
    while (!told_tid) usleep(1000);
    CHECK(told_tid == other_tid && syscall(SYS_timer_delete, number) == 0);
    one.sigev_notify_thread_id = 1 << 21;
    REFUSED(syscall(SYS_timer_create, CLOCK_MONOTONIC, &one, &number), EINVAL);
    stop = 1;
    pthread_join(id, NULL);

    /* Without a word about it: SIGALRM, with the timer's number. */
    sigset_t alarm;
    siginfo_t info;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm, NULL);
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &number) == 0);
    CHECK(syscall(SYS_timer_settime, number, 0, &once, NULL) == 0);
    CHECK(sigwaitinfo(&alarm, &info) == SIGALRM && info.si_code == SI_TIMER && info.si_value.sival_int == number);
    CHECK(syscall(SYS_timer_delete, number) == 0);
}

static void intervals(void) {
    static const struct {
        int which, number;
    } timers[] = {{ITIMER_REAL, SIGALRM}, {ITIMER_VIRTUAL, SIGVTALRM}, {ITIMER_PROF, SIGPROF}};
    for (int i = 0; i < 3; i++) {
        struct itimerval each = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}}, now;
        struct timespec none = {0, 0};
        siginfo_t info;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, timers[i].number);
        sigprocmask(SIG_BLOCK, &set, NULL);
        CHECK(getitimer(timers[i].which, &now) == 0 && now.it_value.tv_usec == 0 && now.it_value.tv_sec == 0);
        CHECK(setitimer(timers[i].which, &each, NULL) == 0);
        for (int n = 0; n < 3; n++)
            while (sigtimedwait(&set, &info, &none) != timers[i].number) burn();
        CHECK(info.si_code == SI_KERNEL);
        CHECK(getitimer(timers[i].which, &now) == 0 && now.it_interval.tv_usec == 5000);
        CHECK(setitimer(timers[i].which, &off, NULL) == 0);
        while (sigtimedwait(&set, &info, &none) == timers[i].number) continue;
    }
}

static void descriptors(void) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    uint64_t count = 0;
    for (int i = 0; i < 3; i++) {
        int timer = timerfd_create(clocks[i], TFD_NONBLOCK | TFD_CLOEXEC);
        struct itimerspec each = {{0, 2 * MS}, {0, 2 * MS}}, off = {{0, 0}, {0, 0}}, now;
        struct pollfd poll_it = {.fd = timer, .events = POLLIN};
        CHECK(timer >= 0 && (fcntl(timer, F_GETFL) & O_NONBLOCK));
        REFUSED(read(timer, &count, sizeof count), EAGAIN);
        CHECK(timerfd_settime(timer, 0, &each, NULL) == 0 && poll(&poll_it, 1, -1) == 1 && poll_it.revents == POLLIN);
        usleep(20 * 1000);
        CHECK(read(timer, &count, sizeof count) == 8 && count >= 8);
        REFUSED(read(timer, &count, 4), EINVAL);
        CHECK(timerfd_gettime(timer, &now) == 0 && now.it_interval.tv_nsec == 2 * MS);
        CHECK(timerfd_settime(timer, 0, &off, &now) == 0 && now.it_interval.tv_nsec == 2 * MS);
        REFUSED(read(timer, &count, sizeof count), EAGAIN);
        struct itimerspec past = {{0, 0}, {1, 0}};
        CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &past, NULL) == 0);
        CHECK(poll(&poll_it, 1, -1) == 1 && read(timer, &count, sizeof count) == 8 && count == 1);
        close(timer);
    }
    int timer = timerfd_create(CLOCK_REALTIME, 0);
    struct itimerspec far = {{0, 0}, from(nanoseconds(CLOCK_REALTIME) + 5 * MS)}, wrong = {{0, 0}, {0, 1000 * MS}};
    CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) == 0);
    CHECK(read(timer, &count, sizeof count) == 8 && count == 1);
    REFUSED(timerfd_settime(timer, 0, &wrong, NULL), EINVAL);
    REFUSED(timerfd_settime(timer, 8, &far, NULL), EINVAL);
    REFUSED(timerfd_settime(0, 0, &far, NULL), EINVAL);
    REFUSED(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    REFUSED(timerfd_create(CLOCK_MONOTONIC_RAW, 0), EINVAL);
    REFUSED(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    REFUSED(write(timer, &count, sizeof count), EINVAL);
}

/* An interval that is shorter than it takes to notice: the program goes on, and what was missed is counted. */
static void no_interval_is_too_short(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec each = {{0, 1}, {0, 1}};
    timer_t timer;
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &each, NULL) == 0);
    usleep(20 * 1000);
    CHECK(sigwaitinfo(&realtime, NULL) == SIGRTMIN && timer_getoverrun(timer) > 1000 * 1000);
    CHECK(timer_delete(timer) == 0);
    uint64_t count, all = 0;
    int descriptor = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(timerfd_settime(descriptor, 0, &each, NULL) == 0);
    for (int i = 0; i < 20; i++) all += read(descriptor, &count, sizeof count) == 8 ? count : 0;
    CHECK(all >= 20 && close(descriptor) == 0);
}

int main(void) {
    sigemptyset(&realtime);
    sigaddset(&realtime, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &realtime, NULL);
    every_clock();
    overruns();
    ways_to_tell();
    intervals();
    descriptors();
    no_interval_is_too_short();
    return verdict();
}
