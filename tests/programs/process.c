/* Who the program is, what it may use, what it was told at the start, and calls that are always refused. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static void identity(void) {
    uid_t real, effective, saved;
    CHECK(getpid() == syscall(SYS_gettid));
    CHECK(getpgrp() == getpgid(0));
    // 0 where the session was made outside this PID namespace: getsid(2) says nothing about it.
    CHECK(getsid(0) >= 0);
    REFUSED(getpgid(1 << 30), ESRCH);
    CHECK(getresuid(&real, &effective, &saved) == 0 && real == getuid() && effective == geteuid());
    REFUSED(syscall(SYS_setuid, -1), EINVAL);
    CHECK(setresuid(-1, -1, -1) == 0);
    REFUSED(wait(NULL), ECHILD);
    REFUSED(waitpid(-1, NULL, WNOHANG), ECHILD);
}

static void limits(void) {
    struct rlimit limit = {.rlim_cur = 20, .rlim_max = 10};
    REFUSED(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
    REFUSED(getrlimit(99, &limit), EINVAL);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 10;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int last = 0;
    for (int i = 0; i < 20 && last >= 0; i++) last = dup(0);
    CHECK(last == -1 && errno == EMFILE);
    close(9);
    CHECK(dup(0) == 9);
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0);
    REFUSED(getrusage(5, &usage), EINVAL);
    struct tms ticks;
    CHECK(times(&ticks) != -1);
    struct sysinfo info;
    CHECK(sysinfo(&info) == 0 && info.totalram > info.freeram && info.mem_unit >= 1);
}

static void scheduling(void) {
    cpu_set_t processors;
    CHECK(sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) >= 1);
    CHECK(sched_get_priority_max(SCHED_FIFO) == 99);
    REFUSED(sched_get_priority_max(77), EINVAL);
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER);
    CHECK(sched_yield() == 0);
}

static void names(void) {
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a-very-long-name-indeed") == 0);
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "a-very-long-nam") == 0);
    REFUSED(prctl(PR_SET_NAME, 8), EFAULT);
    REFUSED(prctl(12345, 0), EINVAL);
    struct utsname system;
    CHECK(uname(&system) == 0 && strcmp(system.sysname, "Linux") == 0 && strcmp(system.machine, "x86_64") == 0);
    REFUSED(syscall(SYS_uname, 8), EFAULT);
}

static void randomness(void) {
    char bytes[300] = {0}, more[300] = {0};
    CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
    CHECK(getrandom(more, sizeof more, GRND_NONBLOCK) == sizeof more);
    CHECK(memcmp(bytes, more, sizeof bytes) != 0);
    REFUSED(getrandom(bytes, 10, 0x100), EINVAL);
    REFUSED(syscall(SYS_getrandom, 8, 10, 0), EFAULT);
}

static void auxiliary_vector(void) {
    CHECK(getauxval(AT_PAGESZ) == 4096);
    CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
    CHECK(getauxval(AT_SECURE) == 0);
    CHECK(getauxval(AT_UID) == getuid());
    CHECK(getauxval(AT_RANDOM) != 0);
    CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    CHECK(strcmp((char *)getauxval(AT_EXECFN), "./process") == 0);
}

static void starting_others(char **arguments) {
    char *long_argument = malloc(200000), *too_long[] = {"x", long_argument, NULL};
    memset(long_argument, 'x', 199999);
    long_argument[199999] = 0;
    REFUSED(execve("/no/such/program", arguments, NULL), ENOENT);
    REFUSED(execve("/etc", arguments, NULL), EACCES);
    REFUSED(execve("/etc/passwd", arguments, NULL), EACCES);
    REFUSED(execve("/etc/passwd/x", arguments, NULL), ENOTDIR);
    /* One argument may have 32 pages; execve(2). */
    REFUSED(execve("/bin/true", too_long, NULL), E2BIG);
    REFUSED(syscall(SYS_execve, 8, arguments, NULL), EFAULT);
}

static void unknown_calls(void) {
    REFUSED(syscall(500), ENOSYS);
    REFUSED(syscall(9999), ENOSYS);
    REFUSED(syscall(-1), ENOSYS);
}

/* Last, for there is no way back. */
static void dropping_privileges(void) {
    if (getuid() != 0) return;
    CHECK(setresgid(1000, 1000, 1000) == 0 && getegid() == 1000);
    CHECK(setresuid(1000, 1000, 1000) == 0 && getuid() == 1000 && geteuid() == 1000);
    REFUSED(setuid(0), EPERM);
    REFUSED(setresgid(0, 0, 0), EPERM);
}

int main(int count, char **arguments) {
    (void)count;
    identity();
    limits();
    scheduling();
    names();
    randomness();
    auxiliary_vector();
    starting_others(arguments);
    unknown_calls();
    dropping_privileges();
    return verdict();
}
