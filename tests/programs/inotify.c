/* inotify(7): what is told of everything a program can do to files, in which order. Run in a writable directory. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>

#ifndef IN_MASK_CREATE
#define IN_MASK_CREATE 0x10000000
#endif

static int watcher;

static const char *const names[] = {"ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN",
                                    "MOVED_FROM", "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF"};

/* What came since the last time. Cookies are numbered anew. */
static void told(const char *what) {
    static char buffer[65536] __attribute__((aligned(8)));
    uint32_t cookies[64];
    int known = 0;
    dprintf(1, "%s:\n", what);
    for (;;) {
        ssize_t length = read(watcher, buffer, sizeof buffer);
        if (length <= 0)
            break;
        for (char *at = buffer; at < buffer + length;) {
            struct inotify_event *event = (void *)at;
            dprintf(1, "  %d", event->wd);
            for (int i = 0; i < 12; i++)
                if (event->mask & (1u << i))
                    dprintf(1, " %s", names[i]);
            if (event->mask & IN_ISDIR)
                dprintf(1, " ISDIR");
            if (event->mask & IN_IGNORED)
                dprintf(1, " IGNORED");
            if (event->mask & IN_Q_OVERFLOW)
                dprintf(1, " Q_OVERFLOW");
            if (event->mask & ~(IN_ALL_EVENTS | IN_ISDIR | IN_IGNORED | IN_Q_OVERFLOW))
                dprintf(1, " and %x", event->mask);
            if (event->cookie) {
                int i = 0;
                while (i < known && cookies[i] != event->cookie)
                    i++;
                if (i == known)
                    cookies[known++] = event->cookie;
                dprintf(1, " cookie %d", i);
            }
            dprintf(1, " len %u %s\n", event->len, event->len ? event->name : "");
            at += sizeof *event + event->len;
        }
    }
}

static int watch(const char *path, uint32_t mask) { return inotify_add_watch(watcher, path, mask); }

static void make(const char *path, const char *content) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (*content && write(fd, content, strlen(content)) < 0)
        perror(path);
    close(fd);
}

static void files(void) {
    char bytes[10];
    CHECK(mkdir("d", 0755) == 0);
    CHECK(watch("d", IN_ALL_EVENTS) == 1);
    make("d/a", "hello");
    told("made");
    CHECK(watch("d/a", IN_ALL_EVENTS) == 2);
    int fd = open("d/a", O_RDWR);
    told("opened");
    CHECK(read(fd, bytes, 5) == 5);
    CHECK(read(fd, bytes, 5) == 0);
    told("read, and read at the end");
    CHECK(pread(fd, bytes, 5, 0) == 5);
    CHECK(pread(fd, bytes, 5, 0) == 5);
    told("twice the same");
    CHECK(write(fd, "x", 1) == 1 && pwrite(fd, "x", 1, 0) == 1);
    CHECK(write(fd, "x", 0) == 0);
    told("written");
    CHECK(ftruncate(fd, 100) == 0);
    told("resized by descriptor");
    CHECK(truncate("d/a", 5) == 0);
    told("resized by path");
    CHECK(fchmod(fd, 0600) == 0);
    told("chmod");
    CHECK(fchown(fd, -1, getgid()) == 0);
    told("chown");
    struct timespec both[2] = {{1, 0}, {2, 0}}, first[2] = {{3, 0}, {0, UTIME_OMIT}}, second[2] = {{0, UTIME_OMIT}, {4, 0}};
    CHECK(futimens(fd, both) == 0);
    told("both times");
    CHECK(futimens(fd, first) == 0);
    told("access time");
    CHECK(futimens(fd, second) == 0);
    told("modification time");
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    told("sought");
    CHECK(fsync(fd) == 0);
    told("synced");
    CHECK(posix_fallocate(fd, 0, 200) == 0);
    told("allocated");
    int copy = open("d/copy", O_WRONLY | O_CREAT, 0644);
    told("copy made");
    CHECK(sendfile(copy, fd, NULL, 100) == 100);
    told("sent");
    close(copy);
    told("copy closed");
    close(open("d/a", O_RDONLY));
    told("opened to read and closed");
    close(open("d/a", O_WRONLY | O_TRUNC));
    told("emptied");
    close(open("d/a", O_PATH));
    told("a place only");
    struct stat status;
    CHECK(stat("d/a", &status) == 0 && access("d/a", R_OK) == 0);
    told("looked at");
    close(fd);
    told("closed");
}

