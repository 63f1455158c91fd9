// timeout=60 epoll_wait asked again and again: the answer changes with whatever happens in between, and with nothing else.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static struct epoll_event got[64];

// The one call site: it is asked often enough to be answered in any way there is.
__attribute__((noinline)) static int ask(int ep, int limit, int timeout) { return epoll_wait(ep, got, limit, timeout); }

// What many askings give, if they all give the same.
static int steady(int ep, int limit, int timeout) {
    int first = ask(ep, limit, timeout), error = errno;
    struct epoll_event was[64];
    memcpy(was, got, sizeof was);
    for (int k = 0; k < 200; k++) {
        memset(got, 0, sizeof got);
        int now = ask(ep, limit, timeout);
        if (now != first || (now == -1 && errno != error)) return printf("changed from %d to %d\n", first, now), -2;
        for (int n = 0; n < now; n++)
            if (got[n].events != was[n].events || got[n].data.u64 != was[n].data.u64) return printf("other events\n"), -3;
    }
    return first;
}
static void look(const char *where, int ep) {
    int count = steady(ep, 8, 0);
    printf("%s: %d, events %x data %llx\n", where, count, got[0].events, (long long)got[0].data.u64);
}
#define LOOK(ep) look(__func__, ep)

static void add(int ep, int fd, unsigned events, unsigned long data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static void pipes(void) {
    int p[2], ep = NEED(epoll_create1(0));
    char c;
    NEED(pipe(p));
    add(ep, p[0], EPOLLIN, 0x1122334455667788);
    LOOK(ep);
    NEED(write(p[1], "ab", 2));
    LOOK(ep);
    SAY(steady(ep, 1, -1));
    IN_CHILD("drains", read(p[0], &c, 1), read(p[0], &c, 1)); // the end that another process has
    LOOK(ep);
    IN_CHILD("fills", write(p[1], "a", 1));
    LOOK(ep);
    int other = NEED(dup(p[0]));
    NEED(read(other, &c, 1));
    LOOK(ep);
    close(p[1]);
    LOOK(ep);
    struct epoll_event e = {.events = 0, .data.u64 = 9};
    NEED(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    LOOK(ep);
    close(p[0]);
    LOOK(ep); // `other` keeps it
    close(other);
    LOOK(ep);
    close(ep);
    SAY(steady(ep, 1, 0));
}

static void limits(void) {
    int ep = NEED(epoll_create1(0)), fd[5];
    for (int k = 0; k < 5; k++) add(ep, fd[k] = NEED(eventfd(1, 0)), EPOLLIN, k);
    SAY(steady(ep, 5, 0));
    SAY(steady(ep, 64, -1));
    SAY(steady(ep, 0, 0));
    SAY(steady(ep, -1, 0));
    SAY(steady(ep, INT_MAX / 12, 0));
    SAY(steady(ep, INT_MAX / 12 + 1, 0));
    unsigned seen = 0; // fewer at a time come in turn
    for (int k = 0; k < 5; k++) SAY(ask(ep, 2, 0)), seen |= 1u << got[0].data.u32 | 1u << got[1].data.u32;
    printf("seen %x\n", seen);
    SAY(steady(ep, 5, 0));
    SAY(syscall(SYS_epoll_wait, ep, 8, 5, 0));
    char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; k < 100; k++) epoll_wait(ep, got, 5, 0);
    SAY(epoll_wait(ep, (void *)page, 5, 0));
    sigset_t set;
    sigfillset(&set);
    for (int k = 0; k < 100; k++)
        if (epoll_pwait(ep, got, 5, 0, k & 1 ? &set : 0) != 5) printf("pwait\n");
    for (int k = 0; k < 5; k++) close(fd[k]);
    SAY(steady(ep, 5, 0));
    close(ep);
}

static void once(void) {
    int ep = NEED(epoll_create1(0)), a = NEED(eventfd(1, 0)), b = NEED(eventfd(1, 0));
    uint64_t one = 1;
    add(ep, a, EPOLLIN | EPOLLET, 1);
    SAY(ask(ep, 8, 0));
    LOOK(ep);
    for (int k = 0; k < 100; k++) { // every edge once
        NEED(write(a, &one, 8));
        if (ask(ep, 8, 0) != 1 || ask(ep, 8, 0) != 0) printf("edge %d\n", k);
    }
    add(ep, b, EPOLLIN | EPOLLONESHOT, 2);
    SAY(ask(ep, 8, 0));
    LOOK(ep);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 3};
    NEED(epoll_ctl(ep, EPOLL_CTL_MOD, b, &e));
    LOOK(ep);
    close(a), close(b), close(ep);
}

