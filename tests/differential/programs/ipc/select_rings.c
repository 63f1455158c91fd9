// poll(2) and select(2) in all their forms over busy streams (pipe, unix sockets, TCP) and quiet files beside: whatever is
// in them, full or empty, before and behind half-closes, resets, signals, and with descriptors that come and go.
#define _GNU_SOURCE
#include "../check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/select.h>

enum { PIPE_IN, PIPE_OUT, UNIX_A, UNIX_B, TCP_A, TCP_B, QUIET_IN, QUIET_OUT, LISTENER, FILES };
static const char *names[] = {"pipe r", "pipe w", "unix a", "unix b", "tcp a", "tcp b", "quiet r", "quiet w", "listener"};
static int fds[FILES];
static int other[] = {PIPE_OUT, PIPE_IN, UNIX_B, UNIX_A, TCP_B, TCP_A, QUIET_OUT, QUIET_IN, -1};
static int waiting[FILES]; // bytes that can be read there
static char block[1 << 16];
static uint64_t sum;
static bool quiet_open = true;
static struct sockaddr_in address = {.sin_family = AF_INET};

static unsigned dice(unsigned n) {
    static uint64_t x = 88172645463325252ull;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return (x >> 11) % n;
}
static void note(uint64_t what) { sum = (sum ^ what) * 0x100000001b3ull; }
static void must(bool good, const char *what) {
    if (!good) printf("%s: %s\n", what, error_name(errno)), exit(1);
}

static void tcp_pair(void) {
    fds[TCP_A] = socket(AF_INET, SOCK_STREAM, 0);
    must(!connect(fds[TCP_A], (void *)&address, sizeof address), "connect");
    fds[TCP_B] = accept(fds[LISTENER], 0, 0);
    waiting[TCP_A] = waiting[TCP_B] = 0;
}
static void make(void) {
    int p[2];
    socklen_t size = sizeof address;
    must(!pipe(p), "pipe"), fds[PIPE_IN] = p[0], fds[PIPE_OUT] = p[1];
    must(!pipe(p), "pipe"), fds[QUIET_IN] = p[0], fds[QUIET_OUT] = p[1];
    must(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds + UNIX_A), "socketpair");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[LISTENER] = socket(AF_INET, SOCK_STREAM, 0);
    must(!bind(fds[LISTENER], (void *)&address, sizeof address) && !listen(fds[LISTENER], 5), "listen");
    getsockname(fds[LISTENER], (void *)&address, &size);
    tcp_pair();
}
static void put(int to, int count) { // so that `to` can read it
    must(write(fds[other[to]], block, count) == count, names[to]);
    waiting[to] += count;
    int there = waiting[to];
    do { // a host under load delivers later
        if (to >= TCP_A) must(!ioctl(fds[to], FIONREAD, &there), "FIONREAD");
    } while (there < waiting[to]);
}
static void take(int from, int count) {
    while (count) {
        ssize_t n = read(fds[from], block, count < (int)sizeof block ? count : (int)sizeof block);
        must(n > 0, names[from]);
        count -= n, waiting[from] -= n;
    }
}
static void busy(void) {
    for (int k = 0; k < 3000; k++)
        for (int to = 0; to < 6; to++)
            if (to != PIPE_OUT) put(to, 256), take(to, 256);
}

