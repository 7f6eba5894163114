/* The scripted part: each operation on files once, in the ways it can succeed and fail. A line for each call; the same
 * lines on every system. Nothing is expected here: the comparison does that. */
#include "exerciser.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

/* Makes a call and tells what it gave: a number of at least 0, or the error. */
#define TRY(call) tell(#call, (errno = 0, (long)(call)))

static long tell(const char *call, long result) {
    if (result == -1)
        dprintf(1, "%s: %s\n", call, strerror(errno));
    else
        dprintf(1, "%s = %ld\n", call, result);
    return result;
}

/* Calls whose value is a descriptor: that there is one is all. */
#define OPENS(call) opened(#call, (errno = 0, (call)))

static int opened(const char *call, int fd) {
    dprintf(1, "%s: %s\n", call, fd < 0 ? strerror(errno) : "open");
    return fd;
}

/* Type, rights, owner, links and size; times are each side's own. */
static void look(const char *path) {
    struct stat s;
    if (lstat(path, &s) < 0) {
        dprintf(1, "%s: %s\n", path, strerror(errno));
        return;
    }
    dprintf(1, "%s: mode %o, owner %u:%u, links %lu, size %lld, device %llx\n", path, s.st_mode, s.st_uid, s.st_gid,
            (unsigned long)s.st_nlink, S_ISDIR(s.st_mode) ? 0 : (long long)s.st_size, (unsigned long long)s.st_rdev);
}

static void content(const char *path) {
    static uint8_t bytes[1 << 20];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        dprintf(1, "%s: %s\n", path, strerror(errno));
        return;
    }
    uint64_t sum = 14695981039346656037u, length = 0;
    for (ssize_t got; (got = read(fd, bytes, sizeof bytes)) > 0; length += (uint64_t)got)
        for (ssize_t i = 0; i < got; i++) sum = (sum ^ bytes[i]) * 0x100000001b3;
    dprintf(1, "%s: %llu bytes, %016llx\n", path, (unsigned long long)length, (unsigned long long)sum);
    close(fd);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void list(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    dprintf(1, "%s has %d entries:", path, count);
    for (int i = 0; i < count; i++) {
        dprintf(1, " %s(%d)", entries[i]->d_name, entries[i]->d_type);
        free(entries[i]);
    }
    dprintf(1, "\n");
    if (count >= 0) free(entries);
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) dprintf(1, "cannot write %s\n", path);
    close(fd);
}

