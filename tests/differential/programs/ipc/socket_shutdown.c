// shutdown(2) on a stream pair: each direction, poll's view, errors.
#include "../check.h"

static void look(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("  poll %04x\n", p.revents);
}

int main(void) {
    int s[2];
    char c;
    signal(SIGPIPE, SIG_IGN);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    look(s[0]);
    NEED(write(s[0], "ab", 2));
    SAY(shutdown(s[0], SHUT_WR));
    look(s[0]);
    look(s[1]);
    SAY(write(s[0], "x", 1));
    SAY(read(s[1], &c, 1));
    SAY(read(s[1], &c, 1));
    SAY(read(s[1], &c, 1));
    SAY(write(s[1], "back", 4));
    SAY(shutdown(s[0], SHUT_RD));
    SAY(read(s[0], &c, 1));
    look(s[0]);
    SAY(write(s[1], "more", 4));
    SAY(shutdown(s[0], 7));
    int alone = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SAY(shutdown(alone, SHUT_RDWR));
    look(alone);
    SAY(shutdown(1, SHUT_RD));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SAY(shutdown(s[0], SHUT_RDWR));
    look(s[0]);
    look(s[1]);
    close(s[0]);
    look(s[1]);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    NEED(write(s[1], "unread", 6));
    close(s[0]);
    look(s[1]);
    SAY(read(s[1], &c, 1));
    SAY(read(s[1], &c, 1));
    return 0;
}