// One question; what it gives goes into the sum.
static void ask(void) {
    struct pollfd p[24];
    int n = 1 + dice(dice(4) ? 5 : 24);
    for (int k = 0; k < n; k++) {
        p[k].fd = dice(12) ? fds[dice(FILES)] : dice(2) ? -1 - (int)dice(3) : 200;
        p[k].events = dice(3) ? POLLIN : dice(3) ? POLLIN | POLLOUT : (short)dice(0x4000) & ~POLLNVAL;
        p[k].revents = -1;
    }
    int kind = dice(7);
    struct timespec t = {0, dice(8) ? 0 : 1000000}, before = t;
    struct timeval v = {0, t.tv_nsec / 1000};
    sigset_t mask;
    sigemptyset(&mask);
    long got;
    if (kind < 3) {
        if (kind == 0) got = poll(p, n, t.tv_nsec / 1000000);
        else got = syscall(SYS_ppoll, p, n, &t, kind == 1 ? NULL : &mask, 8);
        for (int k = 0; k < n; k++) note((unsigned short)p[k].revents);
    } else {
        fd_set sets[3];
        memset(sets, 0, sizeof sets);
        for (int k = 0; k < n; k++)
            if (p[k].fd >= 0 && (p[k].fd < 64 || !dice(4))) FD_SET(p[k].fd % 140, &sets[k % 5 ? k & 1 : dice(3)]);
        int most = dice(6) ? 64 : dice(3) ? 1024 : (int)dice(40);
        void *places[3];
        for (int k = 0; k < 3; k++) places[k] = dice(4) ? &sets[k] : NULL;
        struct { sigset_t *mask; size_t size; } pair = {kind == 6 ? &mask : NULL, 8};
        // Straight, as a C library has its own ideas about times.
        if (kind == 3) got = syscall(SYS_select, most, places[0], places[1], places[2], &v);
        else got = syscall(SYS_pselect6, most, places[0], places[1], places[2], &t, kind == 4 ? NULL : &pair);
        if (got >= 0)
            for (int k = 0; k < 3; k++) note(*(uint64_t *)&sets[k]);
        if (kind == 3) t.tv_nsec = v.tv_usec * 1000;
    }
    note(got);
    if (got < 0) note(errno);
    // The time left is less than it was, or none was given.
    if (kind && got > 0 && (before.tv_nsec ? t.tv_nsec >= before.tv_nsec : t.tv_nsec)) printf("time %ld of %ld\n", t.tv_nsec, before.tv_nsec);
}

static void turn(void) {
    int file = dice(6);
    if (file != PIPE_OUT) {
        if (waiting[file] < 8192 && dice(2)) put(file, 1 + dice(300));
        if (waiting[file] && dice(2)) take(file, dice(2) ? waiting[file] : 1 + dice(waiting[file]));
    }
    if (!dice(40) && quiet_open) put(QUIET_IN, 3);
    if (!dice(10) && waiting[QUIET_IN]) take(QUIET_IN, waiting[QUIET_IN]);
    for (int k = dice(6); k; k--) ask();
}

static void full(int to) {
    int from = fds[other[to]], flags = fcntl(from, F_GETFL);
    for (int turn = 0; turn < 30; turn++) {
        fcntl(from, F_SETFL, flags | O_NONBLOCK);
        ssize_t n;
        while ((n = write(from, block, sizeof block)) > 0) waiting[to] += n;
        fcntl(from, F_SETFL, flags);
        struct pollfd p[] = {{from, POLLOUT}, {fds[to], POLLIN}, {fds[LISTENER], POLLIN}};
        for (int k = 0; k < 20; k++) note(poll(p, 3, 0)), note(p[0].revents), note(p[1].revents), note(p[2].revents);
        take(to, waiting[to]);
        for (int k = 0; k < 20; k++) note(poll(p, 3, 0)), note(p[0].revents), note(p[1].revents), note(p[2].revents);
    }
    printf("full %s: %016lx\n", names[to], sum);
}

