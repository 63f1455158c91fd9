// timeout=60 eventfds in call sites that run often: the rules of eventfd(2), and who waits, forks, shares or watches one.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>

#define MOST 0xfffffffffffffffeull

__attribute__((noinline)) static ssize_t put_at(int fd, const void *at, size_t count) { return write(fd, at, count); }
__attribute__((noinline)) static ssize_t get_at(int fd, void *at, size_t count) { return read(fd, at, count); }
static ssize_t put(int fd, uint64_t value) { return put_at(fd, &value, 8); }
// What a read gives, -1: an error.
static long get(int fd) {
    uint64_t value = 77;
    ssize_t done = get_at(fd, &value, 8);
    return done == 8 ? (long)value : done;
}

// So often that what can be done about it is done.
static void heat(int fd) {
    for (int k = 0; k < 300; k++)
        if (put(fd, 1) != 8 || get(fd) != 1) exit(98);
}
static int hot(int flags) {
    int fd = NEED(eventfd(0, flags));
    heat(fd);
    return fd;
}

static void count_of(int fd) {
    char name[64], line[128];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(name, "r");
    while (fgets(line, sizeof line, file))
        if (strstr(line, "eventfd-count")) printf("%s", line);
    fclose(file);
}
static void bits_of(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM, 0};
    struct timeval now = {0, 0};
    fd_set in, out, except;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    FD_SET(fd, &in);
    FD_SET(fd, &out);
    FD_SET(fd, &except);
    int polled = poll(&p, 1, 0), chosen = select(fd + 1, &in, &out, &except, &now);
    printf("poll %d %x select %d %d%d%d\n", polled, p.revents, chosen, !!FD_ISSET(fd, &in), !!FD_ISSET(fd, &out),
           !!FD_ISSET(fd, &except));
}

static void rules(int flags) {
    printf("flags %x\n", flags);
    int fd = hot(flags | EFD_NONBLOCK);
    uint64_t two[2] = {5, 6};
    for (int k = 0; k < 20; k++) bits_of(fd); // as often
    SAY(get(fd));
    SAY(put_at(fd, two, 4));
    SAY(put_at(fd, two, 0));
    SAY(get_at(fd, two, 7));
    SAY(put_at(fd, two, 16));
    SAY(get_at(fd, two, 16));
    IS(two[0] == (flags & EFD_SEMAPHORE ? 1 : 5) && two[1] == 6);
    SAY(put(fd, -1));
    SAY(put(fd, 0));
    SAY(put(fd, 3));
    count_of(fd);
    bits_of(fd);
    SAY(put(fd, MOST));
    SAY(get(fd));
    while (get(fd) > 0);
    SAY(put(fd, MOST));
    SAY(put(fd, 1));
    SAY(put(fd, 0));
    count_of(fd);
    bits_of(fd);
    SAY(get(fd) == (flags & EFD_SEMAPHORE ? 1 : (long)MOST));
    bits_of(fd);
    SAY(put_at(fd, (void *)8, 8));
    SAY(put_at(fd, (void *)-8, 8));
    close(fd);
    fd = hot(flags);
    SAY(put(fd, 9));
    SAY(get_at(fd, (void *)8, 8));
    count_of(fd); // what was taken is lost
    SAY(fcntl(fd, F_SETFL, O_NONBLOCK));
    while (get(fd) > 0);
    SAY(get(fd));
    SAY(fcntl(fd, F_GETFL));
    heat(fd);
    close(fd);
}

static void descriptors(void) {
    int fd = hot(EFD_NONBLOCK), other = NEED(dup(fd)), pipes[2];
    heat(other);
    SAY(put(other, 3));
    SAY(get(fd));
    SAY(put(fd, 4));
    SAY(close(fd));
    SAY(put(fd, 1));
    SAY(get(fd));
    SAY(get(other));
    SAY(eventfd(0, EFD_NONBLOCK) == fd);
    heat(fd), heat(other);
    SAY(put(fd, 5));
    SAY(get(other));
    NEED(dup2(other, fd));
    SAY(get(fd));
    SAY(put(other, 6));
    SAY(get(fd));
    heat(fd);
    NEED(pipe(pipes));
    NEED(dup2(pipes[1], fd));
    SAY(put(fd, 7));
    SAY(get(pipes[0]));
    SAY(put(other, 8));
    IN_CHILD("child", close(fd); SAY(put(other, 1)); heat(dup(fd) == -1 ? other : hot(0)););
    SAY(get(other));
    close(pipes[0]), close(pipes[1]), close(fd), close(other);
}

