/* Kinds of SIGFPE that vector instructions end in. QEMU's emulation has no such exceptions. */
#include "check.h"
#include <signal.h>
#include <stdint.h>
#include <sys/ucontext.h>
#include <ucontext.h>

static volatile sig_atomic_t seen, code;

/* Notes the fault, and has the instruction done again with all exceptions masked. */
static void calm(int number, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    seen = number, code = info->si_code;
    CHECK(info->si_addr == (void *)uc->uc_mcontext.gregs[REG_RIP]);
    uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
}

/* `bits` of MXCSR are unmasked, and a and b are divided, or multiplied. */
static int vector(uint32_t bits, double a, double b, int divide) {
    uint32_t control = 0x1f80 & ~bits;
    volatile double result;
    seen = code = 0;
    __asm__ volatile("ldmxcsr %0" ::"m"(control));
    if (divide)
        __asm__ volatile("divsd %1, %0" : "+x"(a) : "x"(b));
    else
        __asm__ volatile("mulsd %1, %0" : "+x"(a) : "x"(b));
    result = a;
    (void)result;
    return seen == SIGFPE ? code : -1;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = calm, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &action, NULL);
    CHECK(vector(0x200, 1, 0, 1) == FPE_FLTDIV);
    CHECK(vector(0x080, 0, 0, 1) == FPE_FLTINV);
    CHECK(vector(0x400, 1e300, 1e300, 0) == FPE_FLTOVF);
    CHECK(vector(0x800, 1e-300, 1e-300, 0) == FPE_FLTUND);
    CHECK(vector(0x1000, 1, 3, 1) == FPE_FLTRES);
    CHECK(vector(0, 1, 0, 1) == -1);
    return verdict();
}
