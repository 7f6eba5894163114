/* One line of output for each check, and an exit status that says whether all of them held.
 *
 * Lines are written at once, not buffered: what a program said before it died or hung must be seen. Only the main
 * thread checks, so that the order of the lines is always the same. */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failures;

/* `condition` holds. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        int holds_ = (condition) != 0;                                                                                 \
        failures += !holds_;                                                                                           \
        dprintf(1, "%s: %s\n", #condition, holds_ ? "yes" : "NO");                                                     \
    } while (0)

/* `call` returns -1 (or MAP_FAILED) and sets errno to `error`. */
#define REFUSED(call, error)                                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result_ = (long)(call);                                                                                   \
        int errno_ = errno, as_wanted_ = result_ == -1 && errno_ == (error);                                           \
        failures += !as_wanted_;                                                                                       \
        if (as_wanted_)                                                                                                \
            dprintf(1, "%s: %s\n", #call, #error);                                                                     \
        else                                                                                                           \
            dprintf(1, "%s: NOT %s but %ld, %s\n", #call, #error, result_, strerror(errno_));                          \
    } while (0)

/* What main returns. */
static inline int verdict(void) {
    dprintf(1, "%d failed\n", failures);
    return failures != 0;
}

#endif
