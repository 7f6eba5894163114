/* System calls that are made so often that a machine may make jumps of them: nobody must be able to tell.
 *
 * `moved`, `between` and `gap` are the shapes of code that can be changed: a number loaded right before, or before some of the
 * arguments, and room behind. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

#define OFTEN 200
#define PAGE 4096ul

long moved(void);
long between(void);
long gap(long number, long a, long b, long c);
long survives_moved(void);
long survives_between(void);
long survives_gap(void);

/* A function that fills registers, flags, vectors and the 128 bytes below its stack, makes a call, and returns 0 or the
 * number of what has changed. */
__asm__(".macro SURVIVES name:req, load:vararg\n"
        ".p2align 4\n.globl \\name\n\\name:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov $0x1111111111, %rbx; lea 1(%rbx), %rbp; lea 2(%rbx), %rdx; lea 3(%rbx), %rsi; lea 4(%rbx), %rdi\n"
        "lea 5(%rbx), %r8; lea 6(%rbx), %r9; lea 7(%rbx), %r10; lea 9(%rbx), %r12; lea 10(%rbx), %r13\n"
        "lea 11(%rbx), %r14; lea 12(%rbx), %r15\n"
        ".set i, 0\n.rept 16\n lea 64+i(%rbx), %rax; mov %rax, -128+8*i(%rsp)\n.set i, i+1\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n lea 32+\\n(%rbx), %rax; movq %rax, %xmm\\n\n.endr\n"
        "std; stc\n"
        "\\load\n syscall\n"
        "pushf; pop %rcx; cld; mov $1, %eax; test $1, %cl; jz 9f; test $0x400, %ecx; jz 9f\n"
        /* pushf has written over -8(%rsp), whose place is the last: it is left out. */
        "mov $0x1111111111, %rcx; mov $2, %eax; cmp %rcx, %rbx; jne 9f\n"
        ".macro IS reg, n\n inc %eax; lea \\n(%rbx), %rcx; cmp %rcx, \\reg; jne 9f\n.endm\n"
        "IS %rbp,1; IS %rdx,2; IS %rsi,3; IS %rdi,4; IS %r8,5; IS %r9,6; IS %r10,7\n"
        "IS %r12,9; IS %r13,10; IS %r14,11; IS %r15,12\n"
        ".purgem IS\n"
        ".set i, 0\n.rept 15\n inc %eax; lea 64+i(%rbx), %rcx; cmp %rcx, -128+8*i(%rsp); jne 9f\n"
        ".set i, i+1\n.endr\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        " inc %eax; lea 32+\\n(%rbx), %rcx; movq %xmm\\n, %rdx; cmp %rcx, %rdx; jne 9f\n.endr\n"
        "xor %eax, %eax\n"
        "9: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
        ".p2align 4\n.endm\n"
        ".text\n"
        "SURVIVES survives_moved, mov $110, %eax\n"
        ".macro LOAD_BETWEEN\n mov $110, %eax\n mov -56(%rsp), %r10\n lea 7(%rbx), %r10\n mov %rdi, %rcx\n.endm\n"
        "SURVIVES survives_between, LOAD_BETWEEN\n"
        /* No room behind, as far as a short jump reaches. */
        ".p2align 4\n.globl between\nbetween: mov $110, %eax; mov %rdi, %rsi; lea 8(%rsp), %rdx; xor %r10d, %r10d; syscall; ret\n"
        ".rept 160\n cmc\n.endr\n"
        /* In one page with what follows. */
        ".p2align 6\n.globl moved\nmoved: mov $110, %eax; syscall; ret\n"
        ".p2align 4\n.globl gap\ngap: mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; mov %rcx, %rdx; syscall\n"
        "ret\n.p2align 4\n nop\n"
        /* The number comes from memory: there is only the room behind, which is near enough for a short jump. */
        "number: .quad 110\n"
        ".p2align 4\n.globl survives_gap\nsurvives_gap: push %rbx; mov $0x3333333333, %rbx\n"
        "mov %rbx, -8(%rsp); mov %rbx, -128(%rsp); movq %rbx, %xmm9; std; stc\n"
        "mov number(%rip), %rax; syscall\n"
        "jnc 8f; cld; mov $0x3333333333, %rcx; cmp %rcx, %rbx; jne 8f; cmp %rcx, -8(%rsp); jne 8f\n"
        "cmp %rcx, -128(%rsp); jne 8f; movq %xmm9, %rdx; cmp %rcx, %rdx; jne 8f; xor %eax, %eax; pop %rbx; ret\n"
        "8: cld; mov $1, %eax; pop %rbx; ret\n.p2align 4\n nop\n");

