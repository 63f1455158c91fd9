// epoll: level- and edge-triggered, one-shot, re-arming, data, several descriptors.
#include "../check.h"
#include <sys/epoll.h>

static int ep;
static void look(const char *what) {
    struct epoll_event e[4];
    int n = epoll_wait(ep, e, 4, 0);
    printf("%s: %d", what, n);
    for (int i = 0; i < n; i++) printf(" (%x %lx)", e[i].events, (long)e[i].data.u64);
    printf("\n");
}

static void control(int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    printf("ctl %s\n", epoll_ctl(ep, op, fd, &e) == -1 ? error_name(errno) : "ok");
}

int main(void) {
    int p[2];
    char c;
    NEED(pipe2(p, O_NONBLOCK));
    ep = NEED(epoll_create1(EPOLL_CLOEXEC));
    control(EPOLL_CTL_ADD, p[0], EPOLLIN, 0x123456789abcdef);
    look("empty");
    NEED(write(p[1], "ab", 2));
    look("level");
    look("level again");
    NEED(read(p[0], &c, 1));
    look("level with less");
    NEED(read(p[0], &c, 1));
    look("level drained");
    control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2);
    NEED(write(p[1], "ab", 2));
    look("edge");
    look("edge again");
    NEED(read(p[0], &c, 1));
    look("edge after a partial read");
    NEED(write(p[1], "c", 1));
    look("edge after more");
    control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 3);
    look("edge after MOD");
    control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 4);
    look("one-shot");
    look("one-shot again");
    NEED(write(p[1], "d", 1));
    look("one-shot after more");
    control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5);
    look("re-armed");
    control(EPOLL_CTL_ADD, p[1], EPOLLOUT, 6);
    look("writable");
    close(p[0]);
    look("peer closed");
    control(EPOLL_CTL_DEL, p[1], 0, 0);
    look("deleted");
    return 0;
}
