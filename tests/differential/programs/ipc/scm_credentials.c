// SO_PASSCRED, SCM_CREDENTIALS and SO_PEERCRED.
#include "../check.h"

static void receive(int s) {
    char data[8], control[256];
    struct iovec io = {data, sizeof data};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    long n = recvmsg(s, &m, MSG_DONTWAIT);
    printf("received %ld", n);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); n >= 0 && c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred *u = (void *)CMSG_DATA(c);
            printf(" own pid %d uid %d gid %d", u->pid == getpid(), u->uid, u->gid);
        }
    printf("\n");
}

static long send_as(int s, pid_t pid, uid_t uid) {
    struct iovec io = {"x", 1};
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof(struct ucred))};
    struct ucred u = {pid, uid, 0};
    memcpy(CMSG_DATA(c), &u, sizeof u);
    return sendmsg(s, &m, 0);
}

int main(void) {
    int s[2], on = 1;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    NEED(write(s[0], "a", 1));
    receive(s[1]);
    SAY(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    NEED(write(s[0], "b", 1));
    receive(s[1]);
    SAY(send_as(s[0], getpid(), 55));
    receive(s[1]);
    SAY(send_as(s[0], 1 << 29, 0));
    struct ucred u;
    socklen_t length = sizeof u;
    SAY(getsockopt(s[1], SOL_SOCKET, SO_PEERCRED, &u, &length));
    IS(u.pid == getpid() && u.uid == 0 && length == 12);
    IN_CHILD("user", {
        NEED(setresgid(0, 0, 0));
        NEED(setresuid(1000, 1000, 1000));
        SAY(send_as(s[0], getpid(), 0));
        SAY(send_as(s[0], getpid(), 1000));
    });
    receive(s[1]);
    int value = 0;
    length = sizeof value;
    SAY(getsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &value, &length));
    printf("%d\n", value);
    return 0;
}
