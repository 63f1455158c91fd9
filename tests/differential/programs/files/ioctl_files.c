// ioctl(2) on files and pipes: FIONREAD, FIOCLEX, FIONBIO, unknown requests.
#include "../check.h"

int main(void) {
    int n = -1, p[2], on = 1, off = 0;
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDWR));
    NEED(lseek(fd, 4, SEEK_SET));
    SAY(ioctl(fd, FIONREAD, &n));
    printf("%d\n", n);
    SAY(ioctl(fd, FIOCLEX));
    SAY(fcntl(fd, F_GETFD));
    SAY(ioctl(fd, FIONCLEX));
    SAY(fcntl(fd, F_GETFD));
    SAY(ioctl(fd, FIONBIO, &on));
    IS((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    SAY(ioctl(fd, FIONBIO, &off));
    IS((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    SAY(ioctl(fd, 0x12345678));
    SAY(ioctl(fd, TIOCGWINSZ, &n));
    SAY(ioctl(99, FIONREAD, &n));
    NEED(pipe(p));
    NEED(write(p[1], "abc", 3));
    SAY(ioctl(p[0], FIONREAD, &n));
    printf("%d\n", n);
    SAY(ioctl(p[0], FIONREAD, (void *)8));
    SAY(ioctl(p[0], TCGETS, &n));
    int path = NEED(open("a", O_PATH));
    SAY(ioctl(path, FIONREAD, &n));
    return 0;
}
