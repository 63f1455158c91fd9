// timeout=60 calls that take a structure, asked so often that it is brought along: from good places, bad ones, and edges.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>

// Each call has two sites of its own: the number as part of the code, and in a register with a compare behind.
#define SITES(name, number)                                                                                     \
    __attribute__((noinline)) static long name##_known(long a, long b, long c, long d, long e) {                \
        register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;                                             \
        long r;                                                                                                 \
        __asm__ volatile("mov $" #number ", %%eax; syscall"                                                     \
                         : "=a"(r)                                                                              \
                         : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)                                            \
                         : "rcx", "r11", "memory");                                                             \
        return r;                                                                                               \
    }                                                                                                           \
    __attribute__((noinline)) static long name##_any(long a, long b, long c, long d, long e) {                  \
        register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;                                             \
        long r;                                                                                                 \
        __asm__ volatile("syscall; cmp $-4095, %%rax"                                                           \
                         : "=a"(r)                                                                              \
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)                               \
                         : "rcx", "r11", "memory", "cc");                                                       \
        return r;                                                                                               \
    }
SITES(poll, 7)
SITES(readv, 19)
SITES(writev, 20)
SITES(nanosleep, 35)
SITES(setitimer, 38)
SITES(sendfile, 40)
SITES(sendmsg, 46)
SITES(recvmsg, 47)
SITES(getsockname, 51)
SITES(setsockopt, 54)
SITES(getsockopt, 55)
SITES(clock_nanosleep, 230)
SITES(epoll_ctl, 233)
SITES(ppoll, 271)
SITES(timerfd_settime, 286)

typedef long (*call)(long, long, long, long, long);
static char *page; // one that nothing follows
static int round_, site;

enum { PLACES = 6 };
static const char *const places[PLACES] = {"anywhere", "at the edge", "over the edge", "nowhere", "low", "high"};

// Where a structure of `size` bytes lies; it is put there, as far as there is memory.
static long put(int place, const void *what, size_t size) {
    char *at = place == 0 ? page + 64 + round_ % 256 : page + 4096 - size + (place == 2 ? 4 : 0);
    if (place < 3) memcpy(at, what, place == 2 ? size - 4 : size);
    return place < 3 ? (long)at : (long[]){0, 8, -(1L << 47)}[place - 3];
}

// `once(call, place)` gives what a call gave, again and again, from everywhere.
static void ask(const char *name, const call calls[2], long (*once)(call, int)) {
    long first[2][PLACES];
    for (round_ = 0; round_ < 150; round_++)
        for (site = 0; site < 2; site++)
            for (int place = 0; place < PLACES; place++) {
                long now = once(calls[site], place);
                if (!round_)
                    printf("%s, %s: %s\n", name, places[place], now < 0 ? error_name(-now) : "ok"), first[site][place] = now;
                else if (now != first[site][place])
                    printf("%s, %s, round %d: %ld, not %ld\n", name, places[place], round_, now, first[site][place]);
            }
}
#define ASK(name, once) ask(#name, (const call[2]){name##_known, name##_any}, once)

static int ep, ends[2], pipe_[2], timer, file;

