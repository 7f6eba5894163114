/* Operations on content by descriptor: reading, writing, sizes, allocation, copies, positions. */
#include "exerciser.h"
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Cuts `length` bytes into up to four pieces with gaps of nothing. */
static int pieces(struct world *world, uint8_t *bytes, uint64_t length, struct iovec vector[4]) {
    uint64_t at = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t part = below(&world->random, length - at + 1);
        vector[i] = (struct iovec){bytes + at, part};
        at += part;
    }
    vector[3] = (struct iovec){bytes + at, length - at};
    return 4;
}

void do_read(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    uint64_t length = some_length(world), kind = below(&world->random, 4);
    int positioned = kind < 2;
    uint64_t offset = positioned ? some_offset(world, file) : handle->position;
    uint64_t there = offset < file->size ? least(length, file->size - offset) : 0;
    note(world, "%s %d: %llu bytes at %llu of file %d", (const char *[]){"pread", "preadv", "read", "readv"}[kind],
         handle->fd, (unsigned long long)length, (unsigned long long)offset, handle->file);
    struct iovec vector[4];
    int count = pieces(world, world->buffer, length, vector);
    memset(world->buffer, 0xa5, length);
    ssize_t got;
    switch (kind) {
    case 0: got = pread(handle->fd, world->buffer, length, (off_t)offset); break;
    case 1: got = preadv(handle->fd, vector, count, (off_t)offset); break;
    case 2: got = read(handle->fd, world->buffer, length); break;
    default: got = readv(handle->fd, vector, count); break;
    }
    if (!may_read(handle)) return expect(world, got, -EBADF);
    expect(world, got, (int64_t)there);
    expect_bytes(world, file, offset, world->buffer, there);
    if (!positioned) handle->position += there;
}

void do_write(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    uint64_t kind = below(&world->random, 4), length = some_length(world), chosen = some_offset(world, file);
    int positioned = kind < 2;
    uint64_t offset = positioned ? chosen : handle->position;
    if (handle->flags & O_APPEND) offset = file->size;
    if (offset > file->limit) return;
    length = least(length, file->limit - offset);
    note(world, "%s %d%s: %llu bytes at %llu of file %d (%llu bytes)",
         (const char *[]){"pwrite", "pwritev", "write", "writev"}[kind], handle->fd,
         handle->flags & O_APPEND ? " appending" : "", (unsigned long long)length, (unsigned long long)offset,
         handle->file, (unsigned long long)file->size);
    fill(world->buffer, length, world->number ^ world->seed);
    struct iovec vector[4];
    int count = pieces(world, world->buffer, length, vector);
    ssize_t got;
    switch (kind) {
    case 0: got = pwrite(handle->fd, world->buffer, length, (off_t)chosen); break;
    case 1: got = pwritev(handle->fd, vector, count, (off_t)chosen); break;
    case 2: got = write(handle->fd, world->buffer, length); break;
    default: got = writev(handle->fd, vector, count); break;
    }
    if (!may_write(handle)) return expect(world, got, -EBADF);
    expect(world, got, (int64_t)length);
    model_write(file, offset, world->buffer, length);
    if (!positioned && length) handle->position = offset + length;
}

void do_truncate(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    uint64_t size = some_offset(world, file);
    note(world, "ftruncate %d: file %d from %llu to %llu bytes", handle->fd, handle->file,
         (unsigned long long)file->size, (unsigned long long)size);
    int got = ftruncate(handle->fd, (off_t)size);
    if (!may_write(handle)) return expect(world, got, -EINVAL);
    expect(world, got, 0);
    model_resize(file, size);
}

void do_allocate(struct world *world) {
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    struct handle *handle = some_handle(world);
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    int mode = modes[below(&world->random, 5)];
    uint64_t offset = some_offset(world, file);
    uint64_t length = least(some_length(world), file->limit - offset);
    note(world, "fallocate %d mode %d: %llu bytes at %llu of file %d (%llu bytes)", handle->fd, mode,
         (unsigned long long)length, (unsigned long long)offset, handle->file, (unsigned long long)file->size);
    int got = fallocate(handle->fd, mode, (off_t)offset, (off_t)length);
    if (length == 0) return expect(world, got, -EINVAL);
    if (!may_write(handle)) return expect(world, got, -EBADF);
    expect(world, got, 0);
    if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + length > file->size) file->size = offset + length;
    if (mode & ~FALLOC_FL_KEEP_SIZE) model_zero(file, offset, length);
}

