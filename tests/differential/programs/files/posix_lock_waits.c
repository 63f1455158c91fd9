// F_SETLKW: waits for release, is interrupted by a signal, detects a deadlock.
#include "../check.h"

static long lock(int fd, int cmd, int type, long start, long len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &l);
}

static void on(int signo) {}

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600)), p[2];
    char c;
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (child == 0) {
        SAY(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
        write(p[1], "x", 1);
        sleep_ms(150);
        _exit(0);
    }
    NEED(read(p[0], &c, 1));
    SAY(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    SAY(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
    reap("holder", child);

    struct sigaction action = {.sa_handler = on};
    sigaction(SIGALRM, &action, NULL);
    IN_CHILD("interrupted", {
        alarm(1);
        SAY(lock(fd, F_SETLKW, F_RDLCK, 0, 1));
    });
    child = NEED(fork());
    if (child == 0) {
        SAY(lock(fd, F_SETLKW, F_WRLCK, 5, 1));
        write(p[1], "x", 1);
        _exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) == -1 ? 7 : 0);
    }
    NEED(read(p[0], &c, 1));
    sleep_ms(200);
    SAY(lock(fd, F_SETLKW, F_WRLCK, 5, 1));
    SAY(lock(fd, F_SETLK, F_UNLCK, 0, 1));
    reap("other", child);
    return 0;
}
