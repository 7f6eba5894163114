/* Every way to make another process is refused: for the machine alone. */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

int main(void) {
    char *true_[] = {"/bin/true", NULL};
    pid_t child;
    REFUSED(fork(), ENOSYS);
    REFUSED(fork(), ENOSYS);
    REFUSED(syscall(SYS_fork), ENOSYS);
    REFUSED(syscall(SYS_vfork), ENOSYS);
    REFUSED(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL), ENOSYS);
    REFUSED(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL), ENOSYS);
    CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, true_, environ) == ENOSYS);
    CHECK(system("true") != 0);
    REFUSED(wait(NULL), ECHILD);
    return verdict();
}
