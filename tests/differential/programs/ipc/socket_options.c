// getsockopt and setsockopt on unix sockets; socket() and socketpair() errors.
#include "../check.h"

static void get(int fd, const char *name, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    int r = getsockopt(fd, SOL_SOCKET, option, &value, &length);
    printf("%s: %s %d length %d\n", name, r == -1 ? error_name(errno) : "ok", value, length);
}

int main(void) {
    int s[2], value = 1;
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s));
    printf("%o %d\n", fcntl(s[0], F_GETFL), fcntl(s[0], F_GETFD));
    get(s[0], "type", SO_TYPE);
    get(s[0], "domain", SO_DOMAIN);
    get(s[0], "protocol", SO_PROTOCOL);
    get(s[0], "error", SO_ERROR);
    get(s[0], "acceptconn", SO_ACCEPTCONN);
    get(s[0], "reuseaddr", SO_REUSEADDR);
    SAY(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &value, sizeof value));
    get(s[0], "reuseaddr", SO_REUSEADDR);
    SAY(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
    get(s[0], "keepalive", SO_KEEPALIVE);
    get(s[0], "unknown", 9999);
    SAY(setsockopt(s[0], SOL_SOCKET, SO_REUSEADDR, &value, 1));
    SAY(setsockopt(s[0], SOL_SOCKET, 9999, &value, sizeof value));
    SAY(setsockopt(s[0], SOL_SOCKET, SO_TYPE, &value, sizeof value));
    SAY(setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value));
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "s"};
    NEED(bind(server, (void *)&a, sizeof a));
    NEED(listen(server, 1));
    get(server, "acceptconn", SO_ACCEPTCONN);
    value = 10000;
    SAY(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &value, sizeof value));
    get(s[0], "sndbuf", SO_SNDBUF);
    struct timeval t = {2, 500000};
    SAY(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    t = (struct timeval){0, 0};
    socklen_t length = sizeof t;
    NEED(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, &length));
    printf("%ld %ld %d\n", (long)t.tv_sec, (long)t.tv_usec, length);
    struct linger l = {1, 5};
    SAY(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    OK(socket(77, SOCK_STREAM, 0));
    OK(socket(AF_UNIX, 77, 0));
    OK(socket(AF_UNIX, SOCK_STREAM, 99));
    OK(socket(AF_UNIX, SOCK_STREAM, 1));
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, (void *)8));
    return 0;
}
