/* A file system that cannot be changed: everything that would change it is EROFS, unless another error comes first on Linux,
 * and everything else works. Run in a directory with a file `f`, a directory `d` with a file `d/x`, a fifo `p`, and a symbolic link `l` to
 * `f`, by root. */
#include "check.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif

static void names(void) {
    REFUSED(open("new", O_RDONLY | O_CREAT, 0600), EROFS);
    REFUSED(open("new", O_RDWR | O_CREAT | O_EXCL, 0600), EROFS);
    REFUSED(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    REFUSED(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
    REFUSED(open(".", O_RDWR | O_TMPFILE, 0600), EROFS);
    REFUSED(mkdir("new", 0700), EROFS);
    REFUSED(mkdir("d", 0700), EEXIST);
    REFUSED(mknod("new", S_IFREG | 0600, 0), EROFS);
    REFUSED(mkfifo("new", 0600), EROFS);
    REFUSED(symlink("x", "new"), EROFS);
    REFUSED(symlink("x", "l"), EEXIST);
    REFUSED(link("f", "new"), EROFS);
    REFUSED(link("f", "d"), EEXIST);
    REFUSED(unlink("f"), EROFS);
    REFUSED(rmdir("d"), EROFS);
    REFUSED(rename("f", "new"), EROFS);
    REFUSED(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 2), EROFS);
    REFUSED(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "new", 1), EROFS);
}

static void content(void) {
    char bytes[10];
    REFUSED(open("f", O_WRONLY), EROFS);
    REFUSED(open("f", O_RDWR), EROFS);
    REFUSED(open("f", O_RDONLY | O_TRUNC), EROFS);
    REFUSED(open("f", O_RDWR | O_CREAT, 0600), EROFS);
    REFUSED(open("d", O_RDWR), EISDIR);
    REFUSED(truncate("f", 0), EROFS);
    REFUSED(truncate("d", 0), EISDIR);
    int fd = open("f", O_RDONLY | O_CREAT, 0600), other = open("f", O_RDONLY);
    CHECK(fd >= 0 && other >= 0);
    REFUSED(write(fd, "x", 1), EBADF);
    REFUSED(pwrite(fd, "x", 1, 0), EBADF);
    REFUSED(ftruncate(fd, 0), EINVAL);
    REFUSED(syscall(SYS_fallocate, fd, 0, 0L, 1L), EBADF);
    REFUSED(sendfile(fd, other, NULL, 1), EBADF);
    REFUSED(syscall(SYS_copy_file_range, other, NULL, fd, NULL, 1L, 0), EBADF);
    REFUSED(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED && shared[0] == 'c');
    REFUSED(mprotect(shared, 4096, PROT_READ | PROT_WRITE), EACCES);
    char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(private != MAP_FAILED && (private[0] = 'x') && shared[0] == 'c');
    CHECK(pread(fd, bytes, 10, 0) == 7 && memcmp(bytes, "content", 7) == 0);
    CHECK(lseek(fd, 0, SEEK_END) == 7 && lseek(fd, 0, SEEK_DATA) == 0 && lseek(fd, 0, SEEK_HOLE) == 7);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && syncfs(fd) == 0);
    CHECK(syscall(SYS_sync_file_range, fd, 0L, 0L, 7) == 0 && syscall(SYS_readahead, fd, 0L, 7L) == 0);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 && flock(fd, LOCK_UN) == 0);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    CHECK(fcntl(fd, F_SETLK, &lock) == 0);
    lock.l_type = F_WRLCK;
    REFUSED(fcntl(fd, F_SETLK, &lock), EBADF);
    close(fd), close(other);
    /* What is behind a fifo is not in the file system. */
    fd = open("p", O_RDWR);
    CHECK(write(fd, "x", 1) == 1 && read(fd, bytes, 1) == 1);
    close(fd);
}

static void attributes(void) {
    struct timespec times[2] = {{1, 0}, {2, 0}};
    struct statvfs system;
    int fd = open("f", O_RDONLY);
    REFUSED(chmod("f", 0600), EROFS);
    REFUSED(fchmod(fd, 0600), EROFS);
    REFUSED(chown("f", 1, 1), EROFS);
    REFUSED(lchown("l", 1, 1), EROFS);
    REFUSED(fchown(fd, -1, -1), EROFS);
    REFUSED(utimensat(AT_FDCWD, "f", times, 0), EROFS);
    REFUSED(futimens(fd, NULL), EROFS);
    REFUSED(setxattr("f", "user.a", "v", 1, 0), EROFS);
    REFUSED(fsetxattr(fd, "user.a", "v", 1, 0), EROFS);
    REFUSED(removexattr("f", "user.a"), EROFS);
    REFUSED(getxattr("f", "user.a", NULL, 0), ENODATA);
    REFUSED(access("f", W_OK), EROFS);
    REFUSED(access("d", W_OK), EROFS);
    CHECK(access("f", R_OK) == 0 && access("d", R_OK | X_OK) == 0);
    CHECK(access("p", W_OK) == 0);
    CHECK(statvfs(".", &system) == 0 && system.f_flag & ST_RDONLY);
    REFUSED(open("nothing", O_WRONLY), ENOENT);
    REFUSED(chmod("nothing", 0600), ENOENT);
    close(fd);
}

int main(void) {
    names();
    content();
    attributes();
    return verdict();
}
