// SCM_RIGHTS: descriptors arrive, share their description, CLOEXEC, truncation, several messages.
#include "../check.h"

static long send_fds(int s, const int *fds, int n, const char *text) {
    struct iovec io = {(void *)text, strlen(text)};
    char control[CMSG_SPACE(sizeof(int) * 300)] = {0};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    return sendmsg(s, &m, 0);
}

static long receive(int s, int *fds, int *count, int *flags, size_t room, int how) {
    char data[64];
    struct iovec io = {data, sizeof data};
    char control[CMSG_SPACE(sizeof(int) * 16)];
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    long n = recvmsg(s, &m, how);
    *count = 0;
    *flags = m.msg_flags;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); n >= 0 && c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_type == SCM_RIGHTS) {
            *count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(c), *count * sizeof(int));
        }
    return n;
}

int main(void) {
    int s[2], fds[16], count, flags;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    put_file("f", "0123456789");
    int f = NEED(open("f", O_RDONLY));
    NEED(lseek(f, 3, SEEK_SET));
    SAY(send_fds(s[0], (int[]){f, 1}, 2, "two"));
    SAY(receive(s[1], fds, &count, &flags, CMSG_SPACE(sizeof(int) * 16), 0));
    printf("count %d flags %x\n", count, flags);
    char c;
    NEED(read(fds[0], &c, 1));
    printf("shared offset: %c, then %ld\n", c, (long)lseek(f, 0, SEEK_CUR));
    SAY(fcntl(fds[0], F_GETFD));
    close(fds[0]);
    close(fds[1]);
    NEED(send_fds(s[0], (int[]){f}, 1, "x"));
    SAY(receive(s[1], fds, &count, &flags, CMSG_SPACE(sizeof(int)), MSG_CMSG_CLOEXEC));
    SAY(fcntl(fds[0], F_GETFD));
    NEED(send_fds(s[0], (int[]){f, f, f}, 3, "x"));
    SAY(receive(s[1], fds, &count, &flags, CMSG_LEN(sizeof(int)), 0));
    printf("truncated: count %d ctrunc %d\n", count, !!(flags & MSG_CTRUNC));
    NEED(send_fds(s[0], (int[]){f}, 1, "x"));
    SAY(receive(s[1], fds, &count, &flags, 0, 0));
    printf("no room: count %d ctrunc %d\n", count, !!(flags & MSG_CTRUNC));
    NEED(send_fds(s[0], (int[]){f}, 1, "aaa"));
    NEED(write(s[0], "bbb", 3));
    SAY(receive(s[1], fds, &count, &flags, CMSG_SPACE(64), 0));
    printf("with rights count %d\n", count);
    SAY(receive(s[1], fds, &count, &flags, CMSG_SPACE(64), MSG_DONTWAIT));
    SAY(send_fds(s[0], (int[]){99}, 1, "x"));
    int many[254];
    for (int i = 0; i < 254; i++) many[i] = f;
    SAY(send_fds(s[0], many, 254, "x"));
    int p[2];
    NEED(pipe(p));
    NEED(send_fds(s[0], (int[]){p[1]}, 1, "x"));
    close(p[1]);
    struct pollfd poll_fd = {p[0], POLLIN, 0};
    SAY(poll(&poll_fd, 1, 0));
    close(s[0]);
    close(s[1]);
    SAY(poll(&poll_fd, 1, 1000));
    printf("in-flight descriptor closed with the socket %x\n", poll_fd.revents);
    return 0;
}
