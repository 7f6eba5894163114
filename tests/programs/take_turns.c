/* take_turns FILE ME PARTIES ROUNDS: programs that share one page of a file and nothing else take turns.
 *
 * The page is a counter and a record for each party. Whoever's turn it is checks that the record of the one before is
 * of this very turn, all of it, writes its own and passes the turn on. A store that the others do not see, or see in
 * another order, hangs the game or shows as a wrong record. */
#include "check.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/mman.h>

enum { PAGE = 4096, WORDS = 60, MOST = 8 };

struct page {
    _Atomic uint64_t turn;
    uint64_t records[MOST][WORDS];
};

static uint64_t mixed(uint64_t turn, uint64_t word) {
    return (turn * 64 + word + 1) * 0x9e3779b97f4a7c15;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    uint64_t me = strtoull(words[2], NULL, 10), parties = strtoull(words[3], NULL, 10);
    uint64_t rounds = strtoull(words[4], NULL, 10), wrong = 0;
    int fd = open(words[1], O_RDWR);
    struct page *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(fd >= 0 && page != MAP_FAILED && parties <= MOST && sizeof *page <= PAGE);
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t mine = round * parties + me;
        while (atomic_load_explicit(&page->turn, memory_order_acquire) != mine) sched_yield();
        uint64_t before = (me + parties - 1) % parties;
        for (uint64_t word = 0; word < WORDS && mine > 0; word++)
            wrong += page->records[before][word] != mixed(mine - 1, word);
        for (uint64_t word = 0; word < WORDS; word++) page->records[me][word] = mixed(mine, word);
        atomic_store_explicit(&page->turn, mine + 1, memory_order_release);
    }
    CHECK(wrong == 0);
    return verdict();
}
