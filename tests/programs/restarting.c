/* signal(7), "Interruption of system calls": which calls a handler with SA_RESTART interrupts all the same. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>

static volatile int times, finished;
static pthread_t main_thread;

static void note(int number) {
    (void)number;
    times++;
}

/* What lets the call return in the end, if signals do not. */
static void (*release)(void);
static volatile int restarts;

static void nothing(void) {}

enum { FUTEX_WAIT, FUTEX_WAKE };
static int word;

static void wake(void) {
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Signals until the call has ended, or three of them and then what lets it go. Who is not asleep yet misses a wake. */
static void *disturb(void *unused) {
    int released = 0;
    while (!finished) {
        usleep(3000);
        if (!restarts || times < 3 || release == nothing)
            pthread_kill(main_thread, SIGUSR1);
        else if (release == wake || !released++)
            release();
    }
    return unused;
}

/* Runs a call that blocks; says how it ends: by a signal at once, or after three of them as if there had been none. */
#define BLOCKS(call, let_go)                                                                                           \
    do {                                                                                                               \
        for (int flags_ = 0; flags_ <= SA_RESTART; flags_ += SA_RESTART) {                                             \
            struct sigaction action_ = {.sa_handler = note, .sa_flags = flags_};                                       \
            pthread_t sender_;                                                                                         \
            sigaction(SIGUSR1, &action_, NULL);                                                                        \
            release = let_go, restarts = flags_, finished = times = 0;                                                 \
            pthread_create(&sender_, NULL, disturb, NULL);                                                             \
            errno = 0;                                                                                                 \
            long result_ = (long)(call);                                                                               \
            int errno_ = errno, seen_ = times;                                                                         \
            finished = 1;                                                                                              \
            pthread_join(sender_, NULL);                                                                               \
            const char *how_ = result_ == -1 && errno_ == EINTR ? "interrupted" : seen_ >= 3 ? "went on" : "BROKEN";   \
            failures += *how_ == 'B';                                                                                  \
            dprintf(1, "%s %s: %s\n", #call, flags_ ? "with SA_RESTART" : "without", how_);                            \
        }                                                                                                              \
    } while (0)

static int ends[2], counter, pair[2], timer, queue, semaphores, listener;
static char byte, full[1 << 16];

static void feed(void) {
    if (write(ends[1], "x", 1) != 1) abort();
}

static void drain(void) {
    if (read(ends[0], full, sizeof full) <= 0) abort();
}

static void count(void) {
    eventfd_write(counter, 1);
}

static void talk(void) {
    if (write(pair[1], "x", 1) != 1) abort();
}

static void arm(void) {
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    timerfd_settime(timer, 0, &soon, NULL);
}

static void post(void) {
    struct {
        long type;
        char text;
    } message = {1, 'x'};
    msgsnd(queue, &message, 1, 0);
}

static void raise_semaphore(void) {
    struct sembuf up = {.sem_num = 0, .sem_op = 1};
    semop(semaphores, &up, 1);
}

static int peer = -1;

static void visit(void) {
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    getsockname(listener, (struct sockaddr *)&name, &length);
    if (peer >= 0) close(peer);
    peer = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(peer, (struct sockaddr *)&name, length) != 0) abort();
}

static void prepare(void) {
    struct sockaddr_un nameless = {.sun_family = AF_UNIX};
    if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) abort();
    counter = eventfd(0, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    queue = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&nameless, sizeof nameless.sun_family) || listen(listener, 4)) abort();
}

int main(void) {
    main_thread = pthread_self();
    prepare();
    struct pollfd readable = {.fd = ends[0], .events = POLLIN};
    struct timespec span = {1000, 0};
    struct timeval long_time = {1000, 0};
    struct epoll_event event = {.events = EPOLLIN};
    struct sembuf down = {.sem_num = 0, .sem_op = -1};
    uint64_t value;
    struct {
        long type;
        char text;
    } message;
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    int set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    fd_set descriptors;
    FD_ZERO(&descriptors);
    FD_SET(ends[0], &descriptors);

    BLOCKS(read(ends[0], &byte, 1), feed);
    BLOCKS(read(counter, &value, 8), count);
    BLOCKS(read(timer, &value, 8), arm);
    BLOCKS(recv(pair[0], &byte, 1, 0), talk);
    BLOCKS(accept(listener, NULL, NULL), visit);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    BLOCKS(recv(pair[0], &byte, 1, 0), nothing);
    BLOCKS(poll(&readable, 1, 1000000), nothing);
    BLOCKS(ppoll(&readable, 1, &span, NULL), nothing);
    BLOCKS(select(ends[0] + 1, &descriptors, NULL, NULL, &long_time), nothing);
    BLOCKS(epoll_wait(set, &event, 1, 1000000), nothing);
    BLOCKS(pause(), nothing);
    /* The C library of musl would make it again. */
    BLOCKS(syscall(SYS_rt_sigtimedwait, &usr2, NULL, &span, 8), nothing);
    BLOCKS(nanosleep(&span, NULL), nothing);
    BLOCKS(msgrcv(queue, &message, 1, 0, 0), post);
    BLOCKS(semop(semaphores, &down, 1), raise_semaphore);
    BLOCKS(semtimedop(semaphores, &down, 1, &span), raise_semaphore);
    BLOCKS(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0), wake);
    BLOCKS(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &span, NULL, 0), wake);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (write(ends[1], full, sizeof full) > 0) continue;
    fcntl(ends[1], F_SETFL, 0);
    BLOCKS(write(ends[1], full, 4096), drain);
    msgctl(queue, IPC_RMID, NULL);
    semctl(semaphores, 0, IPC_RMID);
    return verdict();
}
