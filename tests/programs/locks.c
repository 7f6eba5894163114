/* Advisory locks: flock(2), record locks and open file description locks, between the open files of one process. Run in a
 * writable directory. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

static struct flock range(int type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return lock;
}

static int set(int fd, int command, int type, off_t start, off_t len) {
    struct flock lock = range(type, start, len);
    return fcntl(fd, command, &lock);
}

/* What is in the way of an exclusive lock. */
static void show(const char *what, int fd, int command, off_t start, off_t len) {
    struct flock lock = range(F_WRLCK, start, len);
    int result = fcntl(fd, command, &lock);
    const char *pid = lock.l_pid == getpid() ? "own" : lock.l_pid == -1 ? "-1" : lock.l_pid == 0 ? "0" : "other";
    if (lock.l_type == F_UNLCK)
        dprintf(1, "%s: %d free %ld %ld\n", what, result, (long)lock.l_start, (long)lock.l_len);
    else
        dprintf(1, "%s: %d type %d whence %d from %ld of %ld by %s\n", what, result, lock.l_type, lock.l_whence,
                (long)lock.l_start, (long)lock.l_len, pid);
}

static void pause_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&time, &time) == -1) {
    }
}

static int other;

static void *unlock_later(void *flocked) {
    pause_ms(150);
    if (flocked)
        flock(other, LOCK_UN);
    else
        set(other, F_OFD_SETLK, F_UNLCK, 0, 0);
    return NULL;
}

static volatile int alarms;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

