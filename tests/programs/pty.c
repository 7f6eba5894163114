/* Pseudo-terminals: a line typed at one end and read at the other, edited and echoed on the way; and what the program prints. */
#define _XOPEN_SOURCE 700
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>

static int master, slave;
static char got[1 << 16];

static int ready(int fd) {
    struct pollfd file = {.fd = fd, .events = POLLIN};
    return poll(&file, 1, 2000) == 1 ? file.revents : 0;
}

/* Reads until `text` has come, and nothing else. Linux takes its time from end to end. */
static int comes(int fd, const char *text) {
    size_t have = 0, want = strlen(text);
    memset(got, 0, sizeof got);
    while (have < want && ready(fd)) {
        ssize_t n = read(fd, got + have, sizeof got - 1 - have);
        if (n <= 0) break;
        have += (size_t)n;
    }
    if (have != want || memcmp(got, text, want) != 0) dprintf(2, "%zu bytes came: %s\n", have, got);
    return have == want && memcmp(got, text, want) == 0;
}

static int type(const char *text) { return write(master, text, strlen(text)) == (ssize_t)strlen(text); }
static int print(const char *text) { return write(slave, text, strlen(text)) == (ssize_t)strlen(text); }

static void opening(void) {
    master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0 && grantpt(master) == 0);
    char name[64];
    strcpy(name, ptsname(master));
    CHECK(strncmp(name, "/dev/pts/", 9) == 0);
    REFUSED(open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK(unlockpt(master) == 0);
    slave = open(name, O_RDWR | O_NOCTTY);
    CHECK(slave >= 0 && isatty(slave) && isatty(master));
    CHECK(strcmp(ttyname(slave), name) == 0);
    struct stat seen;
    CHECK(fstat(slave, &seen) == 0 && S_ISCHR(seen.st_mode) && (seen.st_rdev >> 8) == 136);
    int other = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(other >= 0 && strcmp(ptsname(other), name) != 0);
    close(other);
    REFUSED(lseek(slave, 0, SEEK_SET), ESPIPE);
    REFUSED(ioctl(slave, TIOCGPTN, &other), ENOTTY);
    struct winsize size = {.ws_row = 7, .ws_col = 9}, back = {0};
    CHECK(ioctl(master, TIOCSWINSZ, &size) == 0 && ioctl(slave, TIOCGWINSZ, &back) == 0);
    CHECK(back.ws_row == 7 && back.ws_col == 9);
}

static void settings(void) {
    struct termios now, seen;
    CHECK(tcgetattr(slave, &now) == 0);
    dprintf(1, "%o %o %o %o\n", now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag);
    for (int i = 0; i < 17; i++) dprintf(1, "%d ", now.c_cc[i]);
    now.c_lflag &= ~(tcflag_t)ECHO;
    CHECK(tcsetattr(master, TCSANOW, &now) == 0 && tcgetattr(slave, &seen) == 0);
    CHECK((seen.c_lflag & ECHO) == 0);
    now.c_lflag |= ECHO;
    CHECK(tcsetattr(slave, TCSANOW, &now) == 0);
}

static void lines(void) {
    CHECK(type("hello\r") && comes(slave, "hello\n") && comes(master, "hello\r\n"));
    CHECK(type("ab\x7f" "c\x01\x7f\n") && comes(slave, "ac\n"));
    CHECK(comes(master, "ab\b \bc^A\b \b\b \b\r\n"));
    CHECK(type("two words\x17x\x15" "end\x16\x7f\n") && comes(slave, "end\x7f\n"));
    CHECK(ready(master) && read(master, got, sizeof got) > 0);
    tcflush(master, TCIFLUSH);
    CHECK(type("part\x04") && comes(slave, "part") && comes(master, "part"));
    CHECK(type("\x04") && ready(slave) && read(slave, got, 99) == 0);
    /* No more than there is room for; the rest of the line stays. */
    CHECK(type("seven77\n") && ready(slave) && read(slave, got, 3) == 3 && memcmp(got, "sev", 3) == 0);
    int waiting = 0;
    CHECK(ioctl(slave, FIONREAD, &waiting) == 0 && waiting == 5);
    CHECK(comes(slave, "en77\n") && comes(master, "seven77\r\n"));
    CHECK(print("out\n\ttab\n") && comes(master, "out\r\n\ttab\r\n"));
    CHECK(fcntl(slave, F_SETFL, O_NONBLOCK) == 0);
    CHECK(type("unfinished") && comes(master, "unfinished"));
    REFUSED(read(slave, got, 99), EAGAIN);
    CHECK(fcntl(slave, F_SETFL, 0) == 0 && tcflush(slave, TCIFLUSH) == 0);
    CHECK(type("fresh\n") && comes(slave, "fresh\n") && comes(master, "fresh\r\n"));
}

