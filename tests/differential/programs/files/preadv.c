// readv, writev, preadv, pwritev, preadv2: scattering, limits and errors.
#include "../check.h"

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    struct iovec out[] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    SAY(writev(fd, out, 3));
    char x[4] = "", y[8] = "";
    struct iovec in[] = {{x, 2}, {y, 7}};
    SAY(preadv(fd, in, 2, 1));
    printf("[%.2s] [%.5s]\n", x, y);
    SAY(pwritev(fd, out, 1, 20));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(lseek(fd, 0, SEEK_SET));
    SAY(readv(fd, in, 2));
    printf("[%.2s] [%.6s]\n", x, y);
    SAY(readv(fd, in, 0));
    SAY(readv(fd, in, -1));
    SAY(readv(fd, in, 1025));
    SAY(readv(fd, (void *)8, 1));
    struct iovec huge[] = {{x, LONG_MAX}, {y, LONG_MAX}};
    SAY(writev(fd, huge, 2));
    struct iovec bad[] = {{x, 2}, {(void *)8, 2}};
    SAY(pwritev(fd, bad, 2, 0));
    SAY(preadv2(fd, in, 2, 0, 0));
    SAY(preadv2(fd, in, 2, -1, 0));
    SAY(preadv2(fd, in, 2, 0, 0x4000));
    SAY(pwritev2(fd, out, 1, 0, RWF_APPEND));
    SAY(lseek(fd, 0, SEEK_END));
    return 0;
}