static long change_item(call c, int place) {
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = round_ * 2 + site}, got;
    long result = c(ep, EPOLL_CTL_MOD, ends[0], put(place, &event, sizeof event), 0);
    if (result == 0 && (epoll_wait(ep, &got, 1, 0) != 1 || got.data.u64 != event.data.u64)) return 1000;
    return result;
}
static long again_item(call c, int place) {
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = round_};
    long removed = c(ep, EPOLL_CTL_DEL, ends[0], put(place, &event, sizeof event), 0);
    long added = c(ep, EPOLL_CTL_ADD, ends[0], put(place, &event, sizeof event), 0);
    if (added) NEED(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    return removed ? removed : added;
}
static long write_two(call c, int place) {
    char text[32], got[32] = "";
    int length = sprintf(text, "%d-%d", round_, site);
    struct iovec parts[2] = {{text, 1}, {text + 1, length - 1}};
    long result = c(pipe_[1], put(place, parts, sizeof parts), 2, 0, 0);
    if (result > 0 && (NEED(read(pipe_[0], got, 32)) != length || strcmp(got, text))) return 1000;
    return result > 0 ? 0 : result;
}
static long read_two(call c, int place) {
    char text[4] = {'a' + round_ % 26, 'b', 'c', site}, got[4] = "";
    struct iovec parts[2] = {{got, 1}, {got + 1, 3}};
    NEED(write(pipe_[1], text, 4));
    long result = c(pipe_[0], put(place, parts, sizeof parts), 2, 0, 0);
    if (result < 0) NEED(read(pipe_[0], got, 4));
    return memcmp(got, text, 4) ? 1000 : result;
}
static long no_parts(call c, int place) { return c(pipe_[1], put(place, "12345678", 8), 0, 0, 0); }
static long many_parts(call c, int place) {
    struct iovec parts[40];
    char text[41] = "", got[64] = "";
    for (int k = 0; k < 40; k++) text[k] = 'A' + (round_ + k) % 26, parts[k] = (struct iovec){text + k, 1};
    long result = c(pipe_[1], put(place, parts, sizeof parts), 40, 0, 0);
    if (result > 0 && (NEED(read(pipe_[0], got, 64)) != 40 || strcmp(got, text))) return 1000;
    return result;
}
static long sleep_a_bit(call c, int place) {
    struct timespec t = {0, round_ % 2 ? 1000000000 : 1}; // every other is wrong
    long result = c(put(place, &t, sizeof t), 0, 0, 0, 0);
    return place < 2 ? (result == (round_ % 2 ? -EINVAL : 0) ? 0 : 1000) : result;
}
static long sleep_by_clock(call c, int place) {
    struct timespec t = {0, 1};
    return c(CLOCK_MONOTONIC, 0, put(place, &t, sizeof t), 0, 0);
}
static int is_soon(long now, long wanted) { return wanted - 100 < now && now <= wanted; }
static long set_interval(call c, int place) {
    struct itimerval t = {{0, 0}, {1000 + 1000 * round_, 0}}, now;
    long result = c(ITIMER_REAL, put(place, &t, sizeof t), 0, 0, 0);
    NEED(getitimer(ITIMER_REAL, &now));
    return place < 2 && !is_soon(now.it_value.tv_sec, t.it_value.tv_sec) ? 1000 : result;
}
static long set_timer(call c, int place) {
    struct itimerspec t = {{0, 0}, {1000 + 1000 * round_, 0}}, now;
    long result = c(timer, 0, put(place, &t, sizeof t), 0, 0);
    NEED(timerfd_gettime(timer, &now));
    return place < 2 && !is_soon(now.it_value.tv_sec, t.it_value.tv_sec) ? 1000 : result;
}
static long send_part(call c, int place) {
    int64_t offset = round_;
    char got = 0;
    long at = put(place, &offset, sizeof offset), result = c(pipe_[1], file, at, 1, 0);
    if (result == 1) NEED(read(pipe_[0], &got, 1));
    if (result == 1 && place < 2 && (got != (char)round_ || *(int64_t *)at != round_ + 1)) return 1000;
    return place == 3 ? (result >= 0 ? 0 : result) : result; // no offset: from the position, to the end of the file
}
static long send_message(call c, int place) {
    char text[8], got[8] = "";
    struct iovec part = {text, sprintf(text, "%d", round_)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    long result = c(ends[0], put(place, &message, sizeof message), 0, 0, 0);
    if (result > 0 && (NEED(read(ends[1], got, 8)) != result || atoi(got) != round_)) return 1000;
    return result < 0 ? result : 0;
}
static long receive_message(call c, int place) {
    char text = round_, got = 0;
    struct iovec part = {&got, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_flags = -1};
    NEED(write(ends[0], &text, 1));
    long at = put(place, &message, sizeof message), result = c(ends[1], at, 0, 0, 0);
    if (result < 0) recv(ends[1], &got, 1, MSG_DONTWAIT); // it may be lost with the header
    else if (got != text || ((struct msghdr *)at)->msg_flags) return 1000;
    return result;
}
static long own_name(call c, int place) {
    struct sockaddr_un name = {.sun_family = 77};
    unsigned room = round_ % 2 ? 2 : sizeof name;
    long at = put(place, &room, 4), result = c(ends[0], (long)&name, at, 0, 0);
    return result == 0 && (name.sun_family != AF_UNIX || *(unsigned *)at != 2) ? 1000 : result;
}
static long set_option(call c, int place) {
    int value = round_ % 2, now = -1;
    socklen_t size = 4;
    long result = c(ends[0], SOL_SOCKET, SO_PASSCRED, put(place, &value, 4), 4);
    NEED(getsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &now, &size));
    return result == 0 && now != value ? 1000 : result;
}
static long get_option(call c, int place) {
    int value = -1;
    unsigned room = round_ % 2 ? 4 : 2;
    long at = put(place, &room, 4), result = c(ends[0], SOL_SOCKET, SO_TYPE, (long)&value, at);
    return result == 0 && (short)value != SOCK_STREAM ? 1000 : result;
}
static long look_at(call c, int place, int count) {
    struct pollfd fds[40] = {{0}};
    struct timespec at_once = {0, 0};
    for (int k = 0; k < count; k++)
        fds[k] = (struct pollfd){round_ % 3 == k % 3 ? ends[0] : pipe_[0], k % 2 ? POLLOUT : POLLOUT | POLLIN, 77};
    long at = put(place, fds, sizeof fds[0] * count);
    long result = c(at, count, c == ppoll_known || c == ppoll_any ? (long)&at_once : 0, 0, 8);
    struct pollfd *got = (struct pollfd *)at;
    long ready = 0;
    for (int k = 0; result >= 0 && k < count; k++) {
        if (got[k].fd != fds[k].fd || got[k].events != fds[k].events) return 1000;
        if (got[k].revents != (fds[k].fd == ends[0] ? POLLOUT : 0)) return 1001;
        ready += got[k].revents != 0;
    }
    return result < 0 ? result : result == ready ? 0 : 1002;
}
static long look_at_one(call c, int place) { return look_at(c, place, 1); }
static long look_at_some(call c, int place) { return look_at(c, place, 5); }
static long look_at_many(call c, int place) { return look_at(c, place, 40); }

