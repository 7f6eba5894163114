/* store FILE PAGES WAY: stores a byte in each page of a shared mapping, makes that safe in a WAY, says so, and ends when its
 * input does. With the way "again" each page is stored to twice, and fsync(2) is called after each time. What fails is
 * told by name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *memory;
static long pages;

static void store(char byte) {
    for (long page = 0; page < pages; page++) memory[page * 4096 + page % 4096] = byte;
}

static void tell(const char *what, int result) {
    printf("%s: %s\n", what, result == 0 ? "ok" : strerror(errno));
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int file = open(argv[1], O_RDWR), other = open(argv[1], O_RDWR);
    const char *way = argv[3];
    pages = atol(argv[2]);
    memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    store('1');
    if (!strcmp(way, "msync")) tell(way, msync(memory, pages * 4096, MS_SYNC));
    if (!strcmp(way, "fsync")) tell(way, fsync(other));
    if (!strcmp(way, "fdatasync")) tell(way, fdatasync(file));
    if (!strcmp(way, "munmap")) tell(way, munmap(memory, pages * 4096));
    if (!strcmp(way, "syncfs")) tell(way, syncfs(other));
    if (!strcmp(way, "close")) tell(way, close(other));
    if (!strcmp(way, "twice")) {
        tell("first", fsync(other));
        tell("second", fsync(other));
    }
    if (!strcmp(way, "again")) {
        fsync(other);
        store('2');
        tell(way, fsync(other));
    }
    getchar();
    return 0;
}
