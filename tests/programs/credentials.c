/* What root may do to files after it has become somebody else, by which of its ids, and after it has given up capabilities.
 * Started by root in a directory of its own. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#ifndef O_NOATIME
#define O_NOATIME 01000000
#endif
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

/* Of linux/capability.h, which not every C library has. */
struct capability_header {
    uint32_t version;
    int pid;
};
struct capability_data {
    uint32_t effective, permitted, inheritable;
};
#define CHOWN (1 << 0)
#define DAC_OVERRIDE (1 << 1)
#define DAC_READ_SEARCH (1 << 2)
#define FOWNER (1 << 3)

#define USER 1234
#define GROUP 1300
#define FURTHER 1301

static void make(const char *path, int user, int group, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "text", 4) != 4 || fchown(fd, user, group) != 0 || fchmod(fd, mode) != 0)
        perror(path);
    close(fd);
}

static void make_dir(const char *path, int user, int group, int mode) {
    if (mkdir(path, 0700) != 0 || chown(path, user, group) != 0 || chmod(path, mode) != 0)
        perror(path);
}

static void show(const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0)
        dprintf(1, "%s: %s\n", path, strerror(errno));
    else
        dprintf(1, "%s: mode %o owner %d group %d\n", path, status.st_mode, status.st_uid, status.st_gid);
}

static void become(int user, int group) {
    gid_t further = FURTHER;
    CHECK(setgroups(1, &further) == 0);
    CHECK(setegid(group) == 0 && seteuid(user) == 0);
    CHECK(geteuid() == (uid_t)user && getegid() == (gid_t)group && getuid() == 0);
}

static void become_root(void) {
    CHECK(seteuid(0) == 0 && setegid(0) == 0 && setgroups(0, NULL) == 0);
}

/* Opens for every purpose, and says what came of it. */
static void try_all(const char *path) {
    static const struct {
        int flags;
        const char *name;
    } ways[] = {{O_RDONLY, "read"}, {O_WRONLY, "write"}, {O_RDWR, "both"}, {O_RDONLY | O_TRUNC, "empty"}, {O_PATH, "place"}};
    dprintf(1, "%s:", path);
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        int fd = open(path, ways[i].flags);
        dprintf(1, " %s %s;", ways[i].name, fd < 0 ? strerror(errno) : "yes");
        close(fd);
    }
    dprintf(1, " access");
    for (int mask = 0; mask < 8; mask++)
        dprintf(1, " %d%d", faccessat(AT_FDCWD, path, mask, AT_EACCESS) == 0, access(path, mask) == 0);
    dprintf(1, "\n");
}

static void prepare(void) {
    make("theirs", 0, 0, 0644), make("secret", 0, 0, 0600), make("public", 0, 0, 0666), make("write-only", 0, 0, 0622);
    make("group", 0, GROUP, 0640), make("further", 0, FURTHER, 0660), make("not-group", 0, FURTHER, 0606);
    make("mine", USER, GROUP, 0640), make("locked", USER, GROUP, 0), make("not-mine", USER, GROUP, 0077);
    make("program", 0, 0, 0700), make("run-only", 0, 0, 0711), make("nobody-runs", 0, 0, 0666);
    make("to-touch", 0, 0, 0666);
    make_dir("closed", 0, 0, 0700), make_dir("searched", 0, 0, 0711), make_dir("listed", 0, 0, 0744);
    make_dir("drop", 0, 0, 0733), make_dir("open", 0, 0, 0777), make_dir("sticky", 0, 0, 01777);
    make_dir("handed", 0, FURTHER, 02777), make_dir("foreign", 0, GROUP, 02777), make_dir("other", 0, 0, 0755);
    make("closed/x", 0, 0, 0666), make("searched/x", 0, 0, 0644), make("listed/x", 0, 0, 0644);
    make("sticky/theirs", 0, 0, 0666), make("sticky/mine", USER, GROUP, 0600), make("other/x", 0, 0, 0666);
    make_dir("open/theirs", 0, 0, 0755), make_dir("open/mine", USER, GROUP, 0755);
}