static void show(const char *what) {
    struct pollfd p[FILES];
    fd_set sets[3];
    memset(sets, 0, sizeof sets);
    usleep(3000);
    for (int k = 0; k < FILES; k++) {
        p[k] = (struct pollfd){fds[k], POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
        for (int s = 0; s < 3; s++) FD_SET(fds[k], &sets[s]);
    }
    struct timeval none = {0, 0};
    printf("%s: %d", what, poll(p, FILES, 0));
    for (int k = 0; k < FILES; k++) printf(" %x", p[k].revents);
    int n = select(64, &sets[0], &sets[1], &sets[2], &none);
    printf(" select %d %s:", n, n < 0 ? error_name(errno) : "");
    for (int k = 0; k < FILES && n >= 0; k++) printf(" %d%d%d", FD_ISSET(fds[k], &sets[0]), FD_ISSET(fds[k], &sets[1]), FD_ISSET(fds[k], &sets[2]));
    printf("\n");
}
static void some_turns(int count) {
    for (int k = 0; k < count; k++) turn();
}

static void on_signal(int signo) { (void)signo; }

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    closefrom(3); // the numbers are in the sums
    make();
    busy();
    show("busy");
    for (int k = 0; k < 12; k++) some_turns(100), printf("%d: %016lx\n", k, sum);
    full(PIPE_IN), full(UNIX_A), full(UNIX_B);
    show("drained");
    // Somebody comes: the listener is quiet no more, and then again.
    int more = socket(AF_INET, SOCK_STREAM, 0);
    must(!connect(more, (void *)&address, sizeof address), "connect");
    show("somebody connects");
    close(accept(fds[LISTENER], 0, 0)), close(more);
    some_turns(200), show("and is taken");
    // A descriptor becomes another file.
    int p[2];
    must(!pipe(p) && write(p[1], "x", 1) == 1, "pipe");
    take(QUIET_IN, waiting[QUIET_IN]), quiet_open = false;
    dup2(p[0], fds[QUIET_IN]), show("dup2 over the quiet one"), some_turns(50);
    must(read(fds[QUIET_IN], block, 10) == 1, "read");
    close(p[0]), close(p[1]);
    show("its writer is gone");
    // Half a connection at a time; the data before the end comes first.
    for (int to = UNIX_A; to <= TCP_B; to += 2) {
        put(to, 100), some_turns(50);
        int queued = waiting[to];
        shutdown(fds[other[to]], SHUT_WR);
        show("half closed"), show("again");
        take(to, queued), show("read");
        for (int k = 0; k < 300; k++) put(other[to], 200), take(other[to], 200);
        show("the other half is busy");
        shutdown(fds[to], SHUT_WR), show("all closed");
        for (int k = 0; k < 2; k++) close(fds[k ? to : other[to]]);
        if (to == TCP_A) tcp_pair();
        else must(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds + UNIX_A), "socketpair"), waiting[UNIX_A] = waiting[UNIX_B] = 0;
        busy(), show("a new pair");
        some_turns(300), printf("%016lx\n", sum);
    }
    // Out of band, and an end that is reset.
    send(fds[TCP_A], "u", 1, MSG_OOB);
    show("urgent");
    recv(fds[TCP_B], block, 1, MSG_OOB), show("taken");
    struct linger hard = {1, 0};
    setsockopt(fds[TCP_A], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    int spare = dup(fds[TCP_B]);
    dup2(fds[TCP_B], fds[TCP_A]); // closes it
    show("reset");
    close(spare);
    close(fds[TCP_A]), close(fds[TCP_B]), tcp_pair(), busy(), show("another");
    // A signal that comes while nothing is ready, and one that is blocked but for the call.
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, 0);
    sigset_t blocked, none;
    sigemptyset(&none), sigemptyset(&blocked), sigaddset(&blocked, SIGALRM);
    for (int k = 0; k < 6; k++) if (waiting[k]) take(k, waiting[k]);
    fd_set set;
    sigprocmask(SIG_BLOCK, &blocked, 0);
    raise(SIGALRM);
    struct timespec zero = {0, 0};
    FD_ZERO(&set);
    FD_SET(fds[UNIX_A], &set);
    long got = pselect(64, &set, 0, 0, &zero, &none);
    printf("nothing ready, let through: %ld %s\n", got, got < 0 ? error_name(errno) : "");
    raise(SIGALRM);
    put(UNIX_A, 1);
    FD_ZERO(&set);
    FD_SET(fds[UNIX_A], &set);
    printf("ready, let through: %d\n", pselect(64, &set, 0, 0, &zero, &none));
    sigpending(&none), printf("pending still: %d\n", sigismember(&none, SIGALRM));
    sigprocmask(SIG_UNBLOCK, &blocked, 0);
    // Fewer descriptors than are asked about.
    struct pollfd same[20];
    for (int k = 0; k < 20; k++) same[k] = (struct pollfd){fds[UNIX_A], POLLIN, 0};
    printf("twenty: %d\n", poll(same, 20, 0));
    struct rlimit limit = {19, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    SAY(poll(same, 20, 0));
    SAY(poll(same, 19, 0));
    return 0;
}
