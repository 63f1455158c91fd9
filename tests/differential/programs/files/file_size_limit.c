// RLIMIT_FSIZE: SIGXFSZ and EFBIG, partial writes up to the limit.
#include "../check.h"

static volatile int got;
static void on(int signo) { got = signo; }

int main(void) {
    struct rlimit limit = {10, 10};
    NEED(setrlimit(RLIMIT_FSIZE, &limit));
    signal(SIGXFSZ, on);
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    SAY(write(fd, "01234567", 8));
    SAY(write(fd, "89abcdef", 8));
    printf("signal %d\n", got);
    SAY(write(fd, "x", 1));
    printf("signal is SIGXFSZ %d\n", got == SIGXFSZ);
    got = 0;
    SAY(ftruncate(fd, 11));
    printf("signal is SIGXFSZ %d\n", got == SIGXFSZ);
    SAY(ftruncate(fd, 10));
    signal(SIGXFSZ, SIG_DFL);
    IN_CHILD("child", write(fd, "x", 1));
    return 0;
}
