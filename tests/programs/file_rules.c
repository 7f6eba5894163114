/* The rules of file calls: descriptors that are a place only, limits, links, modes, flags of the newer calls. Run in a
 * writable directory. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>

/* Not in every C library. */
#define MY_RWF_HIPRI 0x1
#define MY_RWF_DSYNC 0x2
#define MY_RWF_SYNC 0x4
#define MY_RWF_APPEND 0x10
#define MY_RWF_ATOMIC 0x40
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

static void make(const char *path, const char *content) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, content, strlen(content)) < 0)
        perror(path);
    close(fd);
}

static void show_mode(const char *path) {
    struct stat status;
    int result = lstat(path, &status);
    dprintf(1, "%s: %d mode %o links %d size %ld\n", path, result, status.st_mode, (int)status.st_nlink,
            S_ISDIR(status.st_mode) ? 0 : (long)status.st_size);
}

static void places(void) {
    make("f", "content");
    mkdir("d", 0755);
    symlink("f", "l");
    int fd = open("f", O_PATH), dir = open("d", O_PATH), link = open("l", O_PATH | O_NOFOLLOW), file = open("f", O_RDWR);
    char bytes[100];
    struct stat status;
    struct iovec part = {bytes, 1};
    struct timespec times[2] = {{1, 0}, {1, 0}};
    CHECK(fd >= 0 && dir >= 0 && link >= 0);
    CHECK((fcntl(fd, F_GETFL) & ~O_LARGEFILE) == O_PATH);
    CHECK(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
    CHECK(fstat(link, &status) == 0 && S_ISLNK(status.st_mode));
    CHECK(readlinkat(link, "", bytes, sizeof bytes) == 1);
    REFUSED(read(fd, bytes, 1), EBADF);
    REFUSED(write(fd, bytes, 1), EBADF);
    REFUSED(readv(fd, &part, 1), EBADF);
    REFUSED(writev(fd, &part, 1), EBADF);
    REFUSED(pread(fd, bytes, 1, 0), EBADF);
    REFUSED(pwrite(fd, bytes, 1, 0), EBADF);
    REFUSED(lseek(fd, 0, SEEK_SET), EBADF);
    /* The calls themselves: a C library may try by /proc when they fail. */
    REFUSED(syscall(SYS_fchmod, fd, 0600), EBADF);
    REFUSED(syscall(SYS_fchown, fd, -1, -1), EBADF);
    REFUSED(ftruncate(fd, 0), EBADF);
    REFUSED(fsync(fd), EBADF);
    REFUSED(fdatasync(fd), EBADF);
    REFUSED(syncfs(fd), EBADF);
    REFUSED(syscall(SYS_fallocate, fd, 0, 0L, 1L), EBADF);
    REFUSED(syscall(SYS_fadvise64, fd, 0L, 0L, 0), EBADF);
    REFUSED(syscall(SYS_readahead, fd, 0L, 1L), EBADF);
    REFUSED(syscall(SYS_sync_file_range, fd, 0L, 0L, 0), EBADF);
    REFUSED(flock(fd, LOCK_SH), EBADF);
    REFUSED(fgetxattr(fd, "user.a", bytes, 1), EBADF);
    REFUSED(fsetxattr(fd, "user.a", bytes, 1, 0), EBADF);
    REFUSED(flistxattr(fd, bytes, 1), EBADF);
    REFUSED(fremovexattr(fd, "user.a"), EBADF);
    REFUSED(syscall(SYS_getdents64, dir, bytes, sizeof bytes), EBADF);
    REFUSED(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
    REFUSED(sendfile(file, fd, NULL, 1), EBADF);
    REFUSED(sendfile(fd, file, NULL, 1), EBADF);
    REFUSED(syscall(SYS_copy_file_range, fd, NULL, file, NULL, 1L, 0), EBADF);
    REFUSED(futimens(fd, times), EBADF);
    REFUSED(fcntl(fd, F_SETFL, O_APPEND), EBADF);
    REFUSED(fcntl(fd, F_GETOWN), EBADF);
    REFUSED(fcntl(fd, F_GETPIPE_SZ), EBADF);
    struct statfs system;
    CHECK(fstatfs(fd, &system) == 0);
    CHECK(fchdir(dir) == 0 && chdir("..") == 0);
    REFUSED(fchdir(fd), ENOTDIR);
    CHECK(fcntl(fd, F_DUPFD, 50) == 50 && close(50) == 0);
    CHECK(openat(dir, "below", O_RDWR | O_CREAT, 0600) >= 0);
    REFUSED(openat(fd, "below", O_RDONLY), ENOTDIR);
    CHECK(faccessat(dir, "below", R_OK, 0) == 0);
    CHECK(syscall(SYS_utimensat, dir, "below", times, 0) == 0);
    CHECK(fchmodat(dir, "below", 0640, 0) == 0);
    CHECK(fchownat(fd, "", -1, -1, AT_EMPTY_PATH) == 0);
    /* The rest of the flags is ignored with O_PATH. */
    CHECK(close(open("f", O_PATH | O_TRUNC | O_RDWR | O_EXCL | O_CREAT)) == 0);
    show_mode("f");
    REFUSED(open("nothing", O_PATH | O_CREAT, 0600), ENOENT);
    close(fd), close(dir), close(link), close(file);
}

static void limits(void) {
    static char name[PATH_MAX + 100], path[PATH_MAX + 100];
    memset(name, 'n', 255);
    make(name, "");
    CHECK(access(name, F_OK) == 0);
    CHECK(unlink(name) == 0);
    name[255] = 'n';
    REFUSED(open(name, O_RDWR | O_CREAT, 0600), ENAMETOOLONG);
    REFUSED(mkdir(name, 0700), ENAMETOOLONG);
    REFUSED(symlink("f", name), ENAMETOOLONG);
    REFUSED(link("f", name), ENAMETOOLONG);
    REFUSED(rename("f", name), ENAMETOOLONG);
    REFUSED(unlink(name), ENAMETOOLONG);
    REFUSED(rmdir(name), ENAMETOOLONG);
    REFUSED(stat(name, &(struct stat){0}), ENAMETOOLONG);
    REFUSED(mkfifo(name, 0600), ENAMETOOLONG);
    REFUSED(setxattr(name, "user.a", "", 0, 0), ENAMETOOLONG);
    /* 4095 bytes are a path, 4096 are not. */
    for (int i = 0; i < PATH_MAX - 2; i += 2)
        memcpy(path + i, "./", 2);
    strcpy(path + PATH_MAX - 2, "f");
    CHECK(strlen(path) == PATH_MAX - 1 && access(path, F_OK) == 0);
    path[PATH_MAX - 2] = '/', path[PATH_MAX - 1] = 'f';
    REFUSED(access(path, F_OK), ENAMETOOLONG);
    REFUSED(chdir(path), ENAMETOOLONG);
    memset(name, 't', PATH_MAX - 1), name[PATH_MAX - 1] = 0;
    CHECK(symlink(name, "longest") == 0 || errno == ENAMETOOLONG);
    name[PATH_MAX - 1] = 't';
    REFUSED(symlink(name, "longer"), ENAMETOOLONG);
    REFUSED(access("longest", F_OK), ENAMETOOLONG);
}

static void links(void) {
    char from[20], to[20];
    make("link0", "end");
    for (int i = 1; i <= 41; i++) {
        sprintf(from, "link%d", i), sprintf(to, "link%d", i - 1);
        CHECK(symlink(to, from) == 0);
    }
    CHECK(access("link40", F_OK) == 0);
    REFUSED(access("link41", F_OK), ELOOP);
    REFUSED(open("link41", O_RDONLY), ELOOP);
    REFUSED(chdir("link41"), ELOOP);
    CHECK(symlink("loop", "loop") == 0);
    REFUSED(open("loop", O_RDWR | O_CREAT, 0600), ELOOP);
    REFUSED(stat("loop/x", &(struct stat){0}), ELOOP);
    REFUSED(open("link1", O_RDONLY | O_NOFOLLOW), ELOOP);
    REFUSED(open("link1", O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK(symlink("dangling-target", "dangling") == 0);
    REFUSED(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK(close(open("dangling", O_RDWR | O_CREAT, 0600)) == 0 && access("dangling-target", F_OK) == 0);
    REFUSED(symlink("", "empty"), ENOENT);
    /* A link's own mode is nobody's, its owner and times are its own. */
    REFUSED(syscall(452, AT_FDCWD, "dangling", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    CHECK(lchown("dangling", getuid(), getgid()) == 0);
    struct timespec times[2] = {{1000, 1}, {2000, 2}};
    CHECK(utimensat(AT_FDCWD, "dangling", times, AT_SYMLINK_NOFOLLOW) == 0);
    struct stat status;
    CHECK(lstat("dangling", &status) == 0 && status.st_mtim.tv_sec == 2000 && status.st_mtim.tv_nsec == 2);
    CHECK(stat("dangling", &status) == 0 && status.st_mtim.tv_sec > 2000);
}

static void opening(void) {
    make("ro", "content");
    int fd = open("ro", O_RDONLY | O_TRUNC);
    CHECK(fd >= 0);
    show_mode("ro");
    close(fd);
    REFUSED(open("ro", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    REFUSED(open("d", O_RDWR), EISDIR);
    REFUSED(open("d", O_RDONLY | O_TRUNC), EISDIR);
    REFUSED(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
    REFUSED(open("ro", O_RDONLY | O_DIRECTORY), ENOTDIR);
    REFUSED(open("ro/", O_RDONLY), ENOTDIR);
    REFUSED(open("ro/x", O_RDONLY), ENOTDIR);
    REFUSED(open("new/", O_RDWR | O_CREAT, 0600), EISDIR);
    REFUSED(open("", O_RDONLY), ENOENT);
    REFUSED(syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY, 0), EFAULT);
    char byte;
    fd = open("ro", O_WRONLY | O_SYNC);
    CHECK((fcntl(fd, F_GETFL) & (O_SYNC | O_ACCMODE)) == (O_SYNC | O_WRONLY));
    CHECK(write(fd, "synced", 6) == 6);
    REFUSED(read(fd, &byte, 1), EBADF);
    close(fd);
    fd = open("ro", O_RDWR | O_DSYNC | O_APPEND);
    CHECK(pwrite(fd, "!", 1, 0) == 1);
    show_mode("ro");
    close(fd);
    /* Directly, as the strictest file system wants it. */
    static char page[4096] __attribute__((aligned(4096)));
    fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0600);
    CHECK(fd >= 0 && fcntl(fd, F_GETFL) & O_DIRECT);
    CHECK(pwrite(fd, memset(page, 'd', 4096), 4096, 4096) == 4096 && pread(fd, page, 4096, 0) == 4096 && page[0] == 0);
    CHECK(pread(fd, page, 4096, 4096) == 4096 && page[4095] == 'd');
    CHECK(fcntl(fd, F_SETFL, 0) == 0 && (fcntl(fd, F_GETFL) & O_DIRECT) == 0);
    CHECK(fcntl(fd, F_SETFL, O_DIRECT) == 0);
    close(fd);
    fd = open("ro", O_RDONLY);
    REFUSED(write(fd, "x", 1), EBADF);
    REFUSED(ftruncate(fd, 0), EINVAL);
    REFUSED(syscall(SYS_fallocate, fd, 0, 0L, 1L), EBADF);
    REFUSED(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    close(fd);
}

static void newer_reads_and_writes(void) {
    char bytes[20] = "";
    struct iovec part = {bytes, 4}, out = {"WXYZ", 4};
    make("v", "0123456789");
    int fd = open("v", O_RDWR);
#define READ(at, flags) syscall(SYS_preadv2, fd, &part, 1L, (long)(at), 0L, flags)
#define WRITE(at, flags) syscall(SYS_pwritev2, fd, &out, 1L, (long)(at), 0L, flags)
    CHECK(READ(2, 0) == 4 && memcmp(bytes, "2345", 4) == 0);
    CHECK(READ(-1, 0) == 4 && READ(-1, MY_RWF_HIPRI) == 4 && memcmp(bytes, "4567", 4) == 0);
    CHECK(READ(0, MY_RWF_DSYNC | MY_RWF_SYNC) == 4);
    CHECK(READ(0, MY_RWF_APPEND) == 4);
    REFUSED(READ(0, MY_RWF_ATOMIC), EOPNOTSUPP);
    REFUSED(READ(0, 0x10000), EOPNOTSUPP);
    REFUSED(READ(-2, 0), EINVAL);
    CHECK(WRITE(-1, MY_RWF_DSYNC) == 4 && lseek(fd, 0, SEEK_CUR) == 12);
    CHECK(WRITE(0, MY_RWF_APPEND) == 4 && lseek(fd, 0, SEEK_CUR) == 12);
    show_mode("v");
    CHECK(WRITE(-1, MY_RWF_APPEND | MY_RWF_SYNC) == 4 && lseek(fd, 0, SEEK_CUR) == 20);
    CHECK(WRITE(1, MY_RWF_HIPRI) == 4);
    REFUSED(WRITE(0, MY_RWF_ATOMIC), EOPNOTSUPP);
    REFUSED(WRITE(0, 0x10000), EOPNOTSUPP);
    CHECK(pread(fd, bytes, 20, 0) == 20);
    dprintf(1, "%.20s\n", bytes);
    REFUSED(syscall(SYS_preadv2, fd, &part, 1025L, 0L, 0L, 0), EINVAL);
    CHECK(syscall(SYS_preadv2, fd, &part, 0L, 0L, 0L, 0) == 0);
    struct iovec huge[2] = {{bytes, SSIZE_MAX}, {bytes, 1}};
    REFUSED(readv(fd, huge, 2), EFAULT);
    huge[1].iov_len = -1;
    REFUSED(readv(fd, huge, 2), EINVAL);
    int pipe_ends[2];
    CHECK(pipe(pipe_ends) == 0 && write(pipe_ends[1], "p", 1) == 1);
    REFUSED(syscall(SYS_preadv2, pipe_ends[0], &part, 1L, 0L, 0L, 0), ESPIPE);
    CHECK(syscall(SYS_preadv2, pipe_ends[0], &part, 1L, -1L, 0L, 0) == 1);
    /* Advice and parts. */
    CHECK(syscall(SYS_sync_file_range, fd, 0L, 0L, 7) == 0);
    REFUSED(syscall(SYS_sync_file_range, fd, 0L, 0L, 8), EINVAL);
    REFUSED(syscall(SYS_sync_file_range, fd, -1L, 0L, 0), EINVAL);
    REFUSED(syscall(SYS_sync_file_range, fd, 0L, -1L, 0), EINVAL);
    REFUSED(syscall(SYS_sync_file_range, pipe_ends[0], 0L, 0L, 0), ESPIPE);
    CHECK(syscall(SYS_readahead, fd, 0L, 100L) == 0);
    REFUSED(syscall(SYS_readahead, pipe_ends[0], 0L, 100L), EINVAL);
    for (int advice = 0; advice < 6; advice++)
        CHECK(syscall(SYS_fadvise64, fd, 0L, 0L, advice) == 0);
    REFUSED(syscall(SYS_fadvise64, fd, 0L, 0L, 6), EINVAL);
    REFUSED(syscall(SYS_fadvise64, fd, 0L, -1L, 0), EINVAL);
    REFUSED(syscall(SYS_fadvise64, pipe_ends[0], 0L, 0L, 0), ESPIPE);
    REFUSED(lseek(fd, -1, SEEK_SET), EINVAL);
    REFUSED(lseek(fd, 0, 9), EINVAL);
    REFUSED(lseek(fd, 100, SEEK_DATA), ENXIO);
    REFUSED(lseek(pipe_ends[0], 0, SEEK_SET), ESPIPE);
    REFUSED(truncate("v", -1), EINVAL);
    REFUSED(truncate("d", 0), EISDIR);
    REFUSED(fsync(pipe_ends[0]), EINVAL);
    close(pipe_ends[0]), close(pipe_ends[1]), close(fd);
}

static void modes(void) {
    umask(027);
    CHECK(close(open("masked", O_RDWR | O_CREAT, 0777)) == 0);
    CHECK(mkdir("masked-dir", 01777) == 0);
    CHECK(mkfifo("masked-fifo", 0666) == 0);
    CHECK(mknod("masked-file", 0666, 0) == 0);
    CHECK(mknod("masked-socket", S_IFSOCK | 0777, 0) == 0);
    REFUSED(mknod("directory", S_IFDIR | 0777, 0), EPERM);
    REFUSED(mknod("link", S_IFLNK | 0777, 0), EINVAL);
    REFUSED(mknod("nonsense", 0170000 | 0777, 0), EINVAL);
    show_mode("masked"), show_mode("masked-dir"), show_mode("masked-fifo"), show_mode("masked-file");
    show_mode("masked-socket");
    REFUSED(open("masked-socket", O_RDONLY), ENXIO);
    CHECK(umask(0) == 027);
    CHECK(mkdir("group", 0777) == 0 && chown("group", -1, getgid()) == 0 && chmod("group", 02777) == 0);
    CHECK(mkdir("group/dir", 0755) == 0);
    make("group/file", "");
    show_mode("group"), show_mode("group/dir"), show_mode("group/file");
    CHECK(mkdir("sticky", 0777) == 0 && chmod("sticky", 01777) == 0);
    show_mode("sticky");
    /* Set-id bits go when somebody else's doing could change what runs with them. */
    make("suid", "x");
    CHECK(chmod("suid", 06755) == 0);
    show_mode("suid");
    CHECK(chown("suid", getuid(), getgid()) == 0);
    show_mode("suid");
    CHECK(chmod("suid", 07777) == 0);
    show_mode("suid");
    umask(022);
}

static void *reader(void *path) {
    char byte = 0;
    int fd = open(path, O_RDONLY);
    if (read(fd, &byte, 1) != 1)
        byte = 0;
    close(fd);
    return (void *)(intptr_t)byte;
}

static void named_pipes(void) {
    CHECK(mkfifo("fifo", 0600) == 0);
    REFUSED(mkfifo("fifo", 0600), EEXIST);
    REFUSED(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    int in = open("fifo", O_RDONLY | O_NONBLOCK);
    char byte;
    CHECK(in >= 0 && read(in, &byte, 1) == 0);
    int out = open("fifo", O_WRONLY | O_NONBLOCK);
    CHECK(out >= 0);
    REFUSED(read(in, &byte, 1), EAGAIN);
    CHECK(write(out, "x", 1) == 1 && read(in, &byte, 1) == 1 && byte == 'x');
    close(in), close(out);
    pthread_t thread;
    pthread_create(&thread, NULL, reader, "fifo");
    out = open("fifo", O_WRONLY);
    CHECK(write(out, "y", 1) == 1);
    void *got;
    pthread_join(thread, &got);
    CHECK((intptr_t)got == 'y');
    close(out);
    int both = open("fifo", O_RDWR);
    CHECK(write(both, "z", 1) == 1 && read(both, &byte, 1) == 1);
    REFUSED(lseek(both, 0, SEEK_SET), ESPIPE);
    REFUSED(ftruncate(both, 0), EINVAL);
    REFUSED(truncate("fifo", 0), EINVAL);
    close(both);
    CHECK(unlink("fifo") == 0);
}

static void renaming(void) {
#define RENAME(a, b, flags) syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags)
    make("one", "1"), make("two", "22");
    mkdir("full", 0700), make("full/x", ""), mkdir("bare", 0700);
    REFUSED(RENAME("one", "two", 1), EEXIST);
    CHECK(RENAME("one", "three", 1) == 0);
    CHECK(RENAME("three", "two", 2) == 0);
    show_mode("three"), show_mode("two");
    REFUSED(RENAME("three", "nothing", 2), ENOENT);
    REFUSED(RENAME("three", "two", 3), EINVAL);
    REFUSED(RENAME("three", "two", 6), EINVAL);
    REFUSED(RENAME("three", "two", 8), EINVAL);
    CHECK(RENAME("three", "full", 2) == 0);
    CHECK(RENAME("three", "full", 2) == 0);
    REFUSED(rename("three", "full"), EISDIR);
    REFUSED(rename("full", "three"), ENOTDIR);
    REFUSED(rename("bare", "full"), ENOTEMPTY);
    CHECK(rename("full", "bare") == 0);
    REFUSED(rename("bare", "bare/below"), EINVAL);
    REFUSED(RENAME("bare", "bare/x", 2), EINVAL);
    REFUSED(rename("bare/x", "bare"), ENOTEMPTY);
    REFUSED(rename("nothing", "three"), ENOENT);
    REFUSED(rename("three", "nothing/x"), ENOENT);
    REFUSED(rename("three", "two/x"), ENOTDIR);
    REFUSED(rename(".", "dot"), EBUSY);
    REFUSED(rename("bare/..", "dot"), EBUSY);
    CHECK(rename("two", "two") == 0);
    CHECK(link("two", "second") == 0 && rename("two", "second") == 0);
    show_mode("two"), show_mode("second");
    REFUSED(rmdir("bare"), ENOTEMPTY);
    REFUSED(rmdir("two"), ENOTDIR);
    REFUSED(rmdir("bare/."), EINVAL);
    REFUSED(rmdir("bare/.."), ENOTEMPTY);
    REFUSED(unlink("bare"), EISDIR);
    REFUSED(unlink("."), EISDIR);
    REFUSED(unlink("two/"), ENOTDIR);
    REFUSED(link("bare", "hard"), EPERM);
    REFUSED(linkat(AT_FDCWD, "two", AT_FDCWD, "x", 0x10000), EINVAL);
}

static void newer_looks(void) {
    struct {
        uint32_t mask, blksize;
        uint64_t attributes;
        uint32_t nlink, uid, gid;
        uint16_t mode, spare0;
        uint64_t ino, size, blocks, attributes_mask;
        char rest[192];
    } x;
    struct stat status;
    make("x", "12345");
    CHECK(stat("x", &status) == 0);
#define STATX(path, flags, mask) syscall(SYS_statx, AT_FDCWD, path, flags, mask, &x)
    CHECK(STATX("x", 0, 0x7ff) == 0);
    CHECK((x.mask & 0x7ff) == 0x7ff && x.size == 5 && x.mode == status.st_mode && x.ino == status.st_ino);
    CHECK(x.nlink == 1 && x.uid == status.st_uid && x.gid == status.st_gid && x.blksize == status.st_blksize);
    CHECK(STATX("x", 0x2000, 0) == 0 && STATX("x", 0x4000, 0x7ff) == 0);
    REFUSED(STATX("x", 0x6000, 0x7ff), EINVAL);
    REFUSED(STATX("x", 1, 0x7ff), EINVAL);
    REFUSED(STATX("x", 0, 0x80000000u), EINVAL);
    REFUSED(STATX("", 0, 0x7ff), ENOENT);
    CHECK(STATX("", AT_EMPTY_PATH, 0x7ff) == 0 && S_ISDIR(x.mode));
#define ACCESS(path, mode, flags) syscall(SYS_faccessat2, AT_FDCWD, path, mode, flags)
    CHECK(ACCESS("x", R_OK | W_OK, 0) == 0 && ACCESS("x", F_OK, AT_EACCESS) == 0);
    REFUSED(ACCESS("x", X_OK, 0), EACCES);
    REFUSED(ACCESS("x", 8, 0), EINVAL);
    REFUSED(ACCESS("x", R_OK, 1), EINVAL);
    CHECK(ACCESS("", R_OK, AT_EMPTY_PATH) == 0);
    CHECK(symlink("nothing", "lost") == 0);
    REFUSED(ACCESS("lost", F_OK, 0), ENOENT);
    CHECK(ACCESS("lost", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    /* Times that are no times. */
    struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}}, wrong[2] = {{0, 1000000000}, {0, 0}};
    struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    CHECK(utimensat(AT_FDCWD, "x", now, 0) == 0);
    struct stat after;
    CHECK(stat("x", &after) == 0 && after.st_mtim.tv_nsec == status.st_mtim.tv_nsec);
    REFUSED(utimensat(AT_FDCWD, "x", wrong, 0), EINVAL);
    CHECK(utimensat(AT_FDCWD, "nothing", omit, 0) == 0);
    REFUSED(utimensat(AT_FDCWD, "nothing", now, 0), ENOENT);
    REFUSED(utimensat(AT_FDCWD, "x", now, 1), EINVAL);
    struct timespec early[2] = {{-5, 7}, {-6, 8}};
    CHECK(utimensat(AT_FDCWD, "x", early, 0) == 0 && stat("x", &after) == 0);
    CHECK(after.st_atim.tv_sec == -5 && after.st_atim.tv_nsec == 7 && after.st_mtim.tv_sec == -6);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void listing(void) {
    char name[20], *names[60];
    long cookies[60];
    int count = 0;
    mkdir("many", 0700);
    for (int i = 0; i < 50; i++)
        sprintf(name, "many/%d", i), make(name, "");
    DIR *dir = opendir("many");
    for (struct dirent *entry; (entry = readdir(dir)) && count < 60;) {
        names[count] = strdup(entry->d_name);
        cookies[count++] = telldir(dir);
    }
    CHECK(count == 52);
    /* From any cookie the rest comes in the same order. */
    int same = 1;
    for (int from = 0; from < count; from++) {
        seekdir(dir, cookies[from]);
        struct dirent *entry = readdir(dir);
        same &= from + 1 == count ? entry == NULL : entry != NULL && strcmp(entry->d_name, names[from + 1]) == 0;
    }
    CHECK(same);
    /* Also when the entries before it are gone. */
    seekdir(dir, cookies[20]);
    int gone = 0;
    for (int i = 0; i < 20; i++)
        if (names[i][0] != '.')
            sprintf(name, "many/%s", names[i]), gone += unlink(name) == 0;
    struct dirent *entry = readdir(dir);
    CHECK(entry && strcmp(entry->d_name, names[21]) == 0);
    rewinddir(dir);
    int left = 0;
    while (readdir(dir))
        left++;
    CHECK(left + gone == 52);
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    for (int i = 0; i < count; i++)
        dprintf(1, "%s ", names[i]);
    dprintf(1, "\n");
    char buffer[64];
    int fd = open("many", O_RDONLY);
    REFUSED(syscall(SYS_getdents64, fd, buffer, 10), EINVAL);
    REFUSED(read(fd, buffer, 10), EISDIR);
    REFUSED(write(fd, buffer, 10), EBADF);
    close(fd);
}

/* Makes a copy of this program that can be executed. */
static void copy_to(const char *path) {
    int in = open("/proc/self/exe", O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    while (sendfile(out, in, NULL, 1 << 20) > 0) {
    }
    close(in), close(out);
}

static void executing(void) {
    char *arguments[] = {"./program", "executed", failures ? "but" : NULL, NULL};
    copy_to("program");
    int out = open("program", O_WRONLY);
    REFUSED(execv("program", arguments), ETXTBSY);
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, out, 0);
    CHECK(mapped == MAP_FAILED && errno == EACCES);
    close(out);
    out = open("program", O_RDWR);
    mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, out, 0);
    CHECK(mapped != MAP_FAILED);
    close(out);
    /* A mapping keeps open what it was made by. */
    REFUSED(execv("program", arguments), ETXTBSY);
    CHECK(munmap(mapped, 4096) == 0);
    CHECK(chmod("program", 0600) == 0);
    REFUSED(execv("program", arguments), EACCES);
    CHECK(chmod("program", 0700) == 0);
    REFUSED(execv("d", arguments), EACCES);
    REFUSED(execv("nothing", arguments), ENOENT);
    REFUSED(execv("link41", arguments), ELOOP);
    REFUSED(execv("x/y", arguments), ENOTDIR);
    execv("program", arguments);
    perror("program");
}

/* What the copy does. */
static void executed(void) {
    REFUSED(open("program", O_WRONLY), ETXTBSY);
    REFUSED(open("program", O_RDWR), ETXTBSY);
    REFUSED(open("program", O_RDWR | O_CREAT, 0700), ETXTBSY);
    REFUSED(open("program", O_RDONLY | O_TRUNC), ETXTBSY);
    REFUSED(truncate("program", 0), ETXTBSY);
    CHECK(close(open("program", O_RDONLY)) == 0);
    CHECK(close(open("program", O_PATH)) == 0);
    CHECK(chmod("program", 0755) == 0);
    /* Its name may go, and another file may come. */
    copy_to("other");
    CHECK(rename("other", "program") == 0);
    CHECK(close(open("program", O_RDWR)) == 0);
}

/* A buffer that ends in the middle of what is copied takes what it has room for, to the byte. */
static void short_buffers(void) {
    char content[1000], *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned at = 0; at < sizeof content; at++)
        content[at] = (char)(at * 7 + at / 256);
    int fd = open("cut short", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(write(fd, content, sizeof content) == sizeof content);
    CHECK(mprotect(memory + 4096, 4096, PROT_NONE) == 0);
    for (int room = 1; room < 300; room += room < 80 ? 1 : 31) {
        char *buffer = memory + 4096 - room;
        memset(memory, 0x55, 4096);
        ssize_t n = pread(fd, buffer, 900, 3);
        if (n != room || memcmp(buffer, content + 3, room) != 0 || buffer[-1] != 0x55)
            dprintf(1, "%zd of %d: ", n, room), failures++;
        n = pwrite(fd, buffer, 900, 3);
        if (n != room)
            dprintf(1, "%zd of %d written: ", n, room), failures++;
    }
    CHECK(pread(fd, memory, 1000, 0) == 1000 && memcmp(memory, content, 1000) == 0);
    CHECK(close(fd) == 0 && munmap(memory, 8192) == 0 && unlink("cut short") == 0);
}

int main(int count, char **arguments) {
    (void)arguments;
    if (count > 1) {
        failures = count - 2;
        executed();
        return verdict();
    }
    umask(022);
    places();
    limits();
    links();
    opening();
    newer_reads_and_writes();
    short_buffers();
    modes();
    named_pipes();
    renaming();
    newer_looks();
    listing();
    executing();
    return verdict();
}
