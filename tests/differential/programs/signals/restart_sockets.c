// Restart of accept, recv with and without a timeout, connect-less send, select, epoll_wait, flock.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/select.h>

static void on(int signo) {}

static void with(int flags) {
    struct sigaction action = {.sa_handler = on, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    printf("flags %x\n", flags);
    int pair[2];
    char c;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    struct itimerval timer = {.it_value = {0, 50000}};
    pid_t pid = NEED(fork());
    if (pid == 0) {
        sleep_ms(150);
        write(pair[1], "x", 1);
        _exit(0);
    }
    setitimer(ITIMER_REAL, &timer, NULL);
    if (SAY(recv(pair[0], &c, 1, 0)) == -1) recv(pair[0], &c, 1, 0);
    reap("writer", pid);
    struct timeval limit = {0, 300000};
    NEED(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY(recv(pair[0], &c, 1, 0));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY(select(pair[0] + 1, &set, NULL, NULL, &limit));
    int ep = NEED(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, pair[0], &event));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY(epoll_wait(ep, &event, 1, 1000));
    close(ep);
    close(pair[0]);
    close(pair[1]);
}

int main(void) {
    with(0);
    with(SA_RESTART);
    return 0;
}
