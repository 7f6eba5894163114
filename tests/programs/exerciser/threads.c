/* Several threads at once: each with files of its own, or each on its own region of one file. */
#include "exerciser.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

struct worker {
    pthread_t thread;
    struct world world;
    char folder[24];
    /* For regions: the shared file, the worker's part of it, and what that holds. */
    int fd;
    uint64_t start, length;
    uint8_t *model;
};

static void *on_own_files(void *argument) {
    struct worker *worker = argument;
    make_world(&worker->world, worker->folder);
    run_random(&worker->world);
    end_world(&worker->world);
    return NULL;
}

static void check_region(struct worker *worker, uint64_t at, const uint8_t *got, uint64_t length) {
    uint64_t start = at - worker->start;
    if (memcmp(got, worker->model + start, length) == 0) return;
    uint64_t first = 0;
    while (got[first] == worker->model[start + first]) first++;
    fail(&worker->world, "byte %llu is %02x, not %02x", (unsigned long long)(at + first), got[first],
         worker->model[start + first]);
}

/* Through a shared mapping of the pages around it: those at both ends are other workers' too. */
static void by_mapping(struct worker *worker, uint64_t at, uint64_t length, int store) {
    struct world *world = &worker->world;
    uint64_t first = at & ~(uint64_t)(PAGE - 1);
    int prot = PROT_READ | (store ? PROT_WRITE : 0);
    uint8_t *pages = mmap(NULL, at + length - first, prot, MAP_SHARED, worker->fd, (off_t)first);
    if (pages == MAP_FAILED) fail(world, "mmap: %s", strerror(errno));
    if (store) {
        memcpy(pages + (at - first), world->buffer, length);
        memcpy(worker->model + (at - worker->start), world->buffer, length);
    }
    check_region(worker, at, pages + (at - first), length);
    expect(world, munmap(pages, at + length - first), 0);
}

static void one_on_region(struct worker *worker) {
    struct world *world = &worker->world;
    uint64_t start = below(&world->random, worker->length), length = some_length(world);
    if (length > worker->length - start) length = worker->length - start;
    if (length == 0) length = 1;
    uint64_t at = worker->start + start, kind = below(&world->random, 8);
    if (kind >= 5 && !world->keep_mappings) kind -= 5;
    if (kind == 7 && !world->shared_writable) kind = 6;
    note(world, "kind %llu: %llu bytes at %llu", (unsigned long long)kind, (unsigned long long)length,
         (unsigned long long)at);
    fill(world->buffer, length, world->number ^ world->seed);
    switch (kind) {
    case 0:
    case 1:
        expect(world, pwrite(worker->fd, world->buffer, length, (off_t)at), (int64_t)length);
        memcpy(worker->model + start, world->buffer, length);
        return;
    case 2:
        expect(world, fallocate(worker->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)length), 0);
        memset(worker->model + start, 0, length);
        return;
    case 3:
    case 4:
        expect(world, pread(worker->fd, world->buffer, length, (off_t)at), (int64_t)length);
        return check_region(worker, at, world->buffer, length);
    default:
        return by_mapping(worker, at, length, kind == 7);
    }
}

static void *on_own_region(void *argument) {
    struct worker *worker = argument;
    struct world *world = &worker->world;
    world->buffer = malloc(BUFFER);
    worker->model = calloc(1, worker->length);
    if (!world->buffer || !worker->model) fail(world, "no memory");
    for (world->number = 1; world->number <= world->operations; world->number++) one_on_region(worker);
    for (uint64_t at = 0; at < worker->length; at += BUFFER) {
        uint64_t length = worker->length - at < BUFFER ? worker->length - at : BUFFER;
        expect(world, pread(worker->fd, world->buffer, length, (off_t)(worker->start + at)), (int64_t)length);
        check_region(worker, worker->start + at, world->buffer, length);
    }
    free(world->buffer);
    free(worker->model);
    return NULL;
}

int run_threads(struct world *world, int own_files) {
    int count = world->threads;
    struct worker *workers = calloc((size_t)count, sizeof *workers);
    /* Regions meet in the middle of pages and of chunks. */
    uint64_t region = 2 * world->window / (uint64_t)count + 1237;
    int fd = own_files ? -1 : open("regions", O_RDWR | O_CREAT, 0644);
    if (!workers || (!own_files && (fd < 0 || ftruncate(fd, (off_t)(region * (uint64_t)count)) < 0)))
        fail(world, "regions: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        worker->world = *world;
        worker->world.seed = worker->world.random.state = world->seed * 1000 + (uint64_t)i;
        worker->world.operations = world->operations / (uint64_t)count;
        snprintf(worker->folder, sizeof worker->folder, "thread-%d", i);
        worker->fd = fd;
        worker->start = region * (uint64_t)i;
        worker->length = region;
        if (pthread_create(&worker->thread, NULL, own_files ? on_own_files : on_own_region, worker) != 0)
            fail(world, "no thread");
    }
    for (int i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        dprintf(1, "thread %d: %016llx\n", i, (unsigned long long)workers[i].world.sum);
    }
    free(workers);
    return 0;
}
