/* Signals to and from many threads at once: sent, queued, by timers, by faults; handled on ordinary and alternate stacks,
 * waited for, and in the middle of arithmetic and of calls. Every queued signal must arrive once, in order for each sender, and no
 * register may be other than it was. */
#include "stress.h"
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { PAGE = 4096, STACK = 64 << 10 };

static _Atomic int tids[MOST_THREADS];
static _Atomic uint64_t sent, queued, handled, taken, ticks, faulted;
static __thread volatile uint64_t own_faults;
static __thread char *page;

static void on_user(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    /* What the interrupted code has in these registers must come back. */
    __asm__ volatile("xorps %%xmm0, %%xmm0; xorps %%xmm7, %%xmm7; xorps %%xmm15, %%xmm15" ::: "xmm0", "xmm7", "xmm15");
    atomic_fetch_add(&handled, 1);
}

static void on_tick(int signal) {
    (void)signal;
    atomic_fetch_add(&ticks, 1);
}

/* The page that must not be touched is allowed, and the access is made again. */
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    MUST((char *)info->si_addr >= page && (char *)info->si_addr < page + PAGE, "signal %d at %p", signal, info->si_addr);
    MUST(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect: %m");
    own_faults++;
    atomic_fetch_add(&faulted, 1);
}

/* Long enough to be interrupted; the result is known. */
static void compute(uint64_t *random) {
    double sum = 0, step = (double)(below(random, 1000) + 1);
    uint64_t whole = 0, add = random_next(random) | 1;
    int rounds = 20000;
    for (int i = 0; i < rounds; i++) {
        sum += step;
        whole += add;
        __asm__ volatile("" : "+x"(sum), "+r"(whole));
    }
    MUST(sum == step * rounds, "%f is not %f", sum, step * rounds);
    MUST(whole == add * (uint64_t)rounds, "an integer went wrong");
}

static void send_to_some(uint64_t *random) {
    int tid = tids[below(random, (uint32_t)thread_count)];
    if (tid == 0) return;
    atomic_fetch_add(&sent, 1);
    MUST(syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0 || errno == ESRCH, "tgkill: %m");
}

/* Real-time signals are for the one who takes them; their values count up for each sender. */
static __thread uint32_t next_value;

static void queue_one(int thread) {
    union sigval value = {.sival_int = (int)((uint32_t)thread << 24 | (next_value & 0xffffff))};
    if (sigqueue(getpid(), SIGRTMIN, value) == 0) {
        next_value++;
        atomic_fetch_add(&queued, 1);
    } else {
        MUST(errno == EAGAIN, "sigqueue: %m");
        sched_yield();
    }
}

static void fault(uint64_t *random) {
    uint64_t before = own_faults;
    char value = (char)random_next(random);
    MUST(mprotect(page, PAGE, PROT_NONE) == 0, "mprotect: %m");
    *(volatile char *)(page + below(random, PAGE)) = value;
    MUST(own_faults == before + 1, "a store to a page without protection faulted %d times", (int)(own_faults - before));
}

/* A blocked signal waits, and comes when it is let in. */
static void block_for_a_while(uint64_t *random) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    MUST(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR2) == 0, "tgkill: %m");
    compute(random);
    sigpending(&pending);
    MUST(sigismember(&pending, SIGUSR2) == 1, "a blocked signal does not wait");
    if (below(random, 2)) {
        struct timespec none = {0, 0};
        MUST(sigtimedwait(&set, NULL, &none) == SIGUSR2, "sigtimedwait: %m");
        sigpending(&pending);
        MUST(sigismember(&pending, SIGUSR2) == 0, "a signal that was taken waits on");
        atomic_fetch_add(&handled, 1);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    atomic_fetch_add(&sent, 1);
}

/* Calls that signals interrupt: made again, or not, but never wrong. */
static void call(uint64_t *random) {
    struct timespec rest, wait = {0, (long)below(random, 1000000)};
    uint64_t end = now_ns() + (uint64_t)wait.tv_nsec;
    int ends[2];
    char byte = 'a';
    while (nanosleep(&wait, &rest) != 0) {
        MUST(errno == EINTR, "nanosleep: %m");
        wait = rest;
    }
    MUST(now_ns() + 1000 >= end, "a sleep that was interrupted ended early");
    MUST(pipe(ends) == 0, "pipe: %m");
    MUST(write(ends[1], "z", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'z', "a pipe: %m");
    close(ends[0]);
    close(ends[1]);
}

static void *work(void *number) {
    int thread = (int)(intptr_t)number;
    uint64_t random = random_start(thread);
    stack_t alternate = {.ss_sp = malloc(STACK), .ss_size = STACK};
    sigaltstack(&alternate, NULL);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tids[thread] = (int)syscall(SYS_gettid);
    while (!is_over()) {
        switch (below(&random, 16)) {
        case 0: case 1: case 2: case 3: send_to_some(&random); break;
        case 4: case 5: case 6: queue_one(thread); break;
        case 7: case 8: fault(&random); break;
        case 9: block_for_a_while(&random); break;
        case 10: call(&random); break;
        default: compute(&random); break;
        }
    }
    tids[thread] = 0;
    /* Its signals are handled before it ends, but one may still be on its way: it is not counted as lost below. */
    return NULL;
}

static volatile int over;

/* Takes what the others queue, and sees that each sender's come in order. */
static void *take_queued(void *unused) {
    uint32_t expected[MOST_THREADS] = {0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    for (;;) {
        struct timespec wait = {0, 20000000};
        siginfo_t info;
        int got = sigtimedwait(&set, &info, &wait);
        if (got < 0) {
            MUST(errno == EAGAIN || errno == EINTR, "sigtimedwait: %m");
            if (errno == EAGAIN && over) return unused;
            continue;
        }
        uint32_t thread = (uint32_t)info.si_value.sival_int >> 24, value = (uint32_t)info.si_value.sival_int & 0xffffff;
        MUST(got == SIGRTMIN && info.si_code == SI_QUEUE && thread < MOST_THREADS, "code %d", info.si_code);
        MUST(value == (expected[thread] & 0xffffff), "thread %u: signal %u came when %u was due", thread, value, expected[thread]);
        expected[thread]++;
        atomic_fetch_add(&taken, 1);
    }
}

int main(int count, char **arguments) {
    struct sigaction user = {.sa_sigaction = on_user, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct sigaction segv = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct itimerspec often = {{0, 700000}, {0, 700000}}, never = {{0, 0}, {0, 0}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    sigset_t queue_only;
    pthread_t taker;
    timer_t timer;
    start(count, arguments);
    sigemptyset(&queue_only);
    sigaddset(&queue_only, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &queue_only, NULL);
    sigaction(SIGUSR1, &user, NULL);
    sigaction(SIGUSR2, &user, NULL);
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGALRM, &tick, NULL);
    pthread_create(&taker, NULL, take_queued, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &often, NULL);
    run_all(work, "signals sent, queued, timed and caused");
    timer_settime(timer, 0, &never, NULL);
    over = 1;
    pthread_join(taker, NULL);
    CHECK(taken == queued && queued > 0);
    CHECK(handled > 0 && handled <= sent);
    CHECK(ticks > 0 && faulted > 0);
    return verdict();
}