#define TURNS 5000
static int there, back;
static void *answer(void *a) {
    for (long k = 0; k < TURNS; k++)
        if (get(there) != 1 || put(back, 1) != 8) return "wrong";
    return a;
}
static void ask(void) {
    long wrong = 0;
    for (long k = 0; k < TURNS; k++) wrong += put(there, 1) != 8 || get(back) != 1;
    IS(!wrong);
}
static void ping_pong(void) {
    pthread_t t;
    void *result;
    there = hot(0), back = hot(0);
    pthread_create(&t, 0, answer, 0);
    ask();
    pthread_join(t, &result);
    IS(!result);
    int pid = NEED(fork());
    if (!pid) _exit(answer(0) ? 1 : 0);
    ask();
    reap("answering", pid);
    close(there), close(back);
}

// Many who add and many who take, in threads and processes: all that was added is taken.
static int many, taken[2];
static void *add_many(void *a) {
    for (long k = 1; k <= TURNS; k++)
        if (put(many, (long)a) != 8) return "wrong";
    return 0;
}
static void *take_many(void *a) {
    long sum = 0;
    for (long value; (value = get(many)) < 1l << 40; sum += value)
        if (value <= 0) return "wrong";
    NEED(write(taken[1], &sum, 8));
    if (a) NEED(put(many, 1l << 40)); // for the next who takes
    return 0;
}
static void crowd(int flags) {
    pthread_t t[6];
    void *result;
    long sum = 0, each = 0, wrong = 0;
    many = hot(flags);
    NEED(pipe(taken));
    int pid = NEED(fork());
    if (!pid) {
        for (long k = 0; k < 2; k++) pthread_create(&t[k], 0, add_many, (void *)(k + 1));
        for (int k = 0; k < 2; k++) pthread_join(t[k], &result), wrong += !!result;
        _exit(wrong);
    }
    for (long k = 0; k < 2; k++) pthread_create(&t[k], 0, add_many, (void *)(k + 1));
    if (!(flags & EFD_SEMAPHORE)) {
        for (long k = 2; k < 4; k++) pthread_create(&t[k], 0, take_many, (void *)1);
        for (int k = 0; k < 2; k++) pthread_join(t[k], &result), wrong += !!result;
        reap("adding", pid);
        struct pollfd empty = {many, POLLIN, 0};
        while (poll(&empty, 1, 0)) sched_yield(); // the last word is not to be added to a number
        NEED(put(many, 1l << 40));
        for (int k = 2; k < 4; k++) pthread_join(t[k], &result), wrong += !!result, NEED(read(taken[0], &each, 8)), sum += each;
        IS(get(many) == 1l << 40);
    } else {
        for (long k = 0; k < 6l * TURNS; k++) sum += get(many);
        for (int k = 0; k < 2; k++) pthread_join(t[k], &result), wrong += !!result;
        reap("adding", pid);
    }
    IS(!wrong);
    IS(sum == 6l * TURNS);
    count_of(many);
    close(many), close(taken[0]), close(taken[1]);
}

// Who waits in one call while another's calls are hot.
static int waited_for;
static short waited_bits;
static void *waits_in_poll(void *a) {
    struct pollfd p = {waited_for, waited_bits, 0};
    poll(&p, 1, -1);
    return (void *)(long)p.revents;
}
static void *waits_in_select(void *a) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(waited_for, &set);
    return (void *)(long)select(waited_for + 1, waited_bits == POLLIN ? &set : 0, waited_bits == POLLIN ? 0 : &set, 0, 0);
}
static void *waits_in_read(void *a) { return (void *)get(waited_for); }
static void *waits_in_write(void *a) { return (void *)put(waited_for, 10); }
static void *waits_in_epoll(void *a) {
    struct epoll_event e = {.events = waited_bits};
    int epoll = NEED(epoll_create1(0));
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, waited_for, &e));
    NEED(epoll_wait(epoll, &e, 1, -1));
    close(epoll);
    return (void *)(long)e.events;
}
static void until_it_sleeps(pid_t task) {
    char name[64], text[512], *state = 0;
    do {
        snprintf(name, sizeof name, "/proc/self/task/%d/stat", task);
        int fd = NEED(open(name, O_RDONLY));
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        state = strrchr(text, ')');
    } while (!state || state[2] != 'S');
}
static void *(*waiter)(void *);
static volatile pid_t waiting;
static void *begin_to_wait(void *a) {
    waiting = gettid();
    return waiter(a);
}
static void wait_by(const char *name, void *(*how)(void *), short bits) {
    pthread_t t;
    void *result;
    waited_for = hot(0), waited_bits = bits, waiter = how, waiting = 0;
    if (bits == POLLOUT) NEED(put(waited_for, MOST));
    pthread_create(&t, 0, begin_to_wait, 0);
    while (!waiting) sched_yield();
    until_it_sleeps(waiting);
    if (bits == POLLOUT) get(waited_for);
    else NEED(put(waited_for, 1));
    pthread_join(t, &result);
    printf("%s: %ld\n", name, (long)result);
    count_of(waited_for);
    close(waited_for);
}

