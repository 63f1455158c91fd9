// Unix seqpacket sockets: connection with boundaries, MSG_TRUNC, end of file.
#include "../check.h"

int main(void) {
    int s[2];
    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    char data[32] = "";
    SAY(send(s[0], "first", 5, 0));
    SAY(send(s[0], "second message", 14, 0));
    SAY(send(s[0], "", 0, 0));
    SAY(recv(s[1], data, 32, 0));
    struct iovec io = {data, 6};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    SAY(recvmsg(s[1], &m, 0));
    printf("flags trunc %d eor %d\n", !!(m.msg_flags & MSG_TRUNC), !!(m.msg_flags & MSG_EOR));
    SAY(recv(s[1], data, 32, MSG_DONTWAIT));
    SAY(recv(s[1], data, 32, MSG_DONTWAIT));
    SAY(write(s[0], "abc", 3));
    SAY(write(s[0], "def", 3));
    SAY(read(s[1], data, 2));
    SAY(read(s[1], data, 32));
    close(s[0]);
    SAY(read(s[1], data, 32));
    SAY(send(s[1], "x", 1, MSG_NOSIGNAL));
    int type;
    socklen_t length = sizeof type;
    SAY(getsockopt(s[1], SOL_SOCKET, SO_TYPE, &type, &length));
    printf("%d\n", type);
    return 0;
}