static void opening(void) {
    int fd = OPENS(open("new", O_RDWR));
    fd = OPENS(open("new", O_RDWR | O_CREAT, 0640));
    look("new");
    OPENS(open("new", O_RDWR | O_CREAT | O_EXCL, 0640));
    TRY(write(fd, "0123456789", 10));
    TRY(close(fd));
    TRY(close(fd));
    fd = OPENS(open("new", O_WRONLY));
    TRY(read(fd, (char[4]){0}, 4));
    TRY(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    close(fd);
    fd = OPENS(open("new", O_RDONLY));
    TRY(write(fd, "x", 1));
    TRY(ftruncate(fd, 3));
    TRY(fallocate(fd, 0, 0, 10));
    close(fd);
    fd = OPENS(open("new", O_WRONLY | O_APPEND));
    TRY(lseek(fd, 2, SEEK_SET));
    TRY(write(fd, "ab", 2));
    TRY(lseek(fd, 0, SEEK_CUR));
    TRY(pwrite(fd, "cd", 2, 0));
    content("new");
    close(fd);
    OPENS(open("new", O_RDONLY | O_DIRECTORY));
    OPENS(open("new/", O_RDONLY));
    OPENS(open("new/x", O_RDONLY));
    OPENS(open("none/x", O_RDWR | O_CREAT, 0600));
    OPENS(open("", O_RDONLY));
    OPENS(open(".", O_RDWR));
    OPENS(open(".", O_RDONLY | O_CREAT, 0600));
    OPENS(open("fresh/", O_RDWR | O_CREAT, 0600));
    OPENS(open("new", O_WRONLY | O_TRUNC));
    look("new");
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    fd = OPENS(open(name, O_CREAT | O_RDWR, 0600));
    TRY(unlink(name));
    name[255] = 'n', name[256] = 0;
    OPENS(open(name, O_CREAT | O_RDWR, 0600));
    TRY(mkdir(name, 0700));
    static char path[2 * PATH_MAX];
    for (size_t i = 0; i < sizeof path - 1; i++) path[i] = i % 2 ? '/' : '.';
    path[PATH_MAX - 1] = 0;
    TRY(access(path, F_OK));
    path[PATH_MAX - 1] = '/';
    TRY(access(path, F_OK));
    OPENS(open((const char *)8, O_RDONLY));
    OPENS(openat(999, "new", O_RDONLY));
    OPENS(openat(fd, "new", O_RDONLY));
}

static void moving_data(void) {
    put("data", "The quick brown fox jumps over the lazy dog");
    int fd = OPENS(open("data", O_RDWR));
    char a[8] = {0}, b[8] = {0};
    struct iovec vector[2] = {{a, 3}, {b, 5}};
    TRY(readv(fd, vector, 2));
    TRY(memcmp(a, "The", 3) | memcmp(b, " quic", 5));
    TRY(preadv(fd, vector, 2, 40));
    TRY(preadv(fd, vector, 2, -2));
    TRY(preadv(fd, vector, -1, 0));
    TRY(preadv(fd, vector, 1025, 0));
    TRY(preadv(fd, vector, 0, 0));
    TRY(pread(fd, a, 0, 0));
    TRY(pread(fd, a, 1, 1L << 40));
    TRY(pread(fd, a, 1, -1));
    TRY(pread(fd, (void *)8, 1, 0));
    TRY(pread(fd, (void *)8, 1, 100));
    TRY(pread(fd, (void *)8, 0, 0));
    TRY(pwrite(fd, (void *)8, 1, 0));
    TRY(pwrite(fd, "x", 0, 1000));
    look("data");
    TRY(pwritev(fd, vector, 2, 100));
    TRY(pwrite(fd, "x", 1, -1));
    TRY(read(999, a, 1));
    look("data");
    content("data");
    TRY(lseek(fd, -1, SEEK_SET));
    TRY(lseek(fd, -1, SEEK_CUR));
    TRY(lseek(fd, 5, SEEK_END));
    TRY(lseek(fd, 0, 99));
    TRY(lseek(fd, 200, SEEK_DATA));
    TRY(lseek(fd, 200, SEEK_HOLE));
    TRY(truncate("data", 20));
    TRY(truncate("data", -1));
    TRY(truncate("none", 0));
    TRY(truncate(".", 0));
    TRY(ftruncate(fd, 5000));
    content("data");
    TRY(fallocate(fd, 0, 0, 9000));
    TRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 9000, 9000));
    TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4, 8));
    TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 4, 8));
    TRY(fallocate(fd, FALLOC_FL_ZERO_RANGE, 8990, 20));
    TRY(fallocate(fd, 0, -1, 8));
    TRY(fallocate(fd, 0, 0, 0));
    TRY(fallocate(fd, 0x4000, 0, 1));
    content("data");
    int to = OPENS(open("copy", O_RDWR | O_CREAT, 0600));
    off_t in = 3, out = 10;
    TRY(copy_file_range(fd, &in, to, &out, 30, 0));
    TRY(in * 1000 + out);
    TRY(copy_file_range(fd, &in, to, &out, 30, 7));
    TRY(copy_file_range(fd, NULL, fd, NULL, 30, 0));
    in = 5;
    TRY(sendfile(to, fd, &in, 20));
    in = -1;
    TRY(sendfile(to, fd, &in, 20));
    content("copy");
    TRY(fsync(fd));
    TRY(fdatasync(fd));
    TRY(fsync(999));
    TRY(syncfs(fd));
    TRY(sync_file_range(fd, 0, 0, 7));
    TRY(sync_file_range(fd, 0, 0, 64));
    TRY(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    TRY(posix_fadvise(fd, 0, 0, 77));
    TRY(readahead(fd, 0, 4096));
    close(to);
    close(fd);
}

