// Blocking writers and readers wake each other; a large write goes through a small pipe.
#include "../check.h"

int main(void) {
    int p[2];
    NEED(pipe(p));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        close(p[0]);
        static char data[300000];
        for (size_t i = 0; i < sizeof data; i++) data[i] = i % 251;
        ssize_t n = write(p[1], data, sizeof data);
        printf("wrote %zd\n", n);
        _exit(0);
    }
    close(p[1]);
    long total = 0, bad = 0;
    char data[1000];
    for (ssize_t n; (n = read(p[0], data, sizeof data)) > 0;) {
        for (ssize_t i = 0; i < n; i++) bad += (unsigned char)data[i] != (total + i) % 251;
        total += n;
    }
    reap("writer", pid);
    printf("total %ld bad %ld\n", total, bad);
    NEED(pipe(p));
    pid = NEED(fork());
    if (pid == 0) {
        close(p[0]);
        static char big[200000];
        signal(SIGPIPE, SIG_IGN);
        ssize_t n = write(p[1], big, sizeof big);
        printf("partial %d\n", n > 0 && n < (ssize_t)sizeof big);
        n = write(p[1], big, 1);
        printf("%zd %s\n", n, error_name(errno));
        _exit(0);
    }
    close(p[1]);
    read(p[0], data, 10);
    sleep_ms(50);
    close(p[0]);
    reap("writer of a closed pipe", pid);
    return 0;
}
