/* What a program can do to itself as it could to another process: by descriptor, by number, by memory; and how its threads
 * are scheduled. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static volatile int handled, code, value;

static void take(int signal, siginfo_t *info, void *context) {
    (void)context;
    handled = signal;
    code = info->si_code;
    value = info->si_value.sival_int;
}

static void by_descriptor(void) {
    struct sigaction action = {.sa_sigaction = take, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    int self = syscall(SYS_pidfd_open, getpid(), 0);
    CHECK(self >= 0 && (fcntl(self, F_GETFD) & FD_CLOEXEC));
    CHECK(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) == 0);
    CHECK(syscall(SYS_pidfd_send_signal, self, SIGUSR1, NULL, 0) == 0 && handled == SIGUSR1 && code == SI_USER);
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE, .si_value.sival_int = 77};
    CHECK(syscall(SYS_pidfd_send_signal, self, SIGUSR1, &info, 0) == 0 && code == SI_QUEUE && value == 77);
    REFUSED(syscall(SYS_pidfd_send_signal, self, SIGUSR2, &info, 0), EINVAL);
    int directory = open("/proc/self", O_RDONLY | O_DIRECTORY);
    handled = 0;
    CHECK(syscall(SYS_pidfd_send_signal, directory, SIGUSR1, NULL, 0) == 0 && handled == SIGUSR1);
    REFUSED(syscall(SYS_pidfd_getfd, directory, 1, 0), EBADF);
    close(directory);
    directory = open("/proc", O_RDONLY | O_DIRECTORY);
    REFUSED(syscall(SYS_pidfd_send_signal, directory, 0, NULL, 0), EBADF);
    close(directory);
    REFUSED(syscall(SYS_pidfd_send_signal, self, 99, NULL, 0), EINVAL);
    REFUSED(syscall(SYS_pidfd_send_signal, 0, 0, NULL, 0), EBADF);
    REFUSED(syscall(SYS_pidfd_send_signal, 999, 0, NULL, 0), EBADF);
    struct pollfd ended = {.fd = self, .events = POLLIN};
    CHECK(poll(&ended, 1, 0) == 0);
    int copy = syscall(SYS_pidfd_getfd, self, 1, 0);
    CHECK(copy > 2 && write(copy, "through a copy\n", 15) == 15);
    REFUSED(syscall(SYS_pidfd_getfd, self, 999, 0), EBADF);
    REFUSED(syscall(SYS_pidfd_getfd, self, 1, 1), EINVAL);
    REFUSED(syscall(SYS_pidfd_getfd, copy, 1, 0), EBADF);
    REFUSED(syscall(SYS_pidfd_open, 0, 0), EINVAL);
    REFUSED(syscall(SYS_pidfd_open, -1, 0), EINVAL);
    REFUSED(syscall(SYS_pidfd_open, 1 << 30, 0), ESRCH);
    REFUSED(syscall(SYS_pidfd_open, getpid(), 1), EINVAL);
    REFUSED(waitid(P_PIDFD, self, &info, WEXITED), ECHILD);
    char byte;
    REFUSED(read(self, &byte, 1), EINVAL);
}

static void by_memory(void) {
    enum { PAGE = 4096 };
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + PAGE, PAGE);
    char from[] = "0123456789", to[11] = {0};
    struct iovec two[] = {{to, 4}, {to + 4, 6}}, one[] = {{from, 10}};
    CHECK(process_vm_readv(getpid(), two, 2, one, 1, 0) == 10 && memcmp(to, from, 10) == 0);
    struct iovec reversed[] = {{from + 5, 5}, {from, 5}}, whole[] = {{to, 10}};
    CHECK(process_vm_writev(getpid(), reversed, 2, whole, 1, 0) == 10 && strcmp(to, "5678901234") == 0);
    /* As far as there is memory. */
    memset(pages, 'x', PAGE);
    struct iovec over[] = {{pages + PAGE - 4, 8}}, buffer[] = {{to, 8}};
    CHECK(process_vm_readv(getpid(), buffer, 1, over, 1, 0) == 4 && memcmp(to, "xxxx90", 6) == 0);
    struct iovec hole[] = {{pages + PAGE, 8}};
    REFUSED(process_vm_readv(getpid(), buffer, 1, hole, 1, 0), EFAULT);
    REFUSED(process_vm_readv(1 << 30, buffer, 1, one, 1, 0), ESRCH);
    REFUSED(process_vm_readv(getpid(), buffer, 1, one, 1, 1), EINVAL);
    REFUSED(process_vm_readv(getpid(), buffer, 1025, one, 1, 0), EINVAL);
    CHECK(process_vm_readv(getpid(), buffer, 0, one, 1, 0) == 0);
    CHECK(process_vm_writev(getpid(), buffer, 1, one, 0, 0) == 0);
    int size = 300000, wrong = 0;
    char *large = malloc(size), *copy = malloc(size);
    for (int i = 0; i < size; i++) large[i] = (char)(i * 7);
    struct iovec all[] = {{large, size}}, into[] = {{copy, size}};
    CHECK(process_vm_readv(getpid(), into, 1, all, 1, 0) == size);
    for (int i = 0; i < size; i++) wrong += copy[i] != (char)(i * 7);
    CHECK(wrong == 0);
}

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t minimum, maximum;
};