static int often(long (*function)(void), long wanted) {
    for (int i = 0; i < OFTEN; i++)
        if (function() != wanted) return 0;
    return 1;
}

static long gap_getppid(void) { return gap(SYS_getppid, 0, 0, 0); }

/* Whether an address lies in memory that shows a file, or the kernel's own. */
static int is_code(uint64_t address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], name[256];
    uint64_t start, end;
    int found = 0;
    while (fgets(line, sizeof line, maps)) {
        name[0] = 0;
        sscanf(line, "%lx-%lx %*s %*s %*s %*s %255s", &start, &end, name);
        if (start <= address && address < end) found = name[0] == '/' || !strcmp(name, "[vdso]");
    }
    fclose(maps);
    return found;
}

static volatile uint64_t places[4096];
static volatile int interrupts;
static void note_place(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    places[interrupts++ % 4096] = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

static void interrupted_anywhere(void) {
    struct sigaction action = {.sa_sigaction = note_place, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often_ = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often_, NULL);
    long parent = getppid();
    int right = 1;
    while (interrupts < 300)
        for (int i = 0; i < 100; i++) {
            right &= moved() == parent && gap_getppid() == parent && getppid() == parent;
            right &= between() == parent;
        }
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK(right);
    int all_code = 1;
    for (int i = 0; i < (interrupts < 4096 ? interrupts : 4096); i++) all_code &= is_code(places[i]);
    CHECK(all_code);
}

static int pipe_[2], other[2];
static void write_to_pipe(int signal) {
    (void)signal;
    if (write(pipe_[1], "s", 1) != 1) abort();
}

/* Raises a signal a little later in a thread that sleeps in a call, and in no other. */
static pthread_t sleeper;
static void *raise_later(void *unused) {
    (void)unused;
    usleep(30000);
    pthread_kill(sleeper, SIGUSR1);
    return NULL;
}

static long interrupted_read(int flags) {
    struct sigaction action = {.sa_handler = write_to_pipe, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    sleeper = pthread_self();
    pthread_t thread;
    pthread_create(&thread, NULL, raise_later, NULL);
    char byte = 0;
    long result = gap(SYS_read, pipe_[0], (long)&byte, 1);
    pthread_join(thread, NULL);
    if (result == 1) return byte == 's' ? 1 : 0;
    if (read(pipe_[0], &byte, 1) != 1) return 0;
    return result;
}

static void *blocked_read(void *byte) {
    return (void *)gap(SYS_read, other[0], (long)byte, 1);
}

static long many(void *number) {
    long sum = 0;
    for (int i = 0; i < 2000; i++) sum += gap(SYS_getppid, 0, 0, 0) + moved() - 2 * (long)number;
    return sum;
}

typedef long (*Call)(void);

/* `moved`, at another address: a second mapping of this very file. */
static char *mapped_copy(void) {
    char line[512];
    uint64_t start, end, offset, address = (uint64_t)moved & ~(PAGE - 1);
    FILE *maps = fopen("/proc/self/maps", "r");
    char *copy = MAP_FAILED;
    int self = open("/proc/self/exe", O_RDONLY);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && start <= address && address < end)
            copy = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, offset + (address - start));
    fclose(maps);
    close(self);
    return copy;
}

/* Where single steps stop in the 32 bytes from `code` on. */
struct steps {
    const char *code;
    int number;
    unsigned char at[64];
};
static struct steps steps;
static void note_step(int signal, siginfo_t *info, void *context) {
    static int all;
    (void)signal, (void)info;
    uint64_t at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - (uint64_t)steps.code;
    if (at < 32 && steps.number < 64) steps.at[steps.number++] = at;
    if (++all > 10000) abort();
}

