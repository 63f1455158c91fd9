// lseek(2): every whence, negative results, beyond the end, pipes.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDWR));
    SAY(lseek(fd, 3, SEEK_SET));
    SAY(lseek(fd, 2, SEEK_CUR));
    SAY(lseek(fd, -1, SEEK_END));
    SAY(lseek(fd, -20, SEEK_END));
    SAY(lseek(fd, -1, SEEK_SET));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(lseek(fd, 100, SEEK_END));
    SAY(write(fd, "x", 1));
    SAY(lseek(fd, 0, SEEK_END));
    char data[128];
    SAY(pread(fd, data, sizeof data, 5));
    int zeros = 0;
    for (int i = 5; i < 105; i++) zeros += data[i] == 0;
    printf("zeros %d last %c\n", zeros, data[105]);
    SAY(lseek(fd, 0, 99));
    SAY(lseek(fd, LONG_MAX, SEEK_CUR));
    int p[2];
    NEED(pipe(p));
    SAY(lseek(p[0], 0, SEEK_CUR));
    SAY(lseek(99, 0, SEEK_SET));
    return 0;
}
