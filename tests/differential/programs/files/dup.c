// dup, dup2, dup3, F_DUPFD: shared offset, own close-on-exec flag, the errors.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDONLY | O_CLOEXEC));
    int copy = NEED(dup(fd));
    char c;
    read(fd, &c, 1);
    read(copy, &c, 1);
    printf("second read sees %c\n", c);
    SAY(fcntl(fd, F_GETFD));
    SAY(fcntl(copy, F_GETFD));
    SAY(dup2(fd, 20));
    SAY(fcntl(20, F_GETFD));
    SAY(dup2(fd, fd));
    SAY(fcntl(fd, F_GETFD));
    SAY(dup3(fd, fd, 0));
    SAY(dup3(fd, 21, O_CLOEXEC));
    SAY(fcntl(21, F_GETFD));
    SAY(dup3(fd, 22, O_NONBLOCK));
    SAY(dup2(99, 23));
    SAY(dup2(fd, -1));
    SAY(dup2(fd, 1 << 30));
    SAY(fcntl(fd, F_DUPFD, 50));
    SAY(fcntl(fd, F_DUPFD, 50));
    SAY(fcntl(fd, F_DUPFD_CLOEXEC, 50));
    SAY(fcntl(52, F_GETFD));
    SAY(fcntl(fd, F_DUPFD, -1));
    SAY(fcntl(fd, F_DUPFD, 1 << 30));
    SAY(fcntl(fd, F_SETFD, 0));
    SAY(fcntl(fd, F_GETFD));
    SAY(fcntl(20, F_SETFD, FD_CLOEXEC));
    SAY(fcntl(20, F_GETFD));
    SAY(syscall(SYS_close_range, 50, 52, 0));
    SAY(fcntl(51, F_GETFD));
    SAY(syscall(SYS_close_range, 20, 22, 4));
    SAY(fcntl(21, F_GETFD));
    SAY(syscall(SYS_close_range, 22, 20, 0));
    return 0;
}
