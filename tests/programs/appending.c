/* Appending is what a write is asked to do at the time: by the open file's flags, which fcntl(2) changes, or by
 * pwritev2(2)'s. Run in a writable directory. */
#include "check.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Not in every C library. The second since Linux 6.9. */
#define MY_RWF_APPEND 0x10
#define MY_RWF_NOAPPEND 0x20

static long write_at(int fd, const char *bytes, long at, int flags) {
    struct iovec part = {(void *)bytes, strlen(bytes)};
    return syscall(SYS_pwritev2, fd, &part, 1L, at, 0L, flags);
}

static void show(void) {
    char bytes[100];
    int fd = open("log", O_RDONLY);
    ssize_t length = read(fd, bytes, sizeof bytes);
    dprintf(1, "%.*s\n", (int)length, bytes);
    close(fd);
}

int main(void) {
    int fd = open("log", O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0644), other = open("log", O_RDWR);
    CHECK(write(fd, "0123456789", 10) == 10 && pwrite(fd, "ab", 2, 0) == 2);
    show();
    CHECK(fcntl(fd, F_SETFL, 0) == 0 && (fcntl(fd, F_GETFL) & O_APPEND) == 0);
    CHECK(pwrite(fd, "AB", 2, 0) == 2 && lseek(fd, 5, SEEK_SET) == 5 && write(fd, "C", 1) == 1);
    CHECK(lseek(fd, 0, SEEK_CUR) == 6);
    show();
    CHECK(fcntl(fd, F_SETFL, O_APPEND) == 0 && pwrite(fd, "D", 1, 0) == 1 && lseek(fd, 0, SEEK_CUR) == 6);
    CHECK(write(fd, "E", 1) == 1 && lseek(fd, 0, SEEK_CUR) == 14);
    show();
    CHECK(write_at(fd, "no", 3, MY_RWF_NOAPPEND) == 2);
    CHECK(lseek(fd, 7, SEEK_SET) == 7 && write_at(fd, "N", -1, MY_RWF_NOAPPEND) == 1);
    CHECK(lseek(fd, 0, SEEK_CUR) == 8);
    show();
    REFUSED(write_at(fd, "no", 3, MY_RWF_NOAPPEND | MY_RWF_APPEND), EINVAL);
    CHECK(write_at(other, "more", 0, MY_RWF_APPEND) == 4 && lseek(other, 0, SEEK_CUR) == 0);
    CHECK(write_at(other, "!", -1, MY_RWF_APPEND) == 1 && lseek(other, 0, SEEK_CUR) == 19);
    CHECK(pwrite(other, "first", 5, 0) == 5);
    show();
    /* What another made longer in between is found. */
    CHECK(write(fd, "one", 3) == 3 && write_at(other, "two", 0, MY_RWF_APPEND) == 3 && write(fd, "three", 5) == 5);
    show();
    return verdict();
}
