// Unix datagram sockets: boundaries, truncation, unbound senders, default peer, full queue.
#include "../check.h"

static struct sockaddr_un name(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    return a;
}

int main(void) {
    int a = NEED(socket(AF_UNIX, SOCK_DGRAM, 0)), b = NEED(socket(AF_UNIX, SOCK_DGRAM, 0)), c = NEED(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un an = name("a"), bn = name("b"), from;
    socklen_t length = sizeof from;
    NEED(bind(a, (void *)&an, sizeof an));
    NEED(bind(b, (void *)&bn, sizeof bn));
    char data[32] = "";
    SAY(sendto(b, "one", 3, 0, (void *)&an, sizeof an));
    SAY(sendto(c, "three", 5, 0, (void *)&an, sizeof an));
    SAY(sendto(b, "", 0, 0, (void *)&an, sizeof an));
    SAY(recvfrom(a, data, 32, 0, (void *)&from, &length));
    printf("[%s] from [%s] %d\n", data, from.sun_path, length);
    length = sizeof from;
    memset(data, 0, sizeof data);
    SAY(recvfrom(a, data, 2, 0, (void *)&from, &length));
    printf("[%s] from length %d\n", data, length);
    SAY(recv(a, data, 32, MSG_DONTWAIT));
    SAY(recv(a, data, 32, MSG_DONTWAIT));
    SAY(send(b, "x", 1, 0));
    SAY(connect(b, (void *)&an, sizeof an));
    SAY(send(b, "long message", 12, 0));
    SAY(recv(a, data, 4, MSG_TRUNC));
    SAY(sendto(c, "x", 1, 0, (void *)&bn, sizeof bn));
    SAY(connect(a, (void *)&bn, sizeof bn));
    SAY(sendto(c, "x", 1, 0, (void *)&an, sizeof an));
    int n = 0;
    NEED(fcntl(b, F_SETFL, O_NONBLOCK));
    while (send(b, "fill", 4, 0) == 4) n++;
    printf("queue holds some %d, then %s\n", n > 0, error_name(errno));
    struct pollfd p = {b, POLLOUT, 0};
    SAY(poll(&p, 1, 0));
    SAY(recv(a, data, 32, 0));
    SAY(listen(a, 1));
    static char big[1 << 20];
    SAY(send(c, big, sizeof big, 0));
    close(a);
    SAY(send(b, "x", 1, 0));
    an.sun_family = AF_UNSPEC;
    SAY(connect(b, (void *)&an, sizeof an));
    SAY(send(b, "x", 1, 0));
    return 0;
}
