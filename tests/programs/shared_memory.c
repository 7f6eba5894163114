/* System V shared memory: segments by key and number, and what counts as attached. */
#include "check.h"
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

enum { PAGE = 4096, SIZE = 3 * PAGE - 10 };

static int segment;

static struct shmid_ds about(void) {
    struct shmid_ds now;
    CHECK(shmctl(segment, IPC_STAT, &now) == 0);
    return now;
}

static int attached(void) { return (int)about().shm_nattch; }

static void keys(void) {
    key_t key = 0x7d11 ^ getpid() << 8;
    REFUSED(shmget(key, SIZE, 0), ENOENT);
    int named = shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(named >= 0 && shmget(key, 0, 0) == named && shmget(key, SIZE, IPC_CREAT) == named);
    REFUSED(shmget(key, SIZE, IPC_CREAT | IPC_EXCL), EEXIST);
    REFUSED(shmget(key, SIZE + 1, 0), EINVAL);
    REFUSED(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    segment = named;
    struct shmid_ds now = about();
    CHECK(now.shm_segsz == SIZE && (now.shm_perm.mode & 0777) == 0640 && now.shm_perm.__key == key);
    CHECK(now.shm_cpid == getpid() && now.shm_lpid == 0 && now.shm_nattch == 0);
    CHECK(now.shm_atime == 0 && now.shm_dtime == 0 && now.shm_ctime > 0);
    now.shm_perm.mode = 0600;
    CHECK(shmctl(named, IPC_SET, &now) == 0 && (about().shm_perm.mode & 0777) == 0600);
    REFUSED(shmctl(named, 99, &now), EINVAL);
    CHECK(shmctl(named, IPC_RMID, NULL) == 0);
    REFUSED(shmget(key, SIZE, 0), ENOENT);
    REFUSED(shmctl(named, IPC_RMID, NULL), EINVAL);
    REFUSED((intptr_t)shmat(named, NULL, 0), EINVAL);
}

static void views(void) {
    segment = shmget(IPC_PRIVATE, SIZE, 0600);
    CHECK(segment >= 0);
    char *first = shmat(segment, NULL, 0), *second = shmat(segment, NULL, SHM_RDONLY);
    CHECK(first != (void *)-1 && second != (void *)-1 && attached() == 2 && about().shm_lpid == getpid());
    CHECK(first[0] == 0 && first[3 * PAGE - 1] == 0);
    strcpy(first + PAGE, "seen");
    CHECK(strcmp(second + PAGE, "seen") == 0);
    REFUSED(shmdt(first + PAGE), EINVAL);
    CHECK(shmdt(first) == 0 && attached() == 1 && about().shm_dtime > 0);
    REFUSED(shmdt(first), EINVAL);
    /* At a place of the caller's. */
    REFUSED((intptr_t)shmat(segment, second, 0), EINVAL);
    REFUSED((intptr_t)shmat(segment, first + 1, 0), EINVAL);
    REFUSED((intptr_t)shmat(segment, NULL, SHM_REMAP), EINVAL);
    CHECK(shmat(segment, first + 1, SHM_RND) == first && strcmp(first + PAGE, "seen") == 0);
    CHECK(shmat(segment, second, SHM_REMAP) == second && attached() == 2);
    strcpy(second + PAGE, "again");
    CHECK(strcmp(first + PAGE, "again") == 0);
    CHECK(shmdt(second) == 0 && attached() == 1);
    /* Removed, it lives as long as it is attached. */
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0 && attached() == 1);
    CHECK(strcmp(first + PAGE, "again") == 0 && shmdt(first) == 0);
    struct shmid_ds gone;
    REFUSED(shmctl(segment, IPC_STAT, &gone), EINVAL);
}

static void other_ways_to_leave(void) {
    segment = shmget(IPC_PRIVATE, SIZE, 0600);
    char *whole = shmat(segment, NULL, 0);
    CHECK(munmap(whole, 3 * PAGE) == 0 && attached() == 0);
    REFUSED(shmdt(whole), EINVAL);
    /* Something else in its middle is left alone. */
    char *split = shmat(segment, NULL, 0);
    char *other = mmap(split + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(other == split + PAGE);
    strcpy(other, "mine");
    CHECK(shmdt(split) == 0 && attached() == 0 && strcmp(other, "mine") == 0);
    REFUSED(shmdt(other), EINVAL);
    CHECK(munmap(other, PAGE) == 0);
    /* Moved, it is left by its new place. */
    char *moved = shmat(segment, NULL, 0);
    strcpy(moved, "moved");
    char *free = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *there = mremap(moved, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, free);
    CHECK(there == free && strcmp(there, "moved") == 0 && attached() == 1);
    REFUSED(shmdt(moved), EINVAL);
    CHECK(shmdt(there) == 0 && attached() == 0);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0);
}

int main(void) {
    keys();
    views();
    other_ways_to_leave();
    return verdict();
}