static void watch(int flags) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | flags}, found[4];
    int fd = hot(EFD_NONBLOCK), epoll = NEED(epoll_create1(0));
    printf("epoll %x\n", flags);
    NEED(put(fd, 1));
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
#define SEE() ({ int n_ = epoll_wait(epoll, found, 4, 0); printf("%d %x\n", n_, n_ > 0 ? found[0].events : 0); })
    SEE(), SEE();
    for (int k = 0; k < 300; k++) { // each write is an edge, readable or not
        put(fd, 1);
        if (epoll_wait(epoll, found, 4, 0) != 1) printf("missed %d\n", k);
    }
    SEE();
    SAY(get(fd));
    SEE(), SEE();
    SAY(get(fd));
    SEE();
    SAY(put(fd, 0));
    SEE(), SEE();
    e.events = EPOLLIN | flags;
    NEED(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e));
    SEE();
    SAY(put(fd, 2));
    SEE(), SEE();
    SAY(get(fd));
    SEE();
    NEED(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &e));
    heat(fd);
    SAY(put(fd, 2));
    SEE();
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
    SEE(), SEE();
    close(fd), close(epoll);
}

// Another process gets it in a message, and both use it.
static void passed(void) {
    int s[2], fd = hot(0), answers = hot(0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    int pid = NEED(fork());
    char room[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8))), c = 'x';
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (!pid) {
        close(fd);
        NEED(recvmsg(s[1], &m, 0));
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
        for (long k = 0; k < TURNS; k++)
            if (get(fd) <= 0 || put(answers, 2) != 8) _exit(1);
        _exit(0);
    }
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    NEED(sendmsg(s[0], &m, 0));
    long wrong = 0;
    for (long k = 0; k < TURNS; k++) wrong += put(fd, k + 1) != 8 || get(answers) != 2;
    IS(!wrong);
    reap("the other", pid);
    heat(fd);
    close(s[0]), close(s[1]), close(fd), close(answers);
}

// Whatever a signal hits is done once.
static volatile long signals;
static void count_signals(int signo) { signals++; }
static void interrupted(void) {
    int fd = hot(0), total = 0;
    struct itimerval often = {{0, 300}, {0, 300}}, never = {};
    signal(SIGALRM, count_signals);
    setitimer(ITIMER_REAL, &often, 0);
    for (int k = 0; k < 30000 || signals < 10; k++) {
        if (put(fd, 3) != 8) break;
        if (k % 3 == 2) total += get(fd) == 9 ? 0 : 1;
    }
    setitimer(ITIMER_REAL, &never, 0);
    IS(!total);
    close(fd);
}

int main(void) {
    rules(0);
    rules(EFD_SEMAPHORE);
    descriptors();
    ping_pong();
    crowd(0);
    crowd(EFD_SEMAPHORE);
    wait_by("poll", waits_in_poll, POLLIN);
    wait_by("poll for room", waits_in_poll, POLLOUT);
    wait_by("select", waits_in_select, POLLIN);
    wait_by("select for room", waits_in_select, POLLOUT);
    wait_by("epoll", waits_in_epoll, POLLIN);
    wait_by("epoll for room", waits_in_epoll, POLLOUT);
    wait_by("read", waits_in_read, POLLIN);
    wait_by("write", waits_in_write, POLLOUT);
    watch(0);
    watch(EPOLLET);
    passed();
    interrupted();
    return 0;
}
