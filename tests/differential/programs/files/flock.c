// flock(2): shared and exclusive, conversion, per open file description, inheritance, blocking.
#include "../check.h"
#include <sys/file.h>

int main(void) {
    int a = NEED(open("f", O_RDONLY | O_CREAT, 0600)), b = NEED(open("f", O_RDONLY));
    SAY(flock(a, LOCK_SH));
    SAY(flock(b, LOCK_SH | LOCK_NB));
    SAY(flock(a, LOCK_EX | LOCK_NB));
    SAY(flock(b, LOCK_UN));
    SAY(flock(a, LOCK_EX | LOCK_NB));
    SAY(flock(b, LOCK_SH | LOCK_NB));
    IN_CHILD("inherited", SAY(flock(a, LOCK_EX | LOCK_NB)));
    int copy = NEED(dup(a));
    close(a);
    SAY(flock(b, LOCK_SH | LOCK_NB));
    SAY(flock(copy, LOCK_UN));
    SAY(flock(b, LOCK_EX | LOCK_NB));
    SAY(flock(b, 0));
    SAY(flock(b, 77));
    SAY(flock(99, LOCK_SH));
    pid_t child = NEED(fork());
    if (child == 0) {
        close(b);
        close(copy);
        int fd = NEED(open("f", O_RDONLY));
        int64_t start = now_ns(CLOCK_MONOTONIC);
        flock(fd, LOCK_EX);
        _exit(now_ns(CLOCK_MONOTONIC) - start > 50000000);
    }
    sleep_ms(200);
    close(b);
    reap("waiter", child);
    return 0;
}
