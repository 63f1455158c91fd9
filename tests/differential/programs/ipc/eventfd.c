// eventfd: counter, semaphore mode, overflow, blocking, poll.
#include "../check.h"
#include <sys/eventfd.h>

static void look(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    poll(&p, 1, 0);
    printf("  poll %x\n", p.revents);
}

int main(void) {
    uint64_t n = 0;
    int fd = NEED(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    look(fd);
    SAY(read(fd, &n, 8));
    printf("%lu\n", n);
    SAY(read(fd, &n, 8));
    look(fd);
    n = 5;
    SAY(write(fd, &n, 8));
    SAY(write(fd, &n, 8));
    SAY(read(fd, &n, 8));
    printf("%lu\n", n);
    n = -2;
    SAY(write(fd, &n, 8));
    look(fd);
    n = 1;
    SAY(write(fd, &n, 8));
    n = -1;
    SAY(write(fd, &n, 8));
    SAY(write(fd, &n, 4));
    SAY(read(fd, &n, 4));
    SAY(read(fd, &n, 8));
    n = 0;
    SAY(write(fd, &n, 8));
    look(fd);
    int sem = NEED(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    SAY(read(sem, &n, 8));
    printf("%lu\n", n);
    SAY(read(sem, &n, 8));
    SAY(read(sem, &n, 8));
    OK(eventfd(0, 0x100));
    SAY(lseek(sem, 0, SEEK_SET));
    int blocking = NEED(eventfd(0, 0));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        sleep_ms(50);
        n = 42;
        write(blocking, &n, 8);
        _exit(0);
    }
    SAY(read(blocking, &n, 8));
    printf("%lu\n", n);
    reap("writer", pid);
    return 0;
}
