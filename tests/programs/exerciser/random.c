/* The random sequence: one operation after another, chosen by the seed alone. */
#include "exerciser.h"

static const struct {
    int weight;
    void (*act)(struct world *world);
} operations[] = {
    {18, do_read},  {18, do_write}, {6, do_truncate}, {6, do_allocate}, {5, do_copy},  {4, do_seek},   {1, do_sync},
    {4, do_map},    {4, do_unmap},  {14, do_load},    {10, do_store},   {4, do_private}, {5, do_between}, {6, do_open},
    {5, do_close},  {3, do_rename}, {2, do_link},     {2, do_unlink},   {5, do_stat},  {1, do_list},
};

static void one_operation(struct world *world) {
    int total = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) total += operations[i].weight;
    int chosen = (int)below(&world->random, (uint64_t)total);
    for (size_t i = 0;; i++) {
        chosen -= operations[i].weight;
        if (chosen >= 0) continue;
        if (operations[i].act == do_map && !world->keep_mappings) return;
        return operations[i].act(world);
    }
}

int run_random(struct world *world) {
    uint64_t step = world->operations / 50 + 1;
    /* Lines of several threads would come in any order. */
    int alone = world->threads == 1;
    for (world->number = 1; world->number <= world->operations; world->number++) {
        one_operation(world);
        if (world->ask_every && world->number % (uint64_t)world->ask_every == 0) ask_for_changes(world);
        if (alone && world->number % step == 0)
            dprintf(1, "seed %llu, after %llu operations: %016llx\n", (unsigned long long)world->seed,
                    (unsigned long long)world->number, (unsigned long long)world->sum);
    }
    return 0;
}