/* Calls code of `moved` or `gap` with the trap flag set. */
static struct steps step_through(const char *code) {
    struct sigaction action = {.sa_sigaction = note_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    steps = (struct steps){.code = code};
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushf; orl $0x100, (%%rsp); popf; call *%0\n"
                     "pushf; andl $~0x100, (%%rsp); popf; lea 128(%%rsp), %%rsp"
                     : : "b"(code), "D"((long)SYS_getppid)
                     : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    return steps;
}

/* Steps stop where they did before calls became jumps, and once each. */
static void stepped(const char *code) {
    struct steps before = step_through(code);
    for (int i = 0; i < OFTEN; i++) ((long (*)(long, long, long, long))code)(SYS_getppid, 0, 0, 0);
    struct steps after = step_through(code);
    CHECK(before.number > 1 && !memcmp(&before, &after, sizeof before));
}

static void unmap_named(const char *wanted) {
    char line[512], name[256];
    uint64_t start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        name[0] = 0;
        sscanf(line, "%lx-%lx %*s %*s %*s %*s %255s", &start, &end, name);
        if (!strcmp(name, wanted)) munmap((void *)start, end - start);
    }
    fclose(maps);
}

int main(void) {
    long parent = getppid();
    uint64_t page = (uint64_t)moved & ~(PAGE - 1), in_page = (uint64_t)moved & (PAGE - 1);
    char before[PAGE];
    memcpy(before, (void *)page, PAGE);

    CHECK(often(survives_moved, 0));
    CHECK(often(survives_between, 0));
    CHECK(often(survives_gap, 0));
    CHECK(often(moved, parent));
    CHECK(often(between, parent));
    CHECK(often(gap_getppid, parent));
    CHECK(gap(-1, 0, 0, 0) == -ENOSYS && gap(5000, 0, 0, 0) == -ENOSYS);
    interrupted_anywhere();

    if (pipe(pipe_) || pipe(other)) return 2;
    CHECK(interrupted_read(SA_RESTART) == 1);
    CHECK(interrupted_read(0) == -EINTR);
    CHECK(often(gap_getppid, parent));
    CHECK(interrupted_read(SA_RESTART) == 1);

    /* A thread that was in the call before the code changed comes back as it should: this mapping is new. */
    char byte = 0;
    void *result;
    pthread_t thread;
    pthread_create(&thread, NULL, blocked_read, &byte);
    usleep(10000);
    CHECK(often(gap_getppid, parent));
    CHECK(write(other[1], "b", 1) == 1 && !pthread_join(thread, &result) && (long)result == 1 && byte == 'b');

    pthread_t threads[4];
    long sums = 0;
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, (void *(*)(void *))many, (void *)parent);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], &result), sums += (long)result;
    CHECK(sums == 0);

    /* Code that moves, or is thrown away. */
    char *copy = mapped_copy();
    CHECK(copy != MAP_FAILED && often((Call)(copy + in_page), parent));
    char *elsewhere = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(copy, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == elsewhere);
    CHECK(often((Call)(elsewhere + in_page), parent));
    CHECK(madvise(elsewhere, PAGE, MADV_DONTNEED) == 0 && often((Call)(elsewhere + in_page), parent));
    CHECK(mprotect(elsewhere, PAGE, PROT_NONE) == 0 && mprotect(elsewhere, PAGE, PROT_READ | PROT_EXEC) == 0);
    CHECK(often((Call)(elsewhere + in_page), parent));

    /* Each in a copy of its own: what has been stepped through is left alone. */
    for (int i = 0; i < 2; i++) {
        copy = mapped_copy();
        stepped(copy + in_page + (i ? (char *)gap - (char *)moved : 0));
    }

    /* Who may change the code sees what the file has, and what it writes counts. */
    CHECK(mprotect(elsewhere, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    CHECK(memcmp(elsewhere, before, PAGE) == 0);
    elsewhere[in_page + 1] = SYS_getpid;
    CHECK(often((Call)(elsewhere + in_page), getpid()));
    CHECK(mprotect(elsewhere, PAGE, PROT_READ | PROT_EXEC) == 0 && often((Call)(elsewhere + in_page), getpid()));
    CHECK(munmap(elsewhere, PAGE) == 0);
    CHECK(mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0 && !memcmp((void *)page, before, PAGE));
    CHECK(mprotect((void *)page, PAGE, PROT_READ | PROT_EXEC) == 0 && often(moved, parent));

    /* What the machine has added to the program's memory may go at any time. */
    unmap_named("[diolkos]");
    CHECK(often(moved, parent) && often(gap_getppid, parent) && often(survives_moved, 0));
    unmap_named("[diolkos]");
    CHECK(memcmp((void *)page, before, PAGE) == 0);

    /* Code that a program makes itself. */
    unsigned char *made = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made, (char[]){0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0xc3}, 8);
    CHECK(often((Call)made, parent) && made[0] == 0xb8);
    made[1] = SYS_getpid;
    CHECK(often((Call)made, getpid()));
    return verdict();
}
