/* execve in a program with many threads, called by one that is not the first: the new program has one thread, the id of
 * the process, handlers reset, files marked for it closed. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

static char *self;
static int pipe_ends[2];

static void *spin(void *unused) {
    for (;;) continue;
    return unused;
}

static void *sleep_for_ever(void *unused) {
    for (;;) sleep(1);
    return unused;
}

static void *read_for_ever(void *unused) {
    char byte;
    while (read(pipe_ends[0], &byte, 1)) continue;
    return unused;
}

static void *become_another(void *unused) {
    char id[20], *arguments[] = {self, id, NULL}, *environment[] = {"COLOUR=blue", NULL};
    snprintf(id, sizeof id, "%d", getpid());
    usleep(20000);
    execve(self, arguments, environment);
    perror(self);
    exit(1);
    return unused;
}

static void *do_nothing(void *unused) {
    return unused;
}

static int second_life(const char *id) {
    struct sigaction handled, ignored;
    pthread_t thread;
    sigaction(SIGUSR1, NULL, &handled);
    sigaction(SIGUSR2, NULL, &ignored);
    CHECK(getpid() == atoi(id));
    CHECK(syscall(SYS_gettid) == getpid());
    CHECK(handled.sa_handler == SIG_DFL);
    CHECK(ignored.sa_handler == SIG_IGN);
    REFUSED(fcntl(50, F_GETFD), EBADF);
    CHECK(fcntl(51, F_GETFD) == 0);
    CHECK(strcmp(getenv("COLOUR"), "blue") == 0 && getenv("PATH") == NULL);
    CHECK(pthread_create(&thread, NULL, do_nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    return verdict();
}

int main(int count, char **arguments) {
    if (count > 1) return second_life(arguments[1]);
    self = arguments[0];
    signal(SIGUSR1, exit);
    signal(SIGUSR2, SIG_IGN);
    dup3(0, 50, O_CLOEXEC);
    dup2(0, 51);
    CHECK(pipe(pipe_ends) == 0);
    void *(*lives[])(void *) = {spin, sleep_for_ever, read_for_ever, become_another};
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, lives[i], NULL) == 0);
    }
    for (;;) pause();
}