static void names(void) {
    TRY(mkdir("dir", 0750));
    TRY(mkdir("dir", 0750));
    TRY(mkdir("none/dir", 0750));
    TRY(mkdir("dir/sub", 02755));
    TRY(rmdir("dir"));
    TRY(rmdir("."));
    TRY(rmdir("dir/sub/.."));
    TRY(unlink("dir"));
    put("dir/f", "f");
    put("g", "gg");
    TRY(rmdir("g"));
    TRY(unlink("g/"));
    TRY(rename("g", "dir/sub"));
    TRY(rename("dir", "g"));
    TRY(rename("dir", "dir/sub/dir"));
    TRY(rename("dir/sub", "dir"));
    TRY(rename("none", "g"));
    TRY(rename("g", "none/g"));
    TRY(rename("g", "g"));
    TRY(rename("g/", "h"));
    TRY(rename("dir/f", "g"));
    content("g");
    TRY(mkdir("empty", 0700));
    TRY(rename("dir", "empty"));
    TRY(rename("empty", "dir"));
    TRY(rename(".", "dot"));
    put("h", "hhh");
    TRY(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "h", 1));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "h", 2));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "none", 2));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "i", 1));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "h", AT_FDCWD, "i", 3));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "h", AT_FDCWD, "i", 64));
    content("h");
    content("i");
    TRY(link("h", "i"));
    TRY(link("h", "j"));
    TRY(link("none", "k"));
    TRY(link("dir", "k"));
    TRY(link("h", "none/k"));
    TRY(linkat(AT_FDCWD, "h", AT_FDCWD, "k", 0x10));
    look("j");
    TRY(unlink("h"));
    look("j");
    TRY(unlink("none"));
    int fd = OPENS(open("j", O_RDWR));
    TRY(unlink("j"));
    TRY(write(fd, "still", 5));
    struct stat s;
    TRY(fstat(fd, &s));
    TRY((long)s.st_nlink * 1000 + s.st_size);
    TRY(fchmod(fd, 0600));
    close(fd);
    TRY(symlink("g", "link"));
    TRY(symlink("g", "link"));
    TRY(symlink("", "void"));
    TRY(symlink("loop", "loop"));
    TRY(symlink("dir", "link-dir"));
    char target[16] = {0};
    TRY(readlink("link", target, sizeof target));
    TRY(readlink("link-dir", target, 2));
    TRY(readlink("i", target, 16));
    TRY(readlink("link", target, 0));
    TRY(readlink("none", target, 16));
    OPENS(open("loop", O_RDONLY));
    OPENS(open("link", O_RDONLY | O_NOFOLLOW));
    OPENS(open("link", O_RDWR | O_CREAT | O_EXCL, 0600));
    TRY(mkdir("link", 0700));
    TRY(rmdir("link-dir"));
    TRY(unlink("link-dir/"));
    TRY(rename("link", "renamed-link"));
    TRY(link("renamed-link", "linked-link"));
    look("linked-link");
    TRY(mknod("node", S_IFREG | 0604, 0));
    TRY(mknod("node", S_IFREG | 0604, 0));
    TRY(mkfifo("fifo", 0602));
    TRY(mknod("socket", S_IFSOCK | 0600, 0));
    TRY(mknod("strange", 0170000 | 0600, 0));
    look("node");
    look("fifo");
    look("socket");
    list(".");
    list("dir");
    TRY(chdir("dir"));
    TRY(chdir("f"));
    TRY(chdir(".."));
    TRY(chdir("none"));
    TRY(chdir("i"));
}