static void opening(void) {
    static const char *const files[] = {"theirs", "secret", "write-only", "group", "further", "not-group", "mine", "locked", "not-mine",
                                        "program", "run-only", "nobody-runs", "closed/x", "searched/x", "listed/x", "nothing"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        try_all(files[i]);
    REFUSED(open("public", O_RDONLY | O_NOATIME), EPERM);
    CHECK(close(open("mine", O_RDONLY | O_NOATIME)) == 0);
    REFUSED(opendir("closed") ? 0 : -1, EACCES);
    REFUSED(opendir("searched") ? 0 : -1, EACCES);
    CHECK(closedir(opendir("listed")) == 0);
    REFUSED(chdir("closed"), EACCES);
    REFUSED(chdir("listed"), EACCES);
    CHECK(chdir("searched") == 0 && chdir("..") == 0);
    struct stat status;
    REFUSED(stat("closed/x", &status), EACCES);
    REFUSED(stat("closed/nothing", &status), EACCES);
    REFUSED(stat("listed/x", &status), EACCES);
    REFUSED(stat("listed/.", &status), EACCES);
    CHECK(stat("searched/x", &status) == 0 && stat("closed", &status) == 0);
    char *arguments[] = {"program", NULL};
    REFUSED(execv("program", arguments), EACCES);
    REFUSED(execv("closed/x", arguments), EACCES);
    REFUSED(truncate("theirs", 0), EACCES);
    CHECK(truncate("public", 1) == 0);
}

static void names(void) {
    REFUSED(open("other/new", O_WRONLY | O_CREAT, 0600), EACCES);
    REFUSED(open("other/new", O_WRONLY | O_CREAT | O_EXCL, 0600), EACCES);
    REFUSED(open("other/x", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK(close(open("other/x", O_WRONLY | O_CREAT, 0600)) == 0);
    REFUSED(mkdir("other/new", 0700), EACCES);
    REFUSED(mkdir("other/x", 0700), EEXIST);
    REFUSED(mknod("other/new", S_IFIFO | 0600, 0), EACCES);
    REFUSED(symlink("x", "other/new"), EACCES);
    REFUSED(link("mine", "other/new"), EACCES);
    REFUSED(unlink("other/x"), EACCES);
    REFUSED(unlink("other/nothing"), ENOENT);
    REFUSED(rmdir("other/nothing"), ENOENT);
    REFUSED(rename("other/x", "open/x"), EACCES);
    REFUSED(rename("other/nothing", "open/x"), ENOENT);
    REFUSED(rename("open/mine", "other/mine"), EACCES);
    REFUSED(mkdir("closed/new", 0700), EACCES);
    CHECK(close(open("drop/new", O_WRONLY | O_CREAT, 0666)) == 0 && unlink("drop/new") == 0);
    CHECK(close(open("open/file", O_WRONLY | O_CREAT, 0666)) == 0 && mkdir("open/dir", 0777) == 0);
    CHECK(mkfifo("open/fifo", 0666) == 0 && symlink("x", "open/link") == 0 && link("mine", "open/hard") == 0);
    show("open/file"), show("open/dir"), show("open/fifo"), show("open/link"), show("open/hard");
    CHECK(close(open("handed/file", O_WRONLY | O_CREAT, 0666)) == 0 && mkdir("handed/dir", 0777) == 0);
    show("handed/file"), show("handed/dir");
    CHECK(unlink("open/file") == 0 && rmdir("open/dir") == 0);
    REFUSED(unlink("sticky/theirs"), EPERM);
    REFUSED(rename("sticky/theirs", "sticky/renamed"), EPERM);
    REFUSED(rename("sticky/mine", "sticky/theirs"), EPERM);
    CHECK(rename("sticky/mine", "sticky/renamed") == 0 && unlink("sticky/renamed") == 0);
    REFUSED(syscall(SYS_renameat2, AT_FDCWD, "open/hard", AT_FDCWD, "sticky/theirs", 2), EPERM);
    REFUSED(syscall(SYS_renameat2, AT_FDCWD, "open/hard", AT_FDCWD, "sticky/theirs", 1), EEXIST);
    /* A directory says which its parent is, so a new parent is a change of it. */
    CHECK(rename("open/theirs", "open/renamed") == 0);
    REFUSED(rename("open/renamed", "open/mine/theirs"), EACCES);
    CHECK(rename("open/mine", "sticky/mine") == 0);
}

static void attributes(void) {
    struct timespec some[2] = {{1, 0}, {2, 0}}, half[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    char value[10];
    REFUSED(chmod("theirs", 0666), EPERM);
    REFUSED(chmod("public", 0600), EPERM);
    CHECK(chmod("mine", 06750) == 0);
    show("mine");
    REFUSED(chown("theirs", USER, -1), EPERM);
    REFUSED(chown("mine", 0, -1), EPERM);
    REFUSED(chown("mine", -1, 0), EPERM);
    CHECK(chown("mine", USER, FURTHER) == 0);
    show("mine");
    CHECK(chown("mine", -1, GROUP) == 0 && chmod("mine", 02750) == 0);
    show("mine");
    REFUSED(utimensat(AT_FDCWD, "to-touch", some, 0), EPERM);
    REFUSED(utimensat(AT_FDCWD, "to-touch", half, 0), EPERM);
    CHECK(utimensat(AT_FDCWD, "to-touch", NULL, 0) == 0);
    REFUSED(utimensat(AT_FDCWD, "theirs", NULL, 0), EACCES);
    CHECK(utimensat(AT_FDCWD, "mine", some, 0) == 0);
    REFUSED(setxattr("theirs", "user.a", "v", 1, 0), EACCES);
    REFUSED(getxattr("secret", "user.a", value, sizeof value), EACCES);
    REFUSED(getxattr("theirs", "user.a", value, sizeof value), ENODATA);
    CHECK(setxattr("mine", "user.a", "v", 1, 0) == 0 && getxattr("mine", "user.a", value, sizeof value) == 1);
    REFUSED(removexattr("theirs", "user.a"), EACCES);
    REFUSED(setxattr("sticky", "user.a", "v", 1, 0), EPERM);
    REFUSED(getxattr("mine", "trusted.a", value, sizeof value), ENODATA);
    REFUSED(setxattr("mine", "trusted.a", "v", 1, 0), EPERM);
    REFUSED(setxattr("mine", "security.a", "v", 1, 0), EPERM);
}

/* Who changes a program takes the ids that it runs with. */
static void set_ids(int way) {
    int in = open("theirs", O_RDONLY), fd = open("set-id", way == 0 ? O_WRONLY | O_APPEND : O_WRONLY);
    loff_t from = 0, to = 1;
    int done[] = {
        way == 0 && write(fd, "x", 1) == 1,
        way == 1 && pwrite(fd, "x", 1, 0) == 1,
        way == 2 && ftruncate(fd, 1) == 0,
        way == 3 && truncate("set-id", 1) == 0,
        way == 4 && close(open("set-id", O_RDONLY | O_TRUNC)) == 0,
        way == 5 && syscall(SYS_fallocate, fd, 0, 0L, 10L) == 0,
        way == 6 && copy_file_range(in, &from, fd, &to, 1, 0) == 1,
        way == 7 && write(fd, "", 0) == 0,
    };
    CHECK(done[way]);
    close(in), close(fd);
}

static void taking_set_ids(void) {
    static const int modes[] = {06777, 02767, 04766};
    for (unsigned mode = 0; mode < sizeof modes / sizeof *modes; mode++)
        for (int way = 0; way < 8; way++) {
            become_root();
            make("set-id", 0, FURTHER, modes[mode]);
            become(USER, GROUP);
            set_ids(way);
            show("set-id");
        }
    become_root();
    make("set-id", 0, 0, 06777);
    set_ids(1);
    show("set-id");
    become(USER, GROUP);
}

/* setfsuid(2) changes what files are asked as, and nothing else. */
static void for_files_only(void) {
    CHECK(setfsgid(GROUP) == 0 && setfsuid(USER) == 0 && setfsuid(-1) == USER);
    CHECK(geteuid() == 0);
    try_all("secret"), try_all("mine"), try_all("group"), try_all("further");
    CHECK(close(open("open/by-setfsuid", O_WRONLY | O_CREAT, 0666)) == 0);
    show("open/by-setfsuid");
    CHECK(setfsuid(0) == USER && setfsgid(0) == GROUP);
    CHECK(close(open("secret", O_RDONLY)) == 0);
}

static void capabilities(uint32_t keep) {
    struct capability_header header = {0x20080522, 0};
    struct capability_data all[2], some[2];
    CHECK(syscall(SYS_capget, &header, all) == 0);
    memcpy(some, all, sizeof some);
    some[0].effective = keep, some[1].effective = 0;
    CHECK(syscall(SYS_capset, &header, some) == 0);
    dprintf(1, "with %x\n", keep);
    try_all("locked"), try_all("not-mine"), try_all("secret"), try_all("nobody-runs");
    CHECK(close(open("closed/x", O_RDONLY)) == 0);
    errno = 0;
    int result = chmod("mine", 0640);
    dprintf(1, "chmod %d %s\n", result, strerror(errno));
    errno = 0;
    result = chown("to-touch", 77, 78);
    dprintf(1, "chown %d %s\n", result, strerror(errno));
    CHECK(syscall(SYS_capset, &header, all) == 0);
    CHECK(chown("to-touch", 0, 0) == 0);
}

int main(void) {
    umask(0);
    if (geteuid() != 0) {
        dprintf(1, "only root can become somebody else\n");
        return 1;
    }
    prepare();
    become(USER, GROUP);
    opening();
    names();
    attributes();
    taking_set_ids();
    become_root();
    try_all("secret");
    for_files_only();
    capabilities(0);
    capabilities(DAC_OVERRIDE);
    capabilities(DAC_READ_SEARCH);
    capabilities(CHOWN);
    capabilities(FOWNER);
    return verdict();
}