int main(void) {
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(munmap(page + 4096, 4096));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    NEED(pipe(pipe_));
    ep = NEED(epoll_create1(0));
    timer = NEED(timerfd_create(CLOCK_MONOTONIC, 0));
    file = NEED(open(".", O_TMPFILE | O_RDWR, 0600));
    for (int k = 0; k < 256; k++) NEED(write(file, &(char){k}, 1));
    struct epoll_event event = {.events = EPOLLOUT};
    NEED(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    ASK(epoll_ctl, change_item);
    ASK(epoll_ctl, again_item);
    ASK(poll, look_at_one);
    ASK(poll, look_at_some);
    ASK(poll, look_at_many);
    ASK(ppoll, look_at_one);
    ASK(ppoll, look_at_some);
    ASK(ppoll, look_at_many);
    ASK(writev, write_two);
    ASK(writev, no_parts);
    ASK(writev, many_parts);
    ASK(readv, read_two);
    ASK(nanosleep, sleep_a_bit);
    ASK(clock_nanosleep, sleep_by_clock);
    ASK(setitimer, set_interval);
    ASK(timerfd_settime, set_timer);
    ASK(sendfile, send_part);
    ASK(sendmsg, send_message);
    ASK(recvmsg, receive_message);
    ASK(getsockname, own_name);
    ASK(setsockopt, set_option);
    ASK(getsockopt, get_option);
}
