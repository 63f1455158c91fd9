// Two processes and two pipes: two thousand round trips arrive in order.
#include "../check.h"

int main(void) {
    int a[2], b[2];
    NEED(pipe(a));
    NEED(pipe(b));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        close(a[1]);
        close(b[0]);
        for (int n; read(a[0], &n, sizeof n) == sizeof n;) {
            n++;
            write(b[1], &n, sizeof n);
        }
        _exit(0);
    }
    close(a[0]);
    close(b[1]);
    int n = 0, wrong = 0;
    for (int i = 0; i < 2000; i++) {
        int sent = n;
        write(a[1], &n, sizeof n);
        read(b[0], &n, sizeof n);
        wrong += n != sent + 1;
    }
    close(a[1]);
    reap("child", pid);
    printf("n %d wrong %d\n", n, wrong);
    return 0;
}