static void times(void) {
    int ep = NEED(epoll_create1(0)), t = NEED(timerfd_create(CLOCK_MONOTONIC, 0));
    add(ep, t, EPOLLIN, 1);
    LOOK(ep);
    struct itimerspec soon = {.it_value.tv_nsec = 20000000};
    NEED(timerfd_settime(t, 0, &soon, 0));
    int64_t start = now_ns(CLOCK_MONOTONIC);
    while (!ask(ep, 1, 0) && now_ns(CLOCK_MONOTONIC) - start < 5000000000)
        ;
    IS(now_ns(CLOCK_MONOTONIC) - start < 4000000000);
    close(t);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, 0);
    int s = NEED(signalfd(-1, &set, 0));
    add(ep, s, EPOLLIN, 2);
    LOOK(ep);
    raise(SIGUSR2);
    LOOK(ep);
    close(s), close(ep);
}

static void nested(void) {
    int inner = NEED(epoll_create1(0)), outer = NEED(epoll_create1(0)), p[2];
    char c;
    NEED(pipe(p));
    add(inner, p[0], EPOLLIN, 1);
    add(outer, inner, EPOLLIN, 2);
    LOOK(outer);
    NEED(write(p[1], "x", 1));
    LOOK(outer);
    LOOK(inner);
    NEED(read(p[0], &c, 1));
    LOOK(outer);
    LOOK(inner);
    close(p[0]), close(p[1]), close(inner), close(outer);
}

static void sockets(void) {
    int s[2], ep = NEED(epoll_create1(0));
    char buffer[4096] = "";
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    add(ep, s[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
    LOOK(ep);
    NEED(write(s[1], "x", 1));
    LOOK(ep);
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    while (write(s[0], buffer, sizeof buffer) > 0)
        ;
    LOOK(ep);
    IN_CHILD("reads", while (recv(s[1], buffer, sizeof buffer, MSG_DONTWAIT) > 0));
    LOOK(ep);
    NEED(shutdown(s[1], SHUT_WR));
    LOOK(ep);
    close(s[1]);
    LOOK(ep);
    close(s[0]), close(ep);
}

static void meanings(void) { // the descriptor becomes another epoll, and no epoll
    int a = NEED(epoll_create1(0)), b = NEED(epoll_create1(0)), e = NEED(eventfd(1, 0));
    add(b, e, EPOLLIN, 5);
    LOOK(a);
    NEED(dup2(b, a));
    LOOK(a);
    NEED(dup2(e, a));
    SAY(steady(a, 1, 0));
    NEED(dup2(b, a));
    LOOK(a);
    int pid = NEED(vfork());
    if (!pid) { // shares memory, not descriptors
        dup2(e, a);
        _exit(epoll_wait(a, got, 1, 0) == -1 && errno == EINVAL ? 0 : 1);
    }
    reap("vfork", pid);
    LOOK(a);
    close(a);
    SAY(steady(a, 1, 0));
    close(b), close(e);
}

static volatile int rung;
static void ring(int s) { rung = s; }
static int shared_ep, shared_event;
static volatile int seen;
static void *looks(void *x) {
    while (ask(shared_ep, 1, 0) == 0)
        ;
    seen = 1;
    while (ask(shared_ep, 1, 0) == 1)
        ;
    return x;
}
static void others(void) {
    uint64_t value = 1;
    shared_ep = NEED(epoll_create1(0)), shared_event = NEED(eventfd(0, 0));
    add(shared_ep, shared_event, EPOLLIN, 1);
    signal(SIGALRM, ring);
    ualarm(20000, 0);
    while (!rung) ask(shared_ep, 1, 0);
    printf("rung %d\n", rung);
    pthread_t t;
    pthread_create(&t, 0, looks, 0);
    sleep_ms(10);
    NEED(write(shared_event, &value, 8));
    while (!seen) sleep_ms(1);
    NEED(read(shared_event, &value, 8));
    pthread_join(t, 0);
    if (!fork()) {
        sleep_ms(20);
        value = 1;
        write(shared_event, &value, 8);
        _exit(0);
    }
    while (ask(shared_ep, 1, 0) == 0)
        ;
    LOOK(shared_ep);
    wait(0);
}

int main(void) {
    for (int k = 0; k < 2; k++) { // the second time from a hot call site from the beginning
        pipes();
        limits();
        once();
        times();
        nested();
        sockets();
        meanings();
    }
    others();
    return 0;
}
