/* What handlers find in the context they get and may change in it; kinds of arithmetic faults; single steps; alternate stacks. */
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

enum { GO_ON_BEHIND, TRAP_FLAG = 0x100 };
static volatile sig_atomic_t seen, code, steps;
static void *volatile address;

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* Changes registers of every kind, the mask, and where it goes on. */
static void edit(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    (void)info;
    seen = number;
    uc->uc_mcontext.gregs[REG_RIP] += 2;
    uc->uc_mcontext.gregs[REG_R12] = 0x1122334455667788;
    uc->uc_mcontext.gregs[REG_RBX] += 1;
    uc->uc_mcontext.gregs[REG_EFL] |= 1; /* carry */
    memset(&uc->uc_mcontext.fpregs->_xmm[9], 0x5a, 16);
    uc->uc_mcontext.fpregs->mxcsr |= 0x6000; /* towards zero */
    sigaddset(&uc->uc_sigmask, SIGUSR2);
}

static void editing(void) {
    uint64_t r12 = 1, rbx = 41, carry = 0;
    unsigned char xmm9[16];
    uint32_t control = 0, normal;
    handle(SIGILL, edit, 0);
    __asm__ volatile("stmxcsr %0" : "=m"(normal));
    __asm__ volatile("mov $1, %%r12d; mov $41, %%ebx; clc; ud2; setc %b[carry]; mov %%r12, %[r12]; mov %%rbx, %[rbx];"
                     "movdqu %%xmm9, %[xmm9]; stmxcsr %[control]"
                     : [r12] "=m"(r12), [rbx] "=m"(rbx), [xmm9] "=m"(xmm9), [control] "=m"(control), [carry] "+r"(carry)
                     :
                     : "rbx", "r12", "xmm9", "memory", "cc");
    __asm__ volatile("ldmxcsr %0" ::"m"(normal));
    CHECK(seen == SIGILL && r12 == 0x1122334455667788 && rbx == 42 && carry == 1);
    int same = 1;
    for (int i = 0; i < 16; i++) same &= xmm9[i] == 0x5a;
    CHECK(same);
    CHECK((control & 0x6000) == 0x6000);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    CHECK(sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGUSR1));
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* Notes a fault and makes it one that does not come again: all exceptions masked, their marks taken away. */
static void calm(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    seen = number, code = info->si_code, address = info->si_addr;
    CHECK(info->si_addr == (void *)uc->uc_mcontext.gregs[REG_RIP]);
    uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
    uc->uc_mcontext.fpregs->cwd = 0x37f;
    uc->uc_mcontext.fpregs->swd &= ~0x80ff;
}

static int x87(uint16_t unmasked, double a, double b) {
    uint16_t control = 0x37f & ~unmasked;
    seen = code = 0;
    __asm__ volatile("fninit; fldcw %0; fldl %1; fdivl %2; fwait; fninit" ::"m"(control), "m"(a), "m"(b) : "st");
    return seen == SIGFPE ? code : -1;
}

static void arithmetic(void) {
    handle(SIGFPE, calm, 0);
    CHECK(x87(0x04, 1, 0) == FPE_FLTDIV);
    CHECK(x87(0x01, 0, 0) == FPE_FLTINV);
    CHECK(x87(0x00, 1, 0) == -1);
}

static volatile uintptr_t last_step;

static void step(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    seen = number, code = info->si_code;
    uintptr_t at = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    if (at != last_step) steps++;
    last_step = at;
    if (steps >= 5) uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void stepping(void) {
    handle(SIGTRAP, step, 0);
    seen = steps = 0;
    __asm__ volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf; nop; nop; nop; nop; nop; nop; nop; nop; add $128, %%rsp" ::
                         : "memory", "cc");
    CHECK(seen == SIGTRAP && code == TRAP_TRACE && steps == 5);
}

static char *stack;
enum { STACK = 65536 };
static int flags_inside;

static void inside(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    stack_t now;
    (void)info;
    seen = number;
    sigaltstack(NULL, &now);
    flags_inside = now.ss_flags;
    CHECK(uc->uc_stack.ss_sp == stack && uc->uc_stack.ss_size == STACK);
    char here;
    CHECK(&here >= stack && &here < stack + STACK);
    if (flags_inside == SS_DISABLE) {
        /* Disarmed: the handler may set another, and the old one comes back by itself. */
        stack_t other = {.ss_sp = malloc(STACK), .ss_size = STACK};
        CHECK(sigaltstack(&other, NULL) == 0);
    } else {
        stack_t other = {.ss_sp = malloc(STACK), .ss_size = STACK};
        REFUSED(sigaltstack(&other, NULL), EPERM);
    }
}

static void alternate_stacks(void) {
    stack = malloc(STACK);
    handle(SIGUSR1, inside, SA_ONSTACK);
    stack_t plain = {.ss_sp = stack, .ss_size = STACK}, now;
    CHECK(sigaltstack(&plain, NULL) == 0 && raise(SIGUSR1) == 0);
    CHECK(flags_inside == SS_ONSTACK);
    stack_t disarmed = {.ss_sp = stack, .ss_size = STACK, .ss_flags = (int)SS_AUTODISARM};
    CHECK(sigaltstack(&disarmed, NULL) == 0 && raise(SIGUSR1) == 0);
    CHECK(flags_inside == SS_DISABLE);
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == stack && now.ss_flags == (int)SS_AUTODISARM);
    disarmed.ss_flags = 77;
    REFUSED(sigaltstack(&disarmed, NULL), EINVAL);
}

/* The guard below a thread's stack, found by recursion and told on an alternate stack of the thread's own. */
static void *guard_low, *guard_high;
static __thread sigjmp_buf *out;

static void overflown(int number, siginfo_t *info, void *context) {
    (void)context;
    seen = number, code = info->si_code, address = info->si_addr;
    siglongjmp(*out, 1);
}

__attribute__((noinline)) static int deeper(volatile char *above) {
    volatile char block[1024];
    block[0] = above[0];
    return deeper(block) + block[0];
}

static void *overflow(void *unused) {
    pthread_attr_t attributes;
    void *start;
    size_t size, guard;
    sigjmp_buf buffer;
    char top = 0;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_getguardsize(&attributes, &guard);
    pthread_attr_destroy(&attributes);
    stack_t own = {.ss_sp = malloc(STACK), .ss_size = STACK};
    sigaltstack(&own, NULL);
    out = &buffer;
    guard_high = (char *)start + guard, guard_low = (char *)start - guard;
    if (!sigsetjmp(buffer, 1)) deeper(&top);
    return unused;
}

static void guards(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    pthread_attr_setguardsize(&attributes, 16 << 10);
    handle(SIGSEGV, overflown, SA_ONSTACK);
    seen = 0;
    CHECK(pthread_create(&thread, &attributes, overflow, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(seen == SIGSEGV && code == SEGV_ACCERR && address >= guard_low && address < guard_high);
}

int main(void) {
    editing();
    arithmetic();
    stepping();
    alternate_stacks();
    guards();
    return verdict();
}
