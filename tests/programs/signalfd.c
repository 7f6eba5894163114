/* Signals read from a descriptor, and timers that count processor time. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>

static volatile sig_atomic_t virtual_ticks, profiling_ticks, cpu_ticks;

static void count(int signal) {
    if (signal == SIGVTALRM)
        virtual_ticks++;
    else if (signal == SIGPROF)
        profiling_ticks++;
    else
        cpu_ticks++;
}

static void *send_later(void *to) {
    usleep(20000);
    pthread_kill(*(pthread_t *)to, SIGUSR2);
    return NULL;
}

static void descriptors(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct signalfd_siginfo info[4];
    REFUSED(signalfd(-1, &set, 0x1234), EINVAL);
    REFUSED(signalfd(0, &set, 0), EINVAL);
    REFUSED(signalfd(99, &set, 0), EBADF);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
    REFUSED(read(fd, info, sizeof info[0]), EAGAIN);
    REFUSED(read(fd, info, sizeof info[0] - 1), EINVAL);
    struct pollfd one = {fd, POLLIN, 0};
    CHECK(poll(&one, 1, 0) == 0);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    CHECK(poll(&one, 1, 1000) == 1 && one.revents == POLLIN);
    union sigval value = {.sival_int = 77};
    sigqueue(getpid(), SIGRTMIN, value);
    sigqueue(getpid(), SIGRTMIN, value);
    CHECK(read(fd, info, sizeof info) == 3 * sizeof info[0]);
    CHECK(info[0].ssi_signo == SIGUSR1 && info[0].ssi_code == SI_USER && info[0].ssi_pid == (unsigned)getpid());
    CHECK(info[1].ssi_signo == (unsigned)SIGRTMIN && info[1].ssi_code == SI_QUEUE && info[1].ssi_int == 77);
    CHECK(info[2].ssi_signo == (unsigned)SIGRTMIN && info[2].ssi_uid == getuid());

    /* Another set for the same descriptor. */
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK(signalfd(fd, &set, 0) == fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    pthread_t self = pthread_self(), sender;
    pthread_create(&sender, NULL, send_later, &self);
    CHECK(read(fd, info, sizeof info) == sizeof info[0] && info[0].ssi_signo == SIGUSR2 && info[0].ssi_code == SI_TKILL);
    pthread_join(sender, NULL);

    int waiter = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    CHECK(epoll_ctl(waiter, EPOLL_CTL_ADD, fd, &event) == 0);
    pthread_create(&sender, NULL, send_later, &self);
    CHECK(epoll_wait(waiter, &event, 1, 5000) == 1 && event.events == EPOLLIN);
    CHECK(read(fd, info, sizeof info) == sizeof info[0]);
    pthread_join(sender, NULL);
    REFUSED(write(fd, "x", 1), EINVAL);
    close(fd), close(waiter);
}

static void processor_time(void) {
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGVTALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct itimerval timer = {{0, 10000}, {0, 10000}}, left;
    CHECK(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
    CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
    REFUSED(setitimer(9, &timer, NULL), EINVAL);
    CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_interval.tv_usec == 10000);
    timer_t id;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &id) == 0);
    struct itimerspec spec = {{0, 0}, {0, 30000000}};
    CHECK(timer_settime(id, 0, &spec, NULL) == 0);
    struct timespec nap = {0, 60000000};
    nanosleep(&nap, NULL);
    /* Time asleep is not processor time. */
    CHECK(cpu_ticks == 0);
    for (time_t start = time(NULL); time(NULL) - start < 20 && (virtual_ticks < 5 || profiling_ticks < 5 || !cpu_ticks);)
        ;
    CHECK(virtual_ticks >= 5 && profiling_ticks >= 5 && cpu_ticks == 1);
    struct itimerval off = {0};
    CHECK(setitimer(ITIMER_VIRTUAL, &off, &left) == 0 && left.it_interval.tv_usec == 10000);
    CHECK(setitimer(ITIMER_PROF, &off, NULL) == 0 && timer_delete(id) == 0);
}

int main(void) {
    descriptors();
    processor_time();
    return verdict();
}