static long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct termios raw_settings(int least, int tenths) {
    struct termios raw;
    tcgetattr(slave, &raw);
    raw.c_iflag = 0;
    raw.c_oflag = 0;
    raw.c_lflag = 0;
    raw.c_cc[VMIN] = (cc_t)least;
    raw.c_cc[VTIME] = (cc_t)tenths;
    return raw;
}

enum { MUCH = 300000 };

static void *pump(void *unused) {
    for (int i = 0; i < MUCH;) {
        char bytes[777];
        int n = MUCH - i < 777 ? MUCH - i : 777;
        for (int j = 0; j < n; j++) bytes[j] = (char)((i + j) * 31);
        ssize_t written = write(slave, bytes, (size_t)n);
        if (written <= 0) break;
        i += (int)written;
    }
    return unused;
}

static void raw(void) {
    struct termios raw = raw_settings(1, 0);
    CHECK(tcsetattr(slave, TCSAFLUSH, &raw) == 0);
    CHECK(type("\x03\r\n\x04\x7f") && comes(slave, "\x03\r\n\x04\x7f"));
    CHECK(print("a\nb\x03") && comes(master, "a\nb\x03"));
    raw = raw_settings(0, 0);
    tcsetattr(slave, TCSANOW, &raw);
    CHECK(read(slave, got, 9) == 0);
    raw = raw_settings(0, 2);
    tcsetattr(slave, TCSANOW, &raw);
    long before = milliseconds();
    CHECK(read(slave, got, 9) == 0 && milliseconds() - before >= 190);
    raw = raw_settings(4, 0);
    tcsetattr(slave, TCSANOW, &raw);
    CHECK(type("abcd") && read(slave, got, 9) == 4);
    CHECK(type("ab") && read(slave, got, 2) == 2);
    pthread_t thread;
    int wrong = 0, have = 0;
    pthread_create(&thread, NULL, pump, NULL);
    while (have < MUCH && ready(master)) {
        ssize_t n = read(master, got, sizeof got);
        for (ssize_t i = 0; i < n; i++, have++) wrong += got[i] != (char)(have * 31);
    }
    pthread_join(thread, NULL);
    CHECK(have == MUCH && wrong == 0);
}

static void ends(void) {
    char name[64];
    strcpy(name, ptsname(master));
    CHECK(print("last") && close(slave) == 0);
    CHECK(comes(master, "last"));
    CHECK(ready(master) & POLLHUP);
    REFUSED(read(master, got, 9), EIO);
    slave = open(name, O_RDWR | O_NOCTTY);
    CHECK(slave >= 0 && print("again") && comes(master, "again"));
    CHECK(close(master) == 0);
    CHECK((ready(slave) & (POLLHUP | POLLIN)) == (POLLHUP | POLLIN));
    CHECK(read(slave, got, 9) == 0);
    REFUSED(write(slave, "x", 1), EIO);
    struct termios settings;
    REFUSED(tcgetattr(slave, &settings), EIO);
    REFUSED(open(name, O_RDWR | O_NOCTTY), ENOENT);
    close(slave);
}

int main(void) {
    opening();
    settings();
    lines();
    raw();
    ends();
    return verdict();
}
