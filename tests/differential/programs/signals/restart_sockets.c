// Restart of accept, recv with and without a timeout, connect-less send, select, epoll_wait, flock.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/select.h>

static void on(int signo) {}

// Signals that go on coming: the first may fall before the call on a busy machine.
static void alarms(int yes) {
    struct itimerval timer = {{0, 50000 * yes}, {0, 50000 * yes}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void with(int flags) {
    struct sigaction action = {.sa_handler = on, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    printf("flags %x\n", flags);
    int pair[2];
    char c;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        sleep_ms(600);
        write(pair[1], "x", 1);
        _exit(0);
    }
    alarms(1);
    int got = SAY(recv(pair[0], &c, 1, 0));
    alarms(0);
    if (got == -1) recv(pair[0], &c, 1, 0);
    reap("writer", pid);
    struct timeval limit = {5, 0};
    NEED(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    alarms(1);
    SAY(recv(pair[0], &c, 1, 0));
    alarms(0);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    alarms(1);
    SAY(select(pair[0] + 1, &set, NULL, NULL, &limit));
    alarms(0);
    int ep = NEED(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, pair[0], &event));
    alarms(1);
    SAY(epoll_wait(ep, &event, 1, 5000));
    alarms(0);
    close(ep);
    close(pair[0]);
    close(pair[1]);
}

int main(void) {
    with(0);
    with(SA_RESTART);
    return 0;
}