static void names_of_files(void) {
    CHECK(symlink("a", "d/link") == 0);
    told("symbolic link");
    CHECK(link("d/a", "d/b") == 0);
    told("link");
    CHECK(mkfifo("d/fifo", 0600) == 0);
    told("fifo");
    CHECK(mknod("d/node", S_IFREG | 0600, 0) == 0);
    told("node");
    CHECK(rename("d/node", "d/other") == 0);
    told("renamed");
    CHECK(rename("d/a", "d/b") == 0);
    told("renamed to its other name");
    CHECK(rename("d/a", "d/renamed") == 0);
    told("watched renamed");
    CHECK(rename("d/other", "outside") == 0);
    told("moved out");
    CHECK(rename("outside", "d/inside") == 0);
    told("moved in");
    CHECK(syscall(SYS_renameat2, AT_FDCWD, "d/inside", AT_FDCWD, "d/renamed", 2) == 0);
    told("exchanged");
    CHECK(unlink("d/b") == 0);
    told("one of two names gone");
    make("d/victim", "v");
    told("victim");
    int wd = watch("d/victim", IN_ALL_EVENTS);
    CHECK(wd == 3);
    CHECK(rename("d/copy", "d/victim") == 0);
    told("replaced");
    CHECK(unlink("d/inside") == 0);
    told("the last name gone");
    REFUSED(inotify_rm_watch(watcher, 2), EINVAL);
    REFUSED(unlink("d/nothing"), ENOENT);
    REFUSED(rmdir("d/victim"), ENOTDIR);
    REFUSED(link("d/victim", "d/fifo"), EEXIST);
    told("failures");
}

static void directories(void) {
    CHECK(mkdir("d/sub", 0755) == 0);
    int wd = watch("d/sub", IN_ALL_EVENTS);
    CHECK(wd == 4);
    told("directory made");
    int fd = open("d/sub", O_RDONLY | O_DIRECTORY);
    char entries[4096];
    CHECK(syscall(SYS_getdents64, fd, entries, sizeof entries) > 0);
    CHECK(syscall(SYS_getdents64, fd, entries, sizeof entries) == 0);
    close(fd);
    told("listed");
    make("d/sub/x", "");
    told("in the directory below");
    CHECK(rename("d/sub", "d/moved") == 0);
    told("directory renamed");
    CHECK(chmod("d/moved", 0700) == 0);
    told("directory changed");
    CHECK(unlink("d/moved/x") == 0 && rmdir("d/moved") == 0);
    told("directory removed");
}

static void open_and_gone(void) {
    make("d/open", "content");
    told("made");
    int wd = watch("d/open", IN_ALL_EVENTS), fd = open("d/open", O_RDWR);
    CHECK(wd == 5);
    CHECK(unlink("d/open") == 0);
    told("unlinked while open");
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
    told("used without a name");
    close(fd);
    told("let go");
    CHECK(inotify_rm_watch(watcher, 1) == 0);
    told("not watched any more");
    CHECK(watch("d", IN_ALL_EVENTS | IN_EXCL_UNLINK) == 6);
    make("d/open", "content");
    fd = open("d/open", O_RDWR);
    CHECK(unlink("d/open") == 0);
    told("unlinked");
    CHECK(read(fd, &byte, 1) == 1 && fchmod(fd, 0600) == 0);
    close(fd);
    told("used without a name, and not to be told");
}

