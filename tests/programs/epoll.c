/* epoll(7): level, edge, once, exclusive, and what is refused. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1u << 28)
#endif

static int add(int set, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static int change(int set, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
}

/* How many events there are at once. */
static int now(int set) {
    struct epoll_event events[4];
    return epoll_wait(set, events, 4, 0);
}

static void modes(void) {
    int ends[2], set = epoll_create1(EPOLL_CLOEXEC);
    char byte = 'x', two[2];
    CHECK(pipe(ends) == 0 && add(set, ends[0], EPOLLIN) == 0);
    REFUSED(add(set, ends[0], EPOLLIN), EEXIST);
    REFUSED(change(set, ends[1], EPOLLIN), ENOENT);
    REFUSED(add(set, set, EPOLLIN), EINVAL);
    CHECK(now(set) == 0);
    CHECK(write(ends[1], &byte, 1) == 1 && now(set) == 1 && now(set) == 1);
    CHECK(change(set, ends[0], EPOLLIN | EPOLLET) == 0 && now(set) == 1 && now(set) == 0);
    CHECK(write(ends[1], &byte, 1) == 1 && now(set) == 1 && now(set) == 0);
    CHECK(change(set, ends[0], EPOLLIN | EPOLLONESHOT) == 0 && now(set) == 1 && now(set) == 0);
    CHECK(write(ends[1], &byte, 1) == 1 && now(set) == 0);
    CHECK(change(set, ends[0], EPOLLIN | EPOLLONESHOT) == 0 && now(set) == 1);
    CHECK(read(ends[0], two, 2) == 2 && change(set, ends[0], EPOLLIN) == 0 && now(set) == 1);
    CHECK(close(ends[1]) == 0 && read(ends[0], two, 2) == 1);
    struct epoll_event event = {0};
    CHECK(epoll_wait(set, &event, 1, 1000) == 1 && event.events == EPOLLHUP && event.data.fd == ends[0]);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL) == 0 && now(set) == 0);
}

static void refusals(void) {
    int set = epoll_create1(0), inner = epoll_create1(0), counter = eventfd(0, 0);
    REFUSED(add(set, counter, EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE), EINVAL);
    REFUSED(add(set, inner, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    CHECK(add(set, counter, EPOLLIN | EPOLLEXCLUSIVE) == 0);
    REFUSED(change(set, counter, EPOLLIN), EINVAL);
    REFUSED(change(set, counter, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, counter, NULL) == 0 && add(set, counter, EPOLLIN) == 0);
    REFUSED(change(set, counter, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
}

enum { WAITERS = 6 };
static int counter;
static atomic_int woken;

/* Each has a set of its own; that the waiting has ended is counted before anything is taken. */
static void *waiter(void *argument) {
    struct epoll_event event;
    if (epoll_wait((int)(intptr_t)argument, &event, 1, 20000) == 1) atomic_fetch_add(&woken, 1);
    return NULL;
}

/* How many of the waiters wake when something comes, and how many in the end. */
static void waking(uint32_t how, int events) {
    pthread_t threads[WAITERS];
    int sets[WAITERS];
    counter = eventfd(0, EFD_NONBLOCK);
    atomic_store(&woken, 0);
    for (int i = 0; i < WAITERS; i++) {
        sets[i] = epoll_create1(0);
        add(sets[i], counter, EPOLLIN | how);
        pthread_create(&threads[i], NULL, waiter, (void *)(intptr_t)sets[i]);
    }
    /* Until all sleep, and then until who wakes has woken: nothing else tells it. */
    usleep(300000);
    for (int i = 0; i < events; i++) {
        uint64_t one = 1;
        CHECK(write(counter, &one, sizeof one) == sizeof one);
        usleep(300000);
    }
    dprintf(1, "%d of %d woke after %d\n", atomic_load(&woken), WAITERS, events);
    /* The rest: each new event wakes one that waits still. */
    for (int left = WAITERS - atomic_load(&woken); left > 0; left--) {
        uint64_t one = 1;
        CHECK(write(counter, &one, sizeof one) == sizeof one);
        usleep(100000);
    }
    for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL), close(sets[i]);
    CHECK(atomic_load(&woken) == WAITERS);
    close(counter);
}

int main(void) {
    modes();
    refusals();
    waking(0, 1);
    waking(EPOLLEXCLUSIVE, 1);
    waking(EPOLLEXCLUSIVE, 2);
    return verdict();
}
