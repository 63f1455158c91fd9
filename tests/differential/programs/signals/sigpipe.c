// SIGPIPE and EPIPE on pipes and sockets, MSG_NOSIGNAL.
#include "../check.h"

static volatile int count;
static void on(int signo) { count++; }

int main(void) {
    int p[2], s[2];
    NEED(pipe(p));
    close(p[0]);
    IN_CHILD("default", write(p[1], "x", 1));
    signal(SIGPIPE, on);
    SAY(write(p[1], "x", 1));
    printf("count %d\n", count);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    close(s[1]);
    SAY(write(s[0], "x", 1));
    SAY(send(s[0], "x", 1, MSG_NOSIGNAL));
    printf("count %d\n", count);
    signal(SIGPIPE, SIG_IGN);
    SAY(write(p[1], "x", 1));
    SAY(write(p[1], "", 0));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    NEED(shutdown(s[0], SHUT_WR));
    SAY(send(s[0], "x", 1, 0));
    return 0;
}
