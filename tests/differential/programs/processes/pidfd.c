// pidfd_open, pidfd_send_signal, pidfd_getfd, poll on a pidfd.
#include "../check.h"

static int pidfd_open(pid_t pid, unsigned flags) { return syscall(SYS_pidfd_open, pid, flags); }
static long signal_by(int fd, int signo) { return syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0); }

int main(void) {
    int p[2];
    char c;
    NEED(pipe(p));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        close(p[1]);
        read(p[0], &c, 1);
        for (;;) pause();
    }
    int fd = NEED(pidfd_open(pid, 0));
    SAY(fcntl(fd, F_GETFD));
    struct pollfd poll_fd = {fd, POLLIN, 0};
    SAY(poll(&poll_fd, 1, 0));
    SAY(signal_by(fd, 0));
    SAY(signal_by(fd, SIGTERM));
    SAY(poll(&poll_fd, 1, 2000));
    printf("%x\n", poll_fd.revents);
    SAY(signal_by(fd, 0));
    reap("child", pid);
    SAY(signal_by(fd, 0));
    SAY(pidfd_open(pid, 0));
    SAY(pidfd_open(-1, 0));
    SAY(pidfd_open(getpid(), 0x10));
    SAY(signal_by(1, 0));
    SAY(read(fd, &c, 1));
    int self = NEED(pidfd_open(getpid(), 0)), copy;
    OK(copy = syscall(SYS_pidfd_getfd, self, p[1], 0));
    SAY(write(copy, "x", 1));
    SAY(syscall(SYS_pidfd_getfd, self, 99, 0));
    SAY(syscall(SYS_pidfd_getfd, self, 0, 1));
    return 0;
}
