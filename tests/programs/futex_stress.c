/* Locks, queues and sleeps made of futexes, by many threads at once. Each kind keeps a count of its own, which must come out
 * right in the end; no one may be in a lock with another, and no sleep may end early. */
#include "stress.h"
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>

enum { WAIT, WAKE, CMP_REQUEUE = 4, WAKE_OP, LOCK_PI, UNLOCK_PI, WAIT_BITSET = 9, WAKE_BITSET = 10, PRIVATE = 128 };
/* The second word becomes 0, and its waiters are woken if it was above 1 (FUTEX_OP_SET, FUTEX_OP_CMP_GT). */
enum { CLEAR_IF_CONTENDED = 4 << 24 | 1 };

static long futex(uint32_t *word, int operation, uint32_t value, const void *time_or_value2, uint32_t *word2, uint32_t value3) {
    return syscall(SYS_futex, word, operation | PRIVATE, value, time_or_value2, word2, value3);
}

static uint32_t compare(uint32_t *word, uint32_t old, uint32_t new) {
    __atomic_compare_exchange_n(word, &old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return old;
}

/* A lock that counts who is in it. */
struct guarded {
    uint32_t lock;
    volatile int inside;
    volatile uint64_t count;
    uint64_t taken;
};

static void enter(struct guarded *guarded, uint64_t *random) {
    MUST(++guarded->inside == 1, "two threads are in one lock");
    guarded->count++;
    if (below(random, 64) == 0) sched_yield();
    if (below(random, 4096) == 0) usleep(below(random, 200));
    MUST(--guarded->inside == 0, "two threads were in one lock");
    __atomic_add_fetch(&guarded->taken, 1, __ATOMIC_SEQ_CST);
}

/* 0 free, 1 taken, 2 taken and perhaps waited for (Drepper, "Futexes are tricky"). */
static struct guarded plain;

static void plain_lock(uint32_t *lock) {
    uint32_t seen = compare(lock, 0, 1);
    if (seen == 0) return;
    if (seen != 2) seen = __atomic_exchange_n(lock, 2, __ATOMIC_SEQ_CST);
    while (seen != 0) {
        futex(lock, WAIT, 2, NULL, NULL, 0);
        seen = __atomic_exchange_n(lock, 2, __ATOMIC_SEQ_CST);
    }
}

/* Gives back either by hand or by one call that does both. */
static void plain_unlock(uint32_t *lock, int by_call) {
    static uint32_t nobody;
    if (by_call) {
        futex(&nobody, WAKE_OP, 1, (void *)1, lock, CLEAR_IF_CONTENDED);
    } else if (__atomic_exchange_n(lock, 0, __ATOMIC_SEQ_CST) == 2) {
        futex(lock, WAKE, 1, NULL, NULL, 0);
    }
}

static void use_plain(uint64_t *random) {
    plain_lock(&plain.lock);
    enter(&plain, random);
    plain_unlock(&plain.lock, below(random, 4) == 0);
}

static struct guarded inheriting;

static void use_inheriting(uint64_t *random, uint32_t self) {
    if (compare(&inheriting.lock, 0, self) != 0) {
        MUST(futex(&inheriting.lock, LOCK_PI, 0, NULL, NULL, 0) == 0, "LOCK_PI: %m");
    }
    enter(&inheriting, random);
    if (compare(&inheriting.lock, self, 0) != self) {
        MUST(futex(&inheriting.lock, UNLOCK_PI, 0, NULL, NULL, 0) == 0, "UNLOCK_PI: %m");
    }
}

/* Who waits for room or for things waits by a sequence number, and is moved to the lock instead of woken. */
enum { ROOM = 8 };
static struct {
    uint32_t lock, changes;
    uint64_t things[ROOM];
    int used;
    uint64_t put, taken, put_sum, taken_sum;
} queue;

static void queue_changed(void) {
    uint32_t seen = __atomic_add_fetch(&queue.changes, 1, __ATOMIC_SEQ_CST);
    futex(&queue.changes, CMP_REQUEUE, 1, (void *)INT_MAX, &queue.lock, seen);
}

/* One waits for a change, but not for ever: at the end nobody may come. */
static void queue_wait(void) {
    struct timespec while_long = {0, 5000000};
    uint32_t seen = queue.changes;
    plain_unlock(&queue.lock, 0);
    futex(&queue.changes, WAIT, seen, &while_long, NULL, 0);
    /* Others may have been moved to the lock with us: it counts as waited for. */
    while (__atomic_exchange_n(&queue.lock, 2, __ATOMIC_SEQ_CST) != 0) futex(&queue.lock, WAIT, 2, NULL, NULL, 0);
}

static void use_queue(uint64_t *random) {
    plain_lock(&queue.lock);
    if (below(random, 2) == 0) {
        if (queue.used == ROOM) queue_wait();
        if (queue.used < ROOM) {
            uint64_t thing = random_next(random);
            queue.things[queue.used++] = thing;
            queue.put++;
            queue.put_sum += thing;
        }
    } else {
        if (queue.used == 0) queue_wait();
        if (queue.used > 0) {
            queue.taken_sum += queue.things[--queue.used];
            queue.taken++;
        }
    }
    MUST(queue.used >= 0 && queue.used <= ROOM, "the queue holds %d", queue.used);
    queue_changed();
    plain_unlock(&queue.lock, 0);
}

/* A sleep on a word that nobody wakes, relative or absolute, ends in time. */
static void sleep_on_word(uint64_t *random) {
    static uint32_t never;
    uint64_t before = now_ns(), ns = below(random, 2000000), end = before + ns;
    struct timespec relative = {0, (long)ns}, absolute = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
    long result = below(random, 2) ? futex(&never, WAIT, 0, &relative, NULL, 0)
                                   : futex(&never, WAIT_BITSET, 0, &absolute, NULL, 1);
    MUST(result == -1 && errno == ETIMEDOUT, "a sleep that nobody ends: %m");
    MUST(now_ns() >= end, "a sleep of %llu ns ended early", (unsigned long long)ns);
    MUST(futex(&never, WAIT, 1, NULL, NULL, 0) == -1 && errno == EAGAIN, "a word that has changed: %m");
}

/* Waiters by set: each is woken by its own bit and no other. */
static uint32_t sets, waiting_in[32];

static void wait_in_set(uint64_t *random, int thread) {
    uint32_t bit = (uint32_t)thread % 31;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += 3000000;
    if (end.tv_nsec >= 1000000000) end.tv_sec++, end.tv_nsec -= 1000000000;
    if (below(random, 2)) {
        __atomic_add_fetch(&waiting_in[bit], 1, __ATOMIC_SEQ_CST);
        long result = futex(&sets, WAIT_BITSET, 0, &end, NULL, 1u << bit);
        MUST(result == 0 || errno == ETIMEDOUT || errno == EINTR, "WAIT_BITSET: %m");
        __atomic_sub_fetch(&waiting_in[bit], 1, __ATOMIC_SEQ_CST);
    } else {
        /* Nobody waits by the last bit. */
        MUST(futex(&sets, WAKE_BITSET, INT_MAX, NULL, NULL, 1u << 31) == 0, "somebody was woken by a foreign bit");
        MUST(futex(&sets, WAKE_BITSET, INT_MAX, NULL, NULL, 1u << bit) >= 0, "WAKE_BITSET: %m");
    }
}

static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
static volatile uint64_t left, right;

static void use_readers(uint64_t *random) {
    if (below(random, 8) == 0) {
        pthread_rwlock_wrlock(&readers);
        left++;
        if (below(random, 32) == 0) sched_yield();
        right++;
        pthread_rwlock_unlock(&readers);
    } else {
        pthread_rwlock_rdlock(&readers);
        MUST(left == right, "a reader was in with a writer");
        pthread_rwlock_unlock(&readers);
    }
}

static void *work(void *number) {
    int thread = (int)(intptr_t)number;
    uint64_t random = random_start(thread);
    uint32_t self = (uint32_t)syscall(SYS_gettid);
    while (!is_over()) {
        switch (below(&random, 16)) {
        case 0: if (below(&random, 16) == 0) sleep_on_word(&random); break;
        case 1: if (below(&random, 8) == 0) wait_in_set(&random, thread); break;
        case 2: case 3: case 4: use_readers(&random); break;
        case 5: case 6: case 7: case 8: use_queue(&random); break;
        case 9: case 10: case 11: use_inheriting(&random, self); break;
        default: use_plain(&random); break;
        }
    }
    return NULL;
}

int main(int count, char **arguments) {
    start(count, arguments);
    run_all(work, "locks, queues and sleeps");
    for (int i = 0; i < queue.used; i++) queue.taken_sum += queue.things[i];
    CHECK(plain.count == plain.taken && plain.taken > 0 && plain.lock == 0);
    CHECK(inheriting.count == inheriting.taken && inheriting.taken > 0 && inheriting.lock == 0);
    CHECK(queue.put == queue.taken + (uint64_t)queue.used && queue.put > 0);
    CHECK(queue.put_sum == queue.taken_sum);
    CHECK(left == right);
    return verdict();
}
