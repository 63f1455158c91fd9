// Timeouts of poll, select, epoll_wait, ppoll: waited long enough, select's remainder is updated.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/select.h>

#define TIMED(call)                                                     \
    do {                                                                \
        int64_t start_ = now_ns(CLOCK_MONOTONIC);                       \
        long r_ = (call);                                               \
        int64_t took_ = now_ns(CLOCK_MONOTONIC) - start_;               \
        printf("%s: %ld in time %d\n", #call, r_, took_ >= 40000000 && took_ < 2000000000); \
    } while (0)

int main(void) {
    int p[2];
    NEED(pipe(p));
    struct pollfd poll_fd = {p[0], POLLIN, 0};
    TIMED(poll(&poll_fd, 1, 40));
    TIMED(poll(NULL, 0, 40));
    struct timespec t = {0, 40000000};
    TIMED(ppoll(&poll_fd, 1, &t, NULL));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timeval tv = {0, 40000};
    TIMED(select(p[0] + 1, &set, NULL, NULL, &tv));
    printf("left %ld.%06ld set %d\n", (long)tv.tv_sec, (long)tv.tv_usec, FD_ISSET(p[0], &set) != 0);
    int ep = NEED(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    TIMED(epoll_wait(ep, &e, 1, 40));
    TIMED(epoll_pwait2(ep, &e, 1, &t, NULL));
    NEED(write(p[1], "x", 1));
    FD_SET(p[0], &set);
    tv = (struct timeval){5, 0};
    SAY(select(p[0] + 1, &set, NULL, NULL, &tv));
    IS(tv.tv_sec == 4 && tv.tv_usec > 0);
    SAY(poll(&poll_fd, 1, -1));
    t.tv_nsec = -1;
    SAY(ppoll(&poll_fd, 1, &t, NULL));
    tv = (struct timeval){-1, 0};
    SAY(select(0, NULL, NULL, NULL, &tv));
    return 0;
}
