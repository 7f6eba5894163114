/* Takes more memory than there is; the argument says how. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PIECE = 16 << 20 };

static char *reserve(int more) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more;
    char *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (piece == MAP_FAILED) exit(3);
    return piece;
}

int main(int count, char **arguments) {
    const char *way = count > 1 ? arguments[1] : "";
    int zero = open("/dev/zero", O_RDONLY);
    for (;;) {
        if (!strcmp(way, "store")) {
            memset(reserve(0), 1, PIECE);
        } else if (!strcmp(way, "populate")) {
            reserve(MAP_POPULATE);
        } else if (!strcmp(way, "read")) {
            /* The kernel is who touches it first. */
            if (read(zero, reserve(0), PIECE) != PIECE) return 4;
        } else if (!strcmp(way, "malloc")) {
            char *piece = malloc(1000);
            if (!piece) return 5;
            memset(piece, 1, 1000);
        } else {
            return 6;
        }
    }
}
