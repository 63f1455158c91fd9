// signalfd: reading queued signals, the fields, non-blocking, changing the mask, poll.
#include "../check.h"
#include <sys/signalfd.h>

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = NEED(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo info[4];
    SAY(read(fd, info, sizeof info));
    SAY(read(fd, info, 10));
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigqueue(getpid(), SIGRTMIN, (union sigval){5});
    sigqueue(getpid(), SIGRTMIN, (union sigval){6});
    struct pollfd p = {fd, POLLIN, 0};
    SAY(poll(&p, 1, 0));
    long n = read(fd, info, sizeof info);
    printf("%ld\n", n / (long)sizeof *info);
    for (int i = 0; i < n / (long)sizeof *info; i++)
        printf("signo %s code %d int %d own %d\n", info[i].ssi_signo == SIGUSR1 ? "USR1" : "RTMIN", info[i].ssi_code, info[i].ssi_int, info[i].ssi_pid == getpid());
    SAY(poll(&p, 1, 0));
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    IS(signalfd(fd, &set, 0) == fd);
    raise(SIGUSR1);
    SAY(read(fd, info, sizeof info));
    SAY(signalfd(0, &set, 0));
    SAY(signalfd(99, &set, 0));
    SAY(signalfd(-1, &set, 0x100));
    SAY(write(fd, "x", 1));
    return 0;
}
