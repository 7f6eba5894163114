/* System V semaphores and message queues, between threads. */
#include "check.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <time.h>

union argument {
    int value;
    struct semid_ds *buffer;
    unsigned short *array;
};

static int set, queue;

static int operate(int index, int add, int flags) {
    struct sembuf operation = {(unsigned short)index, (short)add, (short)flags};
    return semop(set, &operation, 1);
}

static int value(int index) { return semctl(set, index, GETVAL); }

static void calls(void) {
    set = semget(IPC_PRIVATE, 3, 0600);
    CHECK(set >= 0);
    CHECK(operate(0, 2, 0) == 0 && value(0) == 2 && semctl(set, 0, GETPID) == getpid());
    struct sembuf both[] = {{0, -1, 0}, {1, -1, IPC_NOWAIT}}, fine[] = {{0, -2, 0}, {0, 0, 0}, {2, 5, SEM_UNDO}};
    REFUSED(semop(set, both, 2), EAGAIN);
    CHECK(value(0) == 2);
    CHECK(semop(set, fine, 3) == 0 && value(0) == 0 && value(2) == 5);
    REFUSED(operate(3, 1, 0), EFBIG);
    REFUSED(operate(2, 32767, 0), ERANGE);
    REFUSED(semop(set, fine, 0), EINVAL);
    REFUSED(semop(set, fine, 501), E2BIG);
    REFUSED(semop(1 << 30, fine, 1), EINVAL);
    REFUSED(semop(set, (void *)8, 1), EFAULT);
    struct timespec moment = {0, 20000000}, wrong = {0, 1000000000};
    struct sembuf wait = {1, -1, 0};
    REFUSED(semtimedop(set, &wait, 1, &moment), EAGAIN);
    REFUSED(semtimedop(set, &wait, 1, &wrong), EINVAL);
    unsigned short values[3] = {7, 8, 9}, seen[3] = {0};
    CHECK(semctl(set, 0, SETALL, (union argument){.array = values}) == 0);
    CHECK(semctl(set, 0, GETALL, (union argument){.array = seen}) == 0 && memcmp(values, seen, sizeof seen) == 0);
    CHECK(semctl(set, 1, SETVAL, (union argument){.value = 0}) == 0 && value(1) == 0);
    REFUSED(semctl(set, 1, SETVAL, (union argument){.value = 40000}), ERANGE);
    REFUSED(semctl(set, 5, GETVAL), EINVAL);
    REFUSED(semctl(set, 0, 99), EINVAL);
    struct semid_ds about;
    CHECK(semctl(set, 0, IPC_STAT, (union argument){.buffer = &about}) == 0);
    CHECK(about.sem_nsems == 3 && (about.sem_perm.mode & 0777) == 0600 && about.sem_otime > 0 && about.sem_ctime > 0);
    about.sem_perm.mode = 0640;
    CHECK(semctl(set, 0, IPC_SET, (union argument){.buffer = &about}) == 0);
    CHECK(semctl(set, 0, IPC_STAT, (union argument){.buffer = &about}) == 0 && (about.sem_perm.mode & 0777) == 0640);
    key_t key = 0x7d10 ^ getpid() << 8;
    int named = semget(key, 1, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && semget(key, 0, 0) == named);
    REFUSED(semget(key, 1, IPC_CREAT | IPC_EXCL), EEXIST);
    REFUSED(semget(key, 2, 0), EINVAL);
    CHECK(semctl(named, 0, IPC_RMID) == 0);
    REFUSED(semget(key, 1, 0), ENOENT);
    REFUSED(semget(IPC_PRIVATE, 0, 0600), EINVAL);
    REFUSED(semget(IPC_PRIVATE, 40000, 0600), EINVAL);
}

static void *take_then_give(void *unused) {
    operate(1, -1, 0);
    operate(2, 1, 0);
    return unused;
}

static void *wait_for_removal(void *unused) {
    return operate(1, -1, 0) == -1 && errno == EIDRM ? &set : unused;
}

static void waiting(void) {
    pthread_t threads[3];
    semctl(set, 2, SETVAL, (union argument){.value = 0});
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, take_then_give, NULL);
    while (semctl(set, 1, GETNCNT) != 3) usleep(1000);
    CHECK(semctl(set, 1, GETZCNT) == 0);
    CHECK(operate(1, 3, 0) == 0 && operate(2, -3, 0) == 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(value(1) == 0 && value(2) == 0 && semctl(set, 1, GETNCNT) == 0);
    void *removed;
    pthread_create(&threads[0], NULL, wait_for_removal, NULL);
    while (semctl(set, 1, GETNCNT) != 1) usleep(1000);
    CHECK(semctl(set, 0, IPC_RMID) == 0);
    pthread_join(threads[0], &removed);
    CHECK(removed == &set);
    REFUSED(operate(0, 1, 0), EINVAL);
}

