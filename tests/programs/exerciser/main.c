/* exerciser script
 * exerciser random|files|regions [seed=N] [operations=N] [window=BYTES] [mappings=private|readable|writable]
 *                                [threads=N] [ask=N] [wait=MS] [tell=FROM-TO]
 * exerciser answer DIRECTORY
 *
 * It works in the working directory, which must be empty. The status is 0 if everything was as it must be; one line in
 * fifty tells the sum of all results so far, which depends on the arguments alone. */
#include "exerciser.h"

static int choose(struct world *world, const char *word) {
    unsigned long long number = 0, second = 0;
    if (sscanf(word, "seed=%llu", &number) == 1) world->seed = number;
    else if (sscanf(word, "operations=%llu", &number) == 1) world->operations = number;
    else if (sscanf(word, "window=%llu", &number) == 1) world->window = number;
    else if (sscanf(word, "threads=%llu", &number) == 1) world->threads = (int)number;
    else if (sscanf(word, "ask=%llu", &number) == 1) world->ask_every = (int)number;
    else if (sscanf(word, "wait=%llu", &number) == 1) world->wait_ms = (int)number;
    else if (sscanf(word, "tell=%llu-%llu", &number, &second) == 2) world->tell_from = number, world->tell_to = second;
    else if (strcmp(word, "mappings=private") == 0) world->keep_mappings = world->shared_writable = 0;
    else if (strcmp(word, "mappings=readable") == 0) world->keep_mappings = 1, world->shared_writable = 0;
    else if (strcmp(word, "mappings=writable") == 0) world->keep_mappings = world->shared_writable = 1;
    else return -1;
    return 0;
}

int main(int count, char **words) {
    static struct world world = {.seed = 1, .operations = 1000, .window = 8 << 20, .keep_mappings = 1, .shared_writable = 1};
    const char *mode = count > 1 ? words[1] : "";
    if (strcmp(mode, "answer") == 0 && count == 3) return answer_requests(words[2]);
    if (strcmp(mode, "script") == 0 && count == 2) return run_script();
    int own_files = strcmp(mode, "files") == 0, regions = strcmp(mode, "regions") == 0;
    world.threads = own_files || regions ? 4 : 1;
    int wrong = !own_files && !regions && strcmp(mode, "random") != 0;
    for (int i = 2; i < count; i++) wrong |= choose(&world, words[i]) < 0;
    if (wrong || world.threads < 1 || world.window < 2 * CHUNK) {
        dprintf(2, "%s: see the head of main.c for what may be asked\n", words[0]);
        return 2;
    }
    catch_faults();
    if (own_files || regions) return run_threads(&world, own_files);
    make_world(&world, NULL);
    run_random(&world);
    end_world(&world);
    dprintf(1, "seed %llu: %llu operations, %016llx\n", (unsigned long long)world.seed,
            (unsigned long long)world.operations, (unsigned long long)world.sum);
    return 0;
}
