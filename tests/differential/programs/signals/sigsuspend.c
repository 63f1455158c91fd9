// sigsuspend: the mask inside, the mask restored, pselect and ppoll with masks.
#include "../check.h"
#include <sys/select.h>

static volatile int count, inside_usr1, inside_usr2;
static void on(int signo) {
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    inside_usr1 = sigismember(&mask, SIGUSR1);
    inside_usr2 = sigismember(&mask, SIGUSR2);
    count++;
}

int main(void) {
    signal(SIGUSR1, on);
    sigset_t blocked, wait_mask, now;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    NEED(sigprocmask(SIG_BLOCK, &blocked, NULL));
    raise(SIGUSR1);
    sigemptyset(&wait_mask);
    sigaddset(&wait_mask, SIGUSR2);
    SAY(sigsuspend(&wait_mask));
    printf("count %d inside usr1 %d usr2 %d\n", count, inside_usr1, inside_usr2);
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("after usr1 %d usr2 %d\n", sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
    raise(SIGUSR1);
    sigemptyset(&wait_mask);
    SAY(ppoll(NULL, 0, NULL, &wait_mask));
    raise(SIGUSR1);
    SAY(pselect(0, NULL, NULL, NULL, NULL, &wait_mask));
    printf("count %d\n", count);
    raise(SIGUSR1);
    int p[2];
    NEED(pipe(p));
    NEED(write(p[1], "x", 1));
    struct pollfd ready = {p[0], POLLIN, 0};
    SAY(ppoll(&ready, 1, NULL, &wait_mask));
    printf("ready wins, count %d\n", count);
    sigprocmask(SIG_BLOCK, NULL, &now);
    IS(sigismember(&now, SIGUSR1));
    SAY(syscall(SYS_rt_sigsuspend, &wait_mask, 4));
    return 0;
}