/* copy_file_range(2) may copy less than it was asked for. */
static void copy_range(struct world *world, struct handle *from, struct handle *to, uint64_t at, uint64_t onto,
                       uint64_t count) {
    loff_t in = (loff_t)at, out = (loff_t)onto;
    uint64_t done = 0;
    do {
        ssize_t got = copy_file_range(from->fd, &in, to->fd, &out, count - done, 0);
        if (got < 0 || (got == 0 && done < count)) fail(world, "copied %zd: %s", got, strerror(errno));
        done += (uint64_t)got;
    } while (done < count);
    fold(world, done);
}

void do_copy(struct world *world) {
    struct handle *from = some_handle(world), *to = some_handle(world);
    if (!from || !to) return;
    struct file *source = &world->files[from->file], *target = &world->files[to->file];
    uint64_t at = some_offset(world, source), onto = some_offset(world, target), length = some_length(world);
    uint64_t count = at < source->size ? least(length, source->size - at) : 0;
    count = least(least(count, BUFFER), target->limit - onto);
    int send = (int)below(&world->random, 3) == 0;
    if (send) onto = to->position;
    note(world, "%s %d to %d: %llu bytes from %llu of file %d to %llu of file %d", send ? "sendfile" : "copy_file_range",
         from->fd, to->fd, (unsigned long long)count, (unsigned long long)at, from->file, (unsigned long long)onto,
         to->file);
    if (!may_read(from) || !may_write(to)) {
        off_t in = (off_t)at, out = (off_t)onto;
        ssize_t got = send ? sendfile(to->fd, from->fd, &in, count) : copy_file_range(from->fd, &in, to->fd, &out, count, 0);
        return expect(world, got, -EBADF);
    }
    /* Of these only the errors are of interest, and the model would have to know about overlaps. */
    if (source == target || to->flags & O_APPEND) return;
    memcpy(world->buffer, source->bytes + at, count);
    if (send) {
        if (onto + count > target->limit) return;
        off_t in = (off_t)at;
        expect(world, sendfile(to->fd, from->fd, &in, count), (int64_t)count);
        expect(world, in, (int64_t)(at + count));
        to->position += count;
    } else {
        copy_range(world, from, to, at, onto, count);
    }
    model_write(target, onto, world->buffer, count);
}

/* Where the host has holes is its own affair; that a hole is zeros is not. */
static void seek_hole(struct world *world, struct handle *handle, struct file *file) {
    uint64_t offset = some_offset(world, file);
    int data = (int)below(&world->random, 2);
    note(world, "lseek %d: %s from %llu of file %d", handle->fd, data ? "data" : "hole", (unsigned long long)offset,
         handle->file);
    off_t got = lseek(handle->fd, (off_t)offset, data ? SEEK_DATA : SEEK_HOLE);
    if (offset >= file->size) return expect(world, got, -ENXIO);
    if (got < 0 && !(data && errno == ENXIO)) fail(world, "lseek: %s", strerror(errno));
    uint64_t end = got < 0 ? file->size : (uint64_t)got;
    if (end < offset || end > file->size) fail(world, "lseek gave %llu", (unsigned long long)end);
    /* No data before the place where data begins; and a hole has no data where it begins. */
    uint64_t from = data ? offset : end, to = data ? end : least(end + 1, file->size);
    for (uint64_t at = from; at < to; at++)
        if (file->bytes[at]) fail(world, "byte %llu is in a hole and not zero", (unsigned long long)at);
    if (got >= 0) handle->position = (uint64_t)got;
    /* The position is the host's choice; everything after must not depend on it. */
    expect(world, lseek(handle->fd, 0, SEEK_SET), 0);
    handle->position = 0;
}

void do_seek(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    uint64_t kind = below(&world->random, 4);
    if (kind == 3) return seek_hole(world, handle, file);
    int64_t base = kind == 0 ? 0 : kind == 1 ? (int64_t)handle->position : (int64_t)file->size;
    int64_t place = (int64_t)some_offset(world, file) - (below(&world->random, 20) == 0 ? 3 * PAGE : 0);
    note(world, "lseek %d to %lld of file %d", handle->fd, (long long)place, handle->file);
    off_t got = lseek(handle->fd, place - base, (int[]){SEEK_SET, SEEK_CUR, SEEK_END}[kind]);
    if (place < 0) return expect(world, got, -EINVAL);
    expect(world, got, place);
    handle->position = (uint64_t)place;
}

void do_sync(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle) return;
    /* The disk is slow, and not what is tried here. */
    uint64_t kind = below(&world->random, 16);
    if (kind > 2) kind = 2;
    note(world, "%s %d", (const char *[]){"fsync", "fdatasync", "sync_file_range"}[kind], handle->fd);
    int got = kind == 0   ? fsync(handle->fd)
              : kind == 1 ? fdatasync(handle->fd)
                          : sync_file_range(handle->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    expect(world, got, 0);
}
