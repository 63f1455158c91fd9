// sendmsg, recvmsg, sendmmsg, recvmmsg: vectors, MSG_PEEK, MSG_WAITALL, errors.
#include "../check.h"

int main(void) {
    int s[2];
    char x[8] = "", y[8] = "";
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct iovec out[] = {{"hello ", 6}, {"world", 5}}, in[] = {{x, 4}, {y, 7}};
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 2};
    SAY(sendmsg(s[0], &m, 0));
    m.msg_iov = in;
    SAY(recvmsg(s[1], &m, MSG_PEEK));
    SAY(recvmsg(s[1], &m, 0));
    printf("[%.4s] [%.7s]\n", x, y);
    pid_t pid = NEED(fork());
    if (pid == 0) {
        for (int i = 0; i < 4; i++) {
            write(s[0], "ab", 2);
            sleep_ms(15);
        }
        _exit(0);
    }
    SAY(recv(s[1], x, 8, MSG_WAITALL));
    reap("writer", pid);
    m.msg_iovlen = 2000;
    SAY(sendmsg(s[0], &m, 0));
    SAY(sendmsg(s[0], (void *)8, 0));
    int d[2];
    NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
    struct iovec one = {"first", 5}, two = {"second!", 7};
    struct mmsghdr mm[3] = {{.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &two, .msg_iovlen = 1}}};
    SAY(sendmmsg(d[0], mm, 2, 0));
    printf("%u %u\n", mm[0].msg_len, mm[1].msg_len);
    char bufs[3][8];
    struct iovec v[3];
    for (int i = 0; i < 3; i++) {
        v[i] = (struct iovec){bufs[i], 8};
        mm[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &v[i], .msg_iovlen = 1}};
    }
    SAY(recvmmsg(d[1], mm, 3, MSG_DONTWAIT, NULL));
    printf("%u %u [%.5s] [%.7s]\n", mm[0].msg_len, mm[1].msg_len, bufs[0], bufs[1]);
    SAY(recvmmsg(d[1], mm, 3, MSG_DONTWAIT, NULL));
    struct timespec limit = {0, 30000000};
    NEED(write(d[0], "x", 1));
    SAY(recvmmsg(d[1], mm, 1, MSG_WAITFORONE, &limit));
    return 0;
}
