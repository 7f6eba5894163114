/* What the parts of the exerciser share.
 *
 * The exerciser runs file operations on a directory and keeps a model of what must be in it: each result is compared
 * with the model at once, and folded into a sum that must be the same on every system. Nothing that it does depends on
 * what a call returned, so one seed makes one sequence everywhere. */
#ifndef EXERCISER_H
#define EXERCISER_H

#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FALLOC_FL_ZERO_RANGE /* musl does not have it */
#define FALLOC_FL_ZERO_RANGE 16
#endif

enum {
    PAGE = 4096,
    CHUNK = 2 << 20, /* the unit of the DAX window */
    FILES = 8,       /* inodes at once, open or linked */
    NAMES = 10,
    HANDLES = 12,
    MAPPINGS = 5,
    RECENT = 40, /* operations that are told after a failure */
    BUFFER = 4 << 20,
};

/* splitmix64 */
struct generator {
    uint64_t state;
};
uint64_t draw(struct generator *generator);
/* A number from 0 to `bound` - 1. */
uint64_t below(struct generator *generator, uint64_t bound);
/* `length` bytes that `seed` stands for. */
void fill(uint8_t *bytes, uint64_t length, uint64_t seed);

/* What a file must hold. Bytes from `size` on are zero, up to the page after `limit`. */
struct file {
    int live, links, handles, mappings;
    uint64_t size, limit;
    uint8_t *bytes;
};

struct name {
    int folder; /* 0 or 1 */
    int file;   /* -1: no such name */
};

struct handle {
    int fd; /* -1: none */
    int file, flags;
    uint64_t position;
};

struct mapping {
    uint8_t *start; /* NULL: none */
    uint64_t offset, length;
    int file, writable;
};

/* What is to be done, and what must be there. */
struct world {
    /* Choices, from the command line. */
    uint64_t seed, operations, window;
    uint64_t tell_from, tell_to; /* operations to print one by one */
    int keep_mappings;           /* shared mappings are kept while the file changes */
    int shared_writable;         /* and can be writable */
    int ask_every;               /* operations between changes by the host; 0: none */
    int threads;
    int wait_ms;                 /* how long the cache rule lets old attributes live */

    struct generator random;
    uint64_t number, sum;
    struct file files[FILES];
    struct name names[NAMES];
    struct handle handles[HANDLES];
    struct mapping mappings[MAPPINGS];
    int folders[2]; /* directory descriptors; they stay with the directory when it is renamed */
    int swapped;    /* "a" and "b" have changed places */
    uint8_t *buffer, *other;
    char recent[RECENT][200];
};

/* Making and ending a world in the working directory or, with `folder`, in a new directory of it. */
void make_world(struct world *world, const char *folder);
void end_world(struct world *world);

/* Notes the operation about to be done. */
void note(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Folds a result into the sum. */
void fold(struct world *world, uint64_t value);
/* Ends the process, telling the operations before. */
_Noreturn void fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The call gave what it must: a value that is not negative, or an error as -errno. `got` is a call's own result. */
void expect(struct world *world, int64_t got, int64_t wanted);
/* The bytes are those of the file. */
void expect_bytes(struct world *world, const struct file *file, uint64_t offset, const uint8_t *got, uint64_t length);

/* What happens to a file in the model. */
void model_write(struct file *file, uint64_t offset, const uint8_t *bytes, uint64_t length);
void model_zero(struct file *file, uint64_t offset, uint64_t length);
void model_resize(struct file *file, uint64_t size);
/* The last name, handle or mapping may have gone. */
void model_release(struct world *world, int file);
/* A new, empty file; -1 if there are enough. */
int model_create(struct world *world);

/* Places and lengths where things go wrong: around pages, chunks, the window and the end. */
uint64_t some_offset(struct world *world, const struct file *file);
uint64_t some_length(struct world *world);
/* A handle that is open, or NULL. */
struct handle *some_handle(struct world *world);
int may_read(const struct handle *handle);
int may_write(const struct handle *handle);
/* The path of a name, in a buffer of the caller's. */
const char *path_of(const struct world *world, const struct name *name, char path[32]);
int number_of(const void *array, const void *element, size_t size);

/* One operation each. */
void do_read(struct world *world);
void do_write(struct world *world);
void do_truncate(struct world *world);
void do_allocate(struct world *world);
void do_copy(struct world *world);
void do_seek(struct world *world);
void do_sync(struct world *world);
void do_map(struct world *world);
void do_unmap(struct world *world);
void do_load(struct world *world);
void do_store(struct world *world);
void do_private(struct world *world);
void do_between(struct world *world);
void do_open(struct world *world);
void do_close(struct world *world);
void do_rename(struct world *world);
void do_link(struct world *world);
void do_unlink(struct world *world);
void do_stat(struct world *world);
void do_list(struct world *world);

/* Every file, whole, by a new descriptor. */
void check_everything(struct world *world);
/* Memory faults that the exerciser provokes come back as results. */
void catch_faults(void);

/* The modes of the command line. */
int run_random(struct world *world);
int run_threads(struct world *world, int own_files);
int run_script(void);
int answer_requests(const char *root);
void ask_for_changes(struct world *world);

#endif
