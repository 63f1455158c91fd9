// A stream socket whose peer does not read: EAGAIN, poll, then draining; byte order kept.
#include "../check.h"

int main(void) {
    int s[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
    static unsigned char block[10000];
    long sent = 0, n;
    for (;;) {
        for (int i = 0; i < 10000; i++) block[i] = (sent + i) % 253;
        if ((n = write(s[0], block, sizeof block)) <= 0) break;
        sent += n;
    }
    printf("stopped %s after some %d\n", error_name(errno), sent > 20000);
    struct pollfd p = {s[0], POLLOUT, 0};
    SAY(poll(&p, 1, 0));
    int queued = 0;
    SAY(ioctl(s[1], FIONREAD, &queued));
    IS(queued == sent);
    long got = 0, bad = 0;
    while ((n = read(s[1], block, 777)) > 0) {
        for (int i = 0; i < n; i++) bad += block[i] != (got + i) % 253;
        got += n;
    }
    printf("equal %d bad %ld\n", got == sent, bad);
    SAY(poll(&p, 1, 0));
    return 0;
}