struct message {
    long kind;
    char text[64];
};

static int send(long kind, const char *text, int flags) {
    struct message message = {.kind = kind};
    strcpy(message.text, text);
    return msgsnd(queue, &message, strlen(text), flags);
}

/* Receives `text`, of a type. */
static int comes(long wanted, int flags, long kind, const char *text) {
    struct message message = {0};
    ssize_t n = msgrcv(queue, &message, sizeof message.text, wanted, flags | IPC_NOWAIT);
    return n == (ssize_t)strlen(text) && message.kind == kind && memcmp(message.text, text, (size_t)n) == 0;
}

static void messages(void) {
    struct message message;
    struct msqid_ds about;
    queue = msgget(IPC_PRIVATE, 0600);
    CHECK(queue >= 0);
    CHECK(send(5, "five", 0) == 0 && send(3, "three", 0) == 0 && send(9, "nine", 0) == 0 && send(3, "more", 0) == 0);
    CHECK(msgctl(queue, IPC_STAT, &about) == 0 && about.msg_qnum == 4 && about.msg_qbytes == 16384);
    CHECK(about.msg_lspid == getpid() && about.msg_lrpid == 0 && about.msg_stime > 0 && about.msg_rtime == 0);
    REFUSED(msgrcv(queue, &message, 64, 4, IPC_NOWAIT), ENOMSG);
    CHECK(comes(-4, 0, 3, "three"));
    CHECK(comes(5, 020000 /* MSG_EXCEPT */, 9, "nine"));
    REFUSED(msgrcv(queue, &message, 2, 0, IPC_NOWAIT), E2BIG);
    CHECK(msgrcv(queue, &message, 2, 0, IPC_NOWAIT | MSG_NOERROR) == 2 && memcmp(message.text, "fi", 2) == 0);
    CHECK(comes(0, 0, 3, "more"));
    REFUSED(send(0, "zero", 0), EINVAL);
    REFUSED(msgsnd(queue, &message, 8193, 0), EINVAL);
    REFUSED(msgsnd(1 << 30, &message, 1, 0), EINVAL);
    REFUSED(msgsnd(queue, (void *)8, 1, 0), EFAULT);
    int sent = 0;
    while (send(1, "0123456789012345678901234567890123456789", IPC_NOWAIT) == 0) sent++;
    CHECK(sent == 16384 / 40 && errno == EAGAIN);
    about.msg_qbytes = 100;
    CHECK(msgctl(queue, IPC_SET, &about) == 0 && msgctl(queue, IPC_STAT, &about) == 0 && about.msg_qbytes == 100);
    REFUSED(msgctl(queue, 99, &about), EINVAL);
    key_t key = 0x7d10 ^ getpid() << 8;
    int named = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && msgget(key, 0) == named);
    REFUSED(msgget(key, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK(msgctl(named, IPC_RMID, NULL) == 0);
    REFUSED(msgget(key, 0), ENOENT);
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0);
}

enum { MANY = 5000 };

static void *send_many(void *unused) {
    struct message message = {.kind = 1};
    for (int i = 0; i < MANY; i++) {
        memcpy(message.text, &i, sizeof i);
        if (msgsnd(queue, &message, 40, 0) != 0) break;
    }
    return unused;
}

static void *wait_for_the_end(void *unused) {
    struct message message;
    return msgrcv(queue, &message, 64, 77, 0) == -1 && errno == EIDRM ? &queue : unused;
}

static void streams(void) {
    pthread_t sender, waiter;
    struct message message;
    int wrong = 0, number;
    void *removed;
    queue = msgget(IPC_PRIVATE, 0600);
    pthread_create(&sender, NULL, send_many, NULL);
    for (int i = 0; i < MANY; i++) {
        wrong += msgrcv(queue, &message, 64, 0, 0) != 40;
        memcpy(&number, message.text, sizeof number);
        wrong += number != i;
    }
    pthread_join(sender, NULL);
    CHECK(wrong == 0);
    pthread_create(&waiter, NULL, wait_for_the_end, NULL);
    usleep(50 * 1000);
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0);
    pthread_join(waiter, &removed);
    CHECK(removed == &queue);
}

int main(void) {
    calls();
    waiting();
    messages();
    streams();
    return verdict();
}
