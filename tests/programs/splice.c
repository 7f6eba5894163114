/* Moving bytes inside the kernel: splice(2), tee(2), vmsplice(2), and sendfile(2) into a pipe. Run in a writable
 * directory. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>

static int full_pipe(int fds[2]) {
    static char page[65536];
    if (pipe(fds) != 0)
        return -1;
    return write(fds[1], page, sizeof page) == sizeof page ? 0 : -1;
}

static char big[1 << 20], copy[1 << 20];

static void file_to_pipe(void) {
    int fds[2], file = open("big", O_RDWR);
    CHECK(pipe(fds) == 0 && file >= 0);
    loff_t at = 1000;
    CHECK(splice(file, &at, fds[1], NULL, 10, 0) == 10 && at == 1010);
    CHECK(lseek(file, 0, SEEK_CUR) == 0);
    CHECK(read(fds[0], copy, 100) == 10 && memcmp(copy, big + 1000, 10) == 0);
    /* No more than a pipe holds, and no waiting for the rest. */
    CHECK(splice(file, NULL, fds[1], NULL, sizeof big, 0) == 65536);
    CHECK(lseek(file, 0, SEEK_CUR) == 65536);
    REFUSED(splice(file, NULL, fds[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK(read(fds[0], copy, sizeof copy) == 65536 && memcmp(copy, big, 65536) == 0);
    CHECK(sendfile(fds[1], file, NULL, sizeof big) == 65536);
    CHECK(read(fds[0], copy, sizeof copy) == 65536 && memcmp(copy, big + 65536, 65536) == 0);
    at = sizeof big - 5;
    CHECK(splice(file, &at, fds[1], NULL, 100, 0) == 5 && at == sizeof big);
    CHECK(splice(file, &at, fds[1], NULL, 100, 0) == 0 && at == sizeof big);
    CHECK(splice(file, NULL, fds[1], NULL, 0, 0xffff) == 0);
    at = -1;
    REFUSED(splice(file, &at, fds[1], NULL, 1, 0), EINVAL);
    REFUSED(splice(file, NULL, fds[1], NULL, 1, 16), EINVAL);
    REFUSED(splice(file, NULL, fds[1], &at, 1, 0), ESPIPE);
    REFUSED(splice(file, NULL, file, NULL, 1, 0), EINVAL);
    REFUSED(splice(file, NULL, fds[0], NULL, 1, 0), EBADF);
    REFUSED(splice(-1, NULL, fds[1], NULL, 1, 0), EBADF);
    int writer = open("big", O_WRONLY), dir = open(".", O_RDONLY), place = open("big", O_PATH), event = eventfd(1, 0);
    REFUSED(splice(writer, NULL, fds[1], NULL, 1, 0), EBADF);
    REFUSED(splice(dir, NULL, fds[1], NULL, 1, 0), EINVAL);
    REFUSED(splice(place, NULL, fds[1], NULL, 1, 0), EBADF);
    REFUSED(splice(event, NULL, fds[1], NULL, 8, 0), EINVAL);
    close(writer), close(dir), close(place), close(event);
    signal(SIGPIPE, SIG_IGN);
    close(fds[0]);
    REFUSED(splice(file, NULL, fds[1], NULL, 1, 0), EPIPE);
    close(fds[1]), close(file);
}

static void pipe_to_file(void) {
    int fds[2], file = open("out", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(pipe(fds) == 0);
    CHECK(write(fds[1], "hello, pipe", 11) == 11);
    loff_t at = 5;
    CHECK(splice(fds[0], NULL, file, &at, 5, 0) == 5 && at == 10);
    CHECK(splice(fds[0], NULL, file, NULL, 100, SPLICE_F_MOVE | SPLICE_F_MORE) == 6);
    CHECK(lseek(file, 0, SEEK_CUR) == 6);
    CHECK(pread(file, copy, 100, 0) == 10 && memcmp(copy, ", pipe", 6) == 0);
    CHECK(memcmp(copy + 6, "ello", 4) == 0);
    REFUSED(splice(fds[0], NULL, file, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    int reader = open("out", O_RDONLY), appender = open("out", O_WRONLY | O_APPEND), full = open("/dev/full", O_WRONLY);
    CHECK(write(fds[1], "kept", 4) == 4);
    REFUSED(splice(fds[0], NULL, reader, NULL, 1, 0), EBADF);
    REFUSED(splice(fds[0], NULL, appender, NULL, 1, 0), EINVAL);
    REFUSED(splice(fds[0], &at, file, NULL, 1, 0), ESPIPE);
    REFUSED(splice(fds[1], NULL, file, NULL, 1, 0), EBADF);
    CHECK(read(fds[0], copy, 100) == 4 && memcmp(copy, "kept", 4) == 0);
    close(fds[1]);
    CHECK(splice(fds[0], NULL, file, NULL, 1, 0) == 0);
    close(fds[0]), close(file), close(reader), close(appender), close(full);
}

static void pipe_to_pipe(void) {
    int a[2], b[2], full[2];
    CHECK(pipe(a) == 0 && pipe(b) == 0 && full_pipe(full) == 0);
    CHECK(write(a[1], "abcdef", 6) == 6);
    CHECK(tee(a[0], b[1], 4, 0) == 4);
    CHECK(read(b[0], copy, 100) == 4 && memcmp(copy, "abcd", 4) == 0);
    CHECK(splice(a[0], NULL, b[1], NULL, 2, 0) == 2);
    CHECK(tee(a[0], b[1], 100, 0) == 4);
    CHECK(read(b[0], copy, 100) == 6 && memcmp(copy, "abcdef", 6) == 0);
    CHECK(read(a[0], copy, 100) == 4 && memcmp(copy, "cdef", 4) == 0);
    REFUSED(tee(a[0], b[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
    REFUSED(splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK(write(a[1], "g", 1) == 1);
    REFUSED(splice(a[0], NULL, full[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    REFUSED(tee(a[0], full[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
    REFUSED(splice(a[0], NULL, a[1], NULL, 1, 0), EINVAL);
    REFUSED(tee(a[0], a[1], 1, 0), EINVAL);
    int file = open("out", O_RDWR);
    REFUSED(tee(a[0], file, 1, 0), EINVAL);
    REFUSED(tee(file, a[1], 1, 0), EINVAL);
    REFUSED(tee(a[1], b[1], 1, 0), EBADF);
    REFUSED(tee(a[0], b[1], 1, 16), EINVAL);
    CHECK(tee(a[0], b[1], 0, 0) == 0);
    CHECK(read(a[0], copy, 100) == 1 && copy[0] == 'g');
    close(a[1]);
    CHECK(tee(a[0], b[1], 1, 0) == 0);
    CHECK(splice(a[0], NULL, b[1], NULL, 1, 0) == 0);
    close(a[0]), close(b[0]), close(b[1]), close(full[0]), close(full[1]), close(file);
}

static void memory_to_pipe(void) {
    int fds[2], file = open("out", O_RDWR);
    CHECK(pipe(fds) == 0);
    struct iovec parts[2] = {{"one ", 4}, {"two", 3}}, nothing = {NULL, 0}, wild = {(void *)8, 8};
    CHECK(vmsplice(fds[1], parts, 2, 0) == 7);
    CHECK(vmsplice(fds[1], parts, 2, SPLICE_F_GIFT) == 7);
    CHECK(vmsplice(fds[1], &nothing, 1, 0) == 0);
    struct iovec into[2] = {{copy, 3}, {copy + 10, 100}};
    CHECK(vmsplice(fds[0], into, 2, 0) == 14);
    CHECK(memcmp(copy, "one", 3) == 0 && memcmp(copy + 10, " twoone two", 11) == 0);
    REFUSED(vmsplice(fds[0], into, 2, SPLICE_F_NONBLOCK), EAGAIN);
    REFUSED(vmsplice(fds[1], &wild, 1, 0), EFAULT);
    REFUSED(vmsplice(file, parts, 2, 0), EBADF);
    REFUSED(vmsplice(-1, parts, 2, 0), EBADF);
    REFUSED(vmsplice(fds[1], parts, 2, 16), EINVAL);
    REFUSED(vmsplice(fds[1], parts, 1025, 0), EINVAL);
    close(fds[0]), close(fds[1]), close(file);
}

static void *pour(void *end) {
    int file = open("big", O_RDONLY);
    long left = sizeof big;
    while (left > 0) {
        ssize_t n = splice(file, NULL, *(int *)end, NULL, left, 0);
        if (n <= 0)
            break;
        left -= n;
    }
    close(file), close(*(int *)end);
    return NULL;
}

/* A whole file through a pipe, both ends waiting for each other. */
static void stream(void) {
    int fds[2], file = open("streamed", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(pipe(fds) == 0);
    pthread_t thread;
    pthread_create(&thread, NULL, pour, &fds[1]);
    long total = 0;
    for (ssize_t n; (n = splice(fds[0], NULL, file, NULL, 50000, 0)) > 0;)
        total += n;
    pthread_join(thread, NULL);
    CHECK(total == sizeof big);
    CHECK(pread(file, copy, sizeof copy, 0) == sizeof copy && memcmp(copy, big, sizeof big) == 0);
    close(fds[0]), close(file);
}

int main(void) {
    for (unsigned i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 2654435761u >> 24);
    int file = open("big", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(write(file, big, sizeof big) == sizeof big);
    close(file);
    file_to_pipe();
    pipe_to_file();
    pipe_to_pipe();
    memory_to_pipe();
    stream();
    return verdict();
}
