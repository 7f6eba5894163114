/* The model: what must be in the directory, and what is said when it is not. */
#include "exerciser.h"
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

uint64_t draw(struct generator *generator) {
    uint64_t z = generator->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint64_t below(struct generator *generator, uint64_t bound) {
    return draw(generator) % bound;
}

void fill(uint8_t *bytes, uint64_t length, uint64_t seed) {
    uint64_t word = seed * 0x9e3779b97f4a7c15 + 1;
    for (uint64_t at = 0; at < length; at += 8) {
        word = word * 6364136223846793005 + 1442695040888963407;
        uint64_t mixed = word ^ word >> 29;
        memcpy(bytes + at, &mixed, length - at < 8 ? length - at : 8);
    }
}

int number_of(const void *array, const void *element, size_t size) {
    return (int)(((const char *)element - (const char *)array) / (ptrdiff_t)size);
}

void make_world(struct world *world, const char *folder) {
    /* One page, one chunk, more than half a window, and more than a window. */
    uint64_t window = world->window;
    uint64_t limits[FILES] = {3 * PAGE,      3 * PAGE,      CHUNK + 2 * PAGE,  CHUNK + 2 * PAGE,
                              window * 5 / 8, window * 5 / 8, window + 3 * PAGE, window * 3 / 2};
    for (int i = 0; i < FILES; i++) {
        world->files[i].limit = limits[i];
        world->files[i].bytes = calloc(1, limits[i] + PAGE);
        if (!world->files[i].bytes) fail(world, "no memory for the model");
    }
    world->buffer = malloc(BUFFER);
    world->other = malloc(BUFFER);
    if (!world->buffer || !world->other) fail(world, "no memory for buffers");
    for (int i = 0; i < NAMES; i++) world->names[i] = (struct name){i % 2, -1};
    for (int i = 0; i < HANDLES; i++) world->handles[i].fd = -1;
    world->random.state = world->seed;
    int base = AT_FDCWD;
    if (folder) {
        if (mkdir(folder, 0755) < 0) fail(world, "mkdir %s: %s", folder, strerror(errno));
        base = open(folder, O_RDONLY | O_DIRECTORY);
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "b" : "a";
        if (mkdirat(base, name, 0755) < 0) fail(world, "mkdir %s: %s", name, strerror(errno));
        world->folders[i] = openat(base, name, O_RDONLY | O_DIRECTORY);
        if (world->folders[i] < 0) fail(world, "open %s: %s", name, strerror(errno));
    }
}

void end_world(struct world *world) {
    check_everything(world);
    for (int i = 0; i < FILES; i++) free(world->files[i].bytes);
    free(world->buffer);
    free(world->other);
}

void note(struct world *world, const char *format, ...) {
    char *line = world->recent[world->number % RECENT];
    int used = snprintf(line, sizeof world->recent[0], "%llu ", (unsigned long long)world->number);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, sizeof world->recent[0] - (size_t)used, format, arguments);
    va_end(arguments);
    if (world->number >= world->tell_from && world->number < world->tell_to) dprintf(1, "%s\n", line);
}

void fold(struct world *world, uint64_t value) {
    world->sum = (world->sum ^ value) * 0x100000001b3;
    if (world->number >= world->tell_from && world->number < world->tell_to)
        dprintf(1, "  = %lld\n", (long long)value);
}

void fail(struct world *world, const char *format, ...) {
    dprintf(1, "FAILED with seed %llu at operation %llu: ", (unsigned long long)world->seed,
            (unsigned long long)world->number);
    va_list arguments;
    va_start(arguments, format);
    vdprintf(1, format, arguments);
    va_end(arguments);
    dprintf(1, "\nthe last operations:\n");
    for (int i = 1; i <= RECENT; i++) {
        const char *line = world->recent[(world->number + (uint64_t)i) % RECENT];
        if (*line) dprintf(1, "  %s\n", line);
    }
    _exit(1);
}

void expect(struct world *world, int64_t got, int64_t wanted) {
    int error = errno;
    if (got == -1 && wanted < 0) got = -error;
    if (got != wanted)
        fail(world, "the call gave %lld (%s), not %lld (%s)", (long long)got, got == -1 ? strerror(error) : "",
             (long long)wanted, wanted < 0 ? strerror((int)-wanted) : "");
    fold(world, (uint64_t)got);
}

