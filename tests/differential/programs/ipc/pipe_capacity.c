// The capacity of a pipe: 64 KiB, changing it, a full pipe, atomicity of PIPE_BUF.
#include "../check.h"

static char block[1 << 20];

int main(void) {
    int p[2];
    NEED(pipe2(p, O_NONBLOCK));
    SAY(fcntl(p[1], F_GETPIPE_SZ));
    long total = 0, n;
    while ((n = write(p[1], block, 4096)) > 0) total += n;
    printf("%ld %s\n", total, error_name(errno));
    SAY(write(p[1], block, 1));
    NEED(read(p[0], block, 4096));
    SAY(write(p[1], block, 4097));
    SAY(write(p[1], block, 4096));
    SAY(fcntl(p[1], F_SETPIPE_SZ, 4096));
    SAY(fcntl(p[1], F_SETPIPE_SZ, 100000));
    SAY(fcntl(p[1], F_GETPIPE_SZ));
    while (read(p[0], block, sizeof block) > 0) ;
    SAY(fcntl(p[0], F_SETPIPE_SZ, 1));
    SAY(fcntl(p[1], F_SETPIPE_SZ, 0x7fffffff) == -1);
    SAY(write(p[1], block, 8192));
    SAY(read(p[0], block, 8192));
    NEED(write(p[1], block, 4096 - 10));
    SAY(write(p[1], block, 100));
    SAY(read(p[0], block, 8192));
    NEED(setresuid(1000, 1000, 1000));
    SAY(fcntl(p[1], F_SETPIPE_SZ, 2 << 20));
    SAY(fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
    put_file("/dev/null", "");
    SAY(fcntl(0, F_GETPIPE_SZ));
    return 0;
}
