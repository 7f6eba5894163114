/* Ways to die; the argument says which. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int recurse(int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static void without_a_stack(void) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page, 4096);
    __asm__ volatile("mov %0, %%rsp; push %%rax" ::"r"(page));
}

static void handler_without_a_stack(int number) {
    (void)number;
}

/* The handler runs on no alternate stack, and the ordinary one has no room left. */
static void overflow_with_a_handler(void) {
    signal(SIGSEGV, handler_without_a_stack);
    recurse(0);
}

static void ignored_fault(void) {
    signal(SIGSEGV, SIG_IGN);
    *(volatile int *)8 = 1;
}

static void blocked_fault(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    *(volatile int *)8 = 1;
}

static void jump_to(uintptr_t address) {
    ((void (*)(void))address)();
}

int main(int count, char **arguments) {
    const char *way = count > 1 ? arguments[1] : "";
    if (!strcmp(way, "recursion")) return recurse(0);
    if (!strcmp(way, "no-stack")) without_a_stack();
    if (!strcmp(way, "overflow-with-handler")) overflow_with_a_handler();
    if (!strcmp(way, "ignored-fault")) ignored_fault();
    if (!strcmp(way, "blocked-fault")) blocked_fault();
    if (!strcmp(way, "privileged")) __asm__ volatile("hlt");
    if (!strcmp(way, "jump-to-null")) jump_to(0);
    if (!strcmp(way, "jump-nowhere")) jump_to(0xdeadbeefdeadbeef);
    if (!strcmp(way, "jump-to-kernel")) jump_to(0xffffffff80000000);
    if (!strcmp(way, "kill")) raise(SIGKILL);
    if (!strcmp(way, "hangup")) {
        signal(SIGHUP, SIG_DFL); /* whoever started us may have had it ignored (nohup) */
        raise(SIGHUP);
    }
    if (!strcmp(way, "realtime")) raise(SIGRTMIN + 3);
    if (!strcmp(way, "exit-300")) _exit(300);
    return 5;
}
