/* /proc/self/maps, area by area: where neighbours join and where they do not. */
#include "check.h"
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS, ROOM = 64 };

static char *room;
static char text[1 << 20];

static void read_maps(void) {
    int file = open("/proc/self/maps", O_RDONLY);
    size_t have = 0;
    for (ssize_t n; (n = read(file, text + have, sizeof text - 1 - have)) > 0;) have += n;
    text[have] = 0;
    close(file);
}

/* Prints the areas in the room: pages from its start, protection, offset in pages, name. */
static void show(const char *what) {
    read_maps();
    dprintf(1, "%s:", what);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long start, end, offset, inode;
        char rights[5], device[16], name[256] = "";
        if (sscanf(line, "%lx-%lx %4s %lx %15s %lu %255[^\n]", &start, &end, rights, &offset, device, &inode, name) < 6)
            continue;
        if (start < (uintptr_t)room || start >= (uintptr_t)room + ROOM * PAGE) continue;
        char *slash = strrchr(name, '/');
        dprintf(1, " %lu+%lu %s %lx %s", (start - (uintptr_t)room) / PAGE, (end - start) / PAGE, rights, offset / PAGE,
                slash ? slash : name);
        dprintf(1, "%s;", inode ? " of a file" : "");
    }
    dprintf(1, "\n");
    mmap(room, ROOM * PAGE, PROT_NONE, ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

/* Maps pages of the room, and writes to them if `touched`. */
static char *map(int page, int pages, int prot, int flags, int touched) {
    char *at = mmap(room + page * PAGE, pages * PAGE, prot, ANONYMOUS | MAP_FIXED | flags, -1, 0);
    if (at == MAP_FAILED) return at;
    for (int i = 0; touched && i < pages; i++) at[i * PAGE] = 1;
    return at;
}

static void protections(void) {
    map(0, 8, RW, 0, 1);
    mprotect(room + 2 * PAGE, 2 * PAGE, PROT_READ);
    show("a hole in the rights");
    map(0, 8, RW, 0, 1);
    mprotect(room + 2 * PAGE, 2 * PAGE, PROT_READ);
    mprotect(room + 2 * PAGE, 2 * PAGE, RW);
    show("and back");
    map(0, 4, RW, 0, 1);
    map(4, 4, RW, 0, 1);
    show("neighbours, each touched before the other came");
    map(0, 4, RW, 0, 0);
    map(4, 4, RW, 0, 0);
    show("neighbours never touched");
    map(0, 4, RW, 0, 1);
    map(8, 4, RW, 0, 1);
    map(4, 4, RW, 0, 0);
    show("one between two that have pages");
    map(0, 4, RW, 0, 1);
    map(4, 4, RW, MAP_NORESERVE, 1);
    show("one without a reserve");
    map(0, 4, PROT_READ, 0, 0);
    map(4, 4, RW, 0, 1);
    mprotect(room + 4 * PAGE, 4 * PAGE, PROT_READ);
    show("what could never be written beside what no longer can");
    map(0, 4, RW, 0, 1);
    map(4, 4, PROT_NONE, MAP_NORESERVE, 0);
    mprotect(room + 4 * PAGE, 4 * PAGE, RW);
    show("a reservation that is opened");
    map(0, 4, RW, 0, 1);
    map(4, 4, RW | PROT_EXEC, 0, 1);
    mprotect(room + 4 * PAGE, 4 * PAGE, RW);
    show("pages got under different rights");
    map(0, 4, RW, MAP_GROWSDOWN, 1);
    map(4, 4, RW, 0, 1);
    show("a stack below memory");
}

static void moves(void) {
    map(0, 4, RW, 0, 1);
    map(8, 4, RW, 0, 1);
    mremap(room + 8 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 4 * PAGE);
    show("pages moved beside others");
    map(0, 4, RW, 0, 1);
    map(8, 4, RW, 0, 0);
    mremap(room + 8 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 4 * PAGE);
    show("an area without pages moved beside others");
    map(0, 8, RW, 0, 1);
    mremap(room + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 20 * PAGE);
    mremap(room + 20 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 2 * PAGE);
    show("moved away and back");
    map(0, 8, RW, 0, 1);
    munmap(room + 4 * PAGE, 8 * PAGE);
    mremap(room, 4 * PAGE, 6 * PAGE, 0);
    show("grown in place");
}

static void advice(void) {
    static const struct {
        const char *name;
        int advice;
    } all[] = {{"random", MADV_RANDOM},         {"sequential", MADV_SEQUENTIAL}, {"not forked", MADV_DONTFORK},
               {"not dumped", MADV_DONTDUMP},   {"huge", MADV_HUGEPAGE},         {"not huge", MADV_NOHUGEPAGE},
               {"wiped on fork", 18},           {"will need", MADV_WILLNEED},    {"not needed", MADV_DONTNEED},
               {"free", MADV_FREE}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        map(0, 8, RW, 0, 1);
        CHECK(madvise(room + 2 * PAGE, 2 * PAGE, all[i].advice) == 0);
        show(all[i].name);
    }
    map(0, 8, RW, 0, 1);
    CHECK(madvise(room + 2 * PAGE, 2 * PAGE, MADV_DONTDUMP) == 0 && madvise(room, 8 * PAGE, MADV_DODUMP) == 0);
    show("dumped again");
    map(0, 8, RW, 0, 1);
    munmap(room + 4 * PAGE, 1 * PAGE);
    REFUSED(madvise(room, 8 * PAGE, MADV_RANDOM), ENOMEM);
    CHECK(madvise(room, 4 * PAGE, MADV_NORMAL) == 0);
    show("advice across a hole");
}

static void locks(void) {
    map(0, 8, RW, 0, 1);
    CHECK(mlock(room + PAGE, 2 * PAGE) == 0 && syscall(SYS_mlock2, room + 4 * PAGE, 2 * PAGE, 1) == 0);
    show("locked");
    map(0, 8, RW, 0, 1);
    CHECK(mlock(room + PAGE, 2 * PAGE) == 0 && munlock(room, 8 * PAGE) == 0);
    show("unlocked");
    map(0, 4, RW, MAP_LOCKED, 1);
    map(4, 4, RW, 0, 1);
    show("locked from the start");
    map(0, 4, RW, 0, 1);
    CHECK(mlockall(MCL_FUTURE) == 0);
    map(4, 4, RW, 0, 1);
    CHECK(munlockall() == 0);
    map(8, 4, RW, 0, 1);
    show("locked in advance, and no longer");
    map(0, 4, RW, 0, 1);
    CHECK(mlock(room, 3 * PAGE) == 0);
    read_maps();
    int status = open("/proc/self/status", O_RDONLY);
    text[read(status, text, sizeof text - 1)] = 0;
    close(status);
    char *line = strstr(text, "VmLck");
    CHECK(line && strncmp(line, "VmLck:\t      12 kB\n", 19) == 0);
    show("and told");
}

static void shared(void) {
    map(0, 4, RW, 0, 0);
    mmap(room, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(room + 4 * PAGE, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mprotect(room + 5 * PAGE, PAGE, PROT_READ);
    show("shared memory");
    mmap(room, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mprotect(room + PAGE, PAGE, PROT_READ);
    mprotect(room + PAGE, PAGE, RW);
    show("shared memory in one piece again");
}

static void of_files(void) {
    int file = syscall(SYS_memfd_create, "some", 0), again = dup(file);
    CHECK(ftruncate(file, 16 * PAGE) == 0);
    mmap(room, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    mmap(room + 4 * PAGE, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, again, 4 * PAGE);
    show("a file going on");
    mmap(room, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    mmap(room + 4 * PAGE, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 8 * PAGE);
    show("a file from elsewhere");
    char *copy = mmap(room, 8 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, 0);
    copy[2 * PAGE] = 1;
    mprotect(room + 2 * PAGE, PAGE, PROT_READ);
    show("a copy of which a part is protected");
    mmap(room, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0);
    mprotect(room + 6 * PAGE, 2 * PAGE, RW);
    room[6 * PAGE] = 1;
    mprotect(room + 6 * PAGE, 2 * PAGE, PROT_READ);
    show("what a linker does to a library");
    int own = open("/proc/self/exe", O_RDONLY), twice = open("/proc/self/exe", O_RDONLY);
    mmap(room, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, own, 0);
    mmap(room + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, twice, PAGE);
    show("a file opened twice");
}

/* Everything there is when the program starts: what the linker mapped, the heap, the stack. Folders differ on both sides. */
static void whole(void) {
    read_maps();
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long start, end, offset, inode;
        char rights[5], device[16], name[256] = "";
        sscanf(line, "%lx-%lx %4s %lx %15s %lu %255[^\n]", &start, &end, rights, &offset, device, &inode, name);
        /* These are the kernel's own business. */
        if (strncmp(name, "[v", 2) == 0 || strcmp(name, "[diolkos]") == 0) continue;
        char *slash = strrchr(name, '/');
        dprintf(1, "%lu pages %s %lx %s\n", (end - start) / PAGE, rights, offset, slash ? slash + 1 : name);
    }
}

int main(void) {
    whole();
    /* Room for itself, with nothing near that anything could join. */
    room = mmap(NULL, (ROOM + 2048) * PAGE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    room += 1024 * PAGE;
    protections();
    moves();
    advice();
    locks();
    shared();
    of_files();
    return verdict();
}
