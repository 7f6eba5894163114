/* Changes made by the other side of the wall: the program asks on stdout and waits for "done" on stdin; the other
 * side runs `exerciser answer`, which makes them in its view of the same directory. */
#include "exerciser.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { AT_ONCE = 6 };

static void ask(struct world *world, const char *what, const struct name *name, uint64_t offset, uint64_t length) {
    note(world, "the other side: %s %d, %llu bytes at %llu; file %d", what, number_of(world->names, name, sizeof *name),
         (unsigned long long)length, (unsigned long long)offset, name->file);
    const char *folder = name->folder ^ world->swapped ? "b" : "a";
    dprintf(1, "ask %s %s/%d %llu %llu %llu\n", what, folder, number_of(world->names, name, sizeof *name),
            (unsigned long long)offset, (unsigned long long)length, (unsigned long long)(world->number ^ world->seed));
    char answer[6] = {0};
    for (size_t got = 0; got < 5; got++)
        if (read(0, answer + got, 1) != 1) fail(world, "nobody answers");
    if (strcmp(answer, "done\n") != 0) fail(world, "the other side failed: '%s'", answer);
    fill(world->buffer, length, world->number ^ world->seed);
}

static void change_file(struct world *world, struct name *name) {
    struct file *file = &world->files[name->file];
    uint64_t offset = some_offset(world, file), length = some_length(world);
    if (length > file->limit - offset) length = file->limit - offset;
    switch (below(&world->random, 6)) {
    case 0: /* append */
        if (length > file->limit - file->size) length = file->limit - file->size;
        offset = file->size; /* fall through */
    case 1:
        ask(world, "write", name, offset, length);
        return model_write(file, offset, world->buffer, length);
    case 2:
        ask(world, "resize", name, offset, 0);
        return model_resize(file, offset);
    case 3:
        ask(world, "punch", name, offset, length ? length : 1);
        return model_zero(file, offset, length ? length : 1);
    case 4:
        ask(world, "remove", name, 0, 0);
        break;
    default: {
        int number = model_create(world);
        if (number < 0) return;
        struct file *new = &world->files[number];
        if (length > new->limit) length = new->limit;
        ask(world, "replace", name, 0, length);
        model_write(new, 0, world->buffer, length);
        new->links = 1;
        file->links--;
        int old = name->file;
        name->file = number;
        return model_release(world, old);
    }
    }
    int old = name->file;
    name->file = -1;
    file->links--;
    model_release(world, old);
}

static void change_name(struct world *world, struct name *name) {
    int number = model_create(world);
    if (number < 0) return;
    struct file *file = &world->files[number];
    uint64_t length = some_length(world);
    if (length > file->limit) length = file->limit;
    ask(world, "create", name, 0, length);
    model_write(file, 0, world->buffer, length);
    file->links = 1;
    name->file = number;
}

void ask_for_changes(struct world *world) {
    for (int i = 0; i < AT_ONCE; i++) {
        struct name *name = &world->names[below(&world->random, NAMES)];
        if (name->file >= 0)
            change_file(world, name);
        else
            change_name(world, name);
    }
    usleep((useconds_t)world->wait_ms * 1000);
    if (below(&world->random, 8) == 0) check_everything(world);
}

/* Makes one change; the result is what a call of the kind gives. */
static int make_change(const char *what, const char *path, uint64_t offset, uint64_t length, uint64_t seed) {
    static uint8_t bytes[BUFFER];
    if (length > sizeof bytes) return -1;
    fill(bytes, length, seed);
    if (strcmp(what, "remove") == 0) return unlink(path);
    if (strcmp(what, "resize") == 0) return truncate(path, (off_t)offset);
    int replace = strcmp(what, "replace") == 0, create = strcmp(what, "create") == 0;
    int fd = open(replace ? "new" : path, O_RDWR | (replace || create ? O_CREAT | O_EXCL : 0), 0644);
    if (fd < 0) return -1;
    int result = 0;
    if (strcmp(what, "punch") == 0)
        result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
    else if (pwrite(fd, bytes, length, (off_t)offset) != (ssize_t)length)
        result = -1;
    close(fd);
    return replace && result == 0 ? rename("new", path) : result;
}

int answer_requests(const char *root) {
    if (chdir(root) < 0) return perror(root), 1;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        char what[16], path[32];
        unsigned long long offset, length, seed;
        if (sscanf(line, "ask %15s %31s %llu %llu %llu", what, path, &offset, &length, &seed) != 5) {
            fputs(line, stderr);
            continue;
        }
        int result = make_change(what, path, offset, length, seed);
        if (result < 0) fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
        if (dprintf(1, "%s\n", result < 0 ? "fail" : "done") < 0) return 1;
    }
    return 0;
}