static void masks(void) {
    make("d/f", "f");
    told("made");
    CHECK(watch("d", IN_CREATE) == 6);
    make("d/g", "g");
    told("only what is made");
    CHECK(watch("d", IN_DELETE | IN_MASK_ADD) == 6);
    make("d/h", "h");
    unlink("d/h");
    told("and deleted");
    REFUSED(watch("d", IN_CREATE | IN_MASK_CREATE), EEXIST);
    REFUSED(watch("d", IN_CREATE | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
    REFUSED(watch("d/f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
    CHECK(watch("d/f", IN_OPEN | IN_ONESHOT) == 7);
    close(open("d/f", O_RDONLY));
    close(open("d/f", O_RDONLY));
    told("once");
    REFUSED(inotify_rm_watch(watcher, 7), EINVAL);
    CHECK(watch("d/link", IN_ATTRIB | IN_DONT_FOLLOW) == 8);
    CHECK(lchown("d/link", -1, getgid()) == 0);
    told("the link itself");
    CHECK(watch("d/f", 0x4000) == 9);
    REFUSED(watch("d/f", 0), EINVAL);
    REFUSED(watch("d/nothing", IN_OPEN), ENOENT);
    REFUSED(watch("", IN_OPEN), ENOENT);
    REFUSED(inotify_add_watch(0, "d", IN_OPEN), EINVAL);
    REFUSED(inotify_add_watch(-1, "d", IN_OPEN), EBADF);
    REFUSED(inotify_rm_watch(watcher, 77), EINVAL);
    REFUSED(inotify_rm_watch(0, 1), EINVAL);
    REFUSED(inotify_init1(1), EINVAL);
}

static void *touch_later(void *path) {
    struct timespec time = {0, 100000000};
    nanosleep(&time, NULL);
    close(open(path, O_RDONLY));
    return NULL;
}

static void reading(void) {
    char small[16], bytes[256];
    REFUSED(read(watcher, bytes, sizeof bytes), EAGAIN);
    REFUSED(write(watcher, bytes, 1), EBADF);
    struct pollfd wait = {.fd = watcher, .events = POLLIN | POLLOUT};
    CHECK(poll(&wait, 1, 0) == 0);
    make("d/with a longer name", "");
    CHECK(poll(&wait, 1, 0) == 1 && wait.revents == POLLIN);
    int waiting = 0;
    CHECK(ioctl(watcher, FIONREAD, &waiting) == 0);
    dprintf(1, "%d bytes wait\n", waiting);
    REFUSED(read(watcher, small, sizeof small), EINVAL);
    void *volatile nowhere = (void *)8;
    REFUSED(read(watcher, nowhere, sizeof bytes), EFAULT);
    told("after that");
    int other = inotify_init1(IN_CLOEXEC);
    CHECK(fcntl(other, F_GETFD) == FD_CLOEXEC);
    CHECK(inotify_add_watch(other, "d/f", IN_OPEN) == 1);
    pthread_t thread;
    pthread_create(&thread, NULL, touch_later, "d/f");
    CHECK(read(other, bytes, sizeof bytes) == 16);
    pthread_join(thread, NULL);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = other};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, other, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    pthread_create(&thread, NULL, touch_later, "d/f");
    CHECK(epoll_wait(set, &event, 1, 5000) == 1 && event.events == EPOLLIN);
    pthread_join(thread, NULL);
    close(set), close(other);
    told("others' events are others'");
}

static void too_many(void) {
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    int most = 0;
    CHECK(limit && fscanf(limit, "%d", &most) == 1 && most > 0);
    int other = inotify_init1(IN_NONBLOCK), fd = open("d/f", O_RDWR);
    inotify_add_watch(other, "d/f", IN_ACCESS | IN_MODIFY);
    char byte;
    for (int i = 0; i < most; i++)
        if (pread(fd, &byte, 1, 0) != 1 || pwrite(fd, "f", 1, 0) != 1)
            perror("d/f");
    static struct inotify_event events[4096];
    int came = 0, last = 0;
    for (ssize_t length; (length = read(other, events, sizeof events)) > 0;) {
        came += length / sizeof *events;
        last = length / sizeof *events - 1;
        last = (events[last].mask == IN_Q_OVERFLOW) * 2 + (events[last].wd == -1);
    }
    CHECK(came == most + 1);
    CHECK(last == 3);
    close(other), close(fd);
}

int main(void) {
    umask(022);
    watcher = inotify_init1(IN_NONBLOCK);
    CHECK(watcher >= 0);
    files();
    names_of_files();
    directories();
    open_and_gone();
    masks();
    reading();
    told("the rest");
    too_many();
    return verdict();
}
