/* What a program can do to the kernel it shares an address space with: no page of the machine's first memory, in which the
 * kernel lies, may be both written and executed. For the machine alone: on Linux nothing is mapped there. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>

/* Where the machine's memory appears, and the part of it that is looked at: from 1 MiB to 16 MiB. */
#define MEMORY 0x680000000000UL
enum { PAGE = 4096 };

static sigjmp_buf back;
static void *volatile fault;

static void take(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    fault = info->si_addr;
    siglongjmp(back, 1);
}

static int can_read(volatile char *page) { return sigsetjmp(back, 1) ? 0 : (*page, 1); }

/* Changes nothing, whoever else writes there. */
static int can_write(volatile char *page) {
    if (sigsetjmp(back, 1)) return 0;
    __asm__ volatile("lock orb $0, %0" : "+m"(*page));
    return 1;
}

static int can_execute(char *at) {
    if (sigsetjmp(back, 1)) return fault != at;
    ((void (*)(void))(uintptr_t)at)();
    return 1;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = take, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    int readable = 0, text = 0, data = 0, both = 0;
    for (char *page = (char *)MEMORY + (1 << 20); page < (char *)MEMORY + (16 << 20); page += PAGE) {
        if (!can_read(page)) continue;
        readable++;
        if (can_write(page)) {
            /* Whatever is in it, the first instruction must not even be fetched. */
            data++;
            both += can_execute(page);
            continue;
        }
        char *ret = memchr(page, 0xc3, PAGE);
        text += ret && can_execute(ret);
    }
    CHECK(readable > 1000 && data > 1000);
    CHECK(text > 50);
    CHECK(both == 0);
    return verdict();
}
