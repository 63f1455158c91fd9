// write(2): which files take a buffer in one go, which loop; SIGPIPE by kind of file; socket time-outs on read and write.
#include "../check.h"
#include <sys/eventfd.h>
#include <sys/socket.h>

static volatile int pipes;
static void on(int signo) { pipes++; }

static void broken(const char *what, int type) {
    int s[2];
    NEED(socketpair(AF_UNIX, type, 0, s));
    close(s[1]);
    pipes = 0;
    printf("%s: ", what);
    SAY(write(s[0], "x", 1));
    struct iovec v[2] = {{"a", 1}, {"b", 1}};
    SAY(writev(s[0], v, 2));
    printf("%s: %d signals\n", what, pipes);
    close(s[0]);
}

int main(void) {
    int fd = NEED(eventfd(0, 0));
    unsigned long long number = 3, value;
    SAY(write(fd, &number, 8));
    NEED(read(fd, &value, 8));
    printf("%llu\n", value);
    SAY(write(fd, &number, 7));

    signal(SIGPIPE, on);
    broken("stream", SOCK_STREAM);
    broken("datagram", SOCK_DGRAM);
    broken("packets", SOCK_SEQPACKET);
    int p[2];
    NEED(pipe(p));
    close(p[0]);
    pipes = 0;
    SAY(write(p[1], "x", 1));
    printf("pipe: %d signals\n", pipes);

    int s[2];
    char byte, block[4096];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct timeval soon = {0, 50000};
    NEED(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    NEED(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    SAY(read(s[0], &byte, 1));
    struct iovec one = {&byte, 1};
    SAY(readv(s[0], &one, 1));
    memset(block, 'x', sizeof block);
    int blocks = 0;
    while (write(s[0], block, sizeof block) == sizeof block && blocks < 100000)
        blocks++;
    printf("filled %d\n", blocks > 0);
    SAY(write(s[0], block, sizeof block));
    return 0;
}