static void attributes(void) {
    put("f", "text");
    TRY(chmod("f", 07777));
    look("f");
    TRY(truncate("f", 2));
    look("f");
    TRY(chown("f", 12, 34));
    look("f");
    TRY(lchown("renamed-link", 5, 6));
    look("renamed-link");
    TRY(chmod("none", 0));
    TRY(chown("none", 0, 0));
    struct timespec times[2] = {{123456789, 987654321}, {0, UTIME_OMIT}}, wrong[2] = {{0, 1000000000}, {0, 0}};
    TRY(utimensat(AT_FDCWD, "f", times, 0));
    TRY(utimensat(AT_FDCWD, "f", wrong, 0));
    TRY(utimensat(AT_FDCWD, "none", times, 0));
    struct stat s;
    TRY(stat("f", &s));
    TRY(s.st_atim.tv_sec == 123456789 && s.st_atim.tv_nsec == 987654321);
    TRY(stat("none", &s));
    TRY(stat("f/x", &s));
    TRY(stat("", &s));
    TRY(fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH));
    TRY(fstatat(AT_FDCWD, "f", &s, 0x40000000));
    TRY(access("f", R_OK | W_OK | X_OK));
    TRY(access("f", 8));
    TRY(access("none", F_OK));
    TRY(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    struct statfs fs;
    TRY(statfs(".", &fs));
    TRY(statfs("none", &fs));
    char value[32];
    TRY(setxattr("f", "user.one", "1", 1, 0));
    TRY(setxattr("f", "user.one", "2", 1, XATTR_CREATE));
    TRY(setxattr("f", "user.two", "2", 1, XATTR_REPLACE));
    TRY(setxattr("f", "bad", "2", 1, 0));
    TRY(getxattr("f", "user.one", value, sizeof value));
    TRY(getxattr("f", "user.one", value, 0));
    TRY(getxattr("f", "user.none", value, sizeof value));
    TRY(listxattr("f", value, sizeof value));
    TRY(listxattr("f", value, 1));
    TRY(removexattr("f", "user.one"));
    TRY(removexattr("f", "user.one"));
    TRY(umask(0777));
    put("closed", "");
    look("closed");
    TRY(umask(022));
}

static void mapping(void) {
    put("mapped", "some text in a page");
    int fd = OPENS(open("mapped", O_RDWR)), reader = OPENS(open("mapped", O_RDONLY)), writer = OPENS(open("mapped", O_WRONLY));
    char *p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, reader, 0);
    TRY(p == MAP_FAILED ? -1 : memcmp(p, "some text", 9));
    TRY(p == MAP_FAILED ? -1 : p[100]);
    TRY(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    TRY((p[0] = 'S'));
    content("mapped");
    TRY(munmap(p, 2 * PAGE));
    TRY(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED ? -1 : 0);
    TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, writer, 0) == MAP_FAILED ? -1 : 0);
    TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED ? -1 : 0);
    TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 5) == MAP_FAILED ? -1 : 0);
    TRY(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
    TRY(mmap(NULL, PAGE, PROT_READ, 0, fd, 0) == MAP_FAILED ? -1 : 0);
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
    TRY(p == MAP_FAILED ? -1 : memcmp(p, "some text", 9));
    TRY(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
    TRY(msync(p, PAGE, MS_SYNC));
    TRY(msync(p, PAGE, MS_SYNC | MS_ASYNC));
    TRY(msync(p + 1, PAGE, MS_SYNC));
    int directory = OPENS(open("dir", O_RDONLY | O_DIRECTORY));
    TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, directory, 0) == MAP_FAILED ? -1 : 0);
    TRY(read(directory, p, 1));
    TRY(flock(fd, LOCK_EX | LOCK_NB));
    TRY(flock(reader, LOCK_SH | LOCK_NB));
    TRY(flock(fd, LOCK_UN));
    TRY(flock(fd, 99));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    TRY(fcntl(fd, F_SETLK, &lock));
    TRY(fcntl(reader, F_SETLK, &lock));
    lock.l_start = -5;
    TRY(fcntl(fd, F_SETLK, &lock));
    int path = OPENS(open("mapped", O_PATH));
    TRY(read(path, &lock, 1));
    TRY(fchmod(path, 0600));
    TRY(ftruncate(path, 0));
    TRY(fcntl(path, F_GETFL) & O_PATH);
    TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, path, 0) == MAP_FAILED ? -1 : 0);
}

int run_script(void) {
    opening();
    moving_data();
    names();
    attributes();
    mapping();
    list(".");
    return 0;
}
