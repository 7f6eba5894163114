/* Sockets within a machine: names, connections, datagrams, options, control messages, and every refusal we know. */
#include "check.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

static char buffer[1 << 16];

static struct sockaddr_un local(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static struct sockaddr_in inet(uint32_t ip, uint16_t port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(ip)}};
}

#define AT(address) (struct sockaddr *)&(address), sizeof(address)

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, name, &value, &size) ? -errno : value;
}

static int ready(int fd) {
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    return poll(&one, 1, 0) < 0 ? -1 : one.revents;
}

static void creation(void) {
    REFUSED(socket(AF_UNIX, 99, 0), EINVAL);
    REFUSED(socket(AF_UNIX, SOCK_STREAM | 0x4000, 0), EINVAL);
    REFUSED(socket(AF_UNIX, SOCK_STREAM, 77), EPROTONOSUPPORT);
    REFUSED(socket(999, SOCK_STREAM, 0), EAFNOSUPPORT);
    REFUSED(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    int pair[2];
    REFUSED(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
    CHECK(option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    CHECK(option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET);
    CHECK(option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
    CHECK(option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0);
    CHECK(option(fd, SOL_SOCKET, 9999) == -ENOPROTOOPT);
    CHECK(option(fd, 9999, 1) == -ENOPROTOOPT || option(fd, 9999, 1) == -EOPNOTSUPP);
    int on = 1;
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 && option(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && option(fd, SOL_SOCKET, SO_REUSEADDR) == 1);
    REFUSED(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, 1), EINVAL);
    REFUSED(setsockopt(fd, SOL_SOCKET, SO_TYPE, &on, sizeof on), ENOPROTOOPT);
    CHECK(ready(fd) == (POLLOUT | POLLHUP));
    struct stat status;
    CHECK(fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode));
    REFUSED(lseek(fd, 0, SEEK_SET), ESPIPE);
    REFUSED(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    REFUSED(recv(fd, buffer, 1, 0), ENOTCONN);
    REFUSED(shutdown(fd, SHUT_RDWR), ENOTCONN);
    REFUSED(accept(fd, NULL, NULL), EINVAL);
    close(fd);
    REFUSED(listen(1, 5), ENOTSOCK);
    REFUSED(listen(99, 5), EBADF);
}

static void pairs(void) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(ready(pair[0]) == POLLOUT);
    CHECK(write(pair[0], "hello", 5) == 5 && write(pair[0], " there", 6) == 6);
    int waiting;
    CHECK(ioctl(pair[1], FIONREAD, &waiting) == 0 && waiting == 11);
    CHECK(recv(pair[1], buffer, 3, MSG_PEEK) == 3 && recv(pair[1], buffer, 99, 0) == 11);
    REFUSED(recv(pair[1], buffer, 1, MSG_DONTWAIT), EAGAIN);
    struct timeval time = {0, 20000};
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    REFUSED(recv(pair[1], buffer, 1, 0), EAGAIN);
    CHECK(shutdown(pair[0], SHUT_WR) == 0);
    CHECK(read(pair[1], buffer, 9) == 0);
    CHECK(ready(pair[1]) == (POLLIN | POLLOUT | POLLRDHUP));
    REFUSED(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK(write(pair[1], "back", 4) == 4 && read(pair[0], buffer, 9) == 4);
    close(pair[1]);
    CHECK(ready(pair[0]) & POLLHUP);
    close(pair[0]);

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    CHECK(write(pair[0], "first", 5) == 5 && write(pair[0], "second", 6) == 6);
    CHECK(recv(pair[1], buffer, 3, MSG_TRUNC) == 5 && recv(pair[1], buffer, 99, 0) == 6);
    close(pair[0]);
    CHECK(recv(pair[1], buffer, 99, 0) == 0);
    close(pair[1]);

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK(write(pair[0], "unread", 6) == 6);
    close(pair[1]);
    REFUSED(read(pair[0], buffer, 9), ECONNRESET);
    CHECK(read(pair[0], buffer, 9) == 0);
    close(pair[0]);
}

static void names(void) {
    struct sockaddr_un path = local("sockets.name"), missing = local("sockets.missing"), shown;
    unlink(path.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    REFUSED(listen(listener, 1), EINVAL);
    REFUSED(connect(client, AT(missing)), ENOENT);
    CHECK(bind(listener, AT(path)) == 0);
    REFUSED(bind(listener, AT(missing)), EINVAL);
    REFUSED(connect(client, AT(path)), ECONNREFUSED);
    CHECK(listen(listener, 2) == 0 && option(listener, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    REFUSED(bind(other, AT(path)), EADDRINUSE);
    struct stat status;
    CHECK(stat(path.sun_path, &status) == 0 && S_ISSOCK(status.st_mode));
    REFUSED(open(path.sun_path, O_RDWR), ENXIO);
    CHECK(ready(listener) == 0);
    CHECK(connect(client, AT(path)) == 0);
    REFUSED(connect(client, AT(path)), EISCONN);
    CHECK(ready(listener) == POLLIN);
    socklen_t size = sizeof shown;
    int server = accept4(listener, (struct sockaddr *)&shown, &size, SOCK_CLOEXEC);
    CHECK(server > 0 && size == sizeof(sa_family_t) && fcntl(server, F_GETFD) == FD_CLOEXEC);
    size = sizeof shown;
    CHECK(getpeername(client, (struct sockaddr *)&shown, &size) == 0 && strcmp(shown.sun_path, path.sun_path) == 0);
    CHECK(size == offsetof(struct sockaddr_un, sun_path) + strlen(path.sun_path) + 1);
    size = 4;
    CHECK(getsockname(server, (struct sockaddr *)&shown, &size) == 0 && size > 4);
    struct ucred who;
    size = sizeof who;
    CHECK(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.pid == getpid() && who.uid == getuid());
    CHECK(unlink(path.sun_path) == 0);
    CHECK(write(client, "still", 5) == 5 && read(server, buffer, 9) == 5);
    close(listener);
    REFUSED(connect(other, AT(path)), ENOENT);
    int file = open("sockets.file", O_CREAT | O_RDWR, 0600);
    struct sockaddr_un plain = local("sockets.file");
    REFUSED(connect(other, AT(plain)), ECONNREFUSED);
    REFUSED(bind(other, AT(plain)), EADDRINUSE);
    unlink("sockets.file");
    close(file), close(client), close(server), close(other);

    struct sockaddr_un hidden = {.sun_family = AF_UNIX, .sun_path = "\0diolkos sockets test"};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 21;
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    REFUSED(sendto(sender, "x", 1, 0, (struct sockaddr *)&hidden, length), ECONNREFUSED);
    CHECK(bind(receiver, (struct sockaddr *)&hidden, length) == 0);
    REFUSED(send(sender, "x", 1, 0), ENOTCONN);
    CHECK(sendto(sender, "one", 3, 0, (struct sockaddr *)&hidden, length) == 3);
    size = sizeof shown;
    CHECK(recvfrom(receiver, buffer, 9, 0, (struct sockaddr *)&shown, &size) == 3 && size == 0);
    sa_family_t family = AF_UNIX;
    CHECK(bind(sender, (struct sockaddr *)&family, sizeof family) == 0);
    size = sizeof shown;
    CHECK(getsockname(sender, (struct sockaddr *)&shown, &size) == 0 && size == sizeof family + 6 && !shown.sun_path[0]);
    CHECK(connect(sender, (struct sockaddr *)&hidden, length) == 0 && send(sender, "two", 3, 0) == 3);
    REFUSED(listen(sender, 1), EOPNOTSUPP);
    REFUSED(accept(sender, NULL, NULL), EOPNOTSUPP);
    close(receiver);
    REFUSED(send(sender, "x", 1, 0), ECONNREFUSED);
    close(sender);
}

static void rights(void) {
    int pair[2], pipes[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(pipes) == 0);
    char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec bytes = {"with", 4};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), pipes, sizeof pipes);
    CHECK(sendmsg(pair[0], &message, 0) == 4);
    close(pipes[0]), close(pipes[1]);
    memset(control, 0, sizeof control);
    bytes = (struct iovec){buffer, sizeof buffer};
    CHECK(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) == 4 && message.msg_controllen == sizeof control);
    CHECK(header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(2 * sizeof(int)));
    memcpy(pipes, CMSG_DATA(header), sizeof pipes);
    CHECK(fcntl(pipes[0], F_GETFD) == FD_CLOEXEC);
    CHECK(write(pipes[1], "through", 7) == 7 && read(pipes[0], buffer, 9) == 7);

    /* Room for one of two: the other is closed, and we are told. */
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), pipes, sizeof pipes);
    bytes = (struct iovec){"x", 1}, message.msg_controllen = sizeof control;
    CHECK(sendmsg(pair[0], &message, 0) == 1);
    bytes = (struct iovec){buffer, sizeof buffer}, message.msg_controllen = CMSG_LEN(sizeof(int));
    CHECK(recvmsg(pair[1], &message, 0) == 1 && message.msg_flags == MSG_CTRUNC);
    CHECK(header->cmsg_len == CMSG_LEN(sizeof(int)));

    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    *(int *)CMSG_DATA(header) = 999;
    message.msg_controllen = CMSG_SPACE(sizeof(int));
    REFUSED(sendmsg(pair[0], &message, 0), EBADF);
    header->cmsg_len = 1 << 20;
    REFUSED(sendmsg(pair[0], &message, 0), EINVAL);
    int on = 1;
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    bytes = (struct iovec){buffer, sizeof buffer}, message.msg_controllen = sizeof control;
    CHECK(recvmsg(pair[1], &message, 0) == 1 && header->cmsg_type == SCM_CREDENTIALS);
    CHECK(((struct ucred *)CMSG_DATA(header))->pid == getpid());
    close(pair[0]), close(pair[1]), close(pipes[0]), close(pipes[1]);
}

static void *serve(void *listener) {
    int fd = accept(*(int *)listener, NULL, NULL);
    long total = 0, n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        total += n;
    dprintf(fd, "%ld", total);
    close(fd);
    return NULL;
}

static void network(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = inet(INADDR_LOOPBACK, 0), at, from;
    socklen_t size = sizeof at;
    CHECK(bind(listener, AT(any)) == 0 && listen(listener, 4) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&at, &size) == 0 && size == sizeof at && ntohs(at.sin_port) >= 1024);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    REFUSED(bind(other, AT(at)), EADDRINUSE);
    struct sockaddr_in elsewhere = inet(0xc0000201, 1);
    REFUSED(bind(other, AT(elsewhere)), EADDRNOTAVAIL);
    REFUSED(bind(other, (struct sockaddr *)&at, 4), EINVAL);
    struct sockaddr_un path = local("x");
    REFUSED(connect(other, AT(path)), EAFNOSUPPORT);
    pthread_t server;
    pthread_create(&server, NULL, serve, &listener);
    CHECK(connect(client, AT(at)) == 0);
    size = sizeof from;
    CHECK(getpeername(client, (struct sockaddr *)&from, &size) == 0 && from.sin_port == at.sin_port);
    static char big[300000];
    CHECK(send(client, big, sizeof big, 0) == sizeof big);
    CHECK(shutdown(client, SHUT_WR) == 0);
    CHECK(recv(client, buffer, 6, MSG_WAITALL) == 6 && memcmp(buffer, "300000", 6) == 0);
    CHECK(read(client, buffer, 1) == 0);
    pthread_join(server, NULL);
    close(client);

    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    REFUSED(connect(client, AT(at)), EINPROGRESS);
    struct pollfd one = {client, POLLOUT, 0};
    CHECK(poll(&one, 1, 1000) == 1 && one.revents == POLLOUT && option(client, SOL_SOCKET, SO_ERROR) == 0);
    int accepted = accept(listener, NULL, NULL), set = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = client}};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, client, &event) == 0 && epoll_wait(set, &event, 1, 0) == 0);
    CHECK(write(accepted, "x", 1) == 1 && epoll_wait(set, &event, 1, 1000) == 1 && event.events == EPOLLIN);
    close(accepted);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1 && event.events == (EPOLLIN | EPOLLRDHUP));
    close(client), close(listener), close(set);
    client = socket(AF_INET, SOCK_STREAM, 0);
    REFUSED(connect(client, AT(at)), ECONNREFUSED);
    close(client), close(other);

    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(receiver, AT(any)) == 0);
    size = sizeof at;
    getsockname(receiver, (struct sockaddr *)&at, &size);
    REFUSED(send(sender, "x", 1, 0), EDESTADDRREQ);
    CHECK(sendto(sender, "ping", 4, 0, AT(at)) == 4);
    size = sizeof from;
    CHECK(recvfrom(receiver, buffer, 9, 0, (struct sockaddr *)&from, &size) == 4 && size == sizeof from);
    CHECK(sendto(receiver, "", 0, 0, AT(from)) == 0 && recv(sender, buffer, 9, 0) == 0);
    REFUSED(sendto(sender, buffer, 65508, 0, AT(at)), EMSGSIZE);
    struct mmsghdr several[2] = {0};
    struct iovec parts[2] = {{"a", 1}, {"bc", 2}};
    for (int i = 0; i < 2; i++)
        several[i].msg_hdr = (struct msghdr){.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = parts + i, .msg_iovlen = 1};
    CHECK(sendmmsg(sender, several, 2, 0) == 2 && several[1].msg_len == 2);
    parts[0] = (struct iovec){buffer, 9}, parts[1] = (struct iovec){buffer + 9, 9};
    several[0].msg_hdr.msg_name = several[1].msg_hdr.msg_name = NULL;
    CHECK(recvmmsg(receiver, several, 2, MSG_WAITFORONE, NULL) == 2 && several[0].msg_len == 1 && several[1].msg_len == 2);
    close(receiver), close(sender);

    int six = socket(AF_INET6, SOCK_STREAM, 0);
    if (six >= 0) {
        struct sockaddr_in6 wild = {.sin6_family = AF_INET6};
        CHECK(bind(six, AT(wild)) == 0 && listen(six, 1) == 0);
        size = sizeof wild;
        CHECK(getsockname(six, (struct sockaddr *)&wild, &size) == 0 && size == sizeof wild);
        struct sockaddr_in four = inet(INADDR_LOOPBACK, ntohs(wild.sin6_port));
        client = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(client, AT(four)) == 0);
        size = sizeof wild;
        accepted = accept(six, (struct sockaddr *)&wild, &size);
        CHECK(accepted > 0 && IN6_IS_ADDR_V4MAPPED(&wild.sin6_addr));
        close(accepted), close(client), close(six);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    /* A place of our own to make socket files in. */
    char folder[] = "/tmp/sockets.XXXXXX";
    CHECK(mkdtemp(folder) && chdir(folder) == 0);
    creation();
    pairs();
    names();
    rights();
    network();
    CHECK(rmdir(folder) == 0);
    return verdict();
}
