/* What a handler is told about a fault, and what it can do about it; and registers across handlers. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

static volatile sig_atomic_t seen, code;
static void *volatile address;
static sigjmp_buf back;

static void leap(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = number;
    code = info->si_code;
    address = info->si_addr;
    siglongjmp(back, 1);
}

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = number;
    code = info->si_code;
}

/* Continues behind an instruction of two bytes. */
static void skip(int number, siginfo_t *info, void *context) {
    (void)info;
    seen = number;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static char *page;

/* Makes the page writable: the instruction is tried again and succeeds. */
static void allow(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = number;
    address = info->si_addr;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* Runs `statement`, which must not get past its end. */
#define FAULT(statement)                                                                                               \
    do {                                                                                                               \
        seen = code = 0;                                                                                               \
        address = NULL;                                                                                                \
        if (!sigsetjmp(back, 1)) {                                                                                     \
            statement;                                                                                                 \
            CHECK(!"no fault");                                                                                        \
        }                                                                                                              \
    } while (0)

static void memory_faults(void) {
    handle(SIGSEGV, leap);
    FAULT(*(volatile int *)0x10 = 1);
    CHECK(seen == SIGSEGV && code == SEGV_MAPERR && address == (void *)0x10);
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULT(page[5] = 1);
    CHECK(seen == SIGSEGV && code == SEGV_ACCERR && address == page + 5);
    FAULT(((void (*)(void))page)());
    CHECK(seen == SIGSEGV && code == SEGV_ACCERR && address == page);
    /* Not canonical: a general protection fault, which has no address. */
    FAULT(*(volatile int *)0xdeadbeefdeadbeef = 1);
    CHECK(seen == SIGSEGV && code == SI_KERNEL && address == NULL);
    /* The kernel's half is as unmapped as can be. */
    FAULT(*(volatile int *)0xffffffff80000000 = 1);
    CHECK(seen == SIGSEGV && address == (void *)0xffffffff80000000);
    handle(SIGSEGV, allow);
    seen = 0;
    page[7] = 3;
    CHECK(seen == SIGSEGV && address == page + 7 && page[7] == 3);

    /* A mapped page of a file that ends before it. */
    handle(SIGBUS, leap);
    int file = memfd_create("short", 0);
    CHECK(ftruncate(file, 100) == 0);
    char *mapped = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, file, 0);
    FAULT((void)*(volatile char *)(mapped + 4096));
    CHECK(seen == SIGBUS && code == BUS_ADRERR && address == mapped + 4096);
    CHECK(mapped[4095] == 0);
}

static void processor_faults(void) {
    handle(SIGFPE, leap);
    FAULT(__asm__ volatile("xor %%ecx,%%ecx; xor %%edx,%%edx; mov $1,%%eax; idiv %%ecx" ::: "eax", "ecx", "edx"));
    CHECK(seen == SIGFPE && code == FPE_INTDIV);
    handle(SIGILL, leap);
    FAULT(__asm__ volatile("ud2"));
    CHECK(seen == SIGILL && code == ILL_ILLOPN);
    handle(SIGILL, skip);
    seen = 0;
    __asm__ volatile("ud2");
    CHECK(seen == SIGILL);
    handle(SIGTRAP, note);
    seen = 0;
    __asm__ volatile("int3");
    CHECK(seen == SIGTRAP && code == SI_KERNEL);
    handle(SIGSEGV, leap);
    FAULT(__asm__ volatile("hlt"));
    CHECK(seen == SIGSEGV && code == SI_KERNEL);
    FAULT(__asm__ volatile("mov %%cr0, %%rax" ::: "rax"));
    CHECK(seen == SIGSEGV && code == SI_KERNEL);
}

/* Clobbers what a handler may: everything of the vector unit. */
static void scribble(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    seen = number;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm9, %%xmm9; pcmpeqd %%xmm15, %%xmm15; fninit; fld1"
                     ::: "xmm0", "xmm9", "xmm15", "st");
    uint32_t rounding = 0x7f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(rounding));
}

static void registers(void) {
    handle(SIGUSR1, scribble);
    const uint64_t in[2] = {0x0123456789abcdef, 0xfedcba9876543210};
    uint64_t out[2], r12 = 0x1212121212121212, r13;
    uint32_t control_before, control_after;
    __asm__ volatile("stmxcsr %0" : "=m"(control_before));
    long result;
    seen = 0;
    __asm__ volatile("movdqu %[in], %%xmm9; mov %[r12], %%r13; syscall; movdqu %%xmm9, %[out]; mov %%r13, %[r13]"
                     : "=a"(result), [out] "=m"(out), [r13] "=m"(r13)
                     : "0"(SYS_kill), "D"((long)getpid()), "S"((long)SIGUSR1), [in] "m"(in), [r12] "m"(r12)
                     : "rcx", "r11", "r13", "xmm9", "memory");
    __asm__ volatile("stmxcsr %0" : "=m"(control_after));
    CHECK(result == 0 && seen == SIGUSR1);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK(r13 == r12);
    CHECK(control_after == control_before);

    /* The upper half of the wide registers, where there are any. */
    double wide[4] = {4, 3, 2, 1}, after[4] = {4, 3, 2, 1};
    if (__builtin_cpu_supports("avx")) {
        __asm__ volatile("vmovupd %[in], %%ymm9; syscall; vmovupd %%ymm9, %[out]; vzeroupper"
                         : "=a"(result), [out] "=m"(after)
                         : "0"(SYS_kill), "D"((long)getpid()), "S"((long)SIGUSR1), [in] "m"(wide)
                         : "rcx", "r11", "xmm9", "memory");
    }
    CHECK(memcmp(wide, after, sizeof wide) == 0);
}

int main(void) {
    memory_faults();
    processor_faults();
    registers();
    return verdict();
}
