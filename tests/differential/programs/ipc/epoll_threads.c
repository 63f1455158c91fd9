// epoll_wait in one thread wakes when another adds a ready descriptor or writes; EPOLLEXCLUSIVE wakes at least one.
#include "../check.h"
#include <sys/epoll.h>

static int ep, p[2];

static void *waiter(void *x) {
    struct epoll_event e;
    int n = epoll_wait(ep, &e, 1, 5000);
    return (void *)(long)(n == 1 ? e.data.u32 : 100);
}

int main(void) {
    NEED(pipe(p));
    ep = NEED(epoll_create1(0));
    pthread_t t;
    void *value;
    pthread_create(&t, NULL, waiter, NULL);
    sleep_ms(30);
    struct epoll_event e = {.events = EPOLLOUT, .data.u32 = 7};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    pthread_join(t, &value);
    printf("added ready: %ld\n", (long)value);
    NEED(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
    e = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u32 = 8};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    pthread_create(&t, NULL, waiter, NULL);
    sleep_ms(30);
    NEED(write(p[1], "x", 1));
    pthread_join(t, &value);
    printf("written: %ld\n", (long)value);
    char c;
    NEED(read(p[0], &c, 1));
    NEED(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    SAY(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SAY(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    pthread_t ts[3];
    for (int i = 0; i < 3; i++) pthread_create(&ts[i], NULL, waiter, NULL);
    sleep_ms(30);
    NEED(write(p[1], "x", 1));
    int woken = 0;
    for (int i = 0; i < 3; i++) {
        pthread_join(ts[i], &value);
        woken += (long)value == 8;
    }
    printf("woken at least one %d\n", woken >= 1);
    return 0;
}