void expect_bytes(struct world *world, const struct file *file, uint64_t offset, const uint8_t *got, uint64_t length) {
    const uint8_t *wanted = file->bytes + offset;
    if (memcmp(got, wanted, length) == 0) return;
    uint64_t first = 0, last = length;
    while (got[first] == wanted[first]) first++;
    while (got[last - 1] == wanted[last - 1]) last--;
    fail(world, "file %d (%llu bytes): %llu bytes at %llu differ from %llu to %llu: %02x %02x %02x %02x, not %02x %02x %02x %02x",
         number_of(world->files, file, sizeof *file), (unsigned long long)file->size, (unsigned long long)length,
         (unsigned long long)offset, (unsigned long long)(offset + first), (unsigned long long)(offset + last),
         got[first], first + 1 < length ? got[first + 1] : 0, first + 2 < length ? got[first + 2] : 0, got[last - 1],
         wanted[first], wanted[first + 1], wanted[first + 2], wanted[last - 1]);
}

void model_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t length) {
    if (length == 0) return;
    memcpy(file->bytes + offset, bytes, length);
    if (offset + length > file->size) file->size = offset + length;
}

void model_zero(struct file *file, uint64_t offset, uint64_t length) {
    if (offset >= file->size) return;
    uint64_t room = file->size - offset;
    memset(file->bytes + offset, 0, length < room ? length : room);
}

void model_resize(struct file *file, uint64_t size) {
    if (size < file->size) memset(file->bytes + size, 0, file->size - size);
    file->size = size;
}

void model_release(struct world *world, int number) {
    struct file *file = &world->files[number];
    if (file->links || file->handles || file->mappings) return;
    model_resize(file, 0);
    file->live = 0;
}

int model_create(struct world *world) {
    int first = (int)below(&world->random, FILES);
    for (int i = 0; i < FILES; i++) {
        int number = (first + i) % FILES;
        if (world->files[number].live) continue;
        world->files[number].live = 1;
        return number;
    }
    return -1;
}

uint64_t some_offset(struct world *world, const struct file *file) {
    struct generator *random = &world->random;
    uint64_t around;
    switch (below(random, 6)) {
    case 0: return below(random, file->limit + 1);
    case 1: around = file->size; break;
    case 2: around = below(random, file->limit / CHUNK + 1) * CHUNK; break;
    case 3: around = world->window; break;
    case 4: around = below(random, file->limit / PAGE + 1) * PAGE; break;
    default: return file->size ? below(random, file->size) : 0;
    }
    int64_t away = below(random, 2) ? (int64_t)below(random, 9) - 4 : (int64_t)below(random, 3 * PAGE) - 3 * PAGE / 2;
    int64_t offset = (int64_t)around + away;
    if (offset < 0) offset = 0;
    return (uint64_t)offset > file->limit ? file->limit : (uint64_t)offset;
}

uint64_t some_length(struct world *world) {
    struct generator *random = &world->random;
    uint64_t kind = below(random, 100);
    if (kind < 3) return 0;
    if (kind < 60) return below(random, 2 * PAGE) + 1;
    if (kind < 75) return (below(random, 16) + 1) * PAGE;
    if (kind < 98) return below(random, 64 << 10) + 1;
    return below(random, 3 << 20) + 1;
}

struct handle *some_handle(struct world *world) {
    int first = (int)below(&world->random, HANDLES);
    for (int i = 0; i < HANDLES; i++) {
        struct handle *handle = &world->handles[(first + i) % HANDLES];
        if (handle->fd >= 0) return handle;
    }
    return NULL;
}

int may_read(const struct handle *handle) {
    return (handle->flags & O_ACCMODE) != O_WRONLY;
}

int may_write(const struct handle *handle) {
    return (handle->flags & O_ACCMODE) != O_RDONLY;
}

const char *path_of(const struct world *world, const struct name *name, char path[32]) {
    snprintf(path, 32, "%d", number_of(world->names, name, sizeof *name));
    return path;
}
