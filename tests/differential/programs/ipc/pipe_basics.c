// pipe(2), pipe2(2): end of file, partial reads, flags, errors.
#include "../check.h"

int main(void) {
    int p[2];
    char data[32];
    SAY(pipe2(p, O_CLOEXEC | O_NONBLOCK));
    SAY(fcntl(p[0], F_GETFD));
    printf("%o %o\n", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
    SAY(read(p[0], data, 1));
    SAY(write(p[1], "abcdef", 6));
    SAY(read(p[0], data, 4));
    SAY(read(p[0], data, 4));
    SAY(read(p[0], data, 4));
    SAY(write(p[0], "x", 1));
    SAY(read(p[1], data, 1));
    SAY(write(p[1], "end", 3));
    close(p[1]);
    SAY(read(p[0], data, 32));
    SAY(read(p[0], data, 32));
    SAY(pipe2(p, 0x1));
    SAY(pipe((void *)8));
    SAY(pipe2(p, O_DIRECT));
    SAY(write(p[1], "one", 3));
    SAY(write(p[1], "three", 5));
    SAY(read(p[0], data, 32));
    SAY(read(p[0], data, 2));
    SAY(fcntl(p[0], F_SETFL, O_NONBLOCK));
    SAY(read(p[0], data, 32));
    return 0;
}
