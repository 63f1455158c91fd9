// epoll: errors of create, ctl and wait, nesting, loops, duplicates of a description.
#include "../check.h"
#include <sys/epoll.h>

int main(void) {
    struct epoll_event e = {.events = EPOLLIN}, out[4];
    OK(epoll_create(0));
    OK(epoll_create(1));
    OK(epoll_create1(0x1));
    int ep = NEED(epoll_create1(0)), p[2];
    NEED(pipe(p));
    put_file("f", "");
    int file = NEED(open("f", O_RDONLY)), dir = NEED(open(".", O_RDONLY));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, file, &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, dir, &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, 99, &e));
    SAY(epoll_ctl(99, EPOLL_CTL_ADD, p[0], &e));
    SAY(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SAY(epoll_ctl(ep, 77, p[0], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], (void *)8));
    SAY(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    SAY(epoll_wait(ep, out, 0, 0));
    SAY(epoll_wait(ep, out, -1, 0));
    SAY(epoll_wait(p[0], out, 1, 0));
    SAY(epoll_wait(99, out, 1, 0));
    int outer = NEED(epoll_create1(0));
    e.data.u32 = 1;
    SAY(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SAY(epoll_wait(outer, out, 4, 0));
    NEED(write(p[1], "x", 1));
    SAY(epoll_wait(outer, out, 4, 0));
    struct pollfd poll_fd = {outer, POLLIN, 0};
    SAY(poll(&poll_fd, 1, 0));
    int copy = NEED(dup(p[0]));
    e.data.u32 = 2;
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &e));
    SAY(epoll_wait(ep, out, 4, 0));
    close(p[0]);
    SAY(epoll_wait(ep, out, 4, 0));
    close(copy);
    SAY(epoll_wait(ep, out, 4, 0));
    SAY(epoll_wait(outer, out, 4, 0));
    SAY(epoll_wait(ep, (void *)8, 4, 0));
    return 0;
}
