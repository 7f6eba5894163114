/* Bytes on their way between files of different shares, through memory that is a file itself: `windows FROM TO` copies
 * FROM to TO four times, in each direction a descriptor and a mapping can meet. Both may lie in a window or not. */
#include "check.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

static const char *from_name, *to_name;
static size_t size;
static int from, to;
static unsigned char *source, *wanted;

static void begin(void) {
    to = open(to_name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(to >= 0);
}

static void end(void) {
    struct stat stat;
    CHECK(fstat(to, &stat) == 0 && (size_t)stat.st_size == size);
    unsigned char *got = malloc(size);
    CHECK(pread(to, got, size, 0) == (ssize_t)size);
    CHECK(memcmp(got, wanted, size) == 0);
    free(got);
    CHECK(close(to) == 0);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    from_name = argv[1], to_name = argv[2];
    from = open(from_name, O_RDONLY);
    struct stat stat;
    CHECK(from >= 0 && fstat(from, &stat) == 0);
    size = stat.st_size;
    wanted = malloc(size);
    CHECK(pread(from, wanted, size, 0) == (ssize_t)size);
    source = mmap(NULL, size, PROT_READ, MAP_SHARED, from, 0);
    CHECK(source != MAP_FAILED);

    /* From a mapped file, none of whose pages was touched before, into a file that grows. */
    begin();
    CHECK(write(to, source, size) == (ssize_t)size);
    end();

    /* The same into a file that does not grow, from pieces that are no pages. */
    begin();
    CHECK(ftruncate(to, size) == 0);
    struct iovec pieces[2] = {{source, size / 2 + 1}, {source + size / 2 + 1, size - size / 2 - 1}};
    CHECK(pwritev(to, pieces, 2, 0) == (ssize_t)size);
    end();

    /* From a file into a mapped one. */
    begin();
    CHECK(ftruncate(to, size) == 0);
    unsigned char *target = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
    CHECK(target != MAP_FAILED);
    CHECK(pread(from, target, size, 0) == (ssize_t)size);
    CHECK(munmap(target, size) == 0);
    end();

    /* From one mapped file into the other. */
    begin();
    CHECK(ftruncate(to, size) == 0);
    target = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
    CHECK(target != MAP_FAILED);
    memcpy(target, source, size);
    CHECK(munmap(target, size) == 0);
    end();

    /* A file into itself, through its own mapping: the second half over the first. */
    begin();
    CHECK(write(to, source, size) == (ssize_t)size);
    target = mmap(NULL, size, PROT_READ, MAP_SHARED, to, 0);
    CHECK(target != MAP_FAILED);
    CHECK(pwrite(to, target + size / 2, size / 2, 0) == (ssize_t)(size / 2));
    memcpy(wanted, wanted + size / 2, size / 2);
    CHECK(memcmp(target, wanted, size) == 0);
    CHECK(munmap(target, size) == 0);
    end();
    return verdict();
}
