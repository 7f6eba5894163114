/* Operations on names and descriptors. Names are "0" to "9", each in one of the two directories for good; the
 * directories change places now and then. */
#include "exerciser.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { NOREPLACE = 1, EXCHANGE = 2 };

static int rename_at(int from, const char *old, int to, const char *new, unsigned flags) {
    return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

static struct name *some_name(struct world *world) {
    return &world->names[below(&world->random, NAMES)];
}

static int folder_of(const struct world *world, const struct name *name) {
    return world->folders[name->folder];
}

static struct handle *free_handle(struct world *world) {
    for (int i = 0; i < HANDLES; i++)
        if (world->handles[i].fd < 0) return &world->handles[i];
    return NULL;
}

void do_open(struct world *world) {
    struct name *name = some_name(world);
    struct handle *handle = free_handle(world);
    int flags = (int[]){O_RDONLY, O_WRONLY, O_RDWR, O_RDWR}[below(&world->random, 4)];
    if (below(&world->random, 5) == 0) flags |= O_APPEND;
    if (below(&world->random, 6) == 0 && flags & O_ACCMODE) flags |= O_TRUNC;
    int create = (int)below(&world->random, 4);
    if (create) flags |= O_CREAT;
    if (create == 3 && below(&world->random, 3) == 0) flags |= O_EXCL;
    if (!handle) return;
    int file = name->file;
    if (file < 0 && create && (file = model_create(world)) < 0) return;
    char path[32];
    note(world, "open %s with %#o: file %d", path_of(world, name, path), flags, file);
    int fd = openat(folder_of(world, name), path, flags, 0644);
    if (name->file < 0 && !create) return expect(world, fd, -ENOENT);
    if (name->file >= 0 && flags & O_EXCL) return expect(world, fd, -EEXIST);
    if (fd < 0) fail(world, "open: %s", strerror(errno));
    *handle = (struct handle){fd, file, flags, 0};
    struct file *opened = &world->files[file];
    opened->handles++;
    if (name->file < 0) opened->links = 1;
    name->file = file;
    if (flags & O_TRUNC) model_resize(opened, 0);
}

void do_close(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    note(world, "close %d: file %d", handle->fd, handle->file);
    expect(world, close(handle->fd), 0);
    handle->fd = -1;
    world->files[handle->file].handles--;
    model_release(world, handle->file);
}

static void forget_name(struct world *world, struct name *name) {
    int file = name->file;
    name->file = -1;
    world->files[file].links--;
    model_release(world, file);
}

/* The directories change places; whoever has them open does not notice. */
static void swap_folders(struct world *world) {
    note(world, "directories change places");
    int top = openat(world->folders[0], "..", O_RDONLY | O_DIRECTORY);
    expect(world, rename_at(top, "a", top, "b", EXCHANGE), 0);
    world->swapped = !world->swapped;
    struct stat there, here;
    expect(world, fstatat(top, world->swapped ? "b" : "a", &there, 0), 0);
    expect(world, fstat(world->folders[0], &here), 0);
    expect(world, there.st_ino == here.st_ino, 1);
    close(top);
}

void do_rename(struct world *world) {
    if (below(&world->random, 20) == 0) return swap_folders(world);
    struct name *from = some_name(world), *to = some_name(world);
    unsigned flags = (unsigned[]){0, 0, NOREPLACE, EXCHANGE}[below(&world->random, 4)];
    char old[32], new[32];
    path_of(world, from, old);
    path_of(world, to, new);
    note(world, "rename %s to %s, flags %u: file %d to file %d", old, new, flags, from->file, to->file);
    int got = rename_at(folder_of(world, from), old, folder_of(world, to), new, flags);
    if (from->file < 0) return expect(world, got, -ENOENT);
    if (flags == NOREPLACE && to->file >= 0) return expect(world, got, -EEXIST);
    if (flags == EXCHANGE && to->file < 0) return expect(world, got, -ENOENT);
    expect(world, got, 0);
    if (flags == EXCHANGE) {
        int file = from->file;
        from->file = to->file;
        to->file = file;
        return;
    }
    /* Two names of one file stay as they are: rename(2). */
    if (from->file == to->file) return;
    if (to->file >= 0) forget_name(world, to);
    to->file = from->file;
    from->file = -1;
}

void do_link(struct world *world) {
    struct name *from = some_name(world), *to = some_name(world);
    char old[32], new[32];
    path_of(world, from, old);
    path_of(world, to, new);
    note(world, "link %s to %s: file %d", old, new, from->file);
    int got = linkat(folder_of(world, from), old, folder_of(world, to), new, 0);
    if (from->file < 0) return expect(world, got, -ENOENT);
    if (to->file >= 0) return expect(world, got, -EEXIST);
    expect(world, got, 0);
    to->file = from->file;
    world->files[to->file].links++;
}

void do_unlink(struct world *world) {
    struct name *name = some_name(world);
    char path[32];
    note(world, "unlink %s: file %d", path_of(world, name, path), name->file);
    int got = unlinkat(folder_of(world, name), path, 0);
    if (name->file < 0) return expect(world, got, -ENOENT);
    expect(world, got, 0);
    forget_name(world, name);
}

static void expect_stat(struct world *world, const struct file *file, const struct stat *stat) {
    expect(world, stat->st_size, (int64_t)file->size);
    expect(world, (int64_t)stat->st_nlink, file->links);
    expect(world, S_ISREG(stat->st_mode), 1);
}

void do_stat(struct world *world) {
    struct stat stat;
    if (below(&world->random, 2)) {
        struct handle *handle = some_handle(world);
        if (!handle) return;
        note(world, "fstat %d: file %d", handle->fd, handle->file);
        expect(world, fstat(handle->fd, &stat), 0);
        return expect_stat(world, &world->files[handle->file], &stat);
    }
    struct name *name = some_name(world);
    char path[32];
    note(world, "stat %s: file %d", path_of(world, name, path), name->file);
    int got = fstatat(folder_of(world, name), path, &stat, 0);
    if (name->file < 0) return expect(world, got, -ENOENT);
    expect(world, got, 0);
    expect_stat(world, &world->files[name->file], &stat);
}

/* Which of the names are in a directory, as a set. */
void do_list(struct world *world) {
    int folder = (int)below(&world->random, 2), wanted = 0, seen = 0, others = 0;
    note(world, "list directory %d", folder);
    for (int i = 0; i < NAMES; i++)
        if (world->names[i].file >= 0 && world->names[i].folder == folder) wanted |= 1 << i;
    int fd = openat(world->folders[folder], ".", O_RDONLY | O_DIRECTORY);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) fail(world, "opendir: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(stream));) {
        int digit = entry->d_name[0] - '0';
        if (digit >= 0 && digit < NAMES && !entry->d_name[1] && !(seen & 1 << digit))
            seen |= 1 << digit;
        else
            others++;
    }
    closedir(stream);
    expect(world, seen, wanted);
    expect(world, others, 2); /* "." and ".." */
}

void check_everything(struct world *world) {
    for (int i = 0; i < NAMES; i++) {
        struct name *name = &world->names[i];
        if (name->file < 0) continue;
        char path[32];
        note(world, "at the end, name %s: file %d", path_of(world, name, path), name->file);
        struct file *file = &world->files[name->file];
        int fd = openat(folder_of(world, name), path, O_RDONLY);
        if (fd < 0) fail(world, "open: %s", strerror(errno));
        uint64_t at = 0;
        for (ssize_t got; (got = read(fd, world->buffer, BUFFER)) != 0; at += (uint64_t)got) {
            if (got < 0) fail(world, "read: %s", strerror(errno));
            if (at + (uint64_t)got > file->size) fail(world, "longer than %llu", (unsigned long long)file->size);
            expect_bytes(world, file, at, world->buffer, (uint64_t)got);
        }
        expect(world, (int64_t)at, (int64_t)file->size);
        close(fd);
    }
}
