/* Operations on mapped content. Pages that begin at or after the end of the file are not there: touching one is
 * SIGBUS. */
#include "exerciser.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static __thread sigjmp_buf retreat;
static __thread volatile int guarded;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    if (!guarded) {
        dprintf(1, "FAILED: signal %d at %p where none was expected\n", number, info->si_addr);
        _exit(128 + number);
    }
    siglongjmp(retreat, number);
}

void catch_faults(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_NODEFER | SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

/* Copies, one byte at least. The result is 0 or the number of the signal. */
static int guarded_copy(uint8_t *to, const uint8_t *from, uint64_t length) {
    int number = sigsetjmp(retreat, 0);
    if (number == 0) {
        guarded = 1;
        memcpy(to, from, length);
    }
    guarded = 0;
    return number;
}

static uint64_t page_up(uint64_t value) {
    return (value + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static struct mapping *some_mapping(struct world *world) {
    int first = (int)below(&world->random, MAPPINGS);
    for (int i = 0; i < MAPPINGS; i++) {
        struct mapping *mapping = &world->mappings[(first + i) % MAPPINGS];
        if (mapping->start) return mapping;
    }
    return NULL;
}

/* A part of a mapping: offsets in the file. It ends with the mapping. */
static void some_part(struct world *world, const struct mapping *mapping, uint64_t *start, uint64_t *end) {
    uint64_t length = some_length(world);
    *start = mapping->offset + below(&world->random, mapping->length);
    *end = *start + (length ? length : 1);
    if (*end > mapping->offset + mapping->length) *end = mapping->offset + mapping->length;
}

void do_map(struct world *world) {
    struct handle *handle = some_handle(world);
    struct mapping *mapping = &world->mappings[below(&world->random, MAPPINGS)];
    int writable = (int)below(&world->random, 2) && world->shared_writable;
    if (!handle) return;
    struct file *file = &world->files[handle->file];
    uint64_t offset = some_offset(world, file) & ~(uint64_t)(PAGE - 1);
    uint64_t length = some_length(world) + (below(&world->random, 4) == 0 ? CHUNK : 0);
    if (offset + length > file->limit) length = file->limit - offset;
    if (mapping->start || length == 0) return;
    note(world, "mmap shared%s %d: %llu bytes at %llu of file %d", writable ? " writable" : "", handle->fd,
         (unsigned long long)length, (unsigned long long)offset, handle->file);
    void *start = mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, handle->fd, (off_t)offset);
    int refused = !may_read(handle) || (writable && !may_write(handle));
    if (refused) return expect(world, start == MAP_FAILED ? -1 : 0, -EACCES);
    if (start == MAP_FAILED) fail(world, "mmap: %s", strerror(errno));
    *mapping = (struct mapping){start, offset, length, handle->file, writable};
    file->mappings++;
}

void do_unmap(struct world *world) {
    struct mapping *mapping = some_mapping(world);
    if (!mapping) return;
    uint64_t kind = below(&world->random, 5);
    note(world, "%s of file %d at %llu", (const char *[]){"munmap", "munmap", "munmap", "msync", "madvise dontneed"}[kind],
         mapping->file, (unsigned long long)mapping->offset);
    if (kind == 3) return expect(world, msync(mapping->start, mapping->length, MS_SYNC), 0);
    if (kind == 4) return expect(world, madvise(mapping->start, mapping->length, MADV_DONTNEED), 0);
    expect(world, munmap(mapping->start, mapping->length), 0);
    world->files[mapping->file].mappings--;
    mapping->start = NULL;
    model_release(world, mapping->file);
}

void do_load(struct world *world) {
    struct mapping *mapping = some_mapping(world);
    if (!mapping) return;
    struct file *file = &world->files[mapping->file];
    uint64_t start, end, there = page_up(file->size);
    some_part(world, mapping, &start, &end);
    note(world, "load %llu to %llu of file %d (%llu bytes)", (unsigned long long)start, (unsigned long long)end,
         mapping->file, (unsigned long long)file->size);
    const uint8_t *from = mapping->start + (start - mapping->offset);
    if (start >= there) {
        int number = guarded_copy(world->buffer, from, 1);
        return expect(world, number, SIGBUS);
    }
    if (end > there) end = there;
    int number = guarded_copy(world->buffer, from, end - start);
    expect(world, number, 0);
    expect_bytes(world, file, start, world->buffer, end - start);
}

void do_store(struct world *world) {
    struct mapping *mapping = some_mapping(world);
    if (!mapping || !mapping->writable) return;
    struct file *file = &world->files[mapping->file];
    uint64_t start, end;
    some_part(world, mapping, &start, &end);
    note(world, "store %llu to %llu of file %d (%llu bytes)", (unsigned long long)start, (unsigned long long)end,
         mapping->file, (unsigned long long)file->size);
    uint8_t *to = mapping->start + (start - mapping->offset);
    fill(world->buffer, end - start, world->number ^ world->seed);
    if (start >= page_up(file->size)) return expect(world, guarded_copy(to, world->buffer, 1), SIGBUS);
    /* What is stored between the end and the end of its page is nobody's. */
    if (start >= file->size) return;
    if (end > file->size) end = file->size;
    expect(world, guarded_copy(to, world->buffer, end - start), 0);
    model_write(file, start, world->buffer, end - start);
}

/* A private mapping shows the file when it is made, and what is stored into it stays there. */
void do_private(struct world *world) {
    struct handle *handle = some_handle(world);
    if (!handle || !may_read(handle)) return;
    struct file *file = &world->files[handle->file];
    uint64_t offset = some_offset(world, file) & ~(uint64_t)(PAGE - 1);
    uint64_t length = some_length(world);
    if (offset >= file->size || length == 0) return;
    if (offset + length > file->size) length = file->size - offset;
    note(world, "mmap private %d: %llu bytes at %llu of file %d", handle->fd, (unsigned long long)length,
         (unsigned long long)offset, handle->file);
    uint8_t *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, handle->fd, (off_t)offset);
    if (start == MAP_FAILED) fail(world, "mmap: %s", strerror(errno));
    expect(world, guarded_copy(world->buffer, start, length), 0);
    expect_bytes(world, file, offset, world->buffer, length);
    uint64_t at = below(&world->random, length), count = below(&world->random, length - at) + 1;
    fill(world->other, count, world->number);
    expect(world, guarded_copy(start + at, world->other, count), 0);
    expect(world, memcmp(start + at, world->other, count), 0);
    expect_bytes(world, file, offset, start, at);
    expect_bytes(world, file, offset + at + count, start + at + count, length - at - count);
    expect(world, pread(handle->fd, world->buffer, length, (off_t)offset), (int64_t)length);
    expect_bytes(world, file, offset, world->buffer, length);
    expect(world, munmap(start, length), 0);
}

/* Reads a file into another's mapping, or writes it from there: what the kernel copies is a file on both sides. */
void do_between(struct world *world) {
    struct handle *handle = some_handle(world);
    struct mapping *mapping = some_mapping(world);
    if (!handle || !mapping || handle->file == mapping->file) return;
    struct file *file = &world->files[handle->file], *mapped = &world->files[mapping->file];
    uint64_t start, end, offset = some_offset(world, file);
    some_part(world, mapping, &start, &end);
    if (end > mapped->size) end = mapped->size;
    if (start >= end) return;
    uint64_t length = end - start;
    uint8_t *memory = mapping->start + (start - mapping->offset);
    int into = (int)below(&world->random, 2);
    note(world, "%s %d, file %d at %llu; memory is file %d from %llu to %llu", into ? "pread" : "pwrite", handle->fd,
         handle->file, (unsigned long long)offset, mapping->file, (unsigned long long)start, (unsigned long long)end);
    if (into) {
        if (!may_read(handle) || !mapping->writable) return;
        uint64_t there = offset < file->size ? file->size - offset : 0;
        if (there > length) there = length;
        expect(world, pread(handle->fd, memory, length, (off_t)offset), (int64_t)there);
        model_write(mapped, start, file->bytes + offset, there);
    } else {
        if (!may_write(handle)) return;
        if (handle->flags & O_APPEND) offset = file->size;
        if (length > file->limit - offset) length = file->limit - offset;
        expect(world, pwrite(handle->fd, memory, length, (off_t)offset), (int64_t)length);
        model_write(file, offset, mapped->bytes + start, length);
    }
}