/* SIGALRM in 50 ms, once; a call that it interrupts is made again if `restart` says so. */
static void alarm_soon(int restart) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value = {0, 50000}};
    alarms = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void whole_files(void) {
    int a = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644), b = open("f", O_RDONLY), place = open("f", O_PATH);
    CHECK(a >= 0 && b >= 0 && place >= 0);
    CHECK(flock(a, LOCK_SH) == 0);
    CHECK(flock(b, LOCK_SH | LOCK_NB) == 0);
    REFUSED(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    /* The attempt has given up what there was. */
    CHECK(flock(b, LOCK_EX | LOCK_NB) == 0);
    REFUSED(flock(a, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK(flock(b, LOCK_EX | LOCK_NB) == 0);
    int copy = dup(b);
    CHECK(close(b) == 0);
    REFUSED(flock(a, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK(close(copy) == 0);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(a, LOCK_UN) == 0);
    CHECK(flock(a, LOCK_UN) == 0);
    REFUSED(flock(a, 0), EINVAL);
    REFUSED(flock(a, LOCK_SH | LOCK_EX), EINVAL);
    REFUSED(flock(place, LOCK_SH), EBADF);
    REFUSED(flock(-1, LOCK_SH), EBADF);
    int dir = open(".", O_RDONLY), again = open(".", O_RDONLY);
    CHECK(flock(dir, LOCK_EX) == 0);
    REFUSED(flock(again, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    close(dir);
    CHECK(flock(again, LOCK_SH | LOCK_NB) == 0);
    close(again), close(a), close(place);
}

static void descriptions(void) {
    int a = open("f", O_RDWR), b = open("f", O_RDWR), reader = open("f", O_RDONLY), writer = open("f", O_WRONLY);
    CHECK(set(a, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
    CHECK(set(a, F_OFD_SETLK, F_WRLCK, 20, 10) == 0);
    show("two", b, F_OFD_GETLK, 0, 0);
    CHECK(set(a, F_OFD_SETLK, F_WRLCK, 10, 10) == 0);
    show("joined", b, F_OFD_GETLK, 5, 1);
    show("own", a, F_OFD_GETLK, 0, 0);
    CHECK(set(a, F_OFD_SETLK, F_RDLCK, 12, 3) == 0);
    show("read part", b, F_OFD_GETLK, 13, 1);
    CHECK(set(b, F_OFD_SETLK, F_RDLCK, 12, 3) == 0);
    REFUSED(set(b, F_OFD_SETLK, F_RDLCK, 12, 4), EAGAIN);
    REFUSED(set(b, F_OFD_SETLK, F_WRLCK, 12, 3), EAGAIN);
    REFUSED(set(b, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
    CHECK(set(b, F_OFD_SETLK, F_WRLCK, 100, 0) == 0);
    show("to the end", a, F_OFD_GETLK, 1000, 1);
    CHECK(set(a, F_OFD_SETLK, F_UNLCK, 5, 10) == 0);
    show("cut", b, F_OFD_GETLK, 4, 20);
    close(a);
    show("closed", b, F_OFD_GETLK, 0, 100);
    REFUSED(set(reader, F_OFD_SETLK, F_WRLCK, 0, 0), EBADF);
    REFUSED(set(writer, F_OFD_SETLK, F_RDLCK, 0, 0), EBADF);
    struct flock lock = range(F_RDLCK, 0, 0);
    lock.l_pid = 1;
    REFUSED(fcntl(b, F_OFD_SETLK, &lock), EINVAL);
    lock = range(F_RDLCK, 0, 0), lock.l_whence = 7;
    REFUSED(fcntl(b, F_OFD_SETLK, &lock), EINVAL);
    REFUSED(set(b, F_OFD_SETLK, 9, 0, 0), EINVAL);
    REFUSED(set(b, F_OFD_SETLK, F_RDLCK, -1, 0), EINVAL);
    REFUSED(set(b, F_OFD_SETLK, F_RDLCK, 5, -6), EINVAL);
    REFUSED(set(b, F_OFD_SETLK, F_RDLCK, 0x7fffffffffffffff, 2), EOVERFLOW);
    CHECK(set(reader, F_OFD_SETLK, F_RDLCK, 5, -5) == 0);
    show("backwards", b, F_OFD_GETLK, 0, 10);
    close(b), close(reader), close(writer);
}

static void records(void) {
    int a = open("f", O_RDWR), b = open("f", O_RDWR), probe = open("f", O_RDWR);
    CHECK(set(a, F_SETLK, F_WRLCK, 0, 10) == 0);
    /* One process does not meet itself. */
    CHECK(set(b, F_SETLK, F_WRLCK, 5, 10) == 0);
    show("own", b, F_GETLK, 0, 0);
    show("probe", probe, F_OFD_GETLK, 0, 0);
    close(open("f", O_PATH));
    show("place closed", probe, F_OFD_GETLK, 0, 0);
    int copy = dup(b);
    close(copy);
    show("copy closed", probe, F_OFD_GETLK, 0, 0);
    CHECK(set(a, F_SETLK, F_RDLCK, 0, 10) == 0);
    close(open("f", O_RDONLY));
    show("another closed", probe, F_OFD_GETLK, 0, 0);
    CHECK(set(a, F_SETLK, F_RDLCK, 0, 10) == 0);
    CHECK(dup2(probe, b) == b);
    show("replaced", probe, F_OFD_GETLK, 0, 0);
    lseek(a, 100, SEEK_SET);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -10, .l_len = 5};
    CHECK(fcntl(a, F_SETLK, &lock) == 0);
    show("from here", probe, F_OFD_GETLK, 0, 0);
    lock = range(F_UNLCK, 0, 0);
    CHECK(fcntl(a, F_SETLKW, &lock) == 0);
    struct flock query = range(F_UNLCK, 0, 0);
    REFUSED(fcntl(a, F_GETLK, &query), EINVAL);
    close(a), close(b), close(probe);
}

static void waiting(int flocked) {
    pthread_t thread;
    int own = open("f", O_RDWR);
    other = open("f", O_RDWR);
#define TAKE(fd) (flocked ? flock(fd, LOCK_EX) : set(fd, F_OFD_SETLKW, F_WRLCK, 0, 0))
    CHECK(TAKE(other) == 0);
    pthread_create(&thread, NULL, unlock_later, flocked ? &thread : NULL);
    CHECK(TAKE(own) == 0);
    pthread_join(thread, NULL);
    CHECK((flocked ? flock(own, LOCK_UN) : set(own, F_OFD_SETLK, F_UNLCK, 0, 0)) == 0);
    CHECK(TAKE(other) == 0);
    alarm_soon(0);
    REFUSED(TAKE(own), EINTR);
    CHECK(alarms == 1);
    alarm_soon(1);
    /* The signal goes to this thread only. */
    sigset_t set_of_alarm, before;
    sigemptyset(&set_of_alarm), sigaddset(&set_of_alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set_of_alarm, &before);
    pthread_create(&thread, NULL, unlock_later, flocked ? &thread : NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(TAKE(own) == 0);
    CHECK(alarms == 1);
    pthread_join(thread, NULL);
    close(own), close(other);
}

int main(void) {
    whole_files();
    descriptions();
    records();
    waiting(1);
    waiting(0);
    return verdict();
}
