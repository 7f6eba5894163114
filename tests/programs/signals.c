/* Sending, blocking, waiting for and being interrupted by signals. */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t seen, code, value, times;

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = number;
    code = info->si_code;
    value = info->si_value.sival_int;
    times++;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static sigset_t only(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static int is_blocked(int number) {
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    return sigismember(&set, number);
}

/* Sends SIGUSR1 to the main thread again and again, until told to stop: one signal alone could come before the call
 * that it is to interrupt. */
static pthread_t main_thread, sender;
static volatile int stop;

static void *send_until_stopped(void *unused) {
    while (!stop) {
        usleep(2000);
        pthread_kill(main_thread, SIGUSR1);
    }
    return unused;
}

static void start_sender(void) {
    stop = seen = 0;
    pthread_create(&sender, NULL, send_until_stopped, NULL);
}

static void stop_sender(void) {
    stop = 1;
    pthread_join(sender, NULL);
}

static void sending(void) {
    handle(SIGUSR1, note, 0);
    raise(SIGUSR1);
    CHECK(seen == SIGUSR1 && code == SI_TKILL);
    seen = 0;
    kill(getpid(), SIGUSR1);
    CHECK(seen == SIGUSR1 && code == SI_USER);
    seen = 0;
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42});
    CHECK(seen == SIGUSR1 && code == SI_QUEUE && value == 42);

    CHECK(kill(getpid(), 0) == 0);
    REFUSED(kill(getpid(), 65), EINVAL);
    /* Beyond the largest process number there is. */
    REFUSED(kill(1 << 30, 0), ESRCH);

    signal(SIGUSR2, SIG_IGN);
    CHECK(raise(SIGUSR2) == 0);
    signal(SIGCHLD, SIG_DFL);
    CHECK(raise(SIGCHLD) == 0);
    struct sigaction action = {.sa_handler = SIG_IGN};
    REFUSED(sigaction(SIGKILL, &action, NULL), EINVAL);
    REFUSED(sigaction(0, &action, NULL), EINVAL);
}

static void blocking(void) {
    sigset_t usr1 = only(SIGUSR1), pending;
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    seen = times = 0;
    raise(SIGUSR1);
    raise(SIGUSR1);
    CHECK(seen == 0);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    CHECK(seen == SIGUSR1);
    /* Ordinary signals do not queue. */
    CHECK(times == 1);
    sigset_t kill_and_stop = only(SIGKILL);
    sigaddset(&kill_and_stop, SIGSTOP);
    sigprocmask(SIG_BLOCK, &kill_and_stop, NULL);
    CHECK(!is_blocked(SIGKILL) && !is_blocked(SIGSTOP));

    /* Real-time signals do, in their order. */
    sigset_t realtime = only(SIGRTMIN);
    sigprocmask(SIG_BLOCK, &realtime, NULL);
    for (int i = 0; i < 3; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    for (int i = 0; i < 3; i++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&realtime, &info) == SIGRTMIN && info.si_value.sival_int == i);
    }
    sigprocmask(SIG_UNBLOCK, &realtime, NULL);
}

static volatile int depth, deepest;

static void nest(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    if (++depth > deepest) deepest = depth;
    if (depth < 3) raise(number);
    depth--;
}

static char *stack;
enum { STACK = 65536 };
static volatile int on_stack, says_on_stack;

static void where(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    char here;
    stack_t now;
    sigaltstack(NULL, &now);
    on_stack = &here >= stack && &here < stack + STACK;
    says_on_stack = (now.ss_flags & SS_ONSTACK) != 0;
    seen = number;
}

static void handlers(void) {
    handle(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR2);
    CHECK(deepest == 3);

    struct sigaction action;
    handle(SIGUSR2, note, SA_RESETHAND);
    raise(SIGUSR2);
    sigaction(SIGUSR2, NULL, &action);
    CHECK(action.sa_handler == SIG_DFL);

    stack = malloc(STACK);
    stack_t alternate = {.ss_sp = stack, .ss_size = STACK}, before;
    CHECK(sigaltstack(&alternate, &before) == 0 && before.ss_flags == SS_DISABLE);
    handle(SIGUSR2, where, SA_ONSTACK);
    seen = 0;
    raise(SIGUSR2);
    CHECK(seen == SIGUSR2 && on_stack && says_on_stack);
    alternate.ss_size = 100;
    REFUSED(sigaltstack(&alternate, NULL), ENOMEM);
    alternate.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&alternate, NULL) == 0);
    raise(SIGUSR2);
    CHECK(!on_stack && !says_on_stack);
}

static int ends[2];

/* Lets three signals pass, then lets the reader go. */
static void *signal_then_write(void *unused) {
    while (times < 3) {
        usleep(2000);
        pthread_kill(main_thread, SIGUSR1);
    }
    if (write(ends[1], "x", 1) != 1) abort();
    return unused;
}

static void interrupting(void) {
    struct timespec long_time = {1000, 0}, left = {0, 0};
    char byte;
    CHECK(pipe(ends) == 0);
    struct pollfd poll_it = {.fd = ends[0], .events = POLLIN};
    handle(SIGUSR1, note, 0);

    start_sender();
    REFUSED(nanosleep(&long_time, &left), EINTR);
    stop_sender();
    /* Linux adds the timer slack, so that even a little more than was asked for may be left. */
    CHECK(left.tv_sec > 900 && left.tv_sec <= 1000);
    start_sender();
    REFUSED(read(ends[0], &byte, 1), EINTR);
    stop_sender();
    start_sender();
    REFUSED(poll(&poll_it, 1, 1000 * 1000), EINTR);
    stop_sender();
    start_sender();
    REFUSED(pause(), EINTR);
    stop_sender();

    handle(SIGUSR1, note, SA_RESTART);
    times = 0;
    pthread_create(&sender, NULL, signal_then_write, NULL);
    CHECK(read(ends[0], &byte, 1) == 1);
    pthread_join(sender, NULL);
    CHECK(times >= 3);
    /* poll is interrupted all the same; signal(7) lists the calls. */
    start_sender();
    REFUSED(poll(&poll_it, 1, 1000 * 1000), EINTR);
    stop_sender();
}

static void waiting(void) {
    sigset_t usr1 = only(SIGUSR1), none;
    siginfo_t info;
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &usr1, NULL);

    start_sender();
    REFUSED(sigsuspend(&none), EINTR);
    CHECK(seen == SIGUSR1 && is_blocked(SIGUSR1));
    stop_sender();
    start_sender();
    CHECK(sigwaitinfo(&usr1, &info) == SIGUSR1 && info.si_signo == SIGUSR1);
    stop_sender();
    CHECK(seen == 0);
    struct timespec nothing = {0, 0}, moment = {0, 20 * 1000 * 1000}, long_time = {1000, 0};
    while (sigtimedwait(&usr1, &info, &nothing) == SIGUSR1) continue;
    REFUSED(sigtimedwait(&usr1, &info, &moment), EAGAIN);

    struct pollfd poll_it = {.fd = ends[0], .events = POLLIN};
    raise(SIGUSR1);
    seen = 0;
    REFUSED(ppoll(&poll_it, 1, &long_time, &none), EINTR);
    CHECK(seen == SIGUSR1 && is_blocked(SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
}

int main(void) {
    main_thread = pthread_self();
    sending();
    blocking();
    handlers();
    interrupting();
    waiting();
    return verdict();
}