static void *inherits(void *unused) {
    (void)unused;
    return (void *)(intptr_t)(syscall(SYS_sched_getscheduler, 0) * 100 + syscall(SYS_getpriority, PRIO_PROCESS, 0));
}

/* Only ever nicer: the test may run as anybody, and as nice as can be. */
static void scheduling(void) {
    struct attributes attributes = {0}, big[70] = {{0}};
    struct sched_param param = {0};
    CHECK(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0);
    CHECK(attributes.size == 56 && attributes.policy == SCHED_OTHER && attributes.flags == 0);
    CHECK(syscall(SYS_sched_getattr, 0, &attributes, 48, 0) == 0 && attributes.size == 48);
    REFUSED(syscall(SYS_sched_getattr, 0, &attributes, 47, 0), EINVAL);
    REFUSED(syscall(SYS_sched_getattr, 0, &attributes, 5000, 0), EINVAL);
    REFUSED(syscall(SYS_sched_getattr, 0, NULL, 56, 0), EINVAL);
    REFUSED(syscall(SYS_sched_getattr, -1, &attributes, 56, 0), EINVAL);
    REFUSED(syscall(SYS_sched_getattr, 1 << 30, &attributes, 56, 0), ESRCH);
    attributes = (struct attributes){.size = 48, .policy = SCHED_BATCH, .nice = 19};
    CHECK(syscall(SYS_sched_setattr, 0, &attributes, 0) == 0);
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == 19);
    attributes.priority = 1;
    REFUSED(syscall(SYS_sched_setattr, 0, &attributes, 0), EINVAL);
    attributes = (struct attributes){.size = 48, .policy = 77};
    REFUSED(syscall(SYS_sched_setattr, 0, &attributes, 0), EINVAL);
    attributes = (struct attributes){.size = 48, .flags = 1 << 20};
    REFUSED(syscall(SYS_sched_setattr, 0, &attributes, 0), EINVAL);
    attributes = (struct attributes){.size = 40};
    REFUSED(syscall(SYS_sched_setattr, 0, &attributes, 0), E2BIG);
    CHECK(attributes.size == 56);
    big[0] = (struct attributes){.size = sizeof big, .policy = SCHED_IDLE, .nice = 7};
    CHECK(syscall(SYS_sched_setattr, 0, big, 0) == 0 && syscall(SYS_sched_getscheduler, 0) == SCHED_IDLE);
    big[50].nice = 1;
    REFUSED(syscall(SYS_sched_setattr, 0, big, 0), E2BIG);
    CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &param) == 0);
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER && getpriority(PRIO_PROCESS, 0) == 19);
    REFUSED(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
    REFUSED(syscall(SYS_sched_setscheduler, 0, -1, &param), EINVAL);
    REFUSED(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &param), EINVAL);
    REFUSED(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
    CHECK(syscall(SYS_sched_getparam, 0, &param) == 0 && param.sched_priority == 0);
    param.sched_priority = 5;
    REFUSED(syscall(SYS_sched_setparam, 0, &param), EINVAL);
    CHECK(setpriority(PRIO_PROCESS, 0, 100) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    REFUSED(setpriority(99, 0, 0), EINVAL);
    REFUSED(setpriority(PRIO_PROCESS, 1 << 30, 0), ESRCH);
    pthread_t thread;
    void *seen;
    pthread_create(&thread, NULL, inherits, NULL);
    pthread_join(thread, &seen);
    CHECK((intptr_t)seen == SCHED_OTHER * 100 + 20 - 19);
    param.sched_priority = 0;
    CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH | SCHED_RESET_ON_FORK, &param) == 0);
    CHECK(syscall(SYS_sched_getscheduler, 0) == (SCHED_BATCH | SCHED_RESET_ON_FORK));
    pthread_create(&thread, NULL, inherits, NULL);
    pthread_join(thread, &seen);
    CHECK((intptr_t)seen == SCHED_BATCH * 100 + 20 - 19);
}

/* From linux/membarrier.h, which not every C library's compiler finds. */
enum {
    MEMBARRIER_CMD_QUERY = 0,
    MEMBARRIER_CMD_GLOBAL_EXPEDITED = 1 << 1,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED = 1 << 3,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED = 1 << 4,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6,
};

static int membarrier(int command, int flags) { return syscall(SYS_membarrier, command, flags, 0); }

static void barriers(void) {
    enum { PRIVATE = MEMBARRIER_CMD_PRIVATE_EXPEDITED, CORE = MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE };
    int wanted = MEMBARRIER_CMD_GLOBAL_EXPEDITED | PRIVATE | CORE;
    CHECK((membarrier(MEMBARRIER_CMD_QUERY, 0) & wanted) == wanted);
    CHECK(membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0) == 0 && membarrier(PRIVATE, 0) == 0);
    REFUSED(membarrier(CORE, 0), EPERM);
    CHECK(membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0) == 0 && membarrier(CORE, 0) == 0);
    CHECK(membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0) == 0);
    REFUSED(membarrier(PRIVATE, 2), EINVAL);
    REFUSED(membarrier(1 << 20, 0), EINVAL);
}

int main(void) {
    by_descriptor();
    by_memory();
    scheduling();
    barriers();
    return verdict();
}
